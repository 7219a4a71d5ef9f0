"""An optimizer around another one: it changes the gradients, and the inner optimizer steps on them.

The groups and the state are the inner optimizer's own objects, so schedulers, GradScaler and
checkpoints see one optimizer. ``p.grad`` is lent to the inner step and put back: whoever reads
gradients after ``step()`` sees the true ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from vario.methods.optimizers._checks import check_gradients


class AroundOptimizer(Optimizer):
    """Subclasses say in ``_change`` what the inner optimizer gets instead of the gradients."""

    def __init__(self, base: Optimizer, options: dict[str, Any]) -> None:
        if not isinstance(base, Optimizer):
            raise ValueError(
                f"{type(self).__name__} goes around an optimizer; got {type(base).__name__}. "
                f"Write {type(self).__name__}(torch.optim.AdamW(model.parameters(), lr=1e-3))."
            )
        self.options = dict(options)
        base.defaults.update(options)
        super().__init__(base.param_groups, base.defaults)
        self.base = base
        self.own: dict[
            Tensor, dict[str, Tensor]
        ] = {}  # beside the state: optimizers start theirs if it is empty
        self._share()

    def _share(self) -> None:
        self.param_groups = self.base.param_groups
        self.state = self.base.state
        self.defaults = self.base.defaults

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        check_gradients(type(self).__name__, self._params())
        lent = [(p, p.grad) for group in self.param_groups for p in group["params"] if p.grad is not None]
        try:
            for group in self.param_groups:
                params = [p for p in group["params"] if p.grad is not None]
                for p, changed in zip(
                    params, self._change(group, params, [p.grad for p in params]), strict=True
                ):
                    p.grad = changed
            self.base.step()
        finally:
            for p, grad in lent:
                p.grad = grad
        return loss

    def _change(self, group: dict[str, Any], params: list[Tensor], grads: list[Tensor]) -> list[Tensor]:
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        if "base" in self.__dict__:
            self.base.add_param_group(param_group)
        else:  # while torch builds this object, before the inner groups are shared
            super().add_param_group(param_group)

    def state_dict(self) -> dict[str, Any]:
        saved = self.base.state_dict()
        if self.own:
            places = {p: k for k, p in enumerate(self._params())}
            saved["around"] = {places[p]: dict(kept) for p, kept in self.own.items()}
        return saved

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.base.load_state_dict(state_dict)
        self._share()
        for group in self.param_groups:  # a file that the inner optimizer wrote alone knows no options
            for name, value in self.options.items():
                group.setdefault(name, value)
        params = self._params()
        self.own = {
            params[k]: {name: kept.detach().clone().to(params[k].device) for name, kept in held.items()}
            for k, held in state_dict.get("around", {}).items()
        }

    def _params(self) -> list[Tensor]:
        return [p for group in self.param_groups for p in group["params"]]

    def __getstate__(self) -> dict[str, Any]:
        shared = {"param_groups", "state", "defaults"}  # torch would keep these only, and lose the rest
        return {k: v for k, v in self.__dict__.items() if k not in shared and not k.startswith("_optimizer_")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        base = state["base"]
        super().__setstate__({**state, "defaults": base.defaults})
        self._share()
