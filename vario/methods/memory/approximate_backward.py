r"""ReGELU2 and ReSiLU2: GELU and SiLU whose backward pass is that of three added ReLUs, two bits per entry.

.. math:: \tilde h(x) = \sum_{i=1}^3 a_i\, \mathrm{relu}(x - c_i), \quad \sum_i a_i = 1, \qquad
    \min_{a, c} \int \left(\tilde h(x) - h(x)\right)^2 dx

The forward pass is the exact h; the backward pass takes the derivative of the approximation, a step function
with four levels. It is the function that is fitted here, not the derivative as in ``few_bit``.

When to use: fine-tuning where activations fill the memory.

When not to: training from scratch to the last digit; second derivatives.

>>> import torch
>>> x = torch.tensor([-9.0, -1.0, 1.0, 9.0], requires_grad=True)
>>> ReGELU2(compile=False)(x).sum().backward()
>>> x.grad.round(decimals=3)
tensor([ 0.0000, -0.0500,  1.0500,  1.0000])
"""

from __future__ import annotations

from torch import Tensor, nn

from vario.methods.memory._quantised_derivative import Function, StepDerivative

__all__ = ["ReGELU2", "ReSiLU2"]

CARD = {
    "papers": ("P158",),
    "slot": "layer",
    "treats": (),
    "example": {"compile": False},
    "cost": "0.25 bytes per activation instead of 4; 0.4 to 0.9 x the time of GELU, 0.7 to 0.9 x that "
    "of SiLU (one CPU thread, float32, by a kernel in C; two runs)",
    "checked": "equation: stationary points of the integral; authors' code yyyyychen/LowMemoryBP bb2980f, "
    "read "
    "(Apache-2.0): their integral is 0.025 % (GELU) and 0.006 % (SiLU) above ours",
    "changed": "the symmetric optimum, c = (-c, 0, c), in place of the authors' annealed one",
    "shown": "forward bit-identical; two bits per entry; MNIST-5k, and a character model from prose to "
    "code: loss within 1 % of exact after fine-tuning",
}

# (outer weight a1 = a3; the middle one is 1 - 2 a1; outer border c): the minimum of the integral, see tests
GELU_FIT = (-0.04957515, 3.17131224)
SILU_FIT = (-0.04052427, 6.31993634)


class ReGELU2(nn.Module):
    """In place of ``nn.GELU``."""

    fit = GELU_FIT
    exact: Function = staticmethod(nn.functional.gelu)

    def __init__(self, *, compile: bool = True) -> None:
        super().__init__()
        self.compile_packing = compile
        outer, border = self.fit
        self.borders = (-border, 0.0, border)
        self.levels = (0.0, outer, 1 - outer, 1.0)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = StepDerivative.apply(
            x, type(self).exact, self.borders, self.levels, not self.compile_packing
        )
        return out


class ReSiLU2(ReGELU2):
    """In place of ``nn.SiLU``."""

    fit = SILU_FIT
    exact: Function = staticmethod(nn.functional.silu)
