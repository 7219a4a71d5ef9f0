r"""A linear network with BatchNorm after each layer, whose gradients are known at every depth.

.. math:: X_l = N(W_l X_{l-1}), \quad N(Z)_r = Z_r / \mathrm{rms}(Z_r), \qquad L = \langle C, X_L \rangle

As many examples as units (d), the inputs orthogonal to each other, every W_l drawn evenly from the orthogonal
matrices. Then every X_l stays orthogonal, and with A_l the gradient at X_l times X_l transposed,
A_{l-1} = W_l^T off(A_l) W_l, where off removes the diagonal. The antisymmetric half of A is carried down
unchanged, in every draw; the symmetric half loses its diagonal at each layer, on average 2 / (d + 2) of its
square. So the mean square of the gradient of W_l is

.. math:: \tfrac12 (d - 1) |C|^2 \left(1 + \left(\tfrac{d}{d+2}\right)^{L-l}\right)

It neither explodes nor vanishes: after any depth half of it is left. With Gaussian weights it explodes; no
closed form of that is given here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

CARD = {
    "papers": ("P257",),
    "shows": ("gradient_square_first", "gradient_square_last"),
    "checked": "closed form, derived here: the antisymmetric half in every draw to 1e-10 of float64 "
    "autograd; means over draws within their standard errors",
    "changed": "the batch is orthogonal from the start, where P257 lets the layers make it so",
}


@dataclass(frozen=True)
class DeepBatchNorm:
    """``width`` units and examples, ``depth`` layers; ``orthogonal`` weights, else Gaussian ones."""

    width: int = 8
    depth: int = 40
    orthogonal: bool = True

    @property
    def truth(self) -> Mapping[str, float]:
        """Mean squared norms of the gradients of the first and the last weight, for a C of length 1."""
        if not self.orthogonal:
            raise ValueError(
                "the gradients of Gaussian weights have no closed form here; take orthogonal=True"
            )
        return {
            "gradient_square_first": self.gradient_square(1),
            "gradient_square_last": self.gradient_square(self.depth),
        }

    def gradient_square(self, layer: int) -> float:
        """Mean over draws of the squared norm of the gradient of W_layer; layers count from 1."""
        d = self.width
        return (d - 1) / 2 * (1 + (d / (d + 2)) ** (self.depth - layer))

    def task(self, seed: int) -> Task:
        """One draw of the weights, of the batch and of C."""
        draw = torch.Generator().manual_seed(seed)

        def gaussian() -> Tensor:
            return torch.randn(self.width, self.width, generator=draw, dtype=torch.float64)

        def orthogonal() -> Tensor:
            q, r = torch.linalg.qr(gaussian())
            turned: Tensor = q * r.diagonal().sign()  # without the signs the draw is not even
            return turned

        weights = [orthogonal() if self.orthogonal else gaussian() for _ in range(self.depth)]
        target = gaussian()
        inputs = orthogonal() * self.width**0.5
        return Task(nn.ParameterList(map(nn.Parameter, weights)), inputs, target / target.norm())


@dataclass(frozen=True)
class Task:
    """``weights`` of the layers, ``inputs`` (units, examples), ``target`` C."""

    weights: nn.ParameterList
    inputs: Tensor
    target: Tensor

    def outputs(self) -> list[Tensor]:
        """Of every layer, (units, examples) each, the inputs first."""
        found = [self.inputs]
        for weight in self.weights:
            before = weight @ found[-1]  # (units, examples)
            found.append(before / before.square().mean(dim=1, keepdim=True).sqrt())
        return found

    def loss(self) -> Tensor:
        return (self.target * self.outputs()[-1]).sum()
