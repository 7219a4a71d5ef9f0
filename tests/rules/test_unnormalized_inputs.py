"""Test ``vario.rules.unnormalized_inputs``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules import unnormalized_inputs

N = np.arange(400)


PIXELS = {"input/mean": 33.0, "input/std": 78.0, "input/largest": 255.0, "input/smallest": 0.0}
STANDARD = {"input/mean": 0.0, "input/std": 1.0, "input/largest": 3.0, "input/smallest": -3.0}


def test_fires_on_raw_pixels(make):
    found = unnormalized_inputs.check(make(400, PIXELS))
    assert found.severity == "warning"
    assert found.evidence[0].value == pytest.approx(np.hypot(33, 78))


def test_fires_on_units_a_thousandfold_apart_but_not_on_rare_pixels(make):
    apart = {"input/std": 9.0, "input/largest": 90.0, "input/feature_spread": 5e3}
    assert unnormalized_inputs.check(make(400, STANDARD | apart)) is not None
    assert unnormalized_inputs.check(make(400, STANDARD | {"input/feature_spread": 5e3})) is None


def test_silent_where_the_model_scales_its_inputs(make):
    norm = Event(
        "modules", 0, "", {"modules": [{"name": "", "class": "Net"}, {"name": "n", "class": "BatchNorm1d"}]}
    )
    assert unnormalized_inputs.check(make(400, PIXELS, events=[norm])) is None
    assert unnormalized_inputs.check(make(400, PIXELS | {("activation/std", "layers.0"): 0.4})) is None
    sigmoid = {("activation/std", "layers.0"): 0.4, ("activation/saturation_share", "layers.0"): 0.9}
    assert unnormalized_inputs.check(make(400, PIXELS | sigmoid)) is not None


@pytest.mark.parametrize(("listed", "silent"), [("BatchNorm1d", True), ("Linear", False)])
def test_what_has_no_parameters_of_its_own_is_not_the_first_layer(make, listed, silent):
    """As in TabNet: an embedder without categories and a container are listed before the first norm."""
    modules = [("", "TabNet"), ("embedder", "Embedder"), ("body", "Sequential"), ("body.0", listed)]
    modules += [("body.1", "BatchNorm1d"), ("body.2", "Linear")]
    events = [
        Event("modules", 0, "", {"modules": [{"name": n, "class": c} for n, c in modules]}),
        Event(
            "parameters",
            0,
            "",
            {"parameters": [{"name": f"body.{i}.weight", "shape": [3, 3]} for i in range(3)]},
        ),
    ]
    assert (unnormalized_inputs.check(make(400, PIXELS, events=events)) is None) == silent


def test_fires_where_nothing_of_the_inputs_is_left_and_the_run_fails(make):
    """Divided by 255 three times."""
    tiny = {"input/mean": 0.0, "input/std": 1e-5, "input/largest": 4e-5, "input/smallest": -1e-5}
    first = {("activation/std", "layers.0"): 0.4}  # of the biases
    found = unnormalized_inputs.check(make(400, tiny | first | {"loss/train": 2.303}))
    assert found.evidence[0].high < found.evidence[0].limit
    assert unnormalized_inputs.check(make(400, tiny | first)) is None
    assert unnormalized_inputs.check(make(400, tiny | {"input/std": 0.01, "loss/train": 2.303})) is None
    assert unnormalized_inputs.check(make(400, tiny | {"input/std": 0.0, "loss/train": 2.303})) is None


def test_silent_on_standardised_inputs_even_if_training_fails(make):
    assert unnormalized_inputs.check(make(400, STANDARD | {"loss/train": 2.303})) is None


def test_bears_nan_and_cannot_know_without_floating_inputs(make):
    some = {"input/mean": np.where(N % 2, np.nan, 33.0)}
    assert unnormalized_inputs.check(make(400, PIXELS | some)) is not None
    with pytest.raises(NotApplicable, match="0 readings"):
        unnormalized_inputs.check(make(400))
    with pytest.raises(NotApplicable, match="fewer than 3"):
        unnormalized_inputs.check(make(400, PIXELS | {"input/std": np.nan}))
