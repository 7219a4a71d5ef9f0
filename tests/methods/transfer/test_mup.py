"""Test ``vario.methods.transfer.mup``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bench import width as width_bench
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
    of_sgd = {row.name: row.lr for row in plan(Decoder(256), Decoder(64), lr=0.01, optimizer="sgd")}
    assert of_sgd == {
        **dict.fromkeys(("token", "places", "table.weight", "head.weight"), 0.04),
        **dict.fromkeys(("up.weight", "down.weight"), 0.01),
    }


def test_groups_hold_every_parameter_once_and_the_output_is_divided() -> None:
    torch.manual_seed(0)
    wide = make(256)
    x, _ = batch(256)
    plain = wide(x)
    groups = mup_groups(wide, make(64), lr=0.01)
    assert sum(len(group["params"]) for group in groups) == len(list(wide.parameters()))
    bias = wide[4].bias
    torch.testing.assert_close(wide(x) - bias, (plain - bias) / 4)


class Decoder(nn.Module):
    """What nanoGPT and ViT do: a tied head, one std for all weights, parameters of the model's own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, width))
        self.places = nn.Parameter(torch.randn(1, 9, width))
        self.table, self.up = nn.Embedding(30, width), nn.Linear(width, 4 * width, bias=False)
        self.down, self.head = nn.Linear(4 * width, width, bias=False), nn.Linear(width, 30, bias=False)
        self.head.weight = self.table.weight
        for one in (self.table, self.up, self.down):
            nn.init.normal_(one.weight, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        y = self.table(x) + self.places + self.token
        return self.head(y + self.down(self.up(y).relu()))  # type: ignore[no-any-return]


def test_a_tied_head_is_divided_and_its_table_is_not() -> None:
    torch.manual_seed(0)
    wide, x = Decoder(256), torch.arange(9)[None]
    looked_up, plain = wide.table(x), wide(x)
    groups = mup_groups(wide, Decoder(64), lr=0.01)
    assert sum(len(group["params"]) for group in groups) == len(list(wide.parameters()))
    assert torch.equal(wide.table(x), looked_up)
    torch.testing.assert_close(wide(x), plain / 4)
    rows = {row.name: (row.kind, row.lr, row.multiplier) for row in plan(wide, Decoder(64), lr=0.01)}
    assert rows["table.weight"] == ("input", 0.01, 1.0) and rows["head.weight"] == ("output", 0.01, 0.25)
    assert rows["token"] == rows["places"] == ("input", 0.01, 1.0)  # added, not multiplied


def test_hidden_weights_start_smaller_whatever_the_model_starts_them_with() -> None:
    torch.manual_seed(0)
    wide, narrow = Decoder(256), Decoder(64)
    rows = {row.name: row for row in plan(wide, narrow, lr=0.01)}
    for name in ("up.weight", "down.weight"):
        assert rows[name].init_std == pytest.approx(0.01, rel=0.03)
        assert rows[name].rescale == pytest.approx(0.5, rel=0.03)
    assert {rows[name].rescale for name in ("table.weight", "token", "places")} == {1.0}
    before = wide.up.weight.detach().clone()
    mup_groups(wide, narrow, lr=0.01)
    assert torch.equal(wide.up.weight, before)
    for _ in range(2):  # a second time finds nothing left to do
        mup_groups(wide, narrow, lr=0.01, init=True)
        torch.testing.assert_close(wide.up.weight, before * rows["up.weight"].rescale)
    usual = {row.name: row.rescale for row in plan(make(256), make(64), lr=0.01)}
    assert usual["0.weight"] == usual["2.weight"] == 1.0  # by fan-in, as torch starts them
    assert usual["4.weight"] == pytest.approx(2.0, rel=0.1)  # of the same size at every width (MuReadout)


def test_features_move_alike_whatever_one_std_the_weights_start_with() -> None:
    def rows(width: int) -> tuple[Tensor, Tensor]:
        draw = torch.Generator().manual_seed(1)
        return torch.randint(30, (16, 9), generator=draw), torch.randint(30, (16, 9), generator=draw)

    def loss(out: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(out.flatten(0, 1), y.flatten())

    kept = coordinate_check(Decoder, rows, loss)
    left = coordinate_check(Decoder, rows, loss, apply=False)
    assert abs(kept["up"]) < 0.15 and abs(kept["down"]) < 0.25 < 0.5 < left["down"]


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


@pytest.mark.parametrize(
    ("base", "width", "widths"),
    [(8, 64, {8, 16, 32, 64}), (8, 12, {8, 12, 16, 32}), (24, 8, {8, 16, 24, 32})],
)
def test_a_users_file_is_checked_at_the_widths_asked_about(
    tmp_path: Path, base: int, width: int, widths: set[int]
) -> None:
    file = tmp_path / "model.py"
    file.write_text(
        "import pathlib, torch\n"
        "def make(width):\n"
        f"    with open({str(tmp_path / 'widths')!r}, 'a') as seen: print(width, file=seen)\n"
        "    return torch.nn.Sequential(torch.nn.Linear(3, width), torch.nn.Linear(width, 2))\n"
        "def make_batch(width): return torch.ones(4, 3), torch.tensor([0, 1, 0, 1])\n"
    )
    told = describe_file(file, width=width, base=base, lr=0.1, optimizer="adam", check=True)
    assert [row["module"] for row in told["coordinates"]] == ["0", "1"]
    assert {int(line) for line in (tmp_path / "widths").read_text().split()} == widths


def test_a_users_file_imports_its_neighbours_and_its_model_returns_its_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "the_net.py").write_text(
        "import torch\n"
        "class Net(torch.nn.Module):\n"
        "    def __init__(self, width):\n"
        "        super().__init__()\n"
        "        print('made', width)\n"
        "        self.up, self.out = torch.nn.Linear(3, width), torch.nn.Linear(width, 2)\n"
        "    def forward(self, x, targets=None):\n"
        "        logits = self.out(self.up(x))\n"
        "        return logits, torch.nn.functional.cross_entropy(logits, targets) if RETURNS else None\n"
        "RETURNS = True\n"
    )
    file = tmp_path / "model.py"
    file.write_text(
        "import torch, the_net\n"
        "make = the_net.Net\n"
        "def make_batch(width): return {'x': torch.ones(4, 3), 'targets': torch.tensor([0, 1, 0, 1])}\n"
    )
    monkeypatch.setattr("sys.path", [one for one in sys.path if one not in ("", str(tmp_path))])
    told = describe_file(file, width=32, base=8, lr=0.1, optimizer="adam", check=True)
    assert [row["module"] for row in told["coordinates"]] == ["up", "out"]
    said = capsys.readouterr()
    assert "made 32" in said.err and not said.out
    monkeypatch.setattr(sys.modules["the_net"], "RETURNS", False)
    with pytest.raises(ValueError, match="returned no loss"):
        describe_file(file, width=32, base=8, lr=0.1, optimizer="adam", check=True)
    file.write_text("import torch, the_net\nmake = the_net.Net\ndef make_batch(width): return {'y': 1}\n")
    with pytest.raises(ValueError, match=r"coordinate check: TypeError: .*'y'"):
        describe_file(file, width=32, base=8, lr=0.1, optimizer="adam", check=True)
    del sys.modules["the_net"]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_rates_are_those_of_the_authors_package(optimizer: str) -> None:
    pytest.importorskip("mup", reason="the authors' mup is not installed")
    for model in (make, Decoder):
        theirs = package_rates(model, width=256, base=64, lr=0.01, optimizer=optimizer)
        own = {row.name: row.lr for row in plan(model(256), model(64), lr=0.01, optimizer=optimizer)}
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


def decoder(width: int, tokens: Tensor, *, steps: int = 0, seed: int = 0) -> dict[str, dict[str, float]]:
    """Root mean squares of all outputs of unit-scaling's decoder, of their gradients, of weight gradients."""
    loss = width_bench.loss_of("u-mup")
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = width_bench.make("u-mup", width)
    optimizer = width_bench.optimizer_of("u-mup", model, 0.25)
    for _ in range(steps):
        optimizer.zero_grad()
        loss(model(tokens[:, :-1]), tokens[:, 1:]).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    seen: dict[str, dict[str, float]] = {"output": {}, "its gradient": {}, "weight gradient": {}}

    def size(kind: str, name: str, value: Tensor) -> None:
        seen[kind][name] = value.detach().pow(2).mean().sqrt().item()

    def keep(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, out: Tensor) -> None:
            del module, inputs
            size("output", name, out)
            out.register_hook(lambda g: size("its gradient", name, g))

        return hook

    for name, one in model.named_modules():
        if not list(one.children()):
            one.register_forward_hook(keep(name))
    optimizer.zero_grad()
    loss(model(tokens[:, :-1]), tokens[:, 1:]).backward()  # type: ignore[no-untyped-call]
    for name, parameter in model.named_parameters():
        size("weight gradient", name, parameter.grad)  # type: ignore[arg-type]
    return seen


@pytest.mark.slow
def test_a_unit_scaled_transformer_is_of_one_size_at_the_start() -> None:
    """P219: .5 to 2 at widths 64 to 1024, but for the readout, which muP divides by its width on purpose.

    Unit scaling divides a weight's gradient as if rows had nothing in common. Characters of a text do:
    there it is larger, and as much so at every width.
    """
    pytest.importorskip("unit_scaling", reason="the authors' unit-scaling is not installed")
    draw = torch.Generator().manual_seed(31)
    apart = torch.randint(char_model.WORDS, (64, char_model.CONTEXT + 1), generator=draw)
    text = char_model.windows(char_model.text(300_000), torch.randint(250_000, (64,), generator=draw))
    for width in (64, 128, 256, 512, 1024):
        seen = decoder(width, apart)
        last = seen["output"].pop("projection")
        assert last == pytest.approx(width**-0.5, rel=0.1)
        sizes = [value for one in seen.values() for value in one.values()]
        of_text = decoder(width, text)["weight gradient"].values()
        print(width, "from", round(min(sizes), 2), "to", round(max(sizes), 2), "readout", round(last, 3),
              "weight gradients of text", round(min(of_text), 1), "to", round(max(of_text), 1))  # fmt: skip
        assert len(sizes) > 40 and all(0.5 <= one <= 2 for one in sizes)
        assert all(2 < one < 20 for one in of_text)


@pytest.mark.slow
def test_a_unit_scaled_transformer_keeps_its_sizes_over_widths() -> None:
    """P219: slopes of log size against log width below .1 after three steps, at every module.

    What the steps *changed* is another matter: the authors divide the embedding's rate by the root of the
    width, so Adam moves it by n^-1/2, and the first layers with it.
    """
    pytest.importorskip("unit_scaling", reason="the authors' unit-scaling is not installed")
    widths, draw = (32, 64, 128, 256, 512, 1024), torch.Generator().manual_seed(32)
    tokens = char_model.windows(char_model.text(300_000), torch.randint(250_000, (64,), generator=draw))
    rows = [[decoder(w, tokens, steps=3, seed=seed)["output"] for w in widths] for seed in (41, 42, 43)]
    off = torch.tensor(widths).double().log()
    off -= off.mean()
    found = {}
    for name in rows[0][0]:
        mean = torch.tensor([[one[name] for one in of_seed] for of_seed in rows]).double().mean(0)
        found[name] = float((off * mean.log()).sum() / off.square().sum())
    moved = width_bench.slopes("u-mup", 0.25, seeds=(41,))
    print({name: (round(found[name], 3), round(moved[name], 3)) for name in found})
    assert len(found) == 17 and all(abs(one) < 0.1 for one in found.values())
    assert moved["embedding"] == pytest.approx(-0.5, abs=0.05)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", ["standard", "mup", "u-mup"])
def test_the_best_rate_of_a_small_transformer_stays_put_only_with_a_rule(kind: str) -> None:
    """P141, P219: eight times the width; 80 steps of 16 rows and one seed. `bench/width.py` has the whole."""
    if kind == "u-mup":
        pytest.importorskip("unit_scaling", reason="the authors' unit-scaling is not installed")
    rates = [2.0**k for k in range(-3, 2)] if kind == "u-mup" else [1e-3 * 2.0**k for k in range(7)]
    data = char_model.text(600_000)
    best = []
    for width in (32, 256):
        history = width_bench.sweep(kind, width, 23, rates, data=data, steps=80, batch=16)
        best.append(width_bench.best_of([history[-20:].mean(0)]))
        print(kind, width, best[-1], [round(float(one), 3) for one in history[-20:].mean(0)])
    shift = best[1] - best[0]
    assert shift <= -2 if kind == "standard" else abs(shift) <= 1
