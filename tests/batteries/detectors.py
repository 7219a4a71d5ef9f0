"""What every detector must do: ``fit(x, y)`` returns itself, ``score`` is higher where it is stranger."""

from __future__ import annotations

import copy
import io

import pytest
import torch
from torch import Tensor

from tests.batteries._method import Method


def data(examples: int = 60, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    source = torch.Generator().manual_seed(0)
    labels = torch.arange(examples) % 3
    return (torch.randn(examples, 4, generator=source) + 3 * labels[:, None]).to(dtype), labels


def probe() -> Tensor:
    """A usual point, a stranger one, and one stranger still."""
    return torch.tensor([[0.0] * 4, [20.0] * 4, [80.0] * 4])


def check_fit_returns_itself(method: Method) -> None:
    detector = method.thing(**method.example)
    assert detector.fit(*data()) is detector


def check_higher_is_stranger(method: Method) -> None:
    x, y = data()
    fitted = method.thing(**method.example).fit(x, y)
    scores = torch.as_tensor(fitted.score(probe()))
    if scores.ndim:
        assert scores.shape == (3,) and scores[0] < scores[1] < scores[2]
    else:  # a stream: labels that x follows are stranger than shuffled ones
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(1))
        assert fitted.score() > method.thing(**method.example).fit(x, y[order]).score()


def check_dtypes_and_arguments_left_alone(method: Method) -> None:
    exact = torch.as_tensor(method.thing(**method.example).fit(*data(dtype=torch.float64)).score(probe()))
    x, y = data()
    held = x.clone(), y.clone()
    scores = torch.as_tensor(method.thing(**method.example).fit(x, y).score(probe()))
    torch.testing.assert_close(scores.double(), exact.double(), rtol=1e-4, atol=1e-4)
    assert torch.equal(x, held[0]) and torch.equal(y, held[1])


def check_no_global_random_state(method: Method) -> None:
    state = torch.random.get_rng_state()
    scores = [torch.as_tensor(method.thing(**method.example).fit(*data()).score(probe())) for _ in range(2)]
    assert torch.equal(state, torch.random.get_rng_state()) and torch.equal(*scores)


def check_saved_and_copied(method: Method) -> None:
    fitted = method.thing(**method.example).fit(*data())
    file = io.BytesIO()
    torch.save(fitted.state_dict(), file)
    file.seek(0)
    loaded = method.thing(**method.example)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(fitted), loaded):
        assert torch.equal(torch.as_tensor(other.score(probe())), torch.as_tensor(fitted.score(probe())))


def check_refuses_unequal_lengths(method: Method) -> None:
    x, y = data()
    with pytest.raises(ValueError, match="60"):
        method.thing(**method.example).fit(x, y[:30])
