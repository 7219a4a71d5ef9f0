"""Traps of attaching that need no process of their own."""

from __future__ import annotations

import gc
import pickle
import weakref
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.jit._builtins import _get_builtin_table
from torch.utils.data import DataLoader, TensorDataset

from vario.capture.attach import Attachment
from vario.capture.streams import Stream
from vario.capture.thinned import Thinned
from vario.nouns import Reading

EVERYTHING = frozenset(
    "grads losses groups group_of weights_before carried inputs modes clip loss_calls activations times rows".split()  # noqa: E501
)


class Notes:
    """An observer that asks for everything and keeps it."""

    def __init__(self, wanted: frozenset[str] = EVERYTHING) -> None:
        self.wanted = wanted
        self.steps: list[tuple[str, int, dict[str, Any]]] = []
        self.read: list[tuple[int, list[Reading]]] = []
        self.happened: list[tuple[int, str, str, dict[str, Any]]] = []
        self.failures: list[str] = []

    def began(self, stream: Stream) -> None:
        pass

    def wants(self, stream: Stream) -> frozenset[str]:
        return self.wanted

    def kept_period(self, stream: Stream, kept: Thinned) -> int:
        return 0

    def kept(self, stream: Stream, series: str, steps: Sequence[int], values: Sequence[float]) -> None: ...

    def loss_period(self, stream: Stream) -> int:
        return 0

    def idle_steps(self, stream: Stream) -> int:
        return 0

    def passed(self, stream: Stream, steps: int, offered: Any) -> None:
        raise AssertionError("no step may pass untold")

    def at_gradient(self, stream: Stream, raw: Any) -> None:
        self.steps.append((stream.name, stream.step, dict(raw)))

    def stepped(self, stream: Stream, raw: Any) -> None:
        pass

    def readings(self, stream: Stream, readings: list[Reading]) -> None:
        self.read.append((stream.step - 1, readings))

    def event(self, stream: Stream, kind: str, where: str, data: dict[str, Any]) -> None:
        self.happened.append((stream.step, kind, where, data))

    def failed(self, place: str, error: Exception) -> None:
        self.failures.append(f"{place}: {error!r}")


@contextmanager
def attached(wanted: frozenset[str] = EVERYTHING) -> Iterator[Notes]:
    notes = Notes(wanted)
    attachment = Attachment(notes)
    try:
        yield notes
    finally:
        attachment.detach()
    assert not notes.failures


@pytest.fixture
def trained() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


def step(model: nn.Module, optimizer: torch.optim.Optimizer, *, clear: bool = True) -> None:
    if clear:
        optimizer.zero_grad()
    F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 3, (6,))).backward()
    optimizer.step()


def test_gradients_that_are_never_cleared_are_carried(trained: Any) -> None:
    with attached() as notes:
        for _ in range(3):
            step(*trained, clear=False)
    norms = [sum(float(g.norm()) ** 2 for g in raw["grads"]) ** 0.5 for _, _, raw in notes.steps[:-1]]
    del norms  # they alias `.grad`, which went on growing
    assert [raw.get("carried") for _, _, raw in notes.steps][0] is None
    assert all(raw["carried"] > 0 for _, _, raw in notes.steps[1:])


