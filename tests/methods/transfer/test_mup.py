"""Test ``vario.methods.transfer.mup``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.laws import char_model
from vario.methods.transfer.mup import coordinate_check, describe_file, mup_groups, package_rates, plan


def make(width: int) -> nn.Sequential:
    hidden = nn.Linear(width, width)
    return nn.Sequential(nn.Linear(16, width), nn.ReLU(), hidden, nn.ReLU(), nn.Linear(width, 10))


def batch(width: int) -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    return torch.randn(64, 16, generator=draw), torch.randint(10, (64,), generator=draw)


def test_rates_and_multipliers_by_hand() -> None:
    rows = {row.name: row for row in plan(make(256), make(64), lr=0.01)}
    assert rows["0.weight"].kind == "input" and rows["0.weight"].lr == 0.01
    assert rows["2.weight"].kind == "hidden" and rows["2.weight"].lr == 0.0025
    last = rows["4.weight"]
    assert last.kind == "output" and last.multiplier == 0.25 and last.lr == 0.01
    assert rows["2.bias"].lr == 0.01
    sgd = {row.name: row.lr for row in plan(make(256), make(64), lr=0.01, optimizer="sgd")}
    assert sgd["0.weight"] == sgd["4.weight"] == 0.04 and sgd["2.weight"] == 0.01
    table = plan(nn.Sequential(nn.Embedding(50, 256)), nn.Sequential(nn.Embedding(50, 64)), lr=0.01)
    assert table[0].kind == "input"


def test_groups_hold_every_parameter_once_and_the_output_is_divided() -> None:
    torch.manual_seed(0)
    wide = make(256)
    x, _ = batch(256)
    plain = wide(x)
    groups = mup_groups(wide, make(64), lr=0.01)
    assert sum(len(group["params"]) for group in groups) == len(list(wide.parameters()))
    bias = wide[4].bias
    torch.testing.assert_close(wide(x) - bias, (plain - bias) / 4)


def test_features_move_alike_at_every_width_only_with_the_rule() -> None:
    kept = coordinate_check(make, batch, nn.functional.cross_entropy, lr=3e-3)
    left = coordinate_check(make, batch, nn.functional.cross_entropy, lr=3e-3, apply=False)
    assert abs(kept["2"]) < 0.25 < 0.5 < left["2"]
    assert kept["4"] < 0.3 < left["4"]


def test_a_users_file(tmp_path: Path) -> None:
    file = tmp_path / "model.py"
    file.write_text(
        "from torch import nn\n"
        "def make(width):\n"
        "    return nn.Sequential(nn.Linear(3, width), nn.Linear(width, 2))\n"
    )
    told = describe_file(file, width=128, base=32, lr=0.1, optimizer="adam", check=False)
    assert told["parameters"][2]["multiplier"] == 0.25
    with pytest.raises(ValueError, match="make_batch"):
        describe_file(file, width=128, base=32, lr=0.1, optimizer="adam", check=True)
    with pytest.raises(ValueError, match="no counterpart"):
        plan(make(64), nn.Linear(3, 3), lr=0.1)


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_rates_are_those_of_the_authors_package(optimizer: str) -> None:
    pytest.importorskip("mup", reason="the authors' mup is not installed")
    theirs = package_rates(make, width=256, base=64, lr=0.01, optimizer=optimizer)
    own = {row.name: row.lr for row in plan(make(256), make(64), lr=0.01, optimizer=optimizer)}
    assert theirs == pytest.approx(own)


def unit_scaled(width: int) -> nn.Module:
    uu = pytest.importorskip("unit_scaling", reason="the authors' unit-scaling is not installed")

    class Net(nn.Module):  # unit-scaling's activations are functions
        def __init__(self) -> None:
            super().__init__()
            self.first, self.hidden = uu.Linear(16, width), uu.Linear(width, width)
            self.last = uu.LinearReadout(width, 10)

        def forward(self, x: Tensor) -> Tensor:
            y = uu.functional.gelu(self.hidden(uu.functional.gelu(self.first(x))))
            return self.last(y)  # type: ignore[no-any-return]

    return Net()


def test_a_unit_scaled_model_brings_its_own_rule() -> None:
    wide = unit_scaled(256)
    rates = {row.name: (row.kind, row.lr) for row in plan(wide, unit_scaled(64), lr=1.0)}
    assert rates == {
        "first.weight": ("weight", 0.25), "hidden.weight": ("weight", 0.0625), "last.weight": ("output", 1.0)
    }  # fmt: skip
    groups = mup_groups(wide, unit_scaled(64), lr=1.0)
    assert sorted(group["lr"] for group in groups) == [0.0625, 0.25, 1.0]
    wide.extra = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="extra.weight is no parameter of unit_scaling"):
        plan(wide, unit_scaled(64), lr=1.0)


@pytest.mark.slow
def test_unit_scaled_features_are_of_one_size_and_move_alike_at_every_width() -> None:
    """P219: sizes in .5 to 2 at the start, gradients too, and slopes below .1 over 64 to 1024."""
    uu = pytest.importorskip("unit_scaling", reason="the authors' unit-scaling is not installed")
    for width in (64, 256, 1024):
        torch.manual_seed(0)
        model, seen = unit_scaled(width), []
        for name in ("first", "hidden"):
            model.get_submodule(name).register_forward_hook(lambda _, __, out, seen=seen: seen.append(out))
        x, y = batch(width)
        out = model(x)
        uu.functional.cross_entropy(out, y).backward()
        sizes = [one.detach().pow(2).mean().sqrt().item() for one in seen]
        sizes += [p.grad.pow(2).mean().sqrt().item() for p in model.parameters() if p.grad is not None]
        print(width, [round(one, 2) for one in sizes], "output", round(out.detach().std().item(), 3))
        assert all(0.5 <= one <= 2 for one in sizes)
    slopes = coordinate_check(
        unit_scaled, batch, uu.functional.cross_entropy, widths=(64, 128, 256, 512, 1024), lr=0.1
    )
    print(slopes)
    assert all(abs(one) < 0.1 for one in slopes.values())


def test_without_the_package_nothing_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert package_rates(make, width=256, base=64, lr=0.01) is None


@pytest.mark.slow
def test_the_best_rate_of_a_small_transformer_stays_put_only_with_the_rule() -> None:
    """P141: four times the width, rates a factor of 2 apart, 80 steps of the character model."""
    rates, data = [1e-3 * 2.0**k for k in range(1, 7)], char_model.text(600_000)

    def last(width: int, lr: float, by_rule: bool) -> float:
        torch.manual_seed(22)
        model, narrow = char_model.Transformer(width), char_model.Transformer(32)
        groups: Any = model.parameters()
        if by_rule:
            groups = mup_groups(model, narrow, lr=lr)
            for block in model.body:  # attention by 1 / d: the queries shrink by the root
                block.mix.register_forward_hook(  # type: ignore[union-attr, operator]
                    lambda _, __, out: torch.cat(
                        [out[..., :width] * (32 / width) ** 0.5, out[..., width:]], -1
                    )
                )
        optimizer = torch.optim.Adam(groups, lr=lr)
        draw = torch.Generator().manual_seed(22)
        losses = [
            char_model.step(
                model, optimizer, char_model.windows(data, torch.randint(450_000, (32,), generator=draw))
            )
            for _ in range(80)
        ]
        return sum(losses[-20:])

    best = {
        (width, by_rule): min(range(len(rates)), key=lambda k: last(width, rates[k], by_rule))
        for width, by_rule in ((32, True), (128, True), (128, False))
    }
    print(best)
    assert abs(best[128, True] - best[32, True]) <= 1  # at the base width the rule changes nothing
    assert best[128, False] <= best[32, True] - 2
