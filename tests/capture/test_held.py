"""Test ``vario.capture.held``: what is wrapped anew is the same, another part of it is not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from vario.capture.held import held

ROWS = torch.arange(24.0).reshape(12, 2)
NUMBERS = np.arange(12)


class Wrapped(Dataset[Any]):
    def __init__(self, parts: Any, seed: int = 0) -> None:
        self.parts, self.seed = parts, seed


class Slotted:
    __slots__ = ()


@pytest.mark.parametrize(
    "make",
    [
        lambda: TensorDataset(ROWS[4:], ROWS[4:, 0]),
        lambda: Wrapped([Wrapped(NUMBERS[2:]), {"rows": ROWS}]),
        lambda: Subset(TensorDataset(ROWS), [3, 1]),
        lambda: Wrapped("a path"),
    ],
)
def test_a_data_set_made_anew_of_the_same_holds_the_same(make: Any) -> None:
    first, second = make(), make()
    assert first is not second
    assert held(first) == held(second)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (TensorDataset(ROWS[:4]), TensorDataset(ROWS[4:8])),
        (TensorDataset(ROWS[:4]), TensorDataset(ROWS[:4].clone())),
        (Wrapped(NUMBERS[:4]), Wrapped(NUMBERS[1:5])),
        (Wrapped(ROWS, seed=1), Wrapped(ROWS, seed=2)),
        (Subset(TensorDataset(ROWS), [3, 1]), Subset(TensorDataset(ROWS), [3, 2])),
        (Subset(TensorDataset(ROWS), list(range(100))), Subset(TensorDataset(ROWS), list(range(100)))),
        (Wrapped(np.arange(4.0)), Wrapped(np.arange(4))),
        (Wrapped(Slotted()), Wrapped(Slotted())),
        (Wrapped(torch.zeros(3, dtype=torch.bfloat16)), Wrapped(torch.zeros(3, dtype=torch.bfloat16))),
        (Wrapped(torch.empty(3, device="meta")), Wrapped(torch.empty(3, device="meta"))),
    ],
)
def test_what_holds_other_things_or_cannot_tell_is_another(one: Any, other: Any) -> None:
    assert held(one) != held(other)
    assert held(one) == held(one)
    assert held(one, by_content=True) == held(one, by_content=True)


def test_arrays_that_are_cast_anew_hold_the_same_by_content_and_other_numbers_do_not() -> None:
    pictures = np.zeros((1000, 28, 28))
    pictures[:, 8:20, 8:20] = np.random.default_rng(1).random((1000, 12, 12))
    first, again, other = (
        Wrapped(part.astype("float32")) for part in np.stack([pictures] * 2 + [pictures[::-1]])
    )
    assert held(first) != held(again)
    assert held(first, by_content=True) == held(again, by_content=True) != held(other, by_content=True)
    on_meta = Wrapped(torch.empty(3, device="meta"))
    assert held(on_meta, by_content=True) == held(on_meta, by_content=True)


def test_a_thing_of_very_many_parts_is_not_walked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []
    parts = {str(i): ROWS for i in range(5)} | {f"{i} again": [] for i in range(25)}
    monkeypatch.setattr("vario.capture.held._parts", lambda thing: seen.append(thing) or parts)
    held(Wrapped("a path"))  # 25 things of as many parts each, five deep
    assert 25 < len(seen) <= 1000
