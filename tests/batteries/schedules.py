"""What every schedule and every growing batch must do."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader

from tests.batteries._method import Method


def make(method: Method, lr: float = 0.4) -> tuple[torch.optim.Optimizer, object]:
    optimizer = torch.optim.SGD([nn.Parameter(torch.ones(2))], lr=lr)
    return optimizer, method.thing(optimizer, **method.example)


def rates(optimizer: torch.optim.Optimizer, schedule: object, steps: int) -> list[float]:
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()  # type: ignore[attr-defined]
    return seen


def check_schedule_is_torchs(method: Method) -> None:
    """An LRScheduler: resumes exactly, keeps groups apart, never leaves [0, lr]."""
    if method.card["slot"] != "schedule":
        return
    optimizer, schedule = make(method)
    assert isinstance(schedule, torch.optim.lr_scheduler.LRScheduler)
    whole = rates(optimizer, schedule, 20)
    assert all(0 <= rate <= 0.4 + 1e-12 for rate in whole) and len(set(whole)) > 2
    optimizer, schedule = make(method)
    first = rates(optimizer, schedule, 7)
    saved = copy.deepcopy((optimizer.state_dict(), schedule.state_dict()))  # type: ignore[attr-defined]
    optimizer, schedule = make(method, lr=0.1)
    optimizer.load_state_dict(saved[0])
    schedule.load_state_dict(saved[1])  # type: ignore[attr-defined]
    assert first + rates(optimizer, schedule, 13) == whole


def check_batches_cover_the_data_and_only_grow(method: Method) -> None:
    if method.card["slot"] != "batch-sampler":
        return
    for workers in (0, 1):
        batches = method.thing(range(50), **method.example)
        seen: list[int] = []
        sizes: list[int] = []
        for batch in DataLoader(range(50), batch_sampler=batches, num_workers=workers):  # type: ignore[arg-type]
            seen += batch.tolist()
            sizes.append(len(batch))
            batches.grow(len(seen) / 2)
        assert seen == list(range(50))
        assert sizes[:-1] == sorted(sizes[:-1]) and sizes[-2] > sizes[0]
    assert batches.grow(1) == batches.grow(0) > 4
    fresh = method.thing(range(50), **method.example)
    fresh.load_state_dict(batches.state_dict())
    assert list(fresh) == list(batches)
