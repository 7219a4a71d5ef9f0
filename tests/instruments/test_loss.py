from __future__ import annotations

import math

from tests.instruments.sample import read
from vario.instruments.loss import Loss


def test_it_is_the_mean_over_micro_batches_and_their_number() -> None:
    assert read(Loss(), losses=[1.0, 2.0, 6.0]) == {("loss/train", ""): 3.0, ("loss/backwards", ""): 3.0}


def test_how_many_terms_a_backward_adds_up_is_told_where_it_is_known() -> None:
    assert read(Loss(), losses=[4.0, 2.0], terms=[20.0, 10.0])["loss/terms", ""] == 15.0
    assert ("loss/terms", "") not in read(Loss(), losses=[4.0, 2.0], terms=[20.0, math.nan])


def test_a_loss_that_is_not_a_number_is_told_as_such() -> None:
    assert math.isnan(read(Loss(), losses=[float("nan"), 1.0])["loss/train", ""])


def test_it_is_silent_where_nothing_went_backward() -> None:
    assert read(Loss(), losses=[]) == read(Loss()) == {}
