"""Whether the output layer was left out of the sizes and the FLOPs, which bends the best model size.

With a vocabulary V and width d the head holds V d parameters, a large share of a small model. Leaving
it out of N and of C = 6 N D makes the exponent of N* in C too large (0.8 in place of 0.5 over small
models): the gap between the two best-known laws.

When to use: before believing an exponent of N*, wherever small models are in the table.
When not to: nothing but N and D is known; the check then needs a width and a vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vario.laws._newton import Array

CARD = {
    "papers": ("P222",),
    "inputs": ("N", "width", "vocabulary"),
    "output": "a caution",
    "checked": "closed form: a simulated surface with a head of 50,000 words, with and without it",
    "changed": "",
}


@dataclass(frozen=True)
class HeadCheck:
    """How the sizes relate to bodies of 12 layers d^2: with the head, without it, or neither."""

    counted: bool | None
    share: float  # of the head in the smallest model
    text: str


def body(width: Array, layers: Array) -> Array:
    """Parameters of the decoder blocks: 12 per layer and squared width."""
    return np.asarray(12.0 * np.asarray(layers, float) * np.asarray(width, float) ** 2)


def check_head(
    sizes: Array, width: Array, layers: Array, vocabulary: float | Array, *, limit: float = 0.1
) -> HeadCheck:
    """Compare the sizes of a fit with the model table; a head below ``limit`` of every model is let pass."""
    sizes, own, head = np.asarray(sizes, float), body(width, layers), vocabulary * np.asarray(width, float)
    share = float((head / (own + head)).max())
    without, with_head = (float(np.median(np.abs(np.log(sizes / whole)))) for whole in (own, own + head))
    if min(without, with_head) > 0.25:
        return HeadCheck(
            None, share, "the sizes match neither the blocks nor blocks and head; say what was counted"
        )
    counted = with_head < without
    if counted or share < limit:
        return HeadCheck(counted, share, "")
    text = (
        f"the sizes leave out an output layer that holds up to {100 * share:.0f} % of a model: "
        f"the exponent of the best size "
        f"will come out too large. Count it in N and in FLOPs (N + vocabulary * width)"
    )
    return HeadCheck(False, share, text)


def check_flops(compute: Array, n: Array, d: Array, *, limit: float = 0.1) -> str | None:
    """Words where C / (6 N D) drifts with N by more than ``limit``: they count different layers."""
    ratio = np.log(np.asarray(compute, float) / (6.0 * np.asarray(n, float) * np.asarray(d, float)))
    order = np.argsort(n)
    third = max(len(order) // 3, 1)
    drift = float(np.median(ratio[order[-third:]]) - np.median(ratio[order[:third]]))
    if abs(drift) < limit:
        return None
    return (
        f"C / (6 N D) changes by a factor of {np.exp(drift):.2f} from the smallest to the "
        f"largest models: C and N count "
        f"different layers (the output layer, attention, embeddings)"
    )
