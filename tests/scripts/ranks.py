"""Processes that share a model over gloo, each with its part of one batch; what each heard is written down.

python ranks.py PLACE WORLD [listen] [unused]
"""

import gc
import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel

BATCH = 16


def make() -> tuple[nn.Module, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3)).double()
    return model, torch.randn(BATCH, 6, dtype=torch.float64), torch.randint(0, 3, (BATCH,))


def work(rank: int, place: str, world: int, listen: bool, unused: bool) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/store", rank=rank, world_size=world)
    model, x, y = make()
    x, y = x.chunk(world)[rank], y.chunk(world)[rank]
    shared = DistributedDataParallel(model, find_unused_parameters=unused)
    optimizer = torch.optim.SGD(shared.parameters(), lr=0.1)
    heard = hear(optimizer) if listen else None
    for _ in range(3):
        optimizer.zero_grad()
        nn.functional.cross_entropy(shared(x), y).backward()
        optimizer.step()
    if heard is not None:
        Path(place, f"heard{rank}.json").write_text(json.dumps(heard()))
    torch.save([p.detach() for p in model.parameters()], f"{place}/weights{rank}.pt")
    dist.barrier()
    del shared, model, optimizer
    gc.collect()
    dist.destroy_process_group()


def hear(optimizer):  # type: ignore[no-untyped-def]
    from tests.capture.per_example.test_door import listening

    context = listening()
    kept = context.__enter__()

    def end():  # type: ignore[no-untyped-def]
        context.__exit__(None, None, None)
        return {"read": kept.read, "off": kept.of("switched_off"), "told": kept.of("example_gradients")}

    return end


if __name__ == "__main__":
    place, world = sys.argv[1], int(sys.argv[2])
    mp.spawn(work, (place, world, "listen" in sys.argv, "unused" in sys.argv), nprocs=world)
