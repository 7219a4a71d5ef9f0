r"""Shampoo: a matrix preconditioner for each side of a weight, with the step length of another method.

.. math::
    L \leftarrow \beta_2 L + (1 - \beta_2) g g^\top, \; R \leftarrow \beta_2 R + (1 - \beta_2) g^\top g, \\
    s = L^{-1/4} g R^{-1/4}, \quad s \leftarrow s\, \|a\| / \|s\|

a is the step of RMSprop or AdaGrad (grafting). Weights are cut into blocks of at most ``block_size``, so that
a large embedding does not ask for a matrix of its own size. Inverse roots are taken every ``root_every``
steps; until the first of them the grafted method steps alone.

When to use: Adam stalls on an ill-conditioned problem and the step time is dominated by forward and backward.

When not to: small batches on CPU: a preconditioner step costs hundreds of AdamW steps.

>>> import torch
>>> w = torch.nn.Parameter(torch.eye(3))
>>> optimizer = shampoo([w], lr=0.1, root_every=1)
>>> for _ in range(3):
...     optimizer.zero_grad(); (w * torch.arange(9.0).view(3, 3)).square().sum().backward(); optimizer.step()
>>> bool(w.diagonal()[1:].sum() < 2)
True
"""

from __future__ import annotations

from typing import Any

from torch.optim import Optimizer

from vario.methods.optimizers._package import pytorch_optimizer

__all__ = ["shampoo"]

CARD = {
    "papers": ("P281",),
    "slot": "optimizer",
    "treats": ("loss-plateau", "learning-rate-too-low"),
    "example": {"root_every": 2},
    "needs": "pytorch_optimizer",
    "departs": {
        "copy": "pytorch_optimizer keeps settings outside what torch copies; use state_dict",
        "resume": "pytorch_optimizer keeps its preconditioners as objects: its file needs weights_only=False",
    },
    "cost": "27 bytes per parameter; 6.5 x torch's default AdamW on CPU, and 73 x at a step that takes roots",
    "checked": "equation: one step against scipy.linalg.fractional_matrix_power (pytorch_optimizer."
    "ScalableShampoo 4.1, wrapped: Google's blocked port, not Meta's package, which is not on PyPI)",
    "changed": "steps are grafted from RMSprop without bias correction, or AdaGrad; the momentum is a "
    "moving average "
    "of the grafted step; blocks are not spread over workers",
    "shown": "step length equals the grafted one to 1e-5; two processes that share gradients over gloo end "
    "bit for bit where one does. Fewer steps than Adam: not shown here",
}


def shampoo(
    params: Any,
    lr: float = 1e-3,
    *,
    betas: tuple[float, float] = (0.9, 0.999),
    weight_decay: float = 0.0,
    block_size: int = 512,
    root_every: int = 20,
    graft: str = "rmsprop",
    eps: float = 1e-6,
) -> Optimizer:
    """``pytorch_optimizer.ScalableShampoo`` with grafting on and sizes capped."""
    package = pytorch_optimizer("ScalableShampoo")
    kinds = {"rmsprop": 3, "adagrad": 2}  # pytorch_optimizer's LayerWiseGrafting
    if graft not in kinds:
        raise ValueError(f"shampoo: graft is {graft!r}; choose one of {', '.join(kinds)}.")
    made: Optimizer = package.ScalableShampoo(
        params,
        lr=lr,
        betas=betas,
        moving_average_for_momentum=True,
        nesterov=False,
        weight_decay=weight_decay,
        decoupled_weight_decay=True,
        start_preconditioning_step=root_every,
        preconditioning_compute_steps=root_every,
        block_size=block_size,
        graft_type=kinds[graft],
        matrix_eps=eps,
        use_svd=True,
    )
    return made
