from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vario.capture.terms import terms_of


def scores(rows: int) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 4) @ torch.randn(4, 3, requires_grad=True), torch.randint(3, (rows,))


@pytest.mark.parametrize("rows", [2, 11, 300])
def test_a_mean_counts_once_and_a_sum_as_often_as_it_adds(rows: int) -> None:
    output, target = scores(rows)
    each = F.cross_entropy(output, target, reduction="none")
    assert [terms_of(each.mean()), terms_of(F.cross_entropy(output, target))] == [1, 1]
    assert terms_of(each.sum()) == terms_of(F.cross_entropy(output, target, reduction="sum")) == rows
    assert terms_of(((output - 1) ** 2).sum(1).mean()) == 3
    assert terms_of(each.sum() / rows) == pytest.approx(1)


@pytest.mark.parametrize("steps", [2, 20, 500])
def test_terms_that_are_joined_or_added_in_turn_are_counted(steps: int) -> None:
    output, target = scores(steps)
    terms = [F.cross_entropy(output[i : i + 1], target[i : i + 1]) for i in range(steps)]
    assert terms_of(torch.stack(terms).sum()) == pytest.approx(steps)
    assert terms_of(sum(terms)) == steps
    assert terms_of(torch.stack(terms).mean()) == pytest.approx(1)


def test_terms_of_an_actor_and_its_critic_grow_with_the_episode() -> None:
    def loss(steps: int) -> Tensor:
        output, _ = scores(steps)
        policy = [-value * 0.5 for value in F.log_softmax(output, 1)[:, 0]]
        worth = [F.smooth_l1_loss(value, torch.zeros(())) for value in output[:, 1]]
        return torch.stack(policy).sum() + torch.stack(worth).sum()

    assert terms_of(loss(500)) == pytest.approx(25 * terms_of(loss(20)))


def test_a_mask_or_a_divisor_counts_as_what_it_lets_through() -> None:
    output, target = scores(6)
    each, mask = F.cross_entropy(output, target, reduction="none"), torch.tensor([1.0, 1, 0, 1, 0, 0])
    assert terms_of((each * mask).sum()) == terms_of((mask * each).sum()) == pytest.approx(3)
    assert terms_of((each * mask).sum() / mask.sum()) == pytest.approx(1)
    for kind in (torch.bool, torch.int64, torch.uint8, torch.bfloat16):
        assert terms_of((each * mask.to(kind)).sum()) == pytest.approx(3)


def test_a_penalty_that_is_weighed_more_and_more_is_not_the_loss() -> None:
    output, _ = scores(50)
    penalty = output[:2].exp().sum()
    assert {
        terms_of(F.mse_loss(output, torch.zeros(50, 3)) + beta * penalty) for beta in (0.01, 0.1, 9.0)
    } == {1}


def test_where_no_graph_tells_it_is_not_known() -> None:
    output, _ = scores(3)
    assert math.isnan(terms_of(output)) and math.isnan(terms_of(output.sum().detach()))
    assert math.isnan(terms_of([output.sum()]))


def test_what_a_hook_has_packed_is_left_alone() -> None:
    def unpack(_: Tensor) -> Tensor:
        raise AssertionError("unpacked")

    output, _ = scores(3)
    with torch.autograd.graph.saved_tensors_hooks(lambda tensor: tensor, unpack):
        loss = (output.sum(1) * torch.tensor([1.0, 2.0, 3.0])).sum()
    assert terms_of(loss) == 3
