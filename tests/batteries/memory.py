"""What every method that saves memory must do. Optimizers among them pass the battery of optimizers too."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tests.batteries import optimizers
from tests.batteries._method import Method


def _of_optimizers(check: Callable[[Method], None]) -> Callable[[Method], None]:
    def run(method: Method) -> None:
        if method.card["slot"] == "optimizer":
            check(method)

    return run


for _name, _check in list(vars(optimizers).items()):
    if _name.startswith("check_"):
        globals()[_name] = _of_optimizers(_check)


def layer_output(layer: nn.Module, method: Method, x: Tensor) -> Tensor:
    return layer(x, x.flip(0)) if method.card["slot"] == "loss" else layer(x)


def check_layer_keeps_dtype_and_passes_gradients(method: Method) -> None:
    if method.card["slot"] == "optimizer":
        return
    layer = method.thing(**method.example)
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        x = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
        out = layer_output(layer, method, x)
        assert out.dtype == dtype
        out.square().sum().backward()
        assert x.grad is not None and x.grad.dtype == dtype and bool(x.grad.isfinite().all())
        assert bool(x.grad.any())


def check_layer_works_without_gradients_on_odd_shapes(method: Method) -> None:
    if method.card["slot"] == "optimizer":
        return
    layer = method.thing(**method.example)
    with torch.no_grad():
        assert bool(layer_output(layer, method, torch.ones(3, 8)).isfinite().all())
    if method.card["slot"] == "layer":
        for shape in ((0, 8), (1, 8), (2, 3, 8), (7, 8)):
            x = torch.randn(shape, generator=torch.Generator().manual_seed(0), requires_grad=True)
            layer(x).sum().backward()
            assert x.grad is not None and x.grad.shape == shape
        turned = torch.randn(8, 4, generator=torch.Generator().manual_seed(0)).T.requires_grad_()
        torch.testing.assert_close(layer(turned), layer(turned.contiguous()))


def check_layer_is_copied_and_saved(method: Method) -> None:
    if method.card["slot"] == "optimizer":
        return
    layer = method.thing(**method.example)
    twin = copy.deepcopy(layer)
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(5, 8, generator=torch.Generator().manual_seed(1))
    assert torch.equal(layer_output(layer, method, x), layer_output(twin, method, x))
