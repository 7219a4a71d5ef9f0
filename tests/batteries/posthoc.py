"""What every posthoc method must do: something new comes out, and what went in is left as it was."""

from __future__ import annotations

import copy
import inspect

import pytest
import torch
from torch import nn

from tests.batteries._method import Method


def network(seed: int) -> nn.Sequential:
    draw = torch.Generator().manual_seed(seed)
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3)).eval()
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=draw))
    return model


def arguments(method: Method) -> dict[str, object]:
    """What the method asks for, by the names of its arguments."""
    draw = torch.Generator().manual_seed(0)
    offered = {
        "before": network(0),
        "after": network(1),
        "model": network(1),
        "models": [network(1), network(2)],
        "inputs": torch.randn(40, 6, generator=draw),
        "target": torch.randint(3, (40,), generator=draw),
    }
    asked = inspect.signature(method.thing).parameters
    return {name: value for name, value in offered.items() if name in asked}


def models(held: dict[str, object]) -> list[nn.Module]:
    found = [value for value in held.values() if isinstance(value, nn.Module)]
    return [*found, *held.get("models", [])]  # type: ignore[misc]


def applies(method: Method) -> bool:
    """A calibrator of a stream takes no model."""
    return not inspect.isclass(method.thing)


def check_old_models_stay(method: Method) -> None:
    held = arguments(method)
    before = [copy.deepcopy(model.state_dict()) for model in models(held)]
    new = method.thing(**held, **method.example)
    assert isinstance(new, nn.Module)
    old = {t.data_ptr() for model in models(held) for t in model.state_dict().values()}
    assert not old & {t.data_ptr() for t in new.state_dict().values()}, "memory is shared"
    for model, was in zip(models(held), before, strict=True):
        assert all(torch.equal(value, was[name]) for name, value in model.state_dict().items())
        assert not model.training and all(p.grad is None for p in model.parameters())


def check_new_model_works(method: Method) -> None:
    for dtype in (torch.float32, torch.float64):
        held = arguments(method)
        for model in models(held):
            model.to(dtype)
        x = torch.randn(5, 6, generator=torch.Generator().manual_seed(3)).to(dtype)
        if "inputs" in held:
            held["inputs"] = held["inputs"].to(dtype)  # type: ignore[attr-defined]
        out = method.thing(**held, **method.example)(x)
        assert out.shape == (5, 3) and out.dtype == dtype and bool(out.isfinite().all())


def check_chance_is_its_own(method: Method) -> None:
    """Twice the same, and the global generator is not touched."""
    held = [arguments(method), arguments(method)]
    state = torch.random.get_rng_state()
    one, two = (method.thing(**each, **method.example).state_dict() for each in held)
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(value, two[name]) for name, value in one.items())


def check_other_shapes_are_refused(method: Method) -> None:
    held = arguments(method)
    if len(models(held)) < 2:
        return
    models(held)[-1].append(nn.Linear(3, 2))  # type: ignore[operator]
    with pytest.raises(ValueError, match="do not share"):
        method.thing(**held, **method.example)
