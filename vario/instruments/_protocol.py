"""What every instrument offers; outsiders need only the same three names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from vario.capture.moment import Moment
from vario.nouns import Reading

__all__ = ["Instrument"]


class Instrument(Protocol):
    """A stateless reader of one quantity: what it needs, and what it reads from one step."""

    @property
    def name(self) -> str: ...

    @property
    def needs(self) -> frozenset[str]: ...

    def read(self, moment: Moment) -> Iterator[Reading]: ...
