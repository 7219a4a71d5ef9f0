"""Every instrument there is, on what a script may put before it: an answer or a reason, the run as it was."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import vario
from vario.instruments import ALL
from vario.on_demand import KINDS, Asked
from vario.record.reader import Run, open_run

STEPS, B = 2, 6  # the second is measured in full
Case = tuple[Callable[[], nn.Module], Callable[[Any], Any]]


def net(**settings: Any) -> nn.Sequential:
    return nn.Sequential(nn.Linear(5, 4, **settings), nn.Tanh(), nn.Linear(4, 3, **settings))


def frozen() -> nn.Module:
    model = net()
    model[0].requires_grad_(False)
    return model


class Quantised(nn.Module):
    """Whole numbers and a scale of torch's own quantised kind below a layer that is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.whole: Tensor
        self.register_buffer("whole", torch.quantize_per_tensor(torch.randn(4, 5), 0.05, 0, torch.qint8))
        self.head = nn.Linear(4, 3)

    def forward(self, x: Any) -> Any:
        return self.head(F.linear(x, self.whole.dequantize()))


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.low, self.high = nn.Linear(5, 4), nn.Linear(4, 3).double()

    def forward(self, x: Any) -> Any:
        return self.high(torch.tanh(self.low(x)).double())


def loss_of(size: int = B, *, dtype: torch.dtype = torch.float32, times: float = 1.0) -> Callable[[Any], Any]:
    def loss(model: Any) -> Any:
        x, y = torch.randn(size, 5).to(dtype), torch.randint(0, 3, (size,))
        return F.cross_entropy(model(x).float(), y) * times

    return loss


def complex_loss(model: Any) -> Any:
    x = torch.randn(B, 5, dtype=torch.complex64)
    return torch.view_as_real(model(x)).square().mean()


def meta_loss(model: Any) -> Any:
    return model(torch.randn(B, 5, device="meta")).square().mean()


def sparse_loss(model: Any) -> Any:
    return F.cross_entropy(model(torch.randint(0, 7, (B,))), torch.randint(0, 3, (B,)))


def part_unused(model: Any) -> Any:
    return model[0](torch.randn(B, 5)).square().mean()


CASES: dict[str, Case] = {
    "plain": (net, loss_of()),
    "batch of one": (net, loss_of(1)),
    "empty batch": (net, loss_of(0)),
    "a loss that is not finite": (net, loss_of(times=float("inf"))),
    "gradients too large for single precision": (net, loss_of(times=1e38)),
    "frozen layers": (frozen, loss_of()),
    "no gradient for some": (net, part_unused),
    "mixed precisions": (Mixed, loss_of()),
    "half precision": (lambda: net(dtype=torch.float16), loss_of(dtype=torch.float16)),
    "bfloat16": (lambda: net(dtype=torch.bfloat16), loss_of(dtype=torch.bfloat16)),
    "complex parameters": (lambda: nn.Linear(5, 3, dtype=torch.complex64), complex_loss),
    "quantised": (Quantised, loss_of()),
    "meta tensors": (lambda: net(device="meta"), meta_loss),
    "sparse gradients": (lambda: nn.Embedding(7, 3, sparse=True), sparse_loss),
}


def train(case: Case, home: Path | None) -> tuple[list[Tensor], Run | None]:
    torch.manual_seed(0)
    model = case[0]()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

    def steps() -> None:
        for _ in range(STEPS):
            optimizer.zero_grad()
            case[1](model).backward()
            optimizer.step()

    if home is None:
        steps()
        return [*(p.detach() for p in model.parameters()), torch.rand(2)], None
    asked = Asked(tuple(kind for kind in KINDS if kind != "density"))  # it is dear, and refused as they are
    instruments = (*ALL, *asked.instruments())
    with vario.watch(model, optimizer, home=home, overhead=1.0, instruments=instruments) as watched:
        steps()
    assert watched.path is not None
    return [*(p.detach() for p in model.parameters()), torch.rand(2)], open_run(watched.path)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", CASES)
def test_no_input_breaks_an_instrument_or_changes_the_run(name: str, tmp_path: Path) -> None:
    bare, _ = train(CASES[name], None)
    heard, run = train(CASES[name], tmp_path)
    assert run is not None
    with run:
        assert run.main.step_count == STEPS
        assert [event.data for event in run.events("switched_off")] == []
        assert len(run.main.series("hyper/lr", "group 0")[0]) == STEPS
    for a, b in zip(bare, heard, strict=True):
        if not a.is_meta:
            assert torch.equal(a.nan_to_num(7.0), b.nan_to_num(7.0))
