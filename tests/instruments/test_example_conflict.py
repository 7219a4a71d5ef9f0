"""Test ``vario.instruments.example_conflict``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.instruments.sample import draw, read
from vario.capture.needs import LossCall
from vario.capture.per_example.found import ExampleGradients
from vario.capture.per_example.probe import Probe
from vario.instruments.example_conflict import ExampleConflict


def probed(
    model: nn.Module, loss: Tensor, examples: int, picked: list[int] | None = None
) -> ExampleGradients:
    names = {id(p): n for n, p in model.named_parameters()}
    probe = Probe(loss, names, examples=examples, picked=picked, products=True)
    loss.backward()
    return probe.close()


def found(gradients: ExampleGradients, **more: Any) -> dict[str, Any]:
    read_ = read(ExampleConflict(), example_gradients=gradients, **more)
    return {series.partition("/")[2]: value for (series, _), value in read_.items()}


def test_a_linear_models_gradients_are_its_inputs() -> None:
    model, x = nn.Linear(3, 1, bias=False), draw(8, 3)
    seen = found(probed(model, model(x).mean(), 8, [0, 2, 3, 5, 7]))
    rows = x[[0, 2, 3, 5, 7]].double().numpy()
    unit = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    cosines = (unit @ unit.T)[np.triu_indices(5, 1)]
    assert seen["cosines"] == pytest.approx(np.quantile(cosines, np.linspace(0, 1, 11)).tolist(), abs=1e-5)
    assert seen["against_share"] == (cosines < 0).mean()
    gram = rows @ rows.T
    assert seen["directions"] == pytest.approx(np.trace(gram) ** 2 / (gram**2).sum(), rel=1e-5)
    assert "same_class" not in seen


def test_classes_that_pull_against_each_other_are_told_apart() -> None:
    """Two classes on one input: the gradients are alike inside a class and opposed between them."""
    model, y = nn.Linear(2, 2, bias=False), torch.tensor([0, 1, 0, 1, 1, 0])
    nn.init.zeros_(model.weight)
    logits = model(torch.ones(6, 2))
    loss = F.cross_entropy(logits, y)
    call = LossCall("cross_entropy", logits.detach(), y, loss.detach())
    seen = found(probed(model, loss, 6), loss_calls=[call])
    assert seen["same_class"] == pytest.approx(1.0) and seen["other_class"] == pytest.approx(-1.0)
    assert seen["against_share"] == pytest.approx(9 / 15) and seen["directions"] == pytest.approx(1.0)
    # labels of the picked, not of the first
    loss = F.cross_entropy(model(torch.ones(6, 2)), y)
    seen = found(probed(model, loss, 6, [1, 3, 4, 5]), loss_calls=[call])
    assert seen["against_share"] == pytest.approx(0.5) and seen["same_class"] == pytest.approx(1.0)


def test_a_convolutional_net_agrees_with_torch_func() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2))
    x, y = draw(6, 1, 6, 6), torch.tensor([0, 1, 0, 1, 1, 0])
    params = {name: p.detach() for name, p in model.named_parameters()}

    def loss_of(p: dict[str, Tensor], a: Tensor, b: Tensor) -> Tensor:
        return F.cross_entropy(torch.func.functional_call(model, p, (a[None],)), b[None])

    grads = torch.func.vmap(torch.func.grad(loss_of), in_dims=(None, 0, 0))(params, x, y)
    unit = F.normalize(torch.cat([g.flatten(1) for g in grads.values()], dim=1).double(), dim=1)
    cosines = (unit @ unit.T).numpy()[np.triu_indices(6, 1)]
    seen = found(probed(model, F.cross_entropy(model(x), y), 6))
    assert seen["cosines"] == pytest.approx(np.quantile(cosines, np.linspace(0, 1, 11)).tolist(), abs=1e-5)


def test_it_is_silent_where_little_is_seen_few_are_looked_at_or_nothing_is_finite() -> None:
    products = {"a": torch.eye(5)}
    whole = ExampleGradients(5, {}, {"a": torch.tensor(1.0)}, products=products)
    assert found(whole)["against_share"] == 0
    partly = ExampleGradients(5, {}, {"a": torch.tensor(1.0), "b": torch.tensor(2.0)}, products=products)
    few = ExampleGradients(3, {}, {"a": torch.tensor(1.0)}, products={"a": torch.eye(3)})
    broken = ExampleGradients(5, {}, {"a": torch.tensor(1.0)}, products={"a": torch.eye(5) * float("nan")})
    still = ExampleGradients(5, {}, {"a": torch.tensor(0.0)}, products={"a": torch.zeros(5, 5)})
    for gradients in (partly, few, broken, still, ExampleGradients(5)):
        assert found(gradients) == {}
    assert read(ExampleConflict()) == {}
