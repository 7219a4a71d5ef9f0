"""Two processes that average their gradients; the second can afford to be watched far less than the first.

python uneven_ranks.py RUN STEPS OVERHEAD OVERHEAD
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def work(rank: int, run: str, steps: int, overhead: float) -> None:
    from vario.watching import _attach

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{run}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 3))
    model = DistributedDataParallel(net)
    torch.manual_seed(rank)
    x, y = torch.randn(16, 6), torch.randint(0, 3, (16,))
    attachment, session = _attach(Path(run), overhead=overhead)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    attachment.detach()
    session.end("", code=0)
    dist.barrier()
    os._exit(0)


if __name__ == "__main__":
    run, steps, *overheads = sys.argv[1:]
    fork = multiprocessing.get_context("fork")
    ranks = [
        fork.Process(target=work, args=(rank, run, int(steps), float(overhead)))
        for rank, overhead in enumerate(overheads)
    ]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    sys.exit([process.exitcode for process in ranks] != [0, 0])