def test_a_graph_in_the_making_is_left_alone(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with attached() as notes:
        step(*trained)
        monkeypatch.setattr("vario.capture.accelerators.capturing", lambda: True)
        for _ in range(3):
            step(*trained)
        monkeypatch.setattr("vario.capture.accelerators.capturing", lambda: False)
        step(*trained)
    assert [number for _, number, _ in notes.steps] == [0, 1]
    assert [kind for _, kind, _, _ in notes.happened].count("graph_captured") == 1


def test_a_device_that_does_not_answer_is_no_failure_of_the_script(trained: Any, monkeypatch: Any) -> None:
    def broken() -> bool:
        raise RuntimeError("device-side assert")

    monkeypatch.setattr("vario.capture.accelerators.capturing", broken)
    notes = Notes()
    attachment = Attachment(notes)
    step(*trained)
    attachment.detach()
    assert notes.failures and all("device-side assert" in failure for failure in notes.failures)


def test_the_wait_for_a_queue_is_not_our_time(trained: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = Notes()
    attachment = Attachment(notes)
    monkeypatch.setattr("vario.capture.attach.wait_for_queue", lambda tensor: 1000.0)
    for _ in range(2):
        step(*trained)
    assert -4001 < attachment.own < -2999  # before gradients are asked for, and where each step ends
    attachment.detach()


def test_a_subclass_that_calls_its_parents_step_takes_one_step(trained: Any) -> None:
    class Careful(torch.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            return super().step(closure)

    model, _ = trained
    optimizer = Careful(model.parameters(), lr=0.1)
    with attached() as notes:
        for _ in range(3):
            step(model, optimizer)
    assert [number for _, number, _ in notes.steps] == [0, 1, 2]


def test_after_a_step_that_raised_the_next_one_is_seen(trained: Any) -> None:
    model, optimizer = trained
    with attached() as notes:
        step(model, optimizer)
        with pytest.raises(TypeError):
            optimizer.step(3, 4)
        step(model, optimizer)
        step(model, optimizer)
    assert [number for _, number, _ in notes.steps][-2:] == [1, 2]


def test_accumulation_without_dividing_is_a_mean(trained: Any) -> None:
    model, optimizer = trained
    given = []
    with attached() as notes:
        for _ in range(2):
            for _ in range(3):
                loss = F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 3, (6,)))
                loss.backward()
                given.append(loss.item())
            optimizer.step()
            optimizer.zero_grad()
    assert [value for _, _, raw in notes.steps for value in raw["losses"]] == pytest.approx(given)


@pytest.mark.parametrize("how", ["divide", "multiply", "inside the loss function", "its own tensor"])
def test_accumulation_with_dividing_gives_the_undivided_loss(trained: Any, how: str) -> None:
    model, optimizer = trained
    given = []
    with attached() as notes:
        for _ in range(4):
            loss = F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 3, (6,)))
            given.append(loss.item())
            parts = {
                "divide": lambda x: x / 4,
                "multiply": lambda x: x * 0.25,
                "inside the loss function": lambda x: (x / 2 + 0.0) / 2,
                "its own tensor": lambda x: x / torch.tensor(4.0),
            }
            parts[how](loss).backward()
        optimizer.step()
    assert notes.steps[0][2]["losses"] == pytest.approx(given)


@pytest.mark.parametrize("left", [1, 3])
def test_a_last_step_of_fewer_micro_batches_is_undivided_too(trained: Any, left: int) -> None:
    """Three batches to an epoch and two to a step: trainers divide the last one by two as well."""
    model, optimizer = trained
    given = []
    with attached() as notes:
        for count in (4, left):
            for _ in range(count):
                loss = F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 3, (6,)))
                given.append(loss.item())
                (loss / 4).backward()
            optimizer.step()
            optimizer.zero_grad()
    assert [value for _, _, raw in notes.steps for value in raw["losses"]] == pytest.approx(given)


def test_a_halved_loss_without_accumulation_stays_as_it_is(trained: Any) -> None:
    model, optimizer = trained
    with attached() as notes:
        loss = F.cross_entropy(model(torch.randn(6, 4)), torch.randint(0, 3, (6,))) / 2
        loss.backward()
        optimizer.step()
    assert notes.steps[0][2]["losses"] == pytest.approx([loss.item()])


def test_a_divided_loss_of_ones_own_is_known_by_its_graph(trained: Any) -> None:
    model, optimizer = trained
    with attached() as notes:
        given = []
        for _ in range(4):
            loss = model(torch.randn(6, 4)).square().mean()
            given.append(loss.item())
            (loss / 4).backward()
        optimizer.step()
    assert notes.steps[0][2]["losses"] == pytest.approx(given)


def test_a_tensor_subclass_is_counted_once(trained: Any) -> None:
    class Marked(torch.Tensor):
        pass

    model, optimizer = trained
    with attached() as notes:
        with torch.no_grad():
            F.cross_entropy(model(torch.randn(6, 4)).as_subclass(Marked), torch.randint(0, 3, (6,)))
        step(model, optimizer)
    assert [r.value for r in notes.read[0][1] if r.series == "eval/examples"] == [6.0]


def test_evaluation_of_each_loader_is_kept_apart_and_closed_by_training(trained: Any) -> None:
    model, optimizer = trained
    x, y = torch.randn(40, 4), torch.randint(0, 3, (40,))
    loaders = [DataLoader(TensorDataset(x[:24], y[:24]), 10), DataLoader(TensorDataset(x[24:], y[24:]), 10)]
    exact = [F.cross_entropy(model(a), b).item() for a, b in ((x[:24], y[:24]), (x[24:], y[24:]))]
    with attached() as notes:
        with torch.inference_mode():
            for loader in loaders:
                for a, b in loader:
                    F.cross_entropy(model(a), b)
        step(model, optimizer)
        with torch.no_grad():
            for a, b in loaders[1]:
                F.cross_entropy(model(a), b, reduction="none")
        step(model, optimizer)
    passes = [
        (at, {r.series: (r.where, r.value) for r in readings if r.series.startswith("eval/")})
        for at, readings in notes.read
    ]
    assert [(at, found["eval/loss"][0], found["eval/examples"][1]) for at, found in passes] == [
        (-1, "loader 0", 24.0),
        (-1, "loader 1", 16.0),
        (0, "loader 1", 16.0),
    ]
    assert [found["eval/loss"][1] for _, found in passes[:2]] == pytest.approx(exact)


