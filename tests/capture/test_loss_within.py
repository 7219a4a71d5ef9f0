"""Test ``vario.capture.outside`` and ``loss_within``: what is known of a compiled model, and what is not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import observed
from tests.capture.test_traps import Notes
from tests.observed import Ran
from vario.capture import outside
from vario.capture.attach import Attachment
from vario.capture.loss_within import LossWithin
from vario.record.reader import open_run
from vario.watching import watch

SERIES = (
    ("batch/size", ""),
    ("batch/targets", ""),
    ("batch/class_counts", ""),
    ("accuracy/train", ""),
    ("eval/loss", ""),
    ("eval/accuracy", ""),
)


@pytest.mark.parametrize("how", ["module", "in place", "part"])
def test_what_is_known_of_a_compiled_model_is_what_is_known_of_it_otherwise(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, ran = (_watched(way, tmp_path / way, monkeypatch) for way in ("not at all", how))
    assert "warn" not in ran.err.lower() and not ran.record.events("switched_off"), ran.err
    assert ran.out == plain.out
    for name, where in SERIES:
        (steps, values), (_, expected) = ran.record.series(name, where), plain.record.series(name, where)
        assert len(steps) > 2, name
        if (how, name) == ("part", "batch/size"):
            continue  # not heard as a whole, its inputs are not known: the rows of its scores stand in
        np.testing.assert_allclose(values[-3:], expected[-3:], rtol=1e-5, err_msg=name)
    assert ran.record.series("eval/loss", "")[1] == pytest.approx(ran.printed("held"), abs=1e-5)


def _watched(how: str, base: Path, monkeypatch: pytest.MonkeyPatch) -> Ran:
    base.mkdir()
    monkeypatch.setenv("COMPILED", how)
    return observed.ran("compiled_loss", base, watched=True)


def test_what_a_compiled_part_is_given_is_not_what_the_model_is_given(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(12, 16), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 12))
    optimizer, part = torch.optim.SGD(model.parameters(), lr=0.1), model[1]
    with watch(model, optimizer, home=tmp_path, overhead=1.0) as run:
        for step in range(12):
            if step == 6:
                model[1] = torch.compile(part, backend="eager")
            x = torch.randint(0, 12, (32,))
            optimizer.zero_grad()
            F.cross_entropy(model(x), x).backward()
            optimizer.step()
    assert run.path is not None
    record = open_run(run.path).main
    assert record.step_count == 12 and not [name for name in record.names() if name.startswith("input/")]


@pytest.mark.parametrize("in_place", [False, True])
def test_a_model_that_was_compiled_before_it_is_watched_is_not_traced_anew(
    in_place: bool, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    model = fast = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
    if in_place:
        model.compile(backend="aot_eager")
    else:
        fast = torch.compile(model, backend="aot_eager")
    x, y, optimizer = (
        torch.randn(16, 8),
        torch.randint(0, 3, (16,)),
        torch.optim.SGD(model.parameters(), lr=0.1),
    )
    fast(x)
    recwarn.clear()
    with watch(fast, optimizer, home=tmp_path, overhead=1.0) as run:
        for _ in range(8):
            optimizer.zero_grad()
            F.cross_entropy(fast(x), y).backward()
            optimizer.step()
    assert run.path is not None and not recwarn.list, [str(w.message) for w in recwarn]
    assert open_run(run.path).main.wheres("gradient/norm")[:2] == ("0.weight", "0.bias")


class Told:
    """An attachment that wants everything, and what it was told."""

    keeps_calls = True

    def __init__(self) -> None:
        self.calls: list[tuple[Tensor, Tensor, dict[str, int], Tensor]] = []

    def loss_called(self, name: str, function: object, args: tuple, kwargs: dict, value: Tensor) -> None:
        assert name == "cross_entropy"
        self.calls.append((*args, kwargs, value))


@pytest.fixture
def told() -> Iterator[tuple[Told, LossWithin]]:
    torch.manual_seed(0)
    told = Told()
    yield told, LossWithin(told)  # type: ignore[arg-type]


SCORES, LABELS = (
    torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0)),
    torch.arange(24).view(4, 6) % 5,
)


def test_scores_of_the_next_place_and_labels_by_name(told: tuple[Told, LossWithin]) -> None:
    """As transformers' models give them: the labels are the tokens themselves, some of them -100."""
    labels = LABELS.clone()
    labels[:, :2] = -100
    loss = F.cross_entropy(SCORES[:, :-1].reshape(-1, 5), labels[:, 1:].reshape(-1))
    given = {"input_ids": LABELS, "attention_mask": torch.ones_like(LABELS), "labels": labels}
    told[1].answered_outside(nn.Linear(1, 1), (), given, {"loss": loss, "logits": SCORES})
    ((scores, found, more, value),) = told[0].calls
    assert more == {"ignore_index": -100} and value is loss
    torch.testing.assert_close(F.cross_entropy(scores, found), loss)


