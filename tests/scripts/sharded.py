"""Processes that train one model over gloo, its parameters whole in each or cut over all, under watch.

python sharded.py RUN WORLD WAY...

The ways to share it take turns: first every process is watched, then rank 0 alone; then with one backward to
a step, watched by all and by none; and at last every one again while the last rank is lost in mid-training.
Each is a stream of its own, named after phase and way.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.nn.parallel import DistributedDataParallel

BATCH, STEPS, LOST_AT = 16, 4, 2
WAYS = ("ddp", "shards", "beside_wholes", "flat", "views", "hybrid")


def make() -> tuple[nn.Sequential, torch.Tensor, torch.Tensor]:
    """A model whose sizes no number of processes divides, and one batch."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(6, 13), nn.Tanh(), nn.Linear(13, 13), nn.Tanh(), nn.Linear(13, 3)
    ).double()
    return model, torch.randn(BATCH, 6, dtype=torch.float64), torch.randint(0, 3, (BATCH,))


def share(model: nn.Sequential, way: str) -> nn.Module:
    """The model as the processes train it."""
    world = dist.get_world_size()
    if way == "ddp":
        return DistributedDataParallel(model)
    if way in ("flat", "views"):
        settings: Any = {"use_orig_params": way == "views", "device_id": torch.device("cpu")}
        model[2] = FullyShardedDataParallel(model[2], **settings)
        return FullyShardedDataParallel(model, **settings)
    sizes = (2, world // 2) if way == "hybrid" else (world,)
    names = ("copy", "cut")[-len(sizes) :]
    mesh = dist.device_mesh.init_device_mesh("cpu", sizes, mesh_dim_names=names)
    whole = set(model[0].parameters()) if way == "beside_wholes" else set()
    for layer in (model[2], model[4]):
        fully_shard(layer, mesh=mesh)
    return fully_shard(model, mesh=mesh, ignored_params=whole)


def train(
    way: str, before_backward: Callable[[int], None] = lambda step: None, micro_batches: int = 2
) -> list[torch.Tensor]:
    """Some steps, with gradients that are zeroed in place and, mostly, clipped."""
    model, x, y = make()
    rank, world = dist.get_rank(), dist.get_world_size()
    x, y = x.chunk(world)[rank], y.chunk(world)[rank]
    shared = share(model, way)
    optimizer = torch.optim.SGD(shared.parameters(), lr=0.1, momentum=0.9)
    for step in range(STEPS):
        optimizer.zero_grad(set_to_none=False)
        for _ in range(micro_batches):
            loss = nn.functional.cross_entropy(shared(x), y) / micro_batches
            before_backward(step)
            loss.backward()
        if way == "beside_wholes":  # nobody else averages these
            for parameter in model[0].parameters():
                dist.all_reduce(parameter.grad)
                parameter.grad /= world
        elif way not in ("flat", "views"):
            nn.utils.clip_grad_norm_(shared.parameters(), 1e9)
        optimizer.step()
    if isinstance(shared, FullyShardedDataParallel):
        with FullyShardedDataParallel.summon_full_params(shared):
            return [parameter.detach().flatten().clone() for parameter in shared.parameters()]
    return [p.full_tensor() if hasattr(p, "full_tensor") else p.detach() for p in model.parameters()]


def work(rank: int, run: str, world: int, ways: list[str]) -> None:
    torch.set_num_threads(1)
    place, wait = f"file://{run}/store", timedelta(seconds=100)
    dist.init_process_group("gloo", init_method=place, rank=rank, world_size=world, timeout=wait)
    weights = []
    for phase in ("all", "one", "single", "bare"):
        for way in ways:
            here = phase in ("all", "single") or (rank == 0 and phase == "one")
            end = watch(run, f"{phase}_{way}") if here else lambda: None
            weights.append(train(way, micro_batches=2 if phase in ("all", "one") else 1))
            end()
    torch.save(weights, f"{run}/weights{rank}.pt")
    gc.collect()
    dist.barrier()
    end = watch(run, "lost_shards")

    def lose(step: int) -> None:
        if step == LOST_AT and rank == world - 1:
            end()
            os._exit(3)

    start = time.monotonic()
    try:
        train("shards", lose)
    except RuntimeError as error:
        Path(run, f"lost{rank}.txt").write_text(f"{time.monotonic() - start:.1f} {error}")
    end()
    os._exit(0)  # the group cannot be left in order any more


def watch(run: str, stream: str) -> Callable[[], None]:
    from vario.capture import streams
    from vario.watching import _attach

    streams.naming.variable_name = lambda model: stream
    attachment, session = _attach(Path(run), overhead=1.0)

    def end() -> None:
        attachment.detach()
        session.end("", code=0)

    return end


if __name__ == "__main__":
    run, world, *ways = sys.argv[1:]
    fork = multiprocessing.get_context("fork")
    ranks = [fork.Process(target=work, args=(rank, run, int(world), ways)) for rank in range(int(world))]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit([process.exitcode for process in ranks] != [0] * (int(world) - 1) + [3])
