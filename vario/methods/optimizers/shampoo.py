r"""Shampoo: a matrix preconditioner for each side of a weight, with the step length of Adam.

.. math::
    L \leftarrow \beta_2 L + (1 - \beta_2) g g^\top, \; R \leftarrow \beta_2 R + (1 - \beta_2) g^\top g, \\
    s = L^{-1/4} \hat m R^{-1/4}, \quad s \leftarrow s\, \|a\| / \|s\|, \quad
    w \leftarrow w - \eta (s + \lambda w)

:math:`\hat m` is the average gradient and a the step of Adam (grafting). A vector has one side and the root
:math:`L^{-1/2}`; with :math:`\beta_2 = 1` squares are summed, which makes that AdaGrad with its full matrix,
and a AdaGrad's step. Weights are cut into blocks of at most ``block_size``, so that a large embedding does
not ask for a matrix of its own size. Inverse roots are taken every ``root_every`` steps; until the first of
them Adam steps alone.

When to use: Adam stalls on an ill-conditioned problem and the step time is dominated by forward and backward.

When not to: small batches on CPU: a step that takes roots costs many steps of AdamW.

>>> w = torch.nn.Parameter(torch.eye(3))
>>> optimizer = Shampoo([w], lr=0.1, root_every=1)
>>> for _ in range(3):
...     optimizer.zero_grad(); (w * torch.arange(9.0).view(3, 3)).square().sum().backward(); optimizer.step()
>>> bool(w.diagonal()[1:].sum() < 2)
True
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import Optimizer

from vario.methods._saved import put_back
from vario.methods.optimizers._checks import check_gradients, check_lr

__all__ = ["Shampoo"]

CARD = {
    "papers": ("P281",),
    "slot": "optimizer",
    "rate_of": ("adam", "rms", "lamb"),
    "treats": ("loss-plateau", "learning-rate-too-low"),
    "example": {"root_every": 2},
    "cost": "27 bytes per parameter in blocks of 512; on CPU 7 to 10 x the time of torch's default "
    "AdamW, 50 x at a step that takes roots (19 M parameters)",
    "checked": "equation; scipy.linalg.fractional_matrix_power to 1e-6; the length of torch's Adam and "
    "Adagrad to 1e-6; pytorch_optimizer.ScalableShampoo 4.1, 10 steps; facebookresearch/optimizers f606606 "
    "(BSD), read",
    "changed": "a weight of more than two sizes is a matrix (first size, all others). The length is grafted "
    "for the whole weight, not block by block; the ridge is a share of the largest eigenvalue, as in "
    "Google's optimizer, not a fixed 1e-12. Processes share out the roots alone and all keep all matrices, "
    "so that a file fits any number of them. ScalableShampoo is not wrapped: it leaves vectors, and "
    "matrices of at most block_size entries, without a preconditioner",
    "shown": "autoencoder of MNIST-5k, both at their best rate: Adam's loss after 600 steps in 350, 320 and "
    "330, three seeds. Two processes over gloo end bit for bit where one does. Less time than Adam: not "
    "shown here, on CPU a step costs more than it saves",
}


Job = tuple[dict[str, Any], Tensor, float, float]  # whose root, of what, to which power, with which ridge


class Shampoo(Optimizer):
    """As ``torch.optim.AdamW``, whose step length it takes (``graft=False``: the length is its own).

    ``ridge`` times the largest eigenvalue is added to all before a root is taken. ``ranks``: a process group
    whose processes hold the same gradients (``torch.distributed.group.WORLD``) and share out the roots.
    """

    ranks: Any = None

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        weight_decay: float = 0.0,
        block_size: int = 512,
        root_every: int = 20,
        graft: bool = True,
        eps: float = 1e-8,
        ridge: float = 1e-6,
        ranks: Any = None,
    ) -> None:
        check_lr("Shampoo", lr)
        if not 0 <= betas[0] < 1 or not 0 <= betas[1] <= 1:
            raise ValueError(f"Shampoo: betas are {betas}; they must be in [0, 1), the second may be 1.")
        if block_size < 1 or root_every < 1 or not ridge >= 0:
            raise ValueError(
                f"Shampoo: block_size {block_size} and root_every {root_every} must be 1 or more, and ridge "
                f"{ridge} 0 or more."
            )
        settings = {"block_size": block_size, "root_every": root_every, "graft": graft, "ridge": ridge}
        defaults = {"lr": lr, "betas": betas, "weight_decay": weight_decay, "eps": eps}
        super().__init__(params, {**defaults, **settings, "decoupled_weight_decay": True})
        self.ranks = ranks

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Matrices and moments as they were saved: torch casts state to the dtype of the weights."""
        super().load_state_dict(state_dict)
        put_back(self, state_dict)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        live = [(group, p) for group in self.param_groups for p in group["params"] if p.grad is not None]
        check_gradients("Shampoo", [p for _, p in live])
        live = [(group, p) for group, p in live if p.numel()]
        jobs = [job for group, p in live for job in self._observe(group, p, p.grad)]
        for (state, *_), root in zip(jobs, self._taken(jobs), strict=True):
            state["roots"].append(root)
        for group, p in live:
            self._move(group, p)
        return loss

    def _observe(self, group: dict[str, Any], p: Tensor, grad: Tensor) -> Iterator[Job]:
        """Moves the averages of one parameter; the roots that are due at this step."""
        state, beta2 = self.state[p], group["betas"][1]
        grad = grad.to(torch.promote_types(p.dtype, torch.float32)).contiguous()
        sides = [side for block in _blocks(grad, group["block_size"]) for side in _sides(block)]
        if not state:
            state["step"], state["roots"] = 0, []
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(grad), torch.zeros_like(grad)
            state["sides"] = [side.new_zeros(len(side), len(side)) for side in sides]
        state["step"] += 1
        weight = 1 - beta2 if beta2 < 1 else 1.0
        state["exp_avg"].lerp_(grad, 1 - group["betas"][0])
        state["exp_avg_sq"].mul_(beta2).addcmul_(grad, grad, value=weight)
        for matrix, side in zip(state["sides"], sides, strict=True):
            matrix.addmm_(side, side.mT, beta=beta2, alpha=weight)
        if state["step"] % group["root_every"] == 0:
            state["roots"] = []
            for matrix in state["sides"]:
                whole = matrix / _unbiased(beta2, state["step"])
                yield state, whole, -0.25 if grad.ndim > 1 else -0.5, group["ridge"]

    def _taken(self, jobs: list[Job]) -> list[Tensor]:
        """All roots; of several processes each takes those that are its own, and adds what others took."""
        if self.ranks is None or not jobs:
            return [_root(*job[1:]) for job in jobs]
        owners, rank = _spread([len(job[1]) ** 3 for job in jobs], self.ranks.size()), self.ranks.rank()
        mine = [
            _root(*job[1:]) if owner == rank else torch.zeros_like(job[1])
            for job, owner in zip(jobs, owners, strict=True)
        ]
        flat = torch.cat([root.flatten() for root in mine])
        dist.all_reduce(flat, group=self.ranks)
        parts = flat.split([root.numel() for root in mine])
        return [part.view_as(root) for part, root in zip(parts, mine, strict=True)]

    def _move(self, group: dict[str, Any], p: Tensor) -> None:
        state, (beta1, beta2) = self.state[p], group["betas"]
        mean = state["exp_avg"] / _unbiased(beta1, state["step"])
        square = state["exp_avg_sq"] / _unbiased(beta2, state["step"])
        adam = mean / square.sqrt_().add_(group["eps"])
        step = adam if group["graft"] else mean
        if state["roots"]:
            step, roots = torch.empty_like(mean), iter(state["roots"])
            size = group["block_size"]
            for to, block in zip(_blocks(step, size), _blocks(mean, size), strict=True):
                to.copy_(next(roots) @ block @ next(roots) if block.ndim > 1 else next(roots) @ block)
            if group["graft"]:
                step *= adam.norm() / step.norm().clamp(min=torch.finfo(step.dtype).tiny)
        p.mul_(1 - group["lr"] * group["weight_decay"])
        p.sub_(step.to(p.dtype), alpha=group["lr"])


