"""Learning rate, momentum, decay of the squares, epsilon and weight decay of each parameter group."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "nothing",
    "checked": "closed form: what the optimizer was made with",
    "changed": "alpha of RMSprop and rho of Adadelta are their decay of the squares, and read as beta2",
}

_SQUARES = ("alpha", "rho")


@dataclass(frozen=True)
class Hyper:
    """What the optimizer is set to in this step; silent for what it does not have."""

    name: str = "hyper"
    needs: frozenset[str] = frozenset({"groups"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "groups" not in moment:
            return
        for index, group in enumerate(moment["groups"]):
            for quantity, value in _settings(group):
                if isinstance(value, (int, float)) or getattr(value, "numel", lambda: 0)() == 1:
                    yield moment.reading(f"hyper/{quantity}", float(value), f"group {index}")


def _settings(group: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    yield "lr", group.get("lr")
    betas = group.get("betas")
    if isinstance(betas, (tuple, list)) and betas:
        yield "momentum", betas[0]
        yield "beta2", betas[1] if len(betas) > 1 else None
    else:
        yield "momentum", group.get("momentum")
        yield "beta2", next((group[word] for word in _SQUARES if word in group), None)
    yield "eps", group.get("eps")
    yield "weight_decay", group.get("weight_decay")