def test_ignored_targets_do_not_count(trained: Any) -> None:
    model, optimizer = trained
    x, y = torch.randn(10, 4), torch.tensor([0, 1, 2, -100, -100, 1, 1, -100, 0, 2])
    exact = F.cross_entropy(model(x), y).item()
    with attached() as notes:
        with torch.no_grad():
            F.cross_entropy(model(x[:5]), y[:5], reduction="sum")
            F.cross_entropy(model(x[5:]), y[5:])
        step(model, optimizer)
    values = {reading.series: reading.value for reading in notes.read[0][1]}
    assert values["eval/examples"] == 7
    assert values["eval/loss"] == pytest.approx(exact)
    assert sum(values["eval/class_counts"]) == 7


def test_a_box_of_two_models_names_neither(trained: Any) -> None:
    class Box(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.generator, self.critic = nn.Linear(2, 2), nn.Linear(2, 1)

    box = Box()
    optimizers = [torch.optim.SGD(part.parameters(), lr=0.1) for part in (box.generator, box.critic)]
    with attached() as notes:
        F.mse_loss(box.critic(box.generator(torch.randn(4, 2))), torch.zeros(4, 1)).backward()
        for optimizer in optimizers:
            optimizer.step()
    assert [raw["names"] for _, _, raw in notes.steps] == [["weight", "bias"], ["weight", "bias"]]
    assert [raw["losses"] for _, _, raw in notes.steps][0] == [raw["losses"] for _, _, raw in notes.steps][1]


def test_an_optimizer_of_a_part_names_the_whole_model() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    optimizer = torch.optim.SGD(model[2].parameters(), lr=0.1)
    with attached() as notes:
        step(model, optimizer)
    assert notes.steps[0][2]["names"] == ["2.weight", "2.bias"]
    (parameters,) = [data["parameters"] for _, kind, _, data in notes.happened if kind == "parameters"]
    assert [p["in_optimizer"] for p in parameters] == [True, True, False, False]
    assert [p["has_gradient"] for p in parameters] == [True, True, True, True]


def test_optimizers_of_one_model_are_told_of_one_another() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    matrices = torch.optim.SGD([p for p in model.parameters() if p.ndim == 2], lr=0.1)
    vectors = torch.optim.AdamW([p for p in model.parameters() if p.ndim == 1], lr=0.1)
    never = torch.optim.AdamW(model.parameters(), lr=0.1)
    with attached() as notes:
        for _ in range(2):
            F.mse_loss(model(torch.randn(4, 4)), torch.zeros(4, 3)).backward()
            matrices.step()
            vectors.step()
    told = [data["names"] for _, kind, _, data in notes.happened if kind == "held_elsewhere"]
    assert told == [["0.weight", "2.weight"], ["0.bias", "2.bias"]]
    assert len(never.param_groups) == 1


def test_a_part_that_the_script_moves_by_hand_is_told_to_the_optimizer_of_the_rest() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), nn.Linear(3, 3))
    optimizer = torch.optim.SGD(model[0].parameters(), lr=0.1)
    with attached() as notes:
        for _ in range(4):
            step(model, optimizer)
            with torch.no_grad():
                for parameter in model[2].parameters():
                    parameter -= 0.1 * parameter.grad
                    parameter.grad = None
    told = [data["names"] for _, kind, _, data in notes.happened if kind == "held_elsewhere"]
    assert told == [["2.weight", "2.bias"]]


def test_reentrant_checkpointing_is_one_backward(trained: Any) -> None:
    from torch.utils.checkpoint import checkpoint

    model, optimizer = trained
    with attached() as notes:
        for _ in range(2):
            optimizer.zero_grad()
            x = torch.randn(6, 4, requires_grad=True)
            y = torch.randint(0, 3, (6,))
            checkpoint(lambda x, y=y: F.cross_entropy(model(x), y), x, use_reentrant=True).backward()
            optimizer.step()
    assert [len(raw["losses"]) for _, _, raw in notes.steps] == [1, 1]


