"""How init, multipliers and learning rates of each kind of layer must scale with width.

For width n a weight is n^-a w with w drawn at n^-b, trained at a rate that goes like n^-c. The tables hold
the exponents of the standard, NTK, muP, mean-field and u-muP parametrisations for Adam, of the standard
one with per-layer rates for Adam, of the standard one, NTK and muP for SGD, and of the standard one and muP
for Shampoo, whose first step has all singular values equal.

Tested, every row: a net of two hidden layers takes one step at four widths, and what each layer moves, and
is at the start, grows with the powers that the row says (`update_size` within .1). muP for SGD is that of
the authors' code (mup 1.0.0, `MuSGD` and `MuReadout`), and its symmetric form in print shifted by n^1/2 into
ours. The printed tables of P355 were not at hand.
u-muP's input row is that of a dense layer: for an embedding the authors' code (unit-scaling 27b8af3) also
divides the rate by the square root of the width, which no argument about sizes gives.
Of P263 only Shampoo without accumulated statistics is here, from our own argument about sizes: its table was
not at hand, and K-FAC has no row. That the best rate stays put over widths did not show: on digits (tanh,
two hidden layers of 32 to 256, 60 steps, two seeds, rates a factor of 2 apart) it was the same at 32, 64
and 128 and two steps higher at 256 by the rule (loss .019 against .021), and within one step without it.

When to use: tuning a narrow model and training a wide one. See `vario plan mup` for a model's own layers.
When not to: depth, batch or training length change as well; these tables speak of width only.
"""

from __future__ import annotations

from dataclasses import dataclass

CARD = {
    "papers": ("P141", "P219", "P355", "P263"),
    "inputs": ("width",),
    "output": "exponents",
    "checked": "closed form: one step of a small net at four widths moves every layer as each row says; "
    "the authors' code: muP's rates for Adam and SGD",
    "changed": "muP in the form of the mup package (init in the weight, output multiplier); "
    "equivalent forms differ",
}

KINDS = ("input", "hidden", "output")


@dataclass(frozen=True)
class Exponents:
    """Powers of the width ratio: multiplier n^-a, init standard deviation n^-b, learning rate n^-c."""

    multiplier: float
    init: float
    lr: float


def table(parametrization: str, optimizer: str = "adam") -> dict[str, Exponents]:
    """Exponents by kind of layer; input: finite to wide, hidden: wide to wide, output: wide to finite."""
    key = (parametrization, optimizer)
    if key not in TABLES:
        raise KeyError(f"no table for {key}; there are {', '.join(map(str, TABLES))}")
    return {kind: Exponents(*numbers) for kind, numbers in zip(KINDS, TABLES[key], strict=True)}


def at_width(kind: str, ratio: float, parametrization: str = "mup", optimizer: str = "adam") -> Exponents:
    """The factors themselves for a model ``ratio`` times wider than the tuned one."""
    powers = table(parametrization, optimizer)[kind]
    return Exponents(ratio**-powers.multiplier, ratio**-powers.init, ratio**-powers.lr)


def update_size(parametrization: str, optimizer: str = "adam") -> dict[str, float]:
    """Power of n by which one step moves the output of each kind of layer (0: neither vanishes nor blows up).

    A step of Adam changes a weight by its rate in every entry, and aligned inputs of a layer of n
    inputs add up to n times that; for SGD the gradient's own size counts as well.
    """
    sizes = {}
    rows = table(parametrization, optimizer)
    gradient = {"input": 0.0, "hidden": 0.0, "output": 0.0}
    if (
        optimizer == "sgd"
    ):  # backward signal: n^-(a + b) from the readout; inputs of every layer are of order 1
        behind = -(rows["output"].multiplier + rows["output"].init)
        behind = max(behind, -1.0 - rows["output"].multiplier) if parametrization == "mup" else behind
        gradient = {
            "input": behind - rows["input"].multiplier,
            "hidden": behind - rows["hidden"].multiplier,
            "output": -rows["output"].multiplier,
        }
    # entries of equal size add up over the inputs; equal singular values do so only across the width
    own = (-0.5, 0.0, 0.5) if optimizer == "shampoo" else (0.0, 1.0, 1.0)
    for kind, fan_in in zip(KINDS, own, strict=True):
        sizes[kind] = fan_in - rows[kind].multiplier - rows[kind].lr + gradient[kind]
    return sizes


# (multiplier a, init b, rate c) for input, hidden, output.
TABLES: dict[tuple[str, str], tuple[tuple[float, float, float], ...]] = {
    ("standard", "adam"): ((0, 0, 0), (0, 0.5, 0), (0, 0.5, 0)),
    ("standard", "sgd"): ((0, 0, 0), (0, 0.5, 0), (0, 0.5, 0)),
    ("standard-per-layer", "adam"): ((0, 0, 0), (0, 0.5, 1), (0, 0.5, 1)),
    ("ntk", "adam"): ((0, 0, 0), (0.5, 0, 0.5), (0.5, 0, 0.5)),
    ("ntk", "sgd"): ((0, 0, 0), (0.5, 0, 0), (0.5, 0, 0)),
    ("mup", "adam"): ((0, 0, 0), (0, 0.5, 1), (1, 0, 0)),
    ("mup", "sgd"): ((0, 0, -1), (0, 0.5, 0), (1, 0, -1)),
    ("standard", "shampoo"): ((0, 0, 0), (0, 0.5, 0), (0, 0.5, 0)),
    ("mup", "shampoo"): ((0, 0, -0.5), (0, 0.5, 0), (1, 0, -0.5)),
    ("mean-field", "adam"): ((0, 0, 0), (0.5, 0, 0.5), (1, 0, 0)),
    ("u-mup", "adam"): ((0, 0, 0), (0.5, 0, 0.5), (1, 0, 0)),
}
