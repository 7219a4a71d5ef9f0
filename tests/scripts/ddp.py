"""Two processes, started by torchrun, that share a model over gloo."""

import gc
import sys

import torch
import torch.distributed as dist
from ended import ended
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 2))
ddp = DistributedDataParallel(model)
optimizer = torch.optim.SGD(ddp.parameters(), lr=0.1)
torch.manual_seed(100 + rank)
x, y = torch.randn(32, 6), torch.randint(0, 2, (32,))
for _ in range(6):
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(ddp(x), y)
    loss.backward()
    optimizer.step()
    sys.stdout.write(f"rank {rank} loss {loss.item():.6f}\n")  # in one piece: both ranks write
    sys.stdout.flush()
if rank == 0:
    ended(model, optimizer)
dist.barrier()  # without these, this version of gloo aborts at exit now and then
del ddp
gc.collect()
dist.destroy_process_group()
