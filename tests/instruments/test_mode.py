from __future__ import annotations

from tests.instruments.sample import read
from vario.instruments.mode import Mode


def test_it_is_a_share_for_each_class_of_module() -> None:
    found = read(Mode(), modes={"Dropout": (1, 4), "BatchNorm2d": (0, 3), "LSTM": (0, 0)})
    assert found == {("mode/train_share", "Dropout"): 0.25, ("mode/train_share", "BatchNorm2d"): 0.0}


def test_it_is_silent_without_modules_that_have_modes() -> None:
    assert read(Mode()) == read(Mode(), modes={}) == {}