def _unbiased(beta: float, count: int) -> float:
    """What an average from zero is divided by; sums (beta = 1) are left."""
    return 1 - beta**count if beta < 1 else 1.0


def _blocks(whole: Tensor, size: int) -> Iterator[Tensor]:
    """Views: of a vector, or of a matrix (first size, all others), at most ``size`` to a side."""
    flat = whole.view(len(whole), -1) if whole.ndim > 1 else whole.view(-1)
    for rows in flat.split(size):
        yield from rows.split(size, dim=1) if flat.ndim > 1 else (rows,)


def _sides(block: Tensor) -> tuple[Tensor, ...]:
    """The matrices x whose x x^T precondition a block."""
    return (block, block.mT) if block.ndim > 1 else (block[:, None],)


def _root(matrix: Tensor, power: float, ridge: float) -> Tensor:
    """``matrix ** power`` of a symmetric matrix; eigenvalues below 0 are rounding."""
    values, vectors = torch.linalg.eigh(matrix)
    values = values.clamp_(min=0)
    values += (ridge * values.max()).clamp(min=torch.finfo(values.dtype).tiny)
    root: Tensor = (vectors * values**power) @ vectors.mT
    return root


def _spread(costs: Sequence[int], ranks: int) -> list[int]:
    """Who takes what: the costliest first, each to the one who has least to do so far."""
    load, owner = [0] * ranks, [0] * len(costs)
    for k in sorted(range(len(costs)), key=lambda k: -costs[k]):
        owner[k] = min(range(ranks), key=load.__getitem__)
        load[owner[k]] += costs[k]
    return owner
