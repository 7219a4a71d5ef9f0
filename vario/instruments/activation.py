"""What each layer gives out: mean, spread, share of zeros, share that is saturated, channels that are dead.

Read from the autograd graph, so calls without a module are seen too. Under a module's name stands
the nonlinearity that it feeds; its own output where it feeds none. A ReLU's channel is dead where it
is zero on every example of the batch; a sigmoid is saturated outside 0.01 to 0.99, a tanh above 0.99
in magnitude.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from vario.capture.moment import Moment
from vario.nouns import Reading

CARD = {
    "papers": (),
    "cost": "a walk of the graph and some five reads of the activations",
    "checked": "equation: numpy in float64; closed form: planted dead and saturated units",
    "changed": "outputs that autograd does not keep are not seen; the standard deviation is over n",
}


@dataclass(frozen=True)
class Activation:
    """Silent for what the graph does not keep; shares only for kinds that can have them."""

    name: str = "activation"
    needs: frozenset[str] = frozenset({"activation_statistics"})

    def read(self, moment: Moment) -> Iterator[Reading]:
        if "activation_statistics" not in moment:
            return
        for where, found in moment["activation_statistics"].items():
            for quantity, value in found._asdict().items():
                if value is not None:
                    yield moment.reading(f"activation/{quantity}", value, where)
