"""Objects at the moment when the script has just built them: changed, or made into another object, in place.

The script's variable stays the same object, so whatever was given it before holds the replacement too.
The original is built first and the random state put back after the replacement, so that every other
initial weight of the script stays what it was.
"""

from __future__ import annotations

import contextlib
import functools
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

__all__ = ["become", "same_chance", "subclasses", "twin_of", "when_built"]


class _Busy:
    ours = 0  # while we build, what is built is not the script's


def when_built(base: type, wanted: Callable[[type], bool], act: Callable[[Any], None]) -> None:
    """Call ``act(object)`` after each construction of exactly a ``wanted`` class under ``base``.

    Classes that are made later are found too. A subclass that calls a wanted class's constructor is not
    one of that class. Signatures stay readable: some scripts ask for them.
    """

    def look_at(kind: type) -> None:
        if wanted(kind):
            _wrap(kind, act)

    for kind in [base, *subclasses(base)]:
        look_at(kind)
    before = base.__dict__.get("__init_subclass__")

    def __init_subclass__(cls: type, **words: Any) -> None:  # noqa: N807 - it stands for this method
        if before is None:
            super(base, cls).__init_subclass__(**words)  # type: ignore[arg-type]
        else:
            before.__get__(None, cls)(**words)
        look_at(cls)

    base.__init_subclass__ = classmethod(__init_subclass__)  # type: ignore[assignment, arg-type]


def become(thing: Any, other: Any) -> None:
    """Make ``thing`` what ``other`` is: its class and everything that it holds."""
    if type(thing) is not type(other):
        thing.__class__ = type(other)
    thing.__dict__ = other.__dict__


def twin_of(thing: Any) -> Any:
    """Another object with the class of ``thing`` and the very dict of its attributes."""
    twin = object.__new__(type(thing))
    twin.__dict__ = thing.__dict__
    return twin


@contextlib.contextmanager
def same_chance() -> Iterator[None]:
    """What is built or drawn inside leaves the random generators as they were, and is not the script's."""
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    devices = list(range(torch.cuda.device_count())) if used else []
    python, numbers = random.getstate(), np.random.get_state()
    _Busy.ours += 1
    try:
        with torch.random.fork_rng(devices=devices):
            yield
    finally:
        _Busy.ours -= 1
        random.setstate(python)
        np.random.set_state(numbers)


def _wrap(kind: type, act: Callable[[Any], None]) -> None:
    original = kind.__init__  # type: ignore[misc]

    @functools.wraps(original)
    def __init__(self: Any, *args: Any, **words: Any) -> None:  # noqa: N807 - it stands for this method
        exactly = type(self) is kind and not _Busy.ours  # asked first: an act may change the class
        original(self, *args, **words)
        if exactly:
            act(self)

    kind.__init__ = __init__  # type: ignore[misc]


def subclasses(kind: type) -> list[type]:
    """All classes below it, however deep."""
    found: list[type] = []
    child: type
    for child in type.__subclasses__(kind):
        found += [child, *subclasses(child)]
    return found
