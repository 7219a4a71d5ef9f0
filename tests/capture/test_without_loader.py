"""Test ``vario.capture.without_loader``: which evaluations are of rows of training, and which hold some."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.capture.test_traps import Notes
from vario.capture.attach import Attachment
from vario.capture.without_loader import TRAINED_ON

X = torch.randn(200, 6, generator=torch.Generator().manual_seed(0))
Y = X[:, :1]
HELD_OUT = torch.randn(80, 6, generator=torch.Generator().manual_seed(1))

Batches = Callable[[], list[Tensor]]


def by_hand() -> list[Tensor]:
    return list(X[torch.randperm(len(X))].split(20))


def by_loader() -> Batches:
    loader = DataLoader(TensorDataset(X), batch_size=20, shuffle=True)
    return lambda: (batch for (batch,) in loader)  # type: ignore[return-value]


def run(
    batches: Batches, evaluated: list[Tensor], *, listen: bool = True, epochs: int = 4
) -> tuple[dict[tuple[str, str], object], list[Tensor]]:
    """What was told of the last evaluations: share of seen rows, examples and loss, by place."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    notes = Notes()
    attachment = Attachment(notes) if listen else None
    for _ in range(epochs):
        net.train()
        for x in batches():
            optimizer.zero_grad()
            F.mse_loss(net(x), x[:, :1]).backward()
            optimizer.step()
        assert net.eval() is net
        with torch.no_grad():
            for x in evaluated:
                F.mse_loss(net(x), x[:, :1])
    if attachment is not None:
        attachment.detach()
        assert not notes.failures
    told = {(r.where, r.series): r.value for _, read in notes.read for r in read}
    return told, [p.detach().clone() for p in net.parameters()]


@pytest.mark.parametrize("batches", [by_hand, by_loader()])
def test_rows_of_training_are_told_apart_from_held_out_ones(batches: Batches) -> None:
    told, _ = run(batches, [X, HELD_OUT])
    assert told[TRAINED_ON, "eval/seen_share"] == 1.0
    assert told[TRAINED_ON, "eval/examples"] == len(X)
    (where,) = {place for place, series in told if series == "eval/seen_share" and place != TRAINED_ON}
    assert (told[where, "eval/seen_share"], told[where, "eval/examples"]) == (0.0, len(HELD_OUT))


@pytest.mark.parametrize("batches", [by_hand, by_loader()])
def test_what_leaked_into_a_held_out_set_is_a_share_of_it(batches: Batches) -> None:
    told, _ = run(batches, [torch.cat([HELD_OUT, X[:20]])])
    (share,) = (value for (_, series), value in told.items() if series == "eval/seen_share")
    assert share == pytest.approx(0.2, abs=0.01)


def test_a_share_is_estimated_where_a_part_of_training_is_known() -> None:
    """2,400 rows drawn of 2,000: two thirds of them are known at the end."""
    many, others = torch.randn(2, 2000, 6, generator=torch.Generator().manual_seed(2))
    few = lambda: [many[torch.randint(2000, (200,))] for _ in range(3)]  # noqa: E731
    told, _ = run(few, [torch.cat([others[:800], many[:400]])])
    share, of = (float(told["", f"eval/seen_{name}"]) for name in ("share", "of"))  # type: ignore[arg-type]
    assert share == pytest.approx(1 / 3, abs=2 * (2 / 9 / of) ** 0.5)
    assert 200 < of < 600
    told, _ = run(few, [others])
    assert told["", "eval/seen_share"] == 0.0
    told, _ = run(lambda: [X[torch.randint(200, (20,))]], [torch.cat([HELD_OUT, X[:20]])])
    assert ("", "eval/seen_share") not in told  # 80 rows drawn: too little is known


