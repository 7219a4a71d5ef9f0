"""How init, multipliers and learning rates of each kind of layer must scale with width.

For width n a weight is n^-a w with w drawn at n^-b, trained at a rate that goes like n^-c. The tables hold
the exponents of the standard, NTK, muP, mean-field and u-muP parametrisations for Adam, of the standard
one with per-layer rates for Adam, of the standard one, NTK and muP for SGD, and of the standard one and muP
for Shampoo, whose first step has all singular values equal, and for K-FAC with its damping in units of the
traces, whose step is the gradient over its own squared length on both sides.

Tested, every row: a net of two hidden layers takes one step at four widths, and what each layer moves, and
is at the start, grows with the powers that the row says (`update_size` within .1). muP for SGD is that of
the authors' code (mup 1.0.0, `MuSGD` and `MuReadout`), and its symmetric form in print shifted by n^1/2 into
ours. The printed tables of P355 were not at hand.
u-muP's input row is that of a dense layer: for an embedding the authors' code (unit-scaling 27b8af3) also
divides the rate by the square root of the width, which no argument about sizes gives: what its steps change
falls by n^-1/2, while its size stays.
P263's rows are from our own argument about sizes: its table was not at hand. One step, widths 64 to 2,048:
every layer within .04 of 0 by the rules, the first and the last (Shampoo) or the first two (K-FAC) .5 off
without. The best rate of Shampoo stays put: on digits (tanh, two hidden layers of 32, 64, 128 and 256, 40
steps of 16 images, rates a factor of 2 apart, loss on all images) the mean's over three seeds, and over two
others, is the same at every width, and with averaged matrices (beta2 .99, one seed) too. Without the rule
it moved by a step at most: two layers' rates differ, by n^1/2. Steps that nearly fit all images do not
tell: after 60 of them (loss .02) rates two steps apart ended alike.

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
    "the authors' code: muP's rates for Adam and SGD, u-muP's products and rates; result: the best rate of "
    "Shampoo over eight times the width",
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
    inputs add up to n times that; for SGD the gradient's own size counts as well, for K-FAC its inverse.
    """
    sizes = {}
    rows = table(parametrization, optimizer)
    gradient = {"input": 0.0, "hidden": 0.0, "output": 0.0}
    # backward signal: n^-(a + b) from the readout; inputs of every layer are of order 1
    behind = -(rows["output"].multiplier + rows["output"].init)
    if optimizer == "sgd":
        behind = max(behind, -1.0 - rows["output"].multiplier) if parametrization == "mup" else behind
        gradient = {
            "input": behind - rows["input"].multiplier,
            "hidden": behind - rows["hidden"].multiplier,
            "output": -rows["output"].multiplier,
        }
    if optimizer == "kfac":
        gradient = {
            "input": rows["input"].multiplier - behind,
            "hidden": rows["hidden"].multiplier - behind,
            "output": rows["output"].multiplier,
        }
    own = OWN.get(optimizer, (0.0, 1.0, 1.0))
    for kind, fan_in in zip(KINDS, own, strict=True):
        sizes[kind] = fan_in - rows[kind].multiplier - rows[kind].lr + gradient[kind]
    return sizes


# Power of n of rate times step on aligned inputs, by kind, without that of the gradient. Entries of equal
# size add up over the inputs; equal singular values do so across the width only; one over a squared length of
# n outputs is n^-1.
OWN = {"shampoo": (-0.5, 0.0, 0.5), "kfac": (-1.0, -1.0, 0.0)}

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
    ("standard", "kfac"): ((0, 0, 0), (0, 0.5, 0), (0, 0.5, 0)),
    ("mup", "kfac"): ((0, 0, 0), (0, 0.5, 0), (1, 0, 0)),
    ("mean-field", "adam"): ((0, 0, 0), (0.5, 0, 0.5), (1, 0, 0)),
    ("u-mup", "adam"): ((0, 0, 0), (0.5, 0, 0.5), (1, 0, 0)),
}
