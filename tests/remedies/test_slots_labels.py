"""Test ``vario.remedies.slots_labels``: labels from where data sets keep them, and from their examples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset, Subset, TensorDataset

from vario.remedies.slots_labels import MOST_READ, labels_of


class Plain(Dataset[Any]):
    """A data set as most scripts write it: nothing but its examples."""

    def __init__(self, examples: Sequence[Any]) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, place: int) -> Any:
        return self.examples[place]


class Kept(Plain):
    def __init__(self, examples: Sequence[Any], **kept: Any) -> None:
        super().__init__(examples)
        self.__dict__ |= kept

    def __getitem__(self, place: int) -> Any:
        raise AssertionError("no example need be read")


X = torch.zeros(4, 2)


@pytest.mark.parametrize(
    ("dataset", "expected"),
    [
        (TensorDataset(X, torch.tensor([2, 0, 1, 1])), [2, 0, 1, 1]),
        (Subset(TensorDataset(X, torch.tensor([2, 0, 1, 1])), [3, 0]), [1, 2]),
        (Subset(Subset(Kept(X, targets=[5, 6, 7, 8]), [3, 2, 0]), [2, 1]), [5, 7]),
        (Kept(X, labels=np.array([1.0, 0.0, 1.0, 1.0])), [1, 0, 1, 1]),
        (Kept(X, y=torch.tensor([[1.0], [0.0], [0.0], [1.0]])), [1, 0, 0, 1]),
        (Plain([("Ada", "England"), ("Max", "Austria"), ("Eve", "England")]), [1, 0, 1]),
        (Plain([{"image": X, "label": np.int64(3)}, {"image": X, "label": np.int64(0)}]), [3, 0]),
        (Plain([(X, torch.tensor([1.0]), "more"), (X, torch.tensor([0.0]), "more")]), [1, 0]),
        (Subset(Plain([(X, 4), (X, 5), (X, 6)]), [2, 0]), [6, 4]),
    ],
)
def test_labels_are_found(dataset: Any, expected: list[int]) -> None:
    assert labels_of(dataset).tolist() == expected


@pytest.mark.parametrize(
    ("dataset", "said"),
    [
        (
            TensorDataset(X, torch.tensor([0.5, 1.0, 2.0, 3.0])),
            "not one class for each example; the first is 0.5",
        ),
        (TensorDataset(X, torch.ones(4, 3)), "not one class for each"),
        (Kept(X, y=[float("inf")] * 4), "the first is inf"),
        (Plain([X, X]), "neither a pair (input, label) nor a mapping"),
        (Plain([{"image": X}]), "with one of targets"),
        (Plain(range(MOST_READ + 1)), "100,001 examples are too many to be read one by one"),
    ],
)
def test_what_has_no_classes_is_refused_with_the_reason(dataset: Any, said: str) -> None:
    with pytest.raises(ValueError) as caught:
        labels_of(dataset)
    assert said in str(caught.value)