def test_two_losses_of_the_same_outputs_are_told_in_the_same_place() -> None:
    torch.manual_seed(0)
    net, notes = nn.Linear(6, 1), Notes()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    attachment = Attachment(notes)
    for _ in range(3):
        for x in by_hand():
            optimizer.zero_grad()
            (F.mse_loss(net(x), x[:, :1]) + F.l1_loss(net(x), x[:, :1])).backward()
            optimizer.step()
        net.eval()
        with torch.no_grad():
            out = net(X)
            F.mse_loss(out, Y), F.l1_loss(out, Y)
            out = net(HELD_OUT)
            F.mse_loss(out, HELD_OUT[:, :1]), F.l1_loss(out, HELD_OUT[:, :1])
    attachment.detach()
    last = {r.where: r.value for _, read in notes.read[1:] for r in read if r.series == "eval/examples"}
    assert last == {TRAINED_ON: len(X), "": len(HELD_OUT)}


def test_a_loss_is_about_the_rows_given_last_of_as_many_as_it_has() -> None:
    """Right answers of training rows are counted by hand before the held-out loss is taken."""
    torch.manual_seed(0)
    net, notes = nn.Linear(6, 1), Notes()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    attachment = Attachment(notes)
    for _ in range(12):
        optimizer.zero_grad()
        F.mse_loss(net(X), Y).backward()
        optimizer.step()
        with torch.no_grad():
            net(X)
            F.mse_loss(net(HELD_OUT), HELD_OUT[:, :1])
    attachment.detach()
    assert not notes.failures
    told = {(r.where, r.series): r.value for _, read in notes.read for r in read}
    assert (told["", "eval/examples"], told["", "eval/seen_share"]) == (len(HELD_OUT), 0.0)
    assert (TRAINED_ON, "eval/loss") not in told


def test_where_training_never_shows_a_row_twice_nothing_is_said() -> None:
    told, _ = run(lambda: [x + 0.1 * torch.randn_like(x) for x in by_hand()], [X, HELD_OUT])
    assert not [key for key in told if key[1] == "eval/seen_share"]
    assert told["", "eval/examples"] == len(X) + len(HELD_OUT)


def test_weights_are_the_same_bit_for_bit_and_torch_is_as_it_was() -> None:
    before = nn.Module.__dict__["eval"]
    heard, alone = (run(by_hand, [X, HELD_OUT], listen=listen)[1] for listen in (True, False))
    assert all(torch.equal(a, b) for a, b in zip(heard, alone, strict=True))
    assert nn.Module.__dict__["eval"] is before
    assert not torch.nn.modules.module._global_forward_pre_hooks


class Asked:
    """A loop by hand that evaluates without a loss function; ``ask(net)`` is its evaluation."""

    def __init__(self, ask: Callable[[nn.Module], object], *, listen: bool = True) -> None:
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        notes = Notes()
        attachment = Attachment(notes) if listen else None
        for _ in range(4):
            for x in by_hand():
                optimizer.zero_grad()
                (net(x) - x[:, :1]).square().mean().backward()
                optimizer.step()
            ask(net)
        if attachment is not None:
            attachment.detach()
            assert not notes.failures
        self.readings = [r for _, read in notes.read for r in read]
        self.told = {(r.where, r.series): r.value for r in self.readings}
        self.weights = [p.detach().clone() for p in net.parameters()]


@torch.no_grad()
def by_accuracy(net: nn.Module) -> Tensor:
    return (net(HELD_OUT) > 0).float().mean()


def test_an_evaluation_by_hand_is_known_by_the_rows_that_come_again() -> None:
    told = Asked(by_accuracy).told
    assert told["", "eval/examples"] == len(HELD_OUT)
    assert told["", "eval/seen_share"] == 0.0
    assert told["Dropout", "mode/eval_share"] == 1.0  # nobody called eval()


def test_modes_are_those_of_the_forward_and_not_of_the_training_after_it() -> None:
    def ask(net: nn.Module) -> None:
        net.eval()
        by_accuracy(net)
        net.train()

    assert Asked(ask).told["Dropout", "mode/eval_share"] == 0.0


def test_what_leaked_is_seen_in_batches_of_an_evaluation_by_hand() -> None:
    def ask(net: nn.Module) -> None:
        with torch.inference_mode():
            for part in torch.cat([HELD_OUT, X[:20]]).split(25):
                net(part)

    told = Asked(ask).told
    assert told["", "eval/examples"] == 100
    assert told["", "eval/seen_share"] == pytest.approx(0.2, abs=0.01)


