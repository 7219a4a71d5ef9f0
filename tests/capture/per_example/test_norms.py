"""Test ``vario.capture.per_example.norms``: what was heard of a loss that had been multiplied."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vario.capture.per_example.found import ExampleGradients
from vario.capture.per_example.norms import example_gram, example_norms

EXAMPLES, SCALE = 6, 256.0
GRADIENTS = torch.randn(4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)  # of 4 of 6


def found(**more) -> ExampleGradients:
    """Shares of a mean loss that a GradScaler multiplied: each is SCALE / EXAMPLES times its gradient."""
    shares = GRADIENTS * SCALE / EXAMPLES
    whole = {"a": torch.tensor(8.0), "unread": torch.tensor(2.0)}
    squares = {"a": shares.square().sum(1)}
    return ExampleGradients(
        EXAMPLES, squares, {n: v * SCALE**2 for n, v in whole.items()}, scale=SCALE,
        products={"a": shares @ shares.T}, picked=[0, 2, 3, 5], **more,
    )  # fmt: skip


def host(pending):
    return pending.finish([part.double().reshape(-1).numpy() for part in pending.parts])


def test_norms_are_of_the_loss_before_it_was_multiplied() -> None:
    told = host(example_norms(found()))
    assert told.squares["a"] * EXAMPLES**2 == pytest.approx(GRADIENTS.square().sum(1).numpy())
    assert told.batch == {"a": 8.0, "unread": 2.0} and told.looked_at == 4


def test_inner_products_are_of_whole_gradients() -> None:
    rows = SimpleNamespace(labels=torch.arange(EXAMPLES))
    told = host(example_gram(found(), rows))
    np.testing.assert_allclose(told.products, (GRADIENTS @ GRADIENTS.T).numpy())
    assert told.seen == pytest.approx(0.8) and told.labels.tolist() == [0, 2, 3, 5]


def test_nothing_understood_is_nothing_told() -> None:
    assert example_norms(ExampleGradients(EXAMPLES)) is None
    assert example_gram(ExampleGradients(EXAMPLES), None) is None
