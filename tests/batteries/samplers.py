"""What every sampler must do: seeded, split over ranks, resumable, usable with loader workers."""

from __future__ import annotations

import inspect
import io
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Sampler

from tests.batteries._method import Method


def make(method: Method, **settings: Any) -> Any:
    """``size`` first where the sampler wants it; labels and groups are in the example."""
    arguments = {**method.example, **settings}
    wants_size = "size" in inspect.signature(method.thing).parameters
    return method.thing(8, **arguments) if wants_size else method.thing(**arguments)


def run(sampler: Any, epochs: range) -> list[list[int]]:
    orders = []
    for epoch in epochs:
        sampler.set_epoch(epoch)
        order = list(sampler)
        sampler.update(order, torch.tensor([float(k % 5) for k in order]))
        orders.append(order)
    return orders


def check_is_a_sampler(method: Method) -> None:
    sampler = make(method)
    assert isinstance(sampler, Sampler) and len(sampler) == len(list(sampler)) > 0
    assert set(run(sampler, range(1))[0]) <= set(range(8))


def check_seed_and_epoch_decide(method: Method) -> None:
    torch.manual_seed(0)
    state = torch.random.get_rng_state()
    one = run(make(method, seed=3), range(4))
    assert torch.equal(state, torch.random.get_rng_state())
    torch.manual_seed(1)
    assert one == run(make(method, seed=3), range(4))
    assert one != run(make(method, seed=4), range(4))
    assert one[0] != one[1]


def check_goes_on_without_set_epoch(method: Method) -> None:
    sampler = make(method)
    assert list(sampler) != list(sampler)
    assert sampler.epoch == 1


def check_ranks_share_one_order(method: Method) -> None:
    whole = run(make(method, seed=5), range(1))[0]
    parts = [run(make(method, seed=5, rank=r, ranks=2), range(1))[0] for r in (0, 1)]
    assert parts[0] == whole[0::2] and parts[1] == whole[1::2]
    with pytest.raises(ValueError, match="rank 2"):
        make(method, rank=2, ranks=2)


def check_every_rank_gets_as_many(method: Method) -> None:
    """Three ranks of an order that three does not divide: the first indices come again, as torch has it."""
    whole = run(make(method, seed=5), range(1))[0]
    samplers = [make(method, seed=5, rank=r, ranks=3) for r in range(3)]
    parts = [run(sampler, range(1))[0] for sampler in samplers]
    assert {len(part) for part in parts} == {len(sampler) for sampler in samplers} == {-(-len(whole) // 3)}
    dealt = [index for row in zip(*parts, strict=True) for index in row]
    assert dealt == (whole + whole)[: len(dealt)]


def check_resumes_in_mid_epoch(method: Method) -> None:
    """From a file loaded with weights_only, bit for bit, with what update() was told."""
    straight = make(method)
    expected = run(straight, range(2))
    straight.set_epoch(2)
    third = list(straight)
    stopped = make(method)
    assert run(stopped, range(2)) == expected
    stopped.set_epoch(2)
    iterator = iter(stopped)
    first = [next(iterator) for _ in range(3)]
    file = io.BytesIO()
    torch.save(stopped.state_dict(), file)
    file.seek(0)
    resumed = make(method, seed=99)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    assert first + list(resumed) == third
    assert run(straight, range(3, 5)) == run(resumed, range(3, 5))


def check_loader_workers(method: Method) -> None:
    data = torch.arange(8)
    orders = []
    for workers in (0, 2):
        loader = DataLoader(data, batch_size=3, sampler=make(method), num_workers=workers)  # type: ignore[arg-type]
        orders.append([batch.tolist() for batch in loader])
        assert len(loader) == len(orders[-1])
    assert orders[0] == orders[1]
