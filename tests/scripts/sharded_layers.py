"""Two processes that share one model of many kinds of layers; single examples against those of a whole copy.

python sharded_layers.py PLACE KIND      KIND: cut (fully_shard), halves (the same, in bfloat16), views, flat
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel, MixedPrecisionPolicy, fully_shard

from vario.capture.graph import bottom_up
from vario.capture.names import parameter_names
from vario.capture.per_example.found import ExampleGradients
from vario.capture.per_example.probe import Probe
from vario.capture.per_example.wholes import find

B, WORDS = 6, 11


class Net(nn.Module):
    """Tied, looked up, added, scaled, normalised; attention, convolution and a recurrent layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.place = nn.Embedding(WORDS, 8), nn.Parameter(torch.randn(1, 5, 8))
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
        self.cell, self.conv = nn.LSTM(8, 8, batch_first=True), nn.Conv1d(8, 8, 3, padding=1)
        self.norm, self.bent, self.scale = nn.GroupNorm(2, 8), nn.PReLU(8), nn.Parameter(torch.randn(8))
        self.head = nn.Linear(8, WORDS, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, x: Tensor) -> Tensor:
        h = self.cell(self.layer(self.embed(x) + self.place))[0]
        return self.head(self.bent(self.norm(self.conv(h.mT))).mT * self.scale)


def share(model: Net, kind: str) -> nn.Module:
    if kind in ("views", "flat"):
        settings: Any = {"use_orig_params": kind == "views", "device_id": torch.device("cpu")}
        model.layer, model.conv = (
            FullyShardedDataParallel(part, **settings) for part in (model.layer, model.conv)
        )
        return FullyShardedDataParallel(model, **settings)
    more: Any = {"mesh": dist.device_mesh.init_device_mesh("cpu", (dist.get_world_size(),))}
    if kind == "halves":
        more["mp_policy"] = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for part in (model.layer, model.cell, model.conv):
        fully_shard(part, **more)
    return fully_shard(model, **more)


def measured(model: nn.Module, x: Tensor, y: Tensor) -> ExampleGradients:
    loss = F.cross_entropy(model(x).float().flatten(0, 1), y.flatten())
    order, params = bottom_up([loss.grad_fn])[::-1], list(model.parameters())
    wholes = find(order, params, parameter_names(params, model), model)
    probe = Probe(loss, wholes.names, examples=B, check=1, order=order, pieces=wholes.pieces, products=True)
    loss.backward()
    found = probe.close()
    wholes.join(found)
    return found


def work(rank: int, place: str, kind: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{place}/store", rank=rank, world_size=2)
    torch.manual_seed(0)
    model, plain = Net(), Net()
    plain.load_state_dict(model.state_dict())
    shared = share(model, kind)
    optimizer = torch.optim.SGD(shared.parameters(), lr=0.0)
    torch.manual_seed(rank)
    for _ in range(2):  # leaves are made anew, or filled again
        x, y = torch.randint(0, WORDS, (2, B, 5))
        optimizer.zero_grad()
        found, wanted = measured(shared, x, y), measured(plain, x, y)
        optimizer.step()
    told = {
        "missed": [found.missed, wanted.missed],
        "checked": found.checked and wanted.checked,
        **{
            name: [{n: v.tolist() for n, v in getattr(one, name).items()} for one in (found, wanted)]
            for name in ("squares", "products", "batch_squares")
        },
    }
    Path(place, f"told{rank}.json").write_text(json.dumps(told))
    dist.barrier()
    os._exit(0)


if __name__ == "__main__":
    mp.spawn(work, tuple(sys.argv[1:3]), nprocs=2)
