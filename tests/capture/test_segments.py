"""Test ``vario.capture.segments``: joined tensors tell what they tell one by one."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from vario.capture import entries, segments
from vario.capture.needs import Pending

TOLD = ("statistics", "histograms", "cosines", "changes")


def tensors(seed: int) -> list[Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = [(3, 5), (), (1,), (70, 30), (1000,), (4,)]
    made = [torch.randn(shape, generator=draw) * 10.0**k for k, shape in enumerate(shapes, -3)]
    made[0][1] = 0.0
    made.append(torch.randn(9, generator=draw, dtype=torch.float64))
    made.append(torch.randn(2, 8, generator=draw).to(torch.bfloat16))
    made.append(1e-25 * torch.randn(20, generator=draw))  # squares leave single precision
    return made


def told(what: str, now: list[Tensor], before: list[Tensor]) -> Any:
    names = [f"layer {k}" for k in range(len(now))]
    pieces = [entries.cut(kept, names) for kept in (now, before)]
    pending = getattr(entries, what)(*(pieces if what in ("cosines", "changes") else pieces[:1]))
    assert isinstance(pending, Pending)
    return pending.finish([part.detach().double().reshape(-1).numpy() for part in pending.parts])


@pytest.fixture
def joins(monkeypatch: pytest.MonkeyPatch) -> Any:
    """From now on as on an accelerator."""

    def begin() -> None:
        always = functools.partial(segments.alone_or_joined, always=True)
        monkeypatch.setattr(entries, "alone_or_joined", always)

    return begin


@pytest.mark.parametrize("what", TOLD)
def test_joined_tensors_tell_what_they_tell_one_by_one(what: str, joins: Any) -> None:
    now, before = tensors(0), tensors(1)
    apart = told(what, now, before)
    joins()
    joined = told(what, now, before)
    assert list(joined) == list(apart)
    for where in apart:
        assert np.asarray(joined[where]) == pytest.approx(np.asarray(apart[where]), rel=2e-5), where


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_stays_so_and_where_it_is(value: float, joins: Any) -> None:
    now = tensors(0)
    now[3][7, 7] = value
    apart = told("statistics", now, now)
    joins()
    joined = told("statistics", now, now)
    for where in apart:
        assert np.asarray(joined[where]) == pytest.approx(np.asarray(apart[where]), rel=2e-5, nan_ok=True)
    assert not np.isfinite(joined["layer 3"].largest) and np.isfinite(joined["layer 2"].largest)


def test_counts_of_joined_histograms() -> None:
    lengths = (5, 1, 30)
    bins = torch.randint(0, entries.BINS + 1, (sum(lengths),), generator=torch.Generator().manual_seed(0))
    joined = entries._counts_joined(bins, segments.Segments(lengths, bins.device))
    apart = [torch.bincount(part, minlength=entries.BINS + 1) for part in torch.split(bins, lengths)]
    assert torch.equal(joined, torch.cat(apart))


def test_groups_are_of_one_type_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segments, "SMALL", 10)
    monkeypatch.setattr(segments, "ROOM", 16)
    made = [torch.ones(n) for n in (4, 11, 8, 5, 3)] + [torch.ones(2, dtype=torch.float64)]
    alone, groups = segments.alone_or_joined(made, always=True)
    assert alone == [1]
    assert groups == [[0, 2, 4], [3], [5]] or groups == [[0, 2], [3, 4], [5]]
    assert sorted([*alone, *(k for group in groups for k in group)]) == list(range(6))
    assert segments.alone_or_joined(made) == (list(range(6)), [])
