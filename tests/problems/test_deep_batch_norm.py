"""Test ``vario.problems.deep_batch_norm`` against float64 autograd."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from vario.problems.deep_batch_norm import DeepBatchNorm, Task
from vario.watching import watch


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


class WithoutMean(nn.Module):
    """BatchNorm without centring, over the examples."""

    def forward(self, x: Tensor) -> Tensor:
        return x / (x.square().mean(0, keepdim=True) + 1e-12).sqrt()


@pytest.mark.slow
@pytest.mark.parametrize("orthogonal", [True, False])
def test_a_thousand_layers_are_told_to_explode_if_gaussian_and_not_if_orthogonal(
    orthogonal: bool, tmp_path: Path
) -> None:
    """P257, accept: the finding, and what is prescribed for it."""
    torch.manual_seed(5)
    layers: list[nn.Module] = []
    for _ in range(1000):
        layers += [nn.Linear(20, 20, bias=False), WithoutMean()]
        fill = nn.init.orthogonal_ if orthogonal else lambda weight: nn.init.normal_(weight, std=20**-0.5)
        fill(layers[-2].weight)  # type: ignore[operator]
    net = nn.Sequential(*layers, nn.Linear(20, 2))
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    x = torch.randn(20, 20)
    with watch(net, optimizer, home=tmp_path) as run:
        for _ in range(30):
            optimizer.zero_grad()
            nn.functional.cross_entropy(net(x), (x[:, 0] > 0).long()).backward()
            optimizer.step()
    loud = [finding for finding in run.findings().findings if finding.severity != "advice"]
    if orthogonal:
        assert not loud
    else:
        assert (loud[0].id, loud[0].explained_by) == ("exploding-gradients", "")
        assert {finding.explained_by for finding in loud[1:]} == {"exploding-gradients"}
