"""Test ``vario.capture.rows``: what of a batch has been seen, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vario.capture.rows import RowsSeen, hash_rows


def hashed(*rows: float) -> np.ndarray:
    found = hash_rows(torch.tensor(rows)[:, None] * torch.arange(1, 9))
    assert found is not None
    return found


def test_duplicates_repeats_and_order() -> None:
    rows = RowsSeen()
    first = rows.train("a", 0, 0, hashed(1, 2, 3, 2))
    assert (first.duplicate_share, first.repeat_share, first.same_order) == (0.25, None, None)
    assert rows.train("a", 0, 1, hashed(3, 4)).duplicate_share == 0.5
    again = rows.train("a", 1, 0, hashed(1, 2, 3, 2))
    assert (again.repeat_share, again.same_order) == (1.0, 1.0)
    other = rows.train("a", 1, 1, hashed(4, 9))
    assert (other.repeat_share, other.same_order) == (0.5, 0.0)
    assert rows.evaluate(hashed(1, 77, 9)) == (2, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8])
def test_equal_rows_and_only_they_have_equal_hashes(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x = (100 * torch.rand(200, 3, 20)).to(dtype)
    hashes = hash_rows((torch.cat([x, x[:50]]), torch.zeros(250)))
    assert hashes is not None
    assert len(set(hashes.tolist())) == 200
    assert (hashes[200:] == hashes[:50]).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_of_whole_numbers_are_told_apart_whose_last_bits_are_all_zero(dtype: torch.dtype) -> None:
    pairs = torch.cartesian_prod(torch.arange(31), torch.arange(31))
    rows = torch.cat([torch.eye(31)[pairs[:, 0]], torch.eye(31)[pairs[:, 1]]], dim=1).to(dtype)
    hashes = hash_rows(rows)
    assert hashes is not None and len(set(hashes.tolist())) == len(rows)


def test_rows_of_few_entries_are_hashed_with_their_target() -> None:
    x, y = torch.zeros(4, 1), torch.arange(4.0)
    assert len(set(hash_rows((x, y)).tolist())) == 4  # type: ignore[union-attr]
    assert len(set(hash_rows({"x": torch.zeros(4, 9), "y": y}).tolist())) == 1  # type: ignore[union-attr]


def test_nothing_is_said_of_what_cannot_be_read() -> None:
    assert hash_rows(("a", 3)) is None
    assert hash_rows(torch.zeros(0, 3)) is None
    assert hash_rows(torch.zeros(3, 2, device="meta")) is None


def test_memory_is_bounded_and_shares_stay_unbiased() -> None:
    rows, draw = RowsSeen(most=1000), np.random.default_rng(0)
    data = hash_rows(torch.from_numpy(draw.random((20_000, 8))))
    assert data is not None
    for position in range(200):
        rows.train("a", 0, position, data[100 * position : 100 * position + 100])
    assert len(rows._loaders["a"].now) <= 1000
    half = np.concatenate([data[:3000], hash_rows(torch.from_numpy(draw.random((3000, 8))))])  # type: ignore[list-item]
    seen, count = rows.evaluate(half)
    assert 100 < count < 600
    assert seen / count == pytest.approx(0.5, abs=4 * (0.25 / count) ** 0.5)


def test_words_of_all_examples_in_one_row_are_no_examples() -> None:
    """As of an EmbeddingBag: words, where each example begins, labels."""
    words, begins, labels = torch.arange(9) % 4, torch.tensor([0, 4, 7]), torch.tensor([0, 1, 1])
    assert hash_rows((words, begins, labels)) is None
    assert hash_rows((words, labels)) is None
    hashed = hash_rows((torch.randn(3, 5), labels))
    assert hashed is not None and len(hashed) == 3


def test_a_pair_of_images_is_another_one_when_its_second_is() -> None:
    """One of the two changes: no repeats. Words with the words after them are known by the first."""
    image, others = torch.rand(1, 3, 3).expand(20, 3, 3), torch.rand(20, 3, 3)
    pairs, same = hash_rows((image, others, torch.ones(20))), hash_rows((image, image, torch.ones(20)))
    assert pairs is not None and same is not None
    assert len(set(pairs.tolist())) == 20 and len(set(same.tolist())) == 1
    words = torch.randint(50, (20, 9))
    with_next, alone = hash_rows((words, words + 1)), hash_rows(words)
    assert with_next is not None and alone is not None and (with_next == alone).all()


def test_a_row_of_categories_is_another_one_when_its_numbers_are() -> None:
    categories, numbers, label = torch.zeros(4, 5, dtype=torch.int64), torch.randn(4, 3), torch.zeros(4)
    alike = hash_rows([categories, label])
    apart = hash_rows([categories, numbers, label])
    assert alike is not None and apart is not None
    assert len(set(alike.tolist())) == 1
    assert len(set(apart.tolist())) == 4
