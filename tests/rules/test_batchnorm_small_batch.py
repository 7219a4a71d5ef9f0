"""Test ``vario.rules.batchnorm_small_batch``: fires, stays silent, cannot know."""

from __future__ import annotations

import numpy as np
import pytest

from vario.nouns import NotApplicable
from vario.record import Event
from vario.rules import batchnorm_small_batch

N = np.arange(400)


MODULES = [Event("modules", 0, "", {"modules": [{"name": "bn", "class": "BatchNorm2d", "momentum": 0.1}]})]
SMALL = {"batch/size": 4.0}


def test_fires_and_gives_the_error_of_a_variance(make):
    found = batchnorm_small_batch.check(make(400, SMALL, events=MODULES))
    assert (found.severity, found.where) == ("advice", ("bn",))
    assert found.evidence[1].value == pytest.approx(np.sqrt(0.5))


def test_is_a_warning_where_evaluation_suffers(make):
    worse = {("eval/loss", "loader 1"): 0.6}
    assert batchnorm_small_batch.check(make(400, SMALL | worse, events=MODULES)).severity == "warning"
    equal = {("eval/loss", "loader 1"): 0.21}
    assert batchnorm_small_batch.check(make(400, SMALL | equal, events=MODULES)).severity == "advice"


def test_silent_on_usual_batches_frozen_statistics_and_other_norms(make):
    assert batchnorm_small_batch.check(make(400, events=MODULES)) is None
    frozen = {("mode/train_share", "BatchNorm2d"): 0.0}
    assert batchnorm_small_batch.check(make(400, SMALL | frozen, events=MODULES)) is None
    layer = [Event("modules", 0, "", {"modules": [{"name": "n", "class": "LayerNorm"}]})]
    assert batchnorm_small_batch.check(make(400, SMALL, events=layer)) is None


def test_cannot_know_without_modules_or_sizes(make):
    with pytest.raises(NotApplicable, match="modules"):
        batchnorm_small_batch.check(make(400, SMALL))
    with pytest.raises(NotApplicable, match="size"):
        batchnorm_small_batch.check(make(400, {"batch/size": None}, events=MODULES))
    with pytest.raises(NotApplicable, match="one step alone"):  # a call that only builds lazy layers
        batchnorm_small_batch.check(make(400, {"batch/size": (N[:1], np.array([4.0]))}, events=MODULES))
