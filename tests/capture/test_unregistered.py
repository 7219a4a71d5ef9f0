"""Test ``vario.capture.unregistered``: what a model holds in plain lists is told, and nothing else."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from tests.capture.test_traps import attached
from vario.capture.unregistered import unregistered


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.known = nn.Linear(4, 4)
        self.layers = [nn.Linear(4, 4, bias=False), self.known]
        self.parts: Any = {"scale": nn.Parameter(torch.ones(4)), "other": 3}
        self.teacher = [nn.Linear(4, 4)]
        self.inner = nn.ModuleList([nn.Module()])
        self.inner[0].held = (nn.Linear(4, 2),)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner[0].held[0](self.known(self.layers[0](x)) * self.parts["scale"])  # type: ignore


def test_parameters_in_plain_lists_are_named_by_where_they_lie() -> None:
    net = Net()
    assert list(unregistered(net)) == []  # nothing has a gradient yet
    net(torch.ones(2, 4)).sum().backward()
    names = [name for name, _ in unregistered(net)]
    assert names == [
        "layers[0].weight", "parts['scale']", "inner.0.held[0].weight", "inner.0.held[0].bias",
    ]  # fmt: skip


def test_what_an_optimizer_holds_is_not_forgotten_and_the_rest_is_told() -> None:
    for given in (False, True):
        with attached() as notes:
            net = Net()
            mine = [*net.parameters(), *(net.layers[0].parameters() if given else ())]
            optimizer = torch.optim.SGD(mine, lr=0.1)
            net(torch.ones(2, 4)).sum().backward()
            optimizer.step()
        (told,) = [data["parameters"] for _, kind, _, data in notes.happened if kind == "parameters"]
        rows = {row["name"]: row for row in told}
        left = [name for name, row in rows.items() if row.get("unregistered")]
        assert ("layers[0].weight" in left) is not given and "parts['scale']" in left
        assert not any(rows[name]["in_optimizer"] for name in left) and "teacher[0].weight" not in rows
