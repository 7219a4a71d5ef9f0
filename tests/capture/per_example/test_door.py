"""Test ``vario.capture.per_example.door``: readings in running loops, within the budget, seen by nobody."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from tests.observed import Ran
from vario import budget
from vario.capture.attach import Attachment
from vario.capture.per_example import door as example_door
from vario.instruments.example_gradients import ExampleGradients
from vario.instruments.gradient_noise import GradientNoise
from vario.instruments.gradient_parts import GradientParts
from vario.nouns import Reading
from vario.session import Session

INSTRUMENTS = (GradientNoise(), GradientParts(), ExampleGradients())


class Kept:
    """A writer that keeps what it is given."""

    def __init__(self) -> None:
        self.read: dict[str, list[tuple[int, Any]]] = {}
        self.events: list[tuple[str, str, Any]] = []

    def readings(self, stream: str, step: int, readings: list[Reading]) -> None:
        for reading in readings:
            if not reading.where:
                self.read.setdefault(reading.series, []).append((step, reading.value))

    def points(self, stream: str, series: str, steps: Sequence[int], values: Sequence[float]) -> None:
        self.read.setdefault(series, []).extend(zip(steps, values, strict=True))

    def event(self, stream: str, step: int, kind: str, where: str, data: Any) -> None:
        self.events.append((kind, where, data))

    def meta(self, key: str, value: Any) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...

    def of(self, kind: str) -> list[Any]:
        return [data for name, _, data in self.events if name == kind]


@contextmanager
def listening(overhead: float = 1.0, said: list[str] | None = None) -> Iterator[Kept]:
    kept, heard = Kept(), [] if said is None else said
    session = Session(lambda: kept, overhead=overhead, instruments=INSTRUMENTS, say=heard.append)
    attachment = Attachment(session, budget=overhead)
    session.own_time = lambda: attachment.own
    try:
        yield kept
    finally:
        attachment.detach()
        session.end("", code=0)


class Net(nn.Module):
    def __init__(self, mix: Callable[[Tensor], Tensor] = torch.relu) -> None:
        super().__init__()
        self.a, self.b, self.mix = nn.Linear(6, 8), nn.Linear(8, 3), mix

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.mix(self.a(x)))


def train(
    model: nn.Module,
    steps: int = 12,
    size: int = 32,
    each: Callable[[nn.Module, Tensor, Tensor], None] | None = None,
) -> Tensor:
    torch.manual_seed(1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for _ in range(steps):
        x, y = torch.randn(size, 6), torch.randint(0, 3, (size,))
        optimizer.zero_grad()
        if each is not None:
            each(model, x, y)
        else:
            F.cross_entropy(model(x), y).backward()
        optimizer.step()
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def net(**settings: Any) -> nn.Module:
    torch.manual_seed(0)
    return Net(**settings)


def test_an_ordinary_loop_has_readings_at_every_step_and_ends_bitwise_the_same() -> None:
    bare = train(net())
    with listening() as kept:
        watched = train(net())
    assert torch.equal(bare, watched)
    # the stream begins with its first step, which is over then
    for series in ("gradient_noise/signal", "gradient_noise/noise", "example_gradients/even"):
        assert [step for step, _ in kept.read[series]] == list(range(1, 12))
    assert all(value == 1.0 for _, value in kept.read["gradient_noise/seen_share"])
    told = kept.of("example_gradients")
    assert told[0]["examples"] == 32 and told[0]["looked_at"] == 8
    assert told[0]["understood"] == told[0]["parameters"] == 4 and told[0]["missed"] == {}


def test_the_script_draws_the_same_random_numbers() -> None:
    def drawn() -> Tensor:
        train(net(mix=nn.Dropout(0.5)))
        return torch.rand(4)

    bare = drawn()
    with listening():
        assert torch.equal(drawn(), bare)


def test_within_a_small_budget_there_are_readings_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """How often is for ``test_budget``, whose clock is its own."""
    monkeypatch.setitem(budget.GRANTS, "noise", 1e3)  # however slow this machine
    with listening(overhead=0.03) as kept:
        train(net(), steps=48)
    steps = [step for step, _ in kept.read["gradient_noise/signal"]]
    assert steps[0] < 8 and len(steps) >= 10


def on_output(model: nn.Module, hook: Callable[..., Any]) -> Callable[[nn.Module, Tensor, Tensor], None]:
    def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
        output = model(x)
        output.register_hook(hook)
        F.cross_entropy(output, y).backward()

    return step


def on_hidden(model: nn.Module, hook: Callable[..., Any]) -> Callable[[nn.Module, Tensor, Tensor], None]:
    model.b.register_full_backward_hook(lambda _, into, out: None if (g := hook(into[0])) is None else (g,))
    return lambda model, x, y: F.cross_entropy(model(x), y).backward()


@pytest.mark.parametrize("where", [on_output, on_hidden])
def test_hooks_of_the_script_are_called_once_and_seen_past(where: Callable[..., Any]) -> None:
    count: list[int] = []
    plain, model = net(), net()
    with listening() as kept:
        watched = train(model, each=where(model, lambda g: count.append(1)))
    assert len(count) == 12 and torch.equal(watched, train(plain))
    assert [step for step, _ in kept.read["gradient_noise/noise"]] == list(range(1, 12))
    assert kept.of("example_gradients")[0]["missed"] == {}


@pytest.mark.parametrize("where", [on_output, on_hidden])
def test_below_a_hook_that_changes_the_gradient_nothing_is_said(where: Callable[..., Any]) -> None:
    model = net()
    with listening() as kept:
        train(model, each=where(model, lambda g: 2 * g))
    missed = set(kept.of("example_gradients")[0]["missed"])
    above = {"b.weight", "b.bias"}
    assert missed == {"a.weight", "a.bias"} | (above if where is on_output else set())


def test_an_evaluation_between_two_steps_puts_no_hook_on_the_next() -> None:
    """Where no loader is, the model's inputs are looked at from `eval()` on: by a hook of ours."""

    def evaluated_first(model: nn.Module, x: Tensor, y: Tensor) -> None:
        with torch.no_grad():
            F.cross_entropy(model.eval()(x), y)
        F.cross_entropy(model.train()(x), y).backward()

    with listening() as kept:
        train(net(), each=evaluated_first)
    assert [step for step, _ in kept.read["gradient_noise/noise"]] == list(range(1, 12))


