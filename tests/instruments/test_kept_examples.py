from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

import vario
from vario.capture.moment import Moment
from vario.capture.needs import Drawn, LossCall
from vario.instruments.kept_examples import TIMES, KeptExamples
from vario.record import open_run

LABELS = torch.arange(20) % 4


class Noted(list[tuple[Any, ...]]):
    def __call__(self, *told: Any) -> None:
        self.append(told)

    @property
    def numbers(self) -> list[int]:
        return [told[-1]["example"] for told in self]


def look(keeper: KeptExamples, step: int, bad: set[int], inputs: torch.Tensor) -> None:
    """A batch of the examples 100 to 119 of which `bad` are far off."""
    output = torch.nn.functional.one_hot(LABELS, 4) * 6.0
    for one in bad:
        output[one - 100] *= -1 - (one - 100) / 100
    drawn = Drawn("loader 0", list(range(100, 120)), [LABELS], [inputs])
    call = LossCall("cross_entropy", output, LABELS, torch.zeros(()), drawn=drawn)
    moment = Moment("model", step, {"loss_calls": [call]})
    assert list(keeper.read(moment.declared(keeper.needs))) == []


def test_the_worst_are_noted_at_the_end_with_what_they_were() -> None:
    keeper, noted = KeptExamples(2), Noted()
    keeper.note = noted
    inputs = torch.arange(40.0).reshape(20, 2)
    for step in range(5):
        look(keeper, step, {103, 117, 111}, inputs)
    assert noted == []
    keeper.finish()
    assert noted.numbers == [117, 111]
    assert noted[0] == (
        "model",
        4,
        "example",
        "loader 0",
        {"example": 117, "numbers": [34.0, 35.0], "more": False},
    )
    keeper.finish()
    assert len(noted) == 2  # each once


def test_however_long_the_run_what_is_noted_is_bounded_and_the_end_has_its_share() -> None:
    keeper, noted = KeptExamples(2), Noted()
    keeper.note = noted
    inputs = torch.zeros(20, 2)
    for turn, step in enumerate(range(60, 40_000, 300)):
        look(keeper, step, {100 + turn % 18, 101 + turn % 18}, inputs)
    assert len(noted) == (TIMES - 1) * 2
    for step in range(40_000, 41_000, 100):
        look(keeper, step, {119}, inputs)
    keeper.finish()
    assert 119 in noted.numbers and len(noted) == TIMES * 2


def test_a_watched_run_keeps_nothing_unless_it_is_asked(tmp_path: Path) -> None:
    texts = [f"example {i}" for i in range(40)]

    class Words(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return 40

        def __getitem__(self, i: int) -> Any:
            torch.rand(1)  # asking moves the random state: only the script may ask
            return texts[i], torch.full((3,), float(i % 2)), i % 2 if i != 7 else 0

    def trained(**more: Any) -> tuple[torch.Tensor, torch.Tensor, list[Any]]:
        torch.manual_seed(0)
        model = torch.nn.Linear(3, 2)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        with vario.watch(model, optimizer, home=tmp_path, overhead=1.0, **more) as run:
            loader = torch.utils.data.DataLoader(Words(), batch_size=20, shuffle=True)
            for _ in range(6):
                for _, x, y in loader:
                    loss = torch.nn.functional.cross_entropy(model(x), y)
                    optimizer.zero_grad()
                    loss.backward()
                    optimizer.step()
        assert run.path is not None
        with open_run(run.path) as opened:
            assert not opened.events("switched_off")
            return model.weight.detach(), torch.get_rng_state(), opened.events("example")

    plain, kept = trained(), trained(keep_examples=3)
    assert plain[2] == [] and torch.equal(plain[0], kept[0]) and torch.equal(plain[1], kept[1])
    found = {event.data["example"]: event.data["text"] for event in kept[2]}
    assert len(found) == 3 and found[7] == "example 7"
    assert all(text == texts[number] for number, text in found.items())