def test_a_sum_over_a_number_that_is_given(told: tuple[Told, LossWithin]) -> None:
    """As the Trainer of transformers has it: the number of labels, the first of each row included."""
    loss = F.cross_entropy(SCORES[:, :-1].reshape(-1, 5), LABELS[:, 1:].reshape(-1), reduction="sum") / 24
    given = {"input_ids": LABELS, "labels": LABELS, "num_items_in_batch": torch.tensor(24.0)}
    told[1].answered_outside(nn.Linear(1, 1), (), given, {"loss": loss, "logits": SCORES})
    ((scores, found, more, value),) = told[0].calls
    assert more == {"ignore_index": -100, "reduction": "sum"}
    torch.testing.assert_close(F.cross_entropy(scores, found, reduction="sum"), value)


def test_labels_of_examples(told: tuple[Told, LossWithin]) -> None:
    loss = F.cross_entropy(SCORES[:, 0].bfloat16().float(), LABELS[:, 0])
    told[1].answered_outside(
        nn.Linear(1, 1), (torch.randn(4, 3), LABELS[:, 0].int()), {}, (loss, SCORES[:, 0].bfloat16())
    )
    assert len(told[0].calls) == 1


@pytest.mark.parametrize(
    ("args", "output"),
    [
        ((LABELS,), (SCORES, torch.tensor(1.0))),  # a loss, but not this one
        ((LABELS + 3,), (SCORES, torch.tensor(1.0))),  # no labels: more of them than classes
        ((LABELS.float(),), (SCORES, F.cross_entropy(SCORES.view(-1, 5), LABELS.view(-1)))),
        ((LABELS,), SCORES),
        ((LABELS,), (SCORES, None)),
        ((torch.full((4, 6), -1),), (SCORES, torch.tensor(float("nan")))),  # every label ignored
        ((), (torch.tensor(0.0),)),
    ],
)
def test_what_is_no_cross_entropy_of_its_own(
    args: tuple, output: object, told: tuple[Told, LossWithin]
) -> None:
    model = nn.Linear(1, 1)
    for _ in range(9):
        told[1].answered_outside(model, args, {}, output)
    assert not told[0].calls


def test_a_loss_that_gains_a_second_term_is_no_longer_told(told: tuple[Told, LossWithin]) -> None:
    model, loss = nn.Linear(1, 1), F.cross_entropy(SCORES.view(-1, 5), LABELS.view(-1))
    for call in range(1, 9):
        told[1].answered_outside(model, (LABELS,), {}, (SCORES, loss + (call > 3)))
    assert len(told[0].calls) == 3


def test_calls_in_cuda_graphs_and_after_we_left_are_not_heard() -> None:
    model = nn.Sequential(nn.Linear(3, 2))
    notes = Notes()
    attachment = Attachment(notes)
    try:
        fast = torch.compile(model, backend="eager", mode=None)
        graphed = torch.compile(model, mode="reduce-overhead")
    finally:
        attachment.detach()
    assert [model.forward.__code__.co_filename.endswith("outside.py") for model in (fast, graphed)] == [
        True,
        False,
    ]
    assert fast(torch.ones(1, 3)).shape == (1, 2)
    assert not notes.failures


def test_a_compiler_that_is_switched_off_compiles_nothing() -> None:
    notes = Notes()
    attachment = Attachment(notes)
    try:
        model = nn.Linear(2, 2)
        assert torch.compile(model, disable=True) is model and "forward" not in model.__dict__
        assert not outside.is_where_we_are() and not notes.failures

        @torch.compile(backend="eager")
        def double(x: Tensor) -> Tensor:
            return 2 * x

        assert double(torch.ones(1)).item() == 2 and outside.is_where_we_are()
    finally:
        attachment.detach()
    assert not outside.is_where_we_are()


def test_a_compiled_step_is_an_update_by_hand(watched: Callable[[str], Ran]) -> None:
    """Nothing of ours may be traced into it."""
    ran = watched("compiled_step")
    assert "switched off" not in ran.err, ran.err
    assert ran.record.step_count == 8
    assert ran.record.series("loss/train")[1] == pytest.approx(
        ran.printed("loss")[-len(ran.record.series("loss/train")[1]) :], abs=1e-5
    )
