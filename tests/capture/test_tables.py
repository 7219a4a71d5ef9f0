"""Test ``vario.capture.tables``: which variable of a script without a loader its batches come from."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.capture.test_traps import Notes
from vario.capture import tables
from vario.capture.attach import Attachment
from vario.capture.rows import hash_rows

ROWS = torch.randn(120, 6, generator=torch.Generator().manual_seed(0))


def train(batches: Iterator[Tensor], *, listen: bool = True) -> tuple[list[Any], list[float], list[Tensor]]:
    """Tables that were told, shares of rows that were twice in a batch, and the weights."""
    torch.manual_seed(0)
    net, notes = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 1)), Notes()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    attachment = Attachment(notes) if listen else None
    for x in batches:
        optimizer.zero_grad()
        F.mse_loss(net(x), x[:, :1]).backward()
        optimizer.step()
    if attachment is not None:
        attachment.detach()
        assert not notes.failures
    tables = [(e[3]["rows"], e[3]["copies"]) for e in notes.happened if e[1] == "table"]
    shares = [step["rows"].twice_share for _, _, step in notes.steps]
    return tables, shares, [p.detach().clone() for p in net.parameters()]


def test_the_table_of_a_function_tells_of_its_rows_and_copies() -> None:
    table = ROWS[:40].repeat(3, 1)

    def batches() -> Iterator[Tensor]:
        order = torch.arange(40).repeat_interleave(3) + torch.tensor([0, 40, 80]).repeat(40)
        for part in order.split(30):
            yield table[part]

    tables, shares, _ = train(batches())
    assert sorted(tables) == [(120, 0), (120, 80)]  # the rows above hold them all as well
    assert shares == pytest.approx([2 / 3] * 4)


def test_rows_that_are_twice_in_a_batch_but_not_in_their_table_are_no_copies() -> None:
    numbers = ROWS.double().numpy()
    tables, shares, _ = train(
        torch.tensor(numbers[np.random.default_rng(k).integers(0, 120, 30)]).float() for k in range(4)
    )
    assert (120, 0) in tables and all(copies == 0 for _, copies in tables)
    assert all(0 < share < 0.3 for share in shares)


def test_rows_that_are_made_anew_for_each_batch_come_from_no_table() -> None:
    tables, shares, _ = train(x + torch.randn_like(x) for x in ROWS.split(30))
    assert (tables, shares) == ([], [0.0] * 4)


def test_tokens_and_short_rows_repeat_by_nature() -> None:
    torch.manual_seed(0)
    words = torch.randint(5, (64, 8))
    net, notes = nn.Sequential(nn.Embedding(5, 4), nn.Flatten(), nn.Linear(32, 1)), Notes()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
    attachment = Attachment(notes)
    for part in words.split(16):
        optimizer.zero_grad()
        net(part).mean().backward()
        optimizer.step()
    attachment.detach()
    assert not notes.failures
    assert [step["rows"].twice_share for _, _, step in notes.steps] == [None] * 4
    assert [e[3]["rows"] for e in notes.happened if e[1] == "table"] == [len(words)]


def test_weights_are_the_same_bit_for_bit() -> None:
    heard, alone = (train(iter(ROWS.split(30)), listen=listen)[2] for listen in (True, False))
    assert all(torch.equal(a, b) for a, b in zip(heard, alone, strict=True))


def test_of_a_pair_the_rows_of_the_first_tensor_are_compared() -> None:
    first, second = ROWS[[0, 1, 0, 2]], ROWS[:4]
    looked_at = tables.Tables(lambda *told: None)
    assert looked_at.twice([first, second], hash_rows([first, second])) == 0.25


def test_rows_of_one_tensor_are_not_hashed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at = tables.Tables(lambda *told: None)
    batch = ROWS[[0, 1, 0, 2]]
    hashes = hash_rows([batch])
    looked_at.twice([batch], hashes)  # the first batch looks for its table
    monkeypatch.setattr(tables, "hash_rows", lambda rows: pytest.fail("hashed again"))
    assert looked_at.twice([batch], hashes) == 0.25