class Counted(torch.autograd.Function):
    calls = 0

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        Counted.calls += 1
        return g


def test_functions_written_in_python_run_once() -> None:
    Counted.calls = 0
    with listening() as kept:
        train(net(mix=Counted.apply))  # below it nothing is known, above it all is
    assert Counted.calls == 12
    assert kept.of("example_gradients")[0]["understood"] == 2
    Counted.calls = 0
    with listening() as kept:
        train(net(), each=lambda m, x, y: F.cross_entropy(Counted.apply(m(x)), y).backward())
    assert Counted.calls == 12 and "gradient_noise/signal" not in kept.read


def test_a_model_whose_examples_are_mixed_says_so_and_is_not_tried_for_ever() -> None:
    def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
        output = model(x)
        F.cross_entropy(output - output.mean(dim=0), y).backward()

    with listening() as kept:
        train(net(), each=step)
    assert "gradient_noise/signal" not in kept.read
    told = kept.of("example_gradients")
    assert set(told[-1]["missed"]) == {"a.weight", "a.bias", "b.weight", "b.bias"}
    assert told[-1]["reason"] == "it is not tried again"


def test_what_breaks_is_switched_off_alone_and_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, *arguments: Any, **more: Any) -> None:
        raise ValueError("no")

    monkeypatch.setattr(example_door.ExampleDoor, "_judge", broken)
    said: list[str] = []
    bare = train(net())
    with listening(said=said) as kept:
        watched = train(net())
    assert torch.equal(bare, watched) and len(said) == 1 and "gradients of examples" in said[0]
    assert [where for kind, where, _ in kept.events if kind == "switched_off"] == ["gradients of examples"]


@pytest.mark.parametrize("size", [1, 2])
def test_batches_of_one_are_silent_and_of_two_are_not(size: int) -> None:
    with listening() as kept:
        train(net(), size=size)
    assert ("gradient_noise/signal" in kept.read) == (size == 2)


def test_gradients_that_are_not_finite_have_no_reading_and_break_nothing() -> None:
    def step(model: nn.Module, x: Tensor, y: Tensor) -> None:
        (F.cross_entropy(model(x), y) * float("inf")).backward()

    said: list[str] = []
    with listening(said=said) as kept:
        train(net(), each=step)
    assert said == [] and "gradient_noise/signal" not in kept.read


def loop_with_loader(parts: int, *, chunks: bool = False) -> Kept:
    torch.manual_seed(0)
    x = torch.randn(4096, 6)
    y = x[:, :3].argmax(dim=1)
    loader = DataLoader(TensorDataset(x, y), batch_size=16 * (parts if chunks else 1), shuffle=True)
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    with listening() as kept:
        number = 0
        for x, y in loader:
            pairs = zip(x.chunk(parts), y.chunk(parts), strict=True) if chunks else [(x, y)]
            for a, b in pairs:
                (F.cross_entropy(model(a), b) / parts).backward()
                number += 1
                if number % parts == 0:
                    optimizer.step()
                    optimizer.zero_grad()
    return kept


def test_accumulated_micro_batches_give_the_noise_of_single_examples() -> None:
    kept = loop_with_loader(4)
    parts = np.array([value for _, value in kept.read["gradient_parts/noise"]])
    single = np.array([value for _, value in kept.read["gradient_noise/noise"]])
    assert len(parts) == 63 and {value for _, value in kept.read["gradient_parts/count"]} == {4}
    # a micro-batch's loss is divided by four, so one backward is a quarter of the step
    for a, b in (
        (parts, single * 16),
        *(
            (
                np.array([v for _, v in kept.read[f"{k}/signal"]]) * f
                for k, f in (("gradient_parts", 1), ("gradient_noise", 16))
            ),
        ),
    ):
        error = np.hypot(a.std() / len(a) ** 0.5, b.std() / len(b) ** 0.5)
        assert abs(a.mean() - b.mean()) < 3 * error


