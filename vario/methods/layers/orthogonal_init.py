r"""Orthogonal start of deep networks: signals keep their spread and gradients their size at any depth.

.. math:: W = \sqrt{\max(1, d_{out} / d_{in})}\; Q, \quad Q \text{ orthogonal, uniform over all such}, \qquad
    x_{l+1} = \phi\!\left(l^{-p}\, \frac{W_l x_l}{\sqrt{\mathrm{mean}_{batch}(W_l x_l)^2}}\right)

Every weight has the variance 1 / d_in of the usual Gaussian start. With Gaussian weights and BatchNorm,
gradients grow exponentially with depth; with orthogonal ones, BatchNorm without its mean and a linear
activation they stay bounded. ``ShapedActivation`` brings nonlinear networks near that. In tanh networks
without normalization the fluctuations between draws no longer grow with depth.

When to use: deep plain networks (no skips), exploding or vanishing gradients from the first step on.

When not to: residual networks; batches with repeated or linearly dependent examples void the bound of what
flows back to the activations.

>>> model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
>>> changed = orthogonal_init(model, seed=0); sorted(changed)
['0.bias', '0.weight', '2.bias', '2.weight']
>>> w = model[0].weight.detach(); torch.allclose(w @ w.T, torch.eye(3), atol=1e-6)
True
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection

import torch
from torch import Tensor, nn

__all__ = ["orthogonal_init", "UncenteredBatchNorm", "ShapedActivation"]

CARD = {
    "papers": ("P257", "P316"),
    "slot": "",
    "treats": ("exploding-gradients", "vanishing-gradients", "poor-initialization"),
    "example": {"seed": 0},
    "cost": "one QR decomposition per weight, once",
    "checked": "equation: W W^T, variance, uniformity; result: gradients over depth and fluctuations over "
    "draws; authors' code alexandrumeterez/bngrad 1ee9dfa (Apache-2.0), read: norm without mean, gain "
    "(l + 1)^-p before the activation",
    "changed": "weights whose outputs outnumber their inputs are scaled by sqrt(d_out / d_in), so that each "
    "keeps the variance of the Gaussian start. Evaluation of the norm uses a running mean square; the "
    "authors have none",
    "shown": "width = batch = 20, 5 draws: the log gradient rises by .0006 per layer from depth 50 to 200, "
    "with Gaussian weights by .020. Where examples of the batch depend on each other (one twice; one the "
    "sum of two) what flows back to them rises by .039 and .035 per layer. The weights' gradient, which the "
    "paper has grow too, cannot show it (.0015 and .004): for v with v X = 0 the part of G that grows is "
    "v^T v G, which G^T X does not hold. Tanh of width 32, 200 draws: relative variance of the squared "
    "length .004 and .001 at depth 10 and 40 against .36 and 1.10. Tanh of depth 30: 90 % of 1,000 digits "
    "in fewer full-batch steps than the Gaussian start, at least 4 of 5 seeds",
}

WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def orthogonal_init(
    model: nn.Module, *, gain: float = 1.0, seed: int = 0, skip: Collection[str] = ()
) -> dict[str, Tensor]:
    """Redraw the weights of all linear layers and convolutions in place; biases become zero.

    Returns the old tensors by name: ``model.load_state_dict(old, strict=False)`` takes it back. ``skip``
    names modules to leave alone. A convolution is orthogonal over (out, in x kernel), each of its groups by
    itself. The draws come from ``seed`` alone, on the CPU.
    """
    draw = torch.Generator().manual_seed(seed)
    old: dict[str, Tensor] = {}
    done: set[int] = set()
    for name, module in model.named_modules():
        if not isinstance(module, WEIGHTED) or name in skip or id(module.weight) in done:
            continue
        if not isinstance(module.weight, nn.Parameter):
            raise ValueError(
                f"orthogonal_init: the weight of {name or 'the model'} is computed from other parameters "
                f"(weight_norm, spectral_norm), so it cannot be set. Start before that, or skip={name!r}."
            )
        done.add(id(module.weight))
        prefix = f"{name}." if name else ""
        old[f"{prefix}weight"] = module.weight.detach().clone()
        _redraw(module.weight, gain, draw, getattr(module, "groups", 1))
        if module.bias is not None:
            old[f"{prefix}bias"] = module.bias.detach().clone()
            with torch.no_grad():
                module.bias.zero_()
    if not old:
        raise ValueError("orthogonal_init found no linear layer or convolution in the model to redraw.")
    return old


def _redraw(weight: Tensor, gain: float, draw: torch.Generator, groups: int) -> None:
    rows, columns = len(weight) // groups, weight[0].numel()
    wide = torch.empty(groups, rows, columns, dtype=torch.float64)
    for part in wide:
        nn.init.orthogonal_(part, gain=gain * math.sqrt(max(1.0, rows / columns)), generator=draw)
    with torch.no_grad():
        weight.copy_(wide.view_as(weight))


class UncenteredBatchNorm(nn.Module):
    """BatchNorm that divides by the root mean square and subtracts nothing; (n, features, ...)."""

    mean_square: Tensor

    def __init__(
        self, features: int, *, eps: float = 0.0, momentum: float = 0.1, affine: bool = False
    ) -> None:
        super().__init__()
        self.features, self.eps, self.momentum = features, eps, momentum
        self.weight = nn.Parameter(torch.ones(features)) if affine else None
        self.bias = nn.Parameter(torch.zeros(features)) if affine else None
        self.register_buffer("mean_square", torch.ones(features))

    @classmethod
    def from_existing(cls, module: nn.Module) -> UncenteredBatchNorm:
        """With the gain and shift of a BatchNorm; its running mean goes into the running mean square."""
        if not isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise ValueError(f"UncenteredBatchNorm takes the place of a BatchNorm, not of {module!r}.")
        if module.momentum is None or module.running_var is None or module.running_mean is None:
            raise ValueError(
                f"UncenteredBatchNorm keeps a running mean square with a momentum. Without a momentum or "
                f"running statistics, as in {module!r}, there is nothing to go on from."
            )
        made = cls(module.num_features, eps=module.eps, momentum=module.momentum)
        made.weight, made.bias = module.weight, module.bias
        made.mean_square = module.running_var + module.running_mean.square()
        return made.train(module.training)

    def forward(self, x: Tensor) -> Tensor:
        if x.ndim < 2 or x.shape[1] != self.features:
            raise ValueError(f"UncenteredBatchNorm({self.features}): the input has shape {tuple(x.shape)}.")
        shape = [1, self.features] + [1] * (x.ndim - 2)
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        square = self.mean_square.to(wide.dtype)
        if self.training and x.numel():
            square = wide.square().mean([d for d in range(x.ndim) if d != 1])  # (features,)
            with torch.no_grad():
                self.mean_square.lerp_(square.to(self.mean_square.dtype), self.momentum)
        # a feature that is zero throughout stays zero
        scale = (square + self.eps).clamp(min=torch.finfo(wide.dtype).tiny).rsqrt()
        if self.weight is not None:
            scale = scale * self.weight
        y = wide * scale.view(shape)
        return (y if self.bias is None else y + self.bias.view(shape)).to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.features}, eps={self.eps}, affine={self.weight is not None}"


class ShapedActivation(nn.Module):
    """``activation(depth ** -power * x)``: nearer to linear with every layer; ``depth`` counts from 1."""

    def __init__(self, activation: Callable[[Tensor], Tensor], *, depth: int, power: float = 0.5) -> None:
        super().__init__()
        if depth < 1:
            raise ValueError(f"ShapedActivation: depth {depth} must be 1 or more; the first layer is 1.")
        self.activation, self.gain = activation, depth**-power

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.gain * x)

    def extra_repr(self) -> str:
        return f"gain={self.gain:.4g}"
