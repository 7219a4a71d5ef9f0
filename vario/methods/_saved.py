"""The state of an optimizer as it was saved, which torch casts to the dtype of the weights on loading."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer


def put_back(optimizer: Optimizer, state_dict: Mapping[str, Any]) -> None:
    """Tensors of the state, and lists of them, in their own dtype and on the devices of their weights.

    For the end of ``load_state_dict``, once ``torch.optim.Optimizer``'s has been called.
    """
    places = [k for group in state_dict["param_groups"] for k in group["params"]]
    params = [p for group in optimizer.param_groups for p in group["params"]]
    for k, p in zip(places, params, strict=True):
        for name, value in state_dict["state"].get(k, {}).items():
            if torch.is_tensor(value):
                optimizer.state[p][name] = _copy(value, p)
            elif isinstance(value, list):
                optimizer.state[p][name] = [_copy(each, p) for each in value]


def _copy(value: Tensor, p: Tensor) -> Tensor:
    return value.detach().clone().to(p.device)
