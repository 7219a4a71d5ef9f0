r"""Ghost batch normalization: a large batch is normalized in small parts, as if each were a batch.

.. math:: \hat x^{(g)} = \frac{x^{(g)} - \mu_g}{\sqrt{\sigma_g^2 + \epsilon}}\,\gamma + \beta, \qquad
    \mu_{run} \leftarrow (1 - \eta)\,\mu_{run} + \eta\,\mu_g \;\text{ for each part } g \text{ in turn}

The noise of small-batch statistics regularizes; a large batch loses it. Evaluation is that of BatchNorm, for
any number of examples.

When to use: the batch was made large and validation got worse at the same training loss. Train as many
updates as before, with the learning rate grown by the square root (``scale_batch(rule="regime")``).

When not to: parts would hold fewer than 16 examples (that is what batchnorm-small-batch is about); or the
batch is spread over devices and each holds a small part already.

>>> x = torch.arange(8.0)[:, None]  # two parts of four: 0..3 and 4..7
>>> GhostBatchNorm(1, size=4)(x).flatten().mul(100).round().int().tolist()
[-134, -45, 45, 134, -134, -45, 45, 134]
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from vario.methods.layers._surgery import Surgery, replace

__all__ = ["GhostBatchNorm"]

CARD = {
    "papers": ("P238",),
    "slot": "layer",
    "treats": ("batch-too-large",),
    "example": {"num_features": 8, "size": 4},
    "cost": "one call of BatchNorm per part",
    "checked": "closed form: BatchNorm of torch on each part, outputs, gradients and running statistics; "
    "authors' code eladhoffer/bigBatch 0c69f28 (MIT), read: parts go through BatchNorm one after another",
    "changed": "the batch is cut into batch // size parts of nearly equal length, so no part is smaller than "
    "size; the authors cut by torch.chunk, whose last part can be. Parameter and buffer names are "
    "BatchNorm's, so checkpoints fit both ways",
    "shown": "MNIST-5k, three seeds: batch 2,048 at equal epochs is at least 1 point below batch 64 (one "
    "seed: .780 against .950); with equal updates, the rate times sqrt(32) and parts of 64 less "
    "than 0.5 point",
}

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class GhostBatchNorm(nn.modules.batchnorm._BatchNorm):
    """In place of ``nn.BatchNorm1d``, ``2d`` and ``3d``; channels are dimension 1, ``size`` is a part's."""

    def __init__(
        self,
        num_features: int,
        *,
        size: int = 64,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
    ) -> None:
        if size < 2:
            raise ValueError(f"GhostBatchNorm: parts of {size} example have no variance; size is 2 or more.")
        super().__init__(num_features, eps, momentum, affine, track_running_stats)
        self.size = size

    @classmethod
    def from_existing(cls, module: nn.Module, *, size: int = 64) -> GhostBatchNorm:
        """A twin that shares the parameters and running statistics of a BatchNorm."""
        if not _is_norm(module) or not isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(
                f"GhostBatchNorm takes the place of nn.BatchNorm1d, 2d or 3d, not of {module!r}."
            )
        made = cls(
            module.num_features,
            size=size,
            eps=module.eps,
            momentum=module.momentum,
            affine=False,
            track_running_stats=False,
        )
        made.affine, made.track_running_stats = module.affine, module.track_running_stats
        made._parameters = module._parameters  # the very same tensors: an optimizer keeps its state
        made._buffers = module._buffers
        return made.train(module.training)

    @classmethod
    def convert(cls, model: nn.Module, *, size: int = 64) -> Surgery:
        """Replace every BatchNorm inside ``model`` in place; ``undo()`` of what is returned takes it back."""
        done = replace(model, _is_norm, lambda m: cls.from_existing(m, size=size))
        if not done.names:
            raise ValueError("GhostBatchNorm.convert found no nn.BatchNorm1d, 2d or 3d inside the model.")
        return done

    def forward(self, input: Tensor) -> Tensor:
        parts = len(input) // self.size if input.ndim > 1 else 1
        if not self.training or parts < 2:
            return super().forward(input)
        return torch.cat([super(GhostBatchNorm, self).forward(part) for part in input.tensor_split(parts)])

    def _check_input_dim(self, input: Tensor) -> None:
        if not 2 <= input.ndim <= 5:
            raise ValueError(f"GhostBatchNorm wants (n, channels, ...); got {tuple(input.shape)}.")

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, size={self.size}"  # type: ignore[no-untyped-call]


def _is_norm(module: nn.Module) -> bool:
    return type(module) in NORMS  # SyncBatchNorm and other subclasses mean something else
