"""Test ``vario.rules.low_precision_underflow``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event, record_of
from vario.rules import low_precision_underflow

N = np.arange(400)


def half(rows):
    return [row | {"dtype": "torch.float16"} for row in rows]


def histogram(**bins):
    counts = np.zeros((400, 64))
    for place, value in bins.items():
        counts[:, int(place[1:])] = value
    return {"gradient/log_histogram": (N, counts)}


def test_fires_where_float16_gradients_vanish_without_scaling(make):
    lost = histogram(b35=80.0, b42=20.0) | {"gradient/zero_share": 0.4, "loss/train": 2.303}
    found = low_precision_underflow.check(
        make(400, lost, events=[Event("autocast", 0, "", {"dtype": "torch.float16"})])
    )
    assert found.severity == "warning"
    assert found.evidence[0].value == pytest.approx(0.4 + 0.6 * 0.8)


def test_silent_where_the_loss_was_scaled_or_gradients_are_large(make):
    scaled = histogram(b30=10.0, b35=80.0, b42=10.0) | {"gradient/zero_share": 0.4}
    with pytest.raises(NotApplicable):
        low_precision_underflow.check(make(400, scaled, parameters=half, optimizer="Adam"))
    large = histogram(b38=10.0, b42=90.0) | {"gradient/zero_share": 0.1}
    assert low_precision_underflow.check(make(400, large, parameters=half, optimizer="Adam")) is None


def test_fires_where_16_bit_weights_do_not_take_their_update(make):
    short = {"gradient/norm": 2.0, "update/norm": 0.02, ("hyper/lr", "group 0"): 0.1}
    found = low_precision_underflow.check(make(400, short, parameters=half))
    assert found.evidence[-1].value == pytest.approx(0.9)
    whole = {"gradient/norm": 2.0, "update/norm": 0.2, ("hyper/lr", "group 0"): 0.1}
    assert low_precision_underflow.check(make(400, whole, parameters=half)) is None


def test_parameters_that_no_step_changes_are_lost_to_rounding_in_16_bits_only(make):
    still = {("update/norm", f"layers.{k}.weight"): np.zeros(400) for k in (0, 4)}
    found = low_precision_underflow.check(make(400, still, parameters=half, optimizer="AdamW"))
    assert found.evidence[-1].value == pytest.approx(2 / 5)
    assert low_precision_underflow.check(make(400, still, optimizer="AdamW")) is None


def test_silent_in_32_bits_whatever_the_gradients(make):
    lost = histogram(b35=80.0) | {"gradient/zero_share": 0.9, "loss/train": 2.303}
    assert low_precision_underflow.check(make(400, lost)) is None


def test_cannot_know_the_formats_or_without_readings(make):
    with pytest.raises(NotApplicable, match="formats"):
        low_precision_underflow.check(record_of({"loss/train": (N, np.ones(400))}))
    with pytest.raises(NotApplicable, match="5 readings"):
        low_precision_underflow.check(make(400, {"update/norm": None}, parameters=half))
