from __future__ import annotations

import pytest
import torch

from tests.instruments.sample import draw, read
from vario.instruments.gradient_spectrum import GradientSpectrum


def test_sums_of_singular_values_by_torch() -> None:
    grads = [draw(20, 30), draw(7), draw(8, 3, 3, 3, seed=2), None]
    found = read(GradientSpectrum(), grads=grads, names=["a", "bias", "kernel", "unused"])
    norms = {
        "a": float(torch.linalg.matrix_norm(draw(20, 30).double(), "nuc")),
        "kernel": float(torch.linalg.matrix_norm(draw(8, 27, seed=2).double(), "nuc")),
    }
    for name, norm in norms.items():
        assert found["spectrum/gradient_nuclear", name] == pytest.approx(norm, rel=1e-5)
    a = torch.linalg.svdvals(draw(20, 30).double())
    assert found["spectrum/gradient_top_share", "a"] == pytest.approx(float(a[0] / a.sum()), rel=1e-5)
    assert found["spectrum/gradient_stable_rank", "a"] == pytest.approx(
        float((a**2).sum() / a[0] ** 2), rel=1e-5
    )
    assert found["spectrum/gradient_nuclear", ""] == pytest.approx(sum(norms.values()), rel=1e-5)
    uneven = abs(norms["a"] - norms["kernel"]) / (sum(norms.values()) / 2)
    assert found["spectrum/gradient_unevenness", ""] == pytest.approx(uneven, rel=1e-4)
    assert ("spectrum/gradient_nuclear", "bias") not in found


def test_unevenness_is_the_mean_step_from_matrix_to_matrix_over_the_mean_norm() -> None:
    grads = [torch.diag(torch.tensor([a, a])) for a in (1.0, 3.0, 2.0, 2.0)]  # nuclear norms 2, 6, 4, 4
    found = read(GradientSpectrum(), grads=grads, names=["a", "b", "c", "d"])
    assert found["spectrum/gradient_unevenness", ""] == pytest.approx((4 + 2 + 0) / 3 / 4, rel=1e-5)


def test_examples_that_agree_have_a_stable_rank_of_one() -> None:
    grad = torch.outer(torch.arange(1.0, 6), torch.arange(1.0, 8))
    found = read(GradientSpectrum(), grads=[grad], names=["a"])
    assert found["spectrum/gradient_stable_rank", "a"] == pytest.approx(1.0, rel=1e-5)
    assert ("spectrum/gradient_unevenness", "") not in found


def test_silence() -> None:
    assert read(GradientSpectrum()) == {}
    assert read(GradientSpectrum(), grads=[torch.zeros(3, 3)], names=["a"]) == {}
