r"""Activations that remember two to four bits per entry for the backward pass, instead of their input.

.. math:: \min_{b, q} \int \left(f'(x) - q(x)\right)^2 dx, \qquad q \text{ constant between } 2^{bits} - 1
    \text{ borders } b

The forward pass is exact; in the backward pass f' is replaced by the best step function q, found once by
dynamic programming.

When to use: activations fill the memory and the batch must grow.

When not to: exact gradients are needed (second derivatives are those of a step function: zero).

>>> x = torch.linspace(-3, 3, 800, requires_grad=True)
>>> y = FewBit("gelu", bits=3, compile=False)(x)
>>> y.grad_fn.saved_tensors[0].nbytes  # where GELU keeps 3,200
300
>>> bool((y == torch.nn.functional.gelu(x)).all())
True
"""

from __future__ import annotations

import functools

import torch
from torch import Tensor, nn

from vario.methods.memory._quantised_derivative import Function, StepDerivative, best_steps

__all__ = ["FewBit"]

CARD = {
    "papers": ("P152",),
    "slot": "layer",
    "treats": (),
    "example": {"activation": "gelu", "bits": 3, "compile": False},
    "cost": "bits / 8 bytes per activation instead of 4; forward and backward 0.46 to 0.92 x GELU at 2 bits, "
    "0.47 to 0.96 x at 3 (one CPU thread, float32, by a kernel in C; two runs)",
    "checked": "equation: exhaustive search for 2 and 3 steps; authors' code skolai/fewbit 940706b, read "
    "(BSD)",
    "changed": "borders lie on a grid of 1,200 cells over [-10, 10]; the authors improve a random start by "
    "gradient steps instead",
    "shown": "integral error of GELU's derivative over [-6, 6] .0371 at 2 bits and .0118 at 3, uniform bins "
    "above .1; MNIST-5k, and a character model from prose to code, at 3 bits: loss within 1 % of exact, 5 "
    "seeds",
}

FUNCTIONS: dict[str, Function] = {
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "softplus": nn.functional.softplus,
}
REACH, CELLS = 10.0, 1200


class FewBit(nn.Module):
    """In place of ``nn.GELU`` and others; ``bits`` 1 to 4. ``compile=False`` keeps packing eager and slow."""

    def __init__(self, activation: str = "gelu", *, bits: int = 3, compile: bool = True) -> None:
        super().__init__()
        if activation not in FUNCTIONS or not 1 <= bits <= 4:
            raise ValueError(
                f"FewBit: activation {activation!r} must be one of {', '.join(FUNCTIONS)} and bits {bits} "
                f"1 to 4."
            )
        self.activation, self.bits, self.compile_packing = activation, bits, compile
        self.borders, self.levels, self.error = steps_of(activation, bits)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = StepDerivative.apply(
            x, FUNCTIONS[self.activation], self.borders, self.levels, not self.compile_packing
        )
        return out

    @classmethod
    def from_existing(cls, module: nn.Module, *, bits: int = 3, compile: bool = True) -> FewBit:
        """The same activation with few-bit memory; refuses GELU's tanh approximation and unknown modules."""
        known = {
            nn.GELU: "gelu",
            nn.SiLU: "silu",
            nn.Tanh: "tanh",
            nn.Sigmoid: "sigmoid",
            nn.Softplus: "softplus",
        }
        name = known.get(type(module))
        if name is None or _settings(module) != _settings(type(module)()):
            raise ValueError(f"FewBit has no few-bit twin of {module!r}.")
        return cls(name, bits=bits, compile=compile)

    def extra_repr(self) -> str:
        return f"{self.activation}, bits={self.bits}"


def _settings(module: nn.Module) -> dict[str, object]:
    """Arguments of an activation; whether it works in place changes no value."""
    return {
        key: value
        for key, value in vars(module).items()
        if key[0] != "_" and key not in ("training", "inplace")
    }


@functools.cache
def steps_of(
    activation: str, bits: int, reach: float = REACH
) -> tuple[tuple[float, ...], tuple[float, ...], float]:
    """Borders, levels and integral error for an activation of ``FUNCTIONS``."""
    grid = torch.linspace(-reach, reach, CELLS + 1, dtype=torch.float64)
    middles = ((grid[1:] + grid[:-1]) / 2).requires_grad_()
    (slope,) = torch.autograd.grad(FUNCTIONS[activation](middles).sum(), middles)
    return best_steps(slope, grid, 2**bits)
