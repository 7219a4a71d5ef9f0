"""Whole models that the gradient reaches and no optimizer holds: it was given the parameters of another.

What is fixed on purpose (a teacher, a critic of pictures, a model under attack) is put in eval mode or asks
for no gradient; what a hand moves changes; and what an earlier phase left behind gets no new gradient.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

from vario.capture import alive, names
from vario.capture.streams import Stream

__all__ = ["tell_of_left_out"]

ENOUGH = 16  # steps: by then every optimizer of a loop has been made


def tell_of_left_out(
    stream: Stream, event: Callable[..., Any], total: Callable[[Tensor], float | None]
) -> None:
    """Names and shapes of what stayed as it was since the last look, though its gradient did not.

    Told anew where it is no longer the same. ``total`` gives the sum of a tensor, None of one that has none.
    """
    seen: dict[int, tuple[float | None, float | None]] = {}
    still: dict[str, list[int]] = {}
    for name, parameter in _outside(stream) if stream.model is not None else ():
        now = seen[id(parameter)] = total(parameter), total(parameter.grad)  # type: ignore[arg-type]
        before = stream.left_out.get(id(parameter))
        if before is not None and None not in now and before[0] == now[0] and before[1] != now[1]:
            still[name] = list(parameter.shape)
    stream.left_out = seen
    if stream.step >= ENOUGH and still != stream.told_left_out:
        stream.told_left_out = still
        event(stream, "left_out", "", {"parameters": still})


def _outside(stream: Stream) -> Iterator[tuple[str, Tensor]]:
    """The parameters with a gradient of each model in train mode, none of which an optimizer holds."""
    held = {id(p) for one in alive.known()[1] for group in one.param_groups for p in group["params"]}
    held |= {id(parameter) for parameter in stream.params}
    model = stream.model() if stream.model is not None else None
    held |= {id(parameter) for parameter in model.parameters()} if model is not None else set()
    for module in names.models_in_scope():
        own = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        if not module.training or any(id(parameter) in held for _, parameter in own):
            continue
        called = names.variable_name(module) or "model"
        held |= {id(parameter) for _, parameter in own}
        yield from ((f"{called}.{name}", p) for name, p in own if p.grad is not None)
