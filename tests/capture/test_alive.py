"""Test ``vario.capture.alive``: the model of an optimizer is known, and searched for only where it is not."""

from __future__ import annotations

import copy
import gc
from collections.abc import Iterator
from typing import Any

import pytest
from torch import nn
from torch.optim import SGD

from vario.capture import alive
from vario.capture.attach import Attachment
from vario.capture.names import find_model


class Deaf:
    """An observer that wants nothing."""

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments: frozenset() if name == "wants" else 0


@pytest.fixture
def searches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Listen, and count the searches."""
    counted: list[int] = []
    search = alive.searched
    monkeypatch.setattr(alive, "searched", lambda: (counted.append(1), search())[1])
    attachment = Attachment(Deaf())  # type: ignore[arg-type]
    yield counted
    attachment.detach()


def test_what_is_made_while_we_listen_is_known(searches: list[int]) -> None:
    inner = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
    outer = nn.ModuleDict({"body": inner, "head": nn.Linear(3, 1)})
    optimizer = SGD(outer.parameters(), lr=0.1)
    assert find_model(list(outer.parameters()), optimizer) is outer
    assert not searches


def test_of_two_models_in_one_box_each_optimizer_has_its_own(searches: list[int]) -> None:
    box = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    one, other = (SGD(part.parameters(), lr=0.1) for part in box)
    assert find_model(list(box[0].parameters()), one) is box[0]
    assert find_model(list(box[1].parameters()), other) is box[1]
    assert not searches


def test_a_copy_is_searched_for(searches: list[int]) -> None:
    model = copy.deepcopy(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1)))
    assert find_model(list(model.parameters())) is model
    assert searches == [1]


def test_a_model_from_before_is_searched_for() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 1))
    attachment = Attachment(Deaf())  # type: ignore[arg-type]
    try:
        assert find_model(list(model.parameters())) is model
    finally:
        attachment.detach()


def test_nothing_lives_on_and_nothing_is_known_after_the_last_listener() -> None:
    attachment = Attachment(Deaf())  # type: ignore[arg-type]
    model = nn.Linear(3, 3)
    optimizer = SGD(model.parameters(), lr=0.1)
    assert alive.known() == ([model], [optimizer])
    del model, optimizer
    gc.collect()
    assert alive.known() == ([], [])
    model = nn.Linear(3, 3)
    attachment.detach()
    assert alive.known() == ([], [])
    model.part = nn.Linear(3, 3)
    assert alive.known() == ([], [])


def test_nothing_is_heard_of_an_optimizer_that_goes_after_the_watching(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The interpreter may be half gone by then, and what we would call with it."""
    heard: list[str] = []
    hear = Attachment.hear

    def listen(attachment: Attachment, event: str, *arguments: Any) -> Any:
        heard.append(event)
        return hear(attachment, event, *arguments)

    monkeypatch.setattr(Attachment, "hear", listen)
    optimizers = [SGD(nn.Linear(3, 1).parameters(), lr=0.1) for _ in range(2)]
    attachment = Attachment(Deaf())  # type: ignore[arg-type]
    for optimizer in optimizers:
        optimizer.step()
    del optimizer
    for last in ("optimizer_gone", "finish"):
        del optimizers[0]
        gc.collect()
        assert heard[-1] == last
        attachment.detach()
