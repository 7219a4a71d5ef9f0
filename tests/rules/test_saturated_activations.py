"""Test ``vario.rules.saturated_activations``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules import saturated_activations

N = np.arange(400)


def shut(value, where="layers.2"):
    return {("activation/saturation_share", where): value}


def test_fires_within_the_model(make):
    found = saturated_activations.check(make(400, shut(np.where(N >= 50, 0.8, 0.1))))
    assert (found.severity, found.where, found.steps) == ("warning", ("layers.2",), (50, 399))


def test_silent_below_half_and_on_the_output_layer(make):
    assert saturated_activations.check(make(400, shut(0.3))) is None
    assert saturated_activations.check(make(400, shut(0.3) | shut(1.0, "layers.8"))) is None


def test_the_last_tensor_of_a_script_without_modules_is_the_output_layer(make):
    def tensors(rows):
        return [row | {"name": row["name"].replace(".", "")} for row in rows]

    def told(where):
        return saturated_activations.check(
            make(400, shut(0.8, where), parameters=tensors, events=[Event("modules", 0, "", {"modules": []})])
        )

    assert told("layers2weight").where == ("layers2weight",)
    with pytest.raises(NotApplicable, match="0 readings"):
        told("layers8weight")


def test_silent_where_saturation_passes(make):
    assert saturated_activations.check(make(400, shut(np.where(N < 100, 0.9, 0.1)))) is None


def test_cannot_know_without_a_tanh_or_sigmoid_inside(make):
    with pytest.raises(NotApplicable, match="0 readings"):
        saturated_activations.check(make(400, shut(1.0, "layers.8")))
    with pytest.raises(NotApplicable, match="4 readings"):
        saturated_activations.check(make(4, shut(1.0)))
    with pytest.raises(NotApplicable):
        saturated_activations.check(make(400, shut(np.nan)))
