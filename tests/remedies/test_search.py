"""Test ``vario.remedies.search``: what engineers type finds the method that answers, first of all."""

from __future__ import annotations

import pytest

from vario.remedies.search import search

# The words of an engineer, and the methods of which one must come first.
ASKED = {
    "gradient spikes in low precision": "stable-spam",
    "less memory for the optimizer": "adamw-8bit adafactor",
    "OOM in optimizer states": "adamw-8bit adafactor",
    "noisy labels": "nested-dropout first-order-bilevel implicit-hypergradient",
    "which examples are mislabelled": "nested-dropout first-order-bilevel implicit-hypergradient",
    "my loss is NaN in fp16": "accumulation stable-spam adam-atan2",
    "imbalanced classes": "imbalance temperature",
    "rare class never predicted": "imbalance temperature",
    "overconfident predictions": "temperature-scaling online-platt",
    "calibration": "temperature-scaling online-platt",
    "loss does not go down": "m-fac shampoo refined-decay gradient-noise",
    "exploding gradients": "lars orthogonal-init",
    "better generalization flat minima": "sam",
    "out of distribution detection": "mahalanobis",
    "activation memory too large": "few-bit approximate-backward shared-norm",
    "optimal batch size": "noise-scale-batch norm-test",
    "symmetry breaking at initialization": "gradient-noise orthogonal-init",
    "gradients oscillate": "diff-grad refined-decay m-fac",
    "skip easy examples": "infobatch",
    "warmup": "gradual-warmup tvlars",
}


def first(words: str) -> str:
    return next((entry.id for entry in search(words)), "")


@pytest.mark.parametrize("words", ASKED)
def test_what_an_engineer_types_finds_what_answers(words: str) -> None:
    assert first(words) in ASKED[words].split()


@pytest.mark.parametrize(
    "words", ["quantised weights", "quantized weights", "quantizing weights", "QUANTIZE weights"]
)
def test_endings_and_spelling_make_no_difference(words: str) -> None:
    assert [entry.id for entry in search(words)] == [entry.id for entry in search("quantise weights")]
    assert first(words) == "adaround"


def test_a_method_is_not_found_by_what_it_cannot_do() -> None:
    """mahalanobis: "When not to: ... classes that are no single cloud in feature space"."""
    assert "mahalanobis" not in [entry.id for entry in search("cloud")]


def test_a_method_is_found_through_what_it_treats() -> None:
    """No word of Shampoo says that a loss stopped; it treats a plateau."""
    assert {"shampoo", "m-fac"} <= {entry.id for entry in search("plateau")}
    assert not search("reward hacking")


def test_no_words_list_all() -> None:
    assert len(search("")) == len(search("how do I get a")) > 40
