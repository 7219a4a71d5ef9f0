"""A watched run leaves bitwise what the bare run leaves: weights, optimizer state, random generators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from tests.observed import Ran

DETERMINISTIC = (
    "plain_loop closure lbfgs accumulation grad_scaler fused_scaler gan in_backward by_hand compiled bf16 "
    "compiled_loss compiled_step tied called_twice functional ddp"
).split()
SLOW_TO_START = ("lightning_trainer", "hf_trainer")


@pytest.mark.parametrize(
    "name", [*DETERMINISTIC, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_TO_START)]
)
def test_a_watched_run_ends_as_the_bare_one(
    name: str, watched: Callable[[str], Ran], bare: Callable[[str], Ran]
) -> None:
    ours, theirs = watched(name), bare(name)
    assert (ours.code, theirs.code) == (0, 0), ours.err + theirs.err
    assert ours.run.main.step_count > 0, "nothing was watched, so nothing is shown"
    if name not in ("ddp", *SLOW_TO_START):  # these print in the order of processes, or times
        assert ours.out == theirs.out
    differing = list(differences(ours.state, theirs.state))
    assert not differing, f"{name} differs in {differing[:5]}"


def test_a_difference_in_the_last_bit_is_seen() -> None:
    weight = torch.tensor([1.0, 2.0])
    other = torch.nextafter(weight, torch.tensor(3.0))
    assert list(differences({"a": [weight]}, {"a": [other]})) == [".a[0]"]
    assert list(differences(torch.tensor(float("nan")), torch.tensor(float("nan")))) == []
    assert list(differences({"a": 1}, {"b": 1})) == [""]


def differences(one: Any, other: Any, at: str = "") -> Any:  # noqa: C901 - a case for each kind of state
    """The places where two nested states are not bit for bit the same."""
    if type(one) is not type(other):
        yield at
    elif isinstance(one, torch.Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        if not alike or one.detach().numpy().tobytes() != other.detach().numpy().tobytes():
            yield at
    elif isinstance(one, np.ndarray):
        if one.tobytes() != other.tobytes():
            yield at
    elif isinstance(one, dict):
        if list(one) != list(other):
            yield at
        else:
            for key in one:
                yield from differences(one[key], other[key], f"{at}.{key}")
    elif isinstance(one, (list, tuple)):
        if len(one) != len(other):
            yield at
        else:
            for index, pair in enumerate(zip(one, other, strict=True)):
                yield from differences(*pair, f"{at}[{index}]")
    elif one != other:
        yield at