def test_other_rows_each_time_or_rows_of_another_model_are_no_evaluation() -> None:
    @torch.no_grad()
    def sample(net: nn.Module) -> None:
        net(torch.randn(80, 6))

    teacher = nn.Linear(6, 1)

    @torch.no_grad()
    def ask_another(net: nn.Module) -> None:
        teacher(HELD_OUT)

    for ask in (sample, ask_another):
        assert not [series for _, series in Asked(ask).told if series.startswith(("eval/", "mode/eval"))]


def test_an_evaluation_by_hand_leaves_weights_and_torch_as_they_were() -> None:
    before = torch.no_grad.__dict__["__enter__"], torch.inference_mode.__dict__["__exit__"]
    heard, alone = (Asked(by_accuracy, listen=listen).weights for listen in (True, False))
    assert all(torch.equal(a, b) for a, b in zip(heard, alone, strict=True))
    assert (torch.no_grad.__dict__["__enter__"], torch.inference_mode.__dict__["__exit__"]) == before
    assert not torch.nn.modules.module._global_forward_pre_hooks


def test_scripts_that_switch_gradients_off_are_compiled_while_we_listen() -> None:
    def double(x: Tensor) -> Tensor:
        with torch.no_grad():
            y = x * 2
        return y

    attachment = Attachment(Notes())
    try:
        assert torch.jit.script(double)(torch.ones(1)).item() == 2
        assert torch.compile(double, backend="eager", fullgraph=True)(torch.ones(1)).item() == 2
    finally:
        attachment.detach()


def test_what_a_model_in_eval_mode_is_trained_on_is_no_part_of_its_evaluation() -> None:
    """Who forgets ``model.train()`` trains in eval mode: the first batch looks like one more of the pass."""

    def ask(net: nn.Module) -> None:
        net.eval()
        by_accuracy(net)

    told = {(r.where, r.series, r.value) for r in Asked(ask).readings if r.series.startswith("eval/")}
    assert told == {
        ("", "eval/examples", len(HELD_OUT)),
        ("", "eval/seen_share", 0.0),
        ("", "eval/seen_of", 80.0),
    }


def test_losses_that_leave_gradients_on_are_told_where_their_loader_says_and_nowhere_else() -> None:
    torch.manual_seed(0)
    net, notes = nn.Linear(6, 1), Notes()
    optimizer, attachment = torch.optim.SGD(net.parameters(), lr=0.05), Attachment(notes)
    train, test = (DataLoader(TensorDataset(rows), batch_size=20) for rows in (X, HELD_OUT))
    for _ in range(4):
        for (x,) in train:
            optimizer.zero_grad()
            F.mse_loss(net(x), x[:, :1]).backward()
            optimizer.step()
        net.eval()
        for (x,) in test:
            F.mse_loss(net(x), x[:, :1])
    attachment.detach()
    told = {
        (r.where, r.series): r.value for _, read in notes.read for r in read if r.series == "eval/examples"
    }
    assert told == {("loader 1", "eval/examples"): len(HELD_OUT)} and not notes.failures


@pytest.mark.parametrize("most", [4096, 40])
def test_rows_without_a_loss_are_told_at_the_loader_that_gave_them(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not at that of the training batch which ends the evaluation; of a large one only the first are."""
    monkeypatch.setattr("vario.capture.without_loader.MOST_ROWS", most)
    torch.manual_seed(0)
    net, notes = nn.Linear(6, 1), Notes()
    optimizer, attachment = torch.optim.SGD(net.parameters(), lr=0.05), Attachment(notes)
    leaked = torch.cat([X[:20], HELD_OUT[:60]])
    train, first, second = (DataLoader(TensorDataset(rows), batch_size=20) for rows in (X, HELD_OUT, leaked))
    for _ in range(4):
        for (x,) in train:
            optimizer.zero_grad()
            (net(x) - x[:, :1]).square().mean().backward()
            optimizer.step()
        with torch.no_grad():
            for loader in (first, second):
                for (x,) in loader:
                    net(x)
    attachment.detach()
    told = {(r.where, r.value) for _, read in notes.read for r in read if r.series == "eval/seen_share"}
    assert told == {("loader 1", 0.0), ("loader 2", 0.25 if most > 40 else 1 / 3)} and not notes.failures
