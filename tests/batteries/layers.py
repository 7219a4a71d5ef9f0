"""What every layer must do: shapes, dtypes, train and eval, copies, and replacing an existing one."""

from __future__ import annotations

import copy
import io

import torch
from torch import Tensor, nn

from tests.batteries._method import Method

FEATURES = 8
TWINS = (nn.BatchNorm1d(FEATURES), nn.Dropout(0.3))


def applies(method: Method) -> bool:
    """Functions that change a model have no forward pass of their own."""
    return method.card["slot"] == "layer"


def draw(shape: tuple[int, ...] = (12, FEATURES), dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)


def twin(method: Method) -> tuple[nn.Module, nn.Module]:
    """An existing layer that the method takes the place of, and what it makes of it."""
    for existing in TWINS:
        existing = copy.deepcopy(existing)
        try:
            return existing, method.thing.from_existing(existing)
        except ValueError:
            continue
    raise AssertionError(f"{method.id} takes the place of nothing that the battery knows")


def check_keeps_shape_and_dtype_and_passes_gradients(method: Method) -> None:
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        layer = method.thing(**method.example).to(dtype)
        x = draw(dtype=dtype).requires_grad_()
        out = layer(x)
        assert out.shape == x.shape and out.dtype == dtype
        out.square().sum().backward()
        assert x.grad is not None and bool(x.grad.isfinite().all()) and bool(x.grad.any())


def check_evaluation_takes_any_number_of_examples(method: Method) -> None:
    layer = method.thing(**method.example)
    layer(draw())
    layer.eval()
    whole = layer(draw())
    for count in (0, 1, 3, 5, 12):
        torch.testing.assert_close(layer(draw()[:count]), whole[:count])


def check_train_and_eval_differ(method: Method) -> None:
    layer = method.thing(**method.example)
    torch.manual_seed(0)
    trained = [layer.train()(draw()) for _ in range(8)]
    assert any(not torch.equal(out, layer.eval()(draw())) for out in trained)


def check_torchs_seed_decides(method: Method) -> None:
    outs = []
    for _ in range(2):
        torch.manual_seed(3)
        layer = method.thing(**method.example)
        outs.append([layer(draw()) for _ in range(4)])
    assert all(torch.equal(a, b) for a, b in zip(*outs, strict=True))


def check_copied_and_saved(method: Method) -> None:
    layer = method.thing(**method.example)
    layer(draw())
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    loaded = method.thing(**method.example)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(layer), loaded):
        assert torch.equal(other.eval()(draw()), layer.eval()(draw()))


def check_takes_the_place_of_an_existing_layer(method: Method) -> None:
    """The same parameter objects under the same names, the same mode, the same values in evaluation."""
    for mode in (True, False):
        existing, _ = twin(method)
        existing.train(mode)
        made = method.thing.from_existing(existing)
        assert made.training == mode
        names = {name: id(p) for name, p in existing.named_parameters()}
        assert names == {name: id(p) for name, p in made.named_parameters()}
        torch.testing.assert_close(made.eval()(draw()), existing.eval()(draw()))
    try:
        method.thing.from_existing(nn.Linear(2, 2))
    except ValueError as error:
        assert "takes the place of" in str(error)
    else:
        raise AssertionError("a linear layer was taken for something else")


def check_inside_a_model(method: Method) -> None:
    """Trains between two layers, under torch.no_grad too, and leaves its input alone."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(FEATURES, FEATURES), method.thing(**method.example), nn.Linear(FEATURES, 2)
    )
    x = draw()
    held = x.clone()
    model(x).square().mean().backward()
    assert all(p.grad is not None for p in model[0].parameters()) and torch.equal(x, held)
    with torch.no_grad():
        assert bool(model(x).isfinite().all())
