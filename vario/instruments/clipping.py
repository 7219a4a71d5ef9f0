"""What clipping did to the gradient: its norm before, and the factor that it was multiplied by."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "nothing: the clipping function returns the norm",
    "checked": "closed form: torch.nn.utils.clip_grad_norm_",
    "changed": "",
}

_TORCH_ADDS = 1e-6  # torch divides max_norm by the norm plus this


@dataclass(frozen=True)
class Clipping:
    """A factor of 1 means that the gradient was left alone; silent where nothing clips."""

    name: str = "clipping"
    needs: frozenset[str] = frozenset({"clip"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "clip" not in moment:
            return
        norm, limit = (float(value) for value in moment["clip"])
        factor = limit / (norm + _TORCH_ADDS)
        yield moment.reading("clipping/norm_before", norm)
        yield moment.reading("clipping/factor", 1.0 if factor > 1 else factor)  # not min(): NaN stays NaN
