"""The modes of the model that an evaluation asks: of the watched one, unless another takes its place.

An average of the weights (EMA, SWA, a teacher) is a model of its own, and is evaluated while the watched one
stays in train mode. Who ran the forward is not seen; so where modules of the watched model are in train mode,
a model of the same shapes that the script can reach, and that is in eval mode, is taken for the one asked.
`model.eval()` reaches every module within; so what is in train mode inside a model in eval mode was put there
afterwards, on purpose: dropout that stays on for a spread of answers, a BatchNorm that adapts to new data.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from vario.capture import names
from vario.capture.streams import Stream, mode_counts

__all__ = ["modes_at_evaluation"]

Counts = dict[str, tuple[int, int]]


def modes_at_evaluation(streams: Sequence[Stream]) -> Counts:
    """Per class of mode-dependent module: how many are in train mode, of how many; {} of another model."""
    if not streams:
        return {}
    # Of models trained one after the other, or together, the one in eval mode is the one that is asked.
    counts = {stream: _by_oversight(stream) for stream in streams}
    asked = min(streams, key=lambda stream: sum(train for train, _ in counts[stream].values()))
    model = asked.model() if asked.model is not None else None
    in_train_mode = any(train for train, _ in counts[asked].values())
    if model is not None and in_train_mode and _has_a_copy_in_eval_mode(model):
        return {}
    return counts[asked]


def _by_oversight(stream: Stream) -> Counts:
    """The modes of its modules; within a model in eval mode, none is in train mode by oversight."""
    counts, model = mode_counts(stream), stream.model() if stream.model is not None else None
    if model is None or model.training:
        return counts
    return {kind: (0, total) for kind, (_, total) in counts.items()}


def _has_a_copy_in_eval_mode(model: nn.Module) -> bool:
    shapes = [parameter.shape for parameter in model.parameters()]
    own = set(map(id, model.modules()))
    return any(
        not other.training and id(other) not in own and [p.shape for p in other.parameters()] == shapes
        for other in names.models_in_scope()
    )
