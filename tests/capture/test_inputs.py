"""Test ``vario.capture.inputs``: a model that is called by keywords, without a loader."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.capture.test_traps import EVERYTHING, attached


class Words(nn.Module):
    """As the models of transformers: keywords in, the loss of all positions in one row of the batch out."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.head = nn.Embedding(7, 5), nn.Linear(5, 7)

    def forward(self, input_ids: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(self.head(self.words(input_ids)).flatten(0, 1), labels.flatten())


def test_the_first_module_within_is_given_the_examples() -> None:
    model = Words()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    ids = torch.randint(7, (3, 11))
    with attached(EVERYTHING) as notes:
        for _ in range(3):
            optimizer.zero_grad()
            model(input_ids=ids, labels=ids).backward()
            optimizer.step()
    assert [tuple(raw["inputs"][0].shape) for _, _, raw in notes.steps] == [(3, 11)] * 3