def test_the_gradient_of_a_gradient_is_not_a_loss(trained: Any) -> None:
    model, optimizer = trained
    with attached() as notes:
        for _ in range(2):
            optimizer.zero_grad()
            x = torch.randn(6, 4, requires_grad=True)
            loss = F.cross_entropy(model(x), torch.randint(0, 3, (6,)))
            (slope,) = torch.autograd.grad(loss, x, create_graph=True)
            (loss + slope.square().sum()).backward()
            optimizer.step()
    assert [len(raw["losses"]) for _, _, raw in notes.steps] == [1, 1]


def test_updates_from_autograd_grad_are_steps(trained: Any) -> None:
    model, _ = trained
    x, y = torch.randn(6, 4), torch.randint(0, 3, (6,))
    given = []
    with attached() as notes:
        for _ in range(4):
            loss = F.cross_entropy(model(x), y)
            given.append(loss.item())
            grads = torch.autograd.grad(loss, list(model.parameters()))
            with torch.no_grad():
                for parameter, grad in zip(model.parameters(), grads, strict=True):
                    parameter -= 0.1 * grad
    assert [raw["losses"] for _, _, raw in notes.steps] == [[value] for value in given]
    assert notes.steps[2][2]["grads"][0].shape == (8, 4)


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_torchscript_and_transforms_and_pickles_do_not_notice(trained: Any) -> None:
    model, optimizer = trained
    with attached():

        class Scored(nn.Module):
            def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
                return torch.nn.functional.cross_entropy(x, y)

        scripted = torch.jit.script(Scored())
        x, y = torch.randn(5, 3), torch.randint(0, 3, (5,))
        assert scripted(x, y).item() == pytest.approx(F.cross_entropy(x, y).item())
        each = torch.func.vmap(lambda a, b: F.cross_entropy(a[None], b[None]))(x, y)
        assert each.mean().item() == pytest.approx(F.cross_entropy(x, y).item())
        step(model, optimizer)
        copy = pickle.loads(pickle.dumps(model))
        assert b"vario" not in pickle.dumps(model)
        assert torch.equal(copy(torch.ones(1, 4)), model(torch.ones(1, 4)))
        assert pickle.loads(pickle.dumps(F.cross_entropy)) is F.cross_entropy


@pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
def test_what_torchscript_compiles_is_found_where_the_script_stands() -> None:
    operators = dict(_get_builtin_table())
    with attached():

        class Held:  # a class finds its names in the frame that called `script`
            def __init__(self, x: torch.Tensor) -> None:
                self.x = doubled(x)

        @torch.jit.script
        def doubled(x: torch.Tensor) -> torch.Tensor:
            return 2 * x

        @torch.jit.script
        def slope(x: torch.Tensor) -> torch.Tensor:
            grad = torch.autograd.grad([(x * x).sum()], [x])[0]
            assert grad is not None
            return grad

        class Scored(torch.jit.ScriptModule):  # compiled by its metaclass: nobody calls `script`
            @torch.jit.script_method
            def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
                return torch.nn.functional.cross_entropy(torch.nn.functional.dropout(x, 0.0), y)

        assert len(_get_builtin_table()) == len(operators) + 2  # `backward` and `grad`
        torch.jit.script(Held)
        x, y = torch.randn(5, 3, requires_grad=True), torch.randint(0, 3, (5,))
        assert torch.equal(slope(x), 2 * x)
        assert Scored()(x, y).item() == pytest.approx(F.cross_entropy(x, y).item())
    assert _get_builtin_table() == operators  # it goes by addresses, and ours are free again


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning", "error::torch.jit.TracerWarning")
def test_what_is_only_written_down_is_not_read(trained: Any) -> None:
    from torch._subclasses import FakeTensorMode
    from torch.fx.experimental.proxy_tensor import make_fx

    model, optimizer = trained
    x, y = torch.randn(5, 3), torch.randint(0, 3, (5,))
    with attached() as notes:
        step(model, optimizer)
        before = len(notes.steps)
        traced = torch.jit.trace(
            lambda a, b: F.cross_entropy(F.dropout(a, 0.1), b), (x, y), check_trace=False
        )
        assert "cross_entropy" in str(traced.graph)
        assert "nll_loss" in make_fx(lambda a, b: F.cross_entropy(a, b))(x, y).code
        with FakeTensorMode():
            unreal = nn.Linear(4, 3)
            step(unreal, torch.optim.SGD(unreal.parameters(), lr=0.1))
        step(model, optimizer)
    assert (len(notes.steps), notes.failures) == (before + 1, [])