def test_pieces_of_one_batch_are_not_taken_for_micro_batches() -> None:
    kept = loop_with_loader(4, chunks=True)
    assert "gradient_parts/noise" not in kept.read and "gradient_noise/noise" not in kept.read
    assert "not alike" in kept.of("example_gradients")[-1]["reason"]


def test_two_models_that_train_each_other_are_kept_apart() -> None:
    torch.manual_seed(0)
    maker, judge = nn.Linear(2, 6), Net()
    first, second = (torch.optim.SGD(m.parameters(), lr=0.01) for m in (maker, judge))
    label = torch.zeros(16, dtype=torch.long)
    with listening() as kept:
        for _ in range(6):
            second.zero_grad()
            F.cross_entropy(judge(torch.randn(16, 6)), label).backward()
            F.cross_entropy(judge(maker(torch.randn(16, 2)).detach()), label + 1).backward()
            second.step()
            first.zero_grad()
            F.cross_entropy(judge(maker(torch.randn(16, 2))), label).backward()
            first.step()
    assert [kind for kind, _, _ in kept.events if kind == "switched_off"] == []
    told = kept.of("example_gradients")
    assert any(one["parameters"] == 2 and one["understood"] == 2 and not one["reason"] for one in told)
    assert len(kept.read["gradient_noise/noise"]) == 5  # of the maker: the judge's losses are two things


def test_time_first_batches_are_seen_by_the_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    tokens = torch.randint(0, 9, (160, 5))
    embed, cell, head = nn.Embedding(9, 6), nn.GRU(6, 7), nn.Linear(7, 9)
    model = nn.ModuleList([embed, cell, head])

    class Language(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.parts = model

        def forward(self, x: Tensor) -> Tensor:
            return head(cell(embed(x))[0])

    whole = Language()
    optimizer = torch.optim.SGD(whole.parameters(), lr=0.1)
    with listening() as kept:
        for (x,) in DataLoader(TensorDataset(tokens), batch_size=16):
            optimizer.zero_grad()
            x = x.T
            F.cross_entropy(whole(x[:-1]).flatten(0, 1), x[1:].flatten()).backward()
            optimizer.step()
    told = kept.of("example_gradients")[0]
    assert told["examples"] == 16 and told["missed"] == {} and told["understood"] == told["parameters"] == 7


@pytest.mark.parametrize("name", ["bf16", "tied", "called_twice"])
def test_scripts_of_users_have_readings(name: str, watched: Callable[[str], Ran]) -> None:
    record = watched(name).record
    assert len(record.series("gradient_noise/noise")[1]), record.events("example_gradients")
    assert (record.series("gradient_noise/noise")[1] > 0).all()


def test_a_compiled_script_is_told_why_nothing_is_seen_of_its_examples(
    watched: Callable[[str], Ran],
) -> None:
    record = watched("compiled").record
    told = [event.data for event in record.events("example_gradients")][-1]
    assert told["understood"] == 0 and told["parameters"] == 4 and "not tried again" in told["reason"]
    assert set(told["missed"].values()) == {"CompiledFunctionBackward is not understood"}
    assert len(record.series("gradient_noise/noise")[0]) == 0 and not record.events("switched_off")
    assert len(record.series("gradient/norm")[0]) == record.step_count == 8


def test_a_scaled_loss_is_unscaled_and_one_scaled_too_high_is_not_judged() -> None:
    norms: list[float] = []

    def loop(scale: float) -> Kept:
        torch.manual_seed(0)
        model, scaler = net(), torch.amp.GradScaler("cpu", init_scale=scale)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        with listening() as kept:
            for _ in range(10):
                optimizer.zero_grad()
                loss = F.cross_entropy(model(torch.randn(32, 6)), torch.randint(0, 3, (32,)))
                scaler.scale(loss).backward()
                scaler.unscale_(optimizer)
                norms.append(
                    float(sum(p.grad.square().sum() for p in model.parameters() if p.grad is not None))
                )
                scaler.step(optimizer)
                scaler.update()
        return kept

    kept = loop(2.0**10)
    signal, noise = (dict(kept.read[f"gradient_noise/{name}"]) for name in ("signal", "noise"))
    assert len(signal) == 9
    assert all(signal[k] + noise[k] / 32 == pytest.approx(norms[k], rel=1e-4) for k in signal)
    kept = loop(2.0**100)  # its square leaves single precision, until it has been halved often enough
    told = kept.of("example_gradients")[0]
    assert "not finite" in str(told["missed"]) and told["reason"] == ""
