"""Test the whole weights of sharded models: their examples are those of a model that nobody cut."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from tests.observed import SCRIPTS
from vario.capture.per_example.found import ExampleGradients
from vario.capture.per_example.wholes import Wholes, find


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["cut", "halves", "views", "flat"])
def test_layers_that_are_put_together_for_a_pass_tell_what_whole_ones_tell(kind: str, tmp_path: Path) -> None:
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPTS.parent.parent)}
    command = [sys.executable, str(SCRIPTS / "sharded_layers.py"), str(tmp_path), kind]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    for rank in range(2):
        told = json.loads((tmp_path / f"told{rank}.json").read_text())
        assert told["missed"] == [{}, {}] and told["checked"]
        for name in ("squares", "products", "batch_squares"):
            found, wanted = ({n: np.array(v) for n, v in of.items()} for of in told[name])
            if kind == "flat":  # one parameter to each module that was wrapped
                assert set(found) == {"_flat_param", "layer._flat_param", "conv._flat_param"}
                found, wanted = ({"": np.sum(list(of.values()), axis=0)} for of in (found, wanted))
            assert set(found) == set(wanted) and len(found) in (1, 25 - 1)
            for parameter, value in wanted.items():
                size = np.abs(value).max()
                atol = (0.1 if kind == "halves" else 1e-6) * size
                np.testing.assert_allclose(found[parameter], value, rtol=1e-6, atol=atol, err_msg=parameter)


def test_pieces_of_one_parameter_add_up_and_one_that_is_missed_leaves_out_the_whole() -> None:
    wholes = Wholes(
        {}, parts={"a.weight": "a._flat_param", "a.bias": "a._flat_param", "b.bias": "b._flat_param"}
    )
    values = {"a.weight": torch.ones(3), "a.bias": torch.full((3,), 2.0), "c": torch.zeros(3)}
    sums = {name: value.sum() for name, value in values.items()} | {"b.bias": torch.ones(())}
    found = ExampleGradients(3, dict(values), dict(sums), {"b.bias": "why"})
    wholes.join(found)
    assert {n: v.tolist() for n, v in found.squares.items()} == {"a._flat_param": [3.0] * 3, "c": [0.0] * 3}
    assert {n: float(v) for n, v in found.batch_squares.items()} == {
        "a._flat_param": 9,
        "b._flat_param": 1,
        "c": 0,
    }
    assert found.missed == {"b._flat_param": "b.bias: why"}
    assert {n: float(v) for n, v in wholes.joined(sums).items()} == {
        "a._flat_param": 9,
        "b._flat_param": 1,
        "c": 0,
    }
    assert values["a.weight"].tolist() == [1.0] * 3


class Grouped(nn.Linear):
    """As `fully_shard` leaves a module."""

    group: Any = None

    def _get_fsdp_state(self) -> Any:
        return SimpleNamespace(_fsdp_param_groups=[self.group])


def graph(loss: Tensor) -> list[Any]:
    from vario.capture.graph import bottom_up

    return bottom_up([loss.grad_fn])[::-1]


def test_what_is_not_averaged_or_shared_in_another_way_is_refused() -> None:
    model = Grouped(3, 2)
    order, names = graph(model(torch.randn(4, 3)).sum()), ["weight", "bias"]
    params = list(model.parameters())
    whole = nn.Parameter(torch.zeros(2, 3))
    cut = SimpleNamespace(sharded_param=model.weight, _unsharded_param=whole)
    model.group = SimpleNamespace(fsdp_params=[cut])
    assert find(order, params, names, model).names[id(whole)] == "weight"
    for name, value in (("gradient_divide_factor", 3.0), ("_all_reduce_hook", print)):
        model.group = SimpleNamespace(fsdp_params=[cut], **{name: value})
        with pytest.raises(ValueError, match="not averaged"):
            find(order, params, names, model)
    model.group = SimpleNamespace(fsdp_params=[])
    model._comm_hook = print  # type: ignore[assignment]
    with pytest.raises(ValueError, match="not averaged"):
        find(order, params, names, model)
    leaf = SimpleNamespace(variable=SimpleNamespace(_local_tensor=torch.ones(1)), next_functions=())
    with pytest.raises(ValueError, match="another kind"):
        find([leaf], params, names, None)


class Flat(nn.Module):
    """As `FullyShardedDataParallel` leaves a module: pieces of one parameter, put together at each call."""

    def __init__(self) -> None:
        super().__init__()
        flat: Any = nn.Parameter(torch.randn(9))
        flat._fqns, flat._params, flat._is_padding_mask = ["weight", "bias"], None, [False, False, True]
        self._flat_param, self._handle = flat, SimpleNamespace(flat_param=flat)

    def forward(self, x: Tensor) -> Tensor:
        weight, bias, _ = torch.split(self._flat_param, [6, 2, 1])
        return nn.functional.linear(x, weight.view(2, 3), bias.view(2))


def test_pieces_are_found_in_the_graph_and_a_second_call_is_refused() -> None:
    model, x = Flat(), torch.randn(4, 3)
    flat: Any = model._flat_param
    find_in = lambda loss: find(graph(loss), [flat], ["_flat_param"], model)  # noqa: E731
    wholes = find_in(model(x).sum())
    assert sorted(wholes.pieces.values()) == ["bias", "weight"] and wholes.names == {}
    assert wholes.parts == {"weight": "_flat_param", "bias": "_flat_param"}
    with pytest.raises(ValueError, match="called twice"):
        find_in(model(x).sum() + model(2 * x).sum())
    with pytest.raises(ValueError, match="another kind"):
        find_in((2 * flat).sum())
    flat._params = own = [nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))]
    shown = find(graph(model(x).sum()), own[:1], ["w"], model)
    assert list(shown.pieces.values()) == ["w"] and shown.parts == {}  # the other is nobody's