def test_gradients_of_single_examples_by_a_transform_are_none_of_the_step(trained: Any) -> None:
    """Inside it tensors have no values; what came into the model there once broke all hearing."""
    model, optimizer = trained
    parameters = dict(model.named_parameters())

    def loss_of(parameters: Any, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(torch.func.functional_call(model, parameters, (x,)), y)

    x, y = torch.randn(6, 1, next(model.parameters()).shape[1]), torch.zeros(6, 1, dtype=torch.long)
    with attached() as notes:
        for _ in range(3):
            torch.func.vmap(torch.func.grad(loss_of), in_dims=(None, 0, 0))(parameters, x, y)
            step(model, optimizer)
    assert (len(notes.steps), notes.failures) == (3, [])
    assert all(len(raw["losses"]) == 1 for _, _, raw in notes.steps)
    assert all(len(raw["loss_calls"]) == 1 for _, _, raw in notes.steps)


@pytest.mark.filterwarnings("ignore:.*torch.jit.trace.*:DeprecationWarning")
def test_a_loss_compared_with_its_trace_is_no_evaluation(trained: Any) -> None:
    x, y = torch.randn(5, 3), torch.randint(0, 3, (5,))
    with attached() as notes:
        step(*trained)
        torch.jit.trace(lambda a, b: F.cross_entropy(a, b), (x, y))
        step(*trained)
        with torch.no_grad():
            F.cross_entropy(x[:4], y[:4])
        step(*trained)
    told = [r.value for _, readings in notes.read for r in readings if r.series == "eval/examples"]
    assert (told, notes.failures) == ([4], [])


def test_modes_that_count_operations_count_the_scripts_alone(trained: Any) -> None:
    from torch.overrides import TorchFunctionMode
    from torch.utils.flop_counter import FlopCounterMode

    class Count(TorchFunctionMode):
        calls = 0

        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.calls += 1
            return function(*args, **(kwargs or {}))

    def counted() -> tuple[int, int]:
        with FlopCounterMode(display=False) as flops, Count() as count:
            step(*trained)
        return flops.get_total_flops(), count.calls

    step(*trained)
    bare = counted()
    with attached() as notes:
        assert counted() == bare
    assert notes.steps and not notes.failures


def test_what_listens_inside_a_backward_is_not_counted_either(trained: Any) -> None:
    from torch.utils._python_dispatch import TorchDispatchMode

    class Count(TorchDispatchMode):
        calls = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.calls += 1
            return function(*args, **(kwargs or {}))

    def counted() -> int:
        with Count() as count:
            step(*trained)
        return count.calls

    bare = [counted(), counted()][1]
    with attached(EVERYTHING | {"example_gradients"}) as notes:
        step(*trained)
        assert counted() == bare
    assert "example_gradients" in notes.steps[1][2]


def test_tensors_of_the_scripts_own_kind_count_its_calls_alone(trained: Any) -> None:
    class Counting(torch.Tensor):
        calls = 0

        @classmethod
        def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            cls.calls += 1
            return super().__torch_function__(function, types, args, kwargs or {})

    def counted() -> int:
        model, optimizer = trained
        x, before = torch.ones(6, 4).as_subclass(Counting), Counting.calls
        optimizer.zero_grad()
        F.cross_entropy(model(x), torch.arange(6) % 3).backward()
        optimizer.step()
        return Counting.calls - before

    bare = [counted(), counted()][1]
    with attached() as notes:
        assert [counted(), counted()] == [bare, bare]
    assert len(notes.steps) == 2


def test_nothing_is_kept_alive() -> None:
    with attached() as notes:
        model = nn.Linear(4, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        step(model, optimizer)
        step(model, optimizer)
        gone = weakref.ref(model.weight)
        notes.steps.clear()
        del model, optimizer
        gc.collect()
        assert gone() is None


def test_nothing_is_wanted_and_evaluation_is_still_seen(trained: Any) -> None:
    model, optimizer = trained
    with attached(frozenset()) as notes:
        for _ in range(3):
            step(model, optimizer)
        with torch.no_grad():
            F.cross_entropy(model(torch.ones(2, 4)), torch.tensor([0, 1]))
        step(model, optimizer)
        step(model, optimizer)
    assert [at for at, _ in notes.read] == [2]
    assert [number for _, number, _ in notes.steps] == [0, 3]  # asleep but for the first, and to end the pass
