"""Test ``vario.problems.deep_batch_norm`` against float64 autograd."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from vario.problems.deep_batch_norm import DeepBatchNorm, Task


def at_outputs(task: Task) -> list[Tensor]:
    """The gradient at each layer's output times that output transposed."""
    found = task.outputs()
    gradients = torch.autograd.grad((task.target * found[-1]).sum(), found[1:])
    return [g @ x.detach().T for g, x in zip(gradients, found[1:], strict=True)]


def test_the_antisymmetric_half_is_carried_down_unchanged_in_every_draw() -> None:
    for seed in range(3):
        carried = [torch.linalg.matrix_norm(a - a.T) / 2 for a in at_outputs(DeepBatchNorm().task(seed))]
        torch.testing.assert_close(torch.stack(carried), carried[-1].expand(40), rtol=1e-10, atol=0)


def squares(problem: DeepBatchNorm, draws: int) -> Tensor:
    """Squared norms of the gradients of the weights, (draws, layers)."""
    found = []
    for seed in range(draws):
        task = problem.task(seed)
        task.loss().backward()
        found.append(torch.stack([weight.grad.square().sum() for weight in task.weights]))
    return torch.stack(found)


@pytest.mark.parametrize("width", [2, 5])
def test_the_mean_square_of_every_layers_gradient_is_the_closed_form(width: int) -> None:
    problem, draws = DeepBatchNorm(width=width, depth=8), 120
    found = squares(problem, draws)
    exact = torch.tensor([problem.gradient_square(layer) for layer in range(1, 9)])
    error = found.std(dim=0) / draws**0.5
    assert ((found.mean(dim=0) - exact).abs() < 3.5 * error).all()
    assert (error < 0.1 * exact).all()  # or the test could not fail
    assert exact[-1] / exact[0] > 1.4  # nor if all layers were alike


def test_gaussian_weights_explode_and_have_no_truth() -> None:
    """P257, accept: the log of the norm rises by .01 per layer, and by below .003 if orthogonal."""

    def slope(*, orthogonal: bool) -> float:
        found = squares(DeepBatchNorm(width=20, depth=150, orthogonal=orthogonal), 2).log().mean(dim=0) / 2
        return float(found[0] - found[-1]) / 149

    problem = DeepBatchNorm(orthogonal=False)
    assert slope(orthogonal=False) > 0.01 and abs(slope(orthogonal=True)) < 0.003
    with pytest.raises(ValueError, match="no closed form"):
        _ = problem.truth


def test_the_truth_names_the_first_and_the_last_layer() -> None:
    truth = DeepBatchNorm(width=8, depth=40).truth
    assert truth["gradient_square_last"] == 7.0
    assert truth["gradient_square_first"] == pytest.approx(3.5, rel=1e-3)
