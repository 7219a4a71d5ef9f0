"""Test ``vario.instruments.gradient_parts``."""

from __future__ import annotations

import pytest
import torch

from tests.instruments.sample import draw, read
from vario.capture.per_example.parts import GradientParts as Parts
from vario.instruments.gradient_parts import GradientParts


def test_signal_and_noise_are_those_of_the_sample_variance_of_parts() -> None:
    rows = draw(4, 6).double()  # gradients of four micro-batches of 8, added up
    found = Parts(
        8, 4, squares=[{"w": row.square().sum()} for row in rows], whole={"w": rows.sum(0).square().sum()}
    )
    seen = read(GradientParts(), gradient_parts=found)
    noise = float((4 * rows).var(dim=0).sum()) * 8
    assert seen["gradient_parts/noise", ""] == pytest.approx(noise)
    assert seen["gradient_parts/signal", ""] == pytest.approx(float(rows.sum(0).square().sum()) - noise / 32)
    assert seen["gradient_parts/count", ""] == 4


def test_one_part_of_a_mean_over_ranks_and_a_scaled_loss() -> None:
    rows = draw(2, 6).double()
    whole = {"w": rows.mean(0).square().sum()}
    each = [
        read(GradientParts(), gradient_parts=Parts(8, 2, 2, [{"w": row.square().sum()}], whole))
        for row in rows
    ]
    noise = sum(one["gradient_parts/noise", ""] for one in each) / 2
    assert noise == pytest.approx(float(rows.var(dim=0).sum()) * 8)
    scaled = Parts(8, 2, 2, [{"w": 4 * rows[0].square().sum()}], {"w": 4 * whole["w"]}, scale=2.0)
    again = read(GradientParts(), gradient_parts=scaled)
    assert again["gradient_parts/noise", ""] == pytest.approx(each[0]["gradient_parts/noise", ""])


def test_it_is_silent_for_a_single_part_and_without_any() -> None:
    one = Parts(8, 1, squares=[{"w": torch.ones(())}], whole={"w": torch.ones(())})
    assert read(GradientParts(), gradient_parts=one) == read(GradientParts()) == {}
