r"""Sequential independence test by betting: whether two streams depend on each other, valid at any moment.

.. math::
    f_t = \tfrac12\left[g(x_1, y_1) + g(x_2, y_2) - g(x_1, y_2) - g(x_2, y_1)\right], \quad
    g = \frac{\hat\mu_{XY} - \hat\mu_X \otimes \hat\mu_Y}{\|\cdot\|}, \qquad
    K_t = K_{t-1}\,(1 + \lambda_t f_t)

Points come in pairs; g is the witness of dependence fitted on all points before. If x and y are independent,
swapping a pair changes nothing, every bet is fair, and the wealth K exceeds 1 / alpha with probability alpha
at most, however often one looks. The stake lambda is learned by online Newton steps.

When to use: watching for leakage or shortcuts while data come in: residuals against metadata, predictions
against a feature that should not matter. Stop as soon as ``rejected``.

When not to: points of one stream follow from each other (time series): the pairs must be exchangeable.
A wealth that stays low is no evidence of independence.

>>> draw = torch.Generator().manual_seed(0); x = torch.randn(300, generator=draw)
>>> test = SequentialIndependenceTest().fit(x, x + 0.5 * torch.randn(300, generator=draw))
>>> test.rejected, test.p_value < 0.05
(True, True)
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["SequentialIndependenceTest"]

CARD = {
    "papers": ("P265",),
    "slot": "",
    "treats": (),
    "example": {},
    "cost": "time and memory grow with the points seen: 2 kernel rows per pair",
    "checked": "equation; trajectory of the authors' code a-podkopaev/Sequential-Kernelized-Independence-"
    "Testing 6ad7e4a (MIT): HSIC payoff, RBF kernels, online Newton steps",
    "changed": "widths of the kernels come from the median over the first warmup points, on which nothing is "
    "bet; COCO, KCC and the symmetry-based payoffs are not built",
    "shown": "150 runs on independent points: mean wealth 1 within 3 standard errors. 200 independent "
    "pairs, looked at after each: no false alarm in 400 runs; a permutation test looked at ten "
    "times: 26 in 100. Correlation .7: found in 100 of 100 runs, after 128 points in the mean",
}

NEWTON = 2 / (2 - math.log(3))  # Cutkosky and Orabona's constant for online Newton steps


class SequentialIndependenceTest:
    """``fit(x, y)`` goes on with further points, in order: (n,) or (n, d) each. ``alpha`` is the level.

    ``gamma_x`` and ``gamma_y`` are the widths of exp(-gamma ||a - b||^2); None: by the median, see CARD.
    """

    def __init__(
        self,
        *,
        alpha: float = 0.05,
        gamma_x: float | None = None,
        gamma_y: float | None = None,
        warmup: int = 20,
        stake: float = 0.5,
    ) -> None:
        if not 0 < alpha < 1 or not 0 < stake < 1 or warmup < 2:
            raise ValueError(
                f"SequentialIndependenceTest: alpha {alpha} and stake {stake} must be in (0, 1), warmup "
                f"{warmup} at least 2."
            )
        self.alpha, self.stake = alpha, stake
        self.gamma_x, self.gamma_y = gamma_x, gamma_y
        self.warmup = warmup if gamma_x is None or gamma_y is None else 2
        self.x = self.y = torch.empty(0, 0, dtype=torch.float64)  # points that the witness is fitted on
        self.wait_x = self.wait_y = self.x  # points that have not been paired yet
        self.rows_x = self.rows_y = torch.empty(0, dtype=torch.float64)  # sums over rows of the kernels
        self.product = 0.0  # sum of the product of both kernels
        self.log_wealth = self.best = 0.0
        self.bet, self.payoff, self.squares = 0.0, 0.0, 1.0
        self.bets = 0
        self.stopped_at: int | None = None

    @property
    def wealth(self) -> float:
        """Of a gambler who started with 1; its expectation stays 1 under independence."""
        return math.exp(self.log_wealth) if self.log_wealth < 709 else math.inf  # of doubles

    @property
    def p_value(self) -> float:
        """1 / the largest wealth so far: valid whenever it is read."""
        return math.exp(-self.best)

    @property
    def rejected(self) -> bool:
        return self.p_value <= self.alpha

    def fit(self, x: Tensor, y: Tensor) -> SequentialIndependenceTest:
        """Take further points into account; an odd one waits for its partner."""
        x, y = (t.detach().double().reshape(len(t), -1) for t in (x, y))
        if len(x) != len(y):
            raise ValueError(f"SequentialIndependenceTest: {len(x)} points x and {len(y)} points y.")
        bad = ~(x.isfinite().all(1) & y.isfinite().all(1))
        if bool(bad.any()):
            raise ValueError(
                f"SequentialIndependenceTest: point {int(bad.nonzero()[0])} of {len(x)} is not finite. "
                f"Leave such points out."
            )
        if self.wait_x.numel():
            x, y = torch.cat([self.wait_x, x]), torch.cat([self.wait_y, y])
        if not len(self.x):
            if len(x) < self.warmup:
                self.wait_x, self.wait_y = x, y
                return self
            first = self.warmup
            self._start(x[:first], y[:first])
            x, y = x[first:], y[first:]
        whole = len(x) // 2 * 2
        for k in range(0, whole, 2):
            self._pair(x[k : k + 2], y[k : k + 2])
        self.wait_x, self.wait_y = x[whole:], y[whole:]
        return self

    def score(self, x: Tensor | None = None) -> float:
        """Log of the wealth; higher is stranger. ``x`` is there for the shelf's contract and is not read."""
        return self.log_wealth

    def _start(self, x: Tensor, y: Tensor) -> None:
        self.gamma_x = _median_gamma(x) if self.gamma_x is None else self.gamma_x
        self.gamma_y = _median_gamma(y) if self.gamma_y is None else self.gamma_y
        of_x, of_y = _kernel(x, x, self.gamma_x), _kernel(y, y, self.gamma_y)
        self.x, self.y = x, y
        self.rows_x, self.rows_y, self.product = of_x.sum(1), of_y.sum(1), float((of_x * of_y).sum())

    def _pair(self, x: Tensor, y: Tensor) -> None:
        """One bet on (2, d) points, then they join the witness."""
        assert self.gamma_x is not None and self.gamma_y is not None
        of_x = _kernel(x, self.x, self.gamma_x)  # (2, n)
        of_y = _kernel(y, self.y, self.gamma_y)
        joint = of_x @ of_y.T / len(self.x)  # (2, 2): x of one point, y of the other
        witness = joint - of_x.mean(1)[:, None] * of_y.mean(1)[None, :]
        norm = self._norm()
        swapped = witness[0, 0] + witness[1, 1] - witness[0, 1] - witness[1, 0]
        self._stake(float(swapped) / (2 * norm) if norm > 0 else 0.0)
        self._join(x, y, of_x, of_y)

    def _norm(self) -> float:
        """Length of the witness: the square root of the biased HSIC statistic."""
        n = len(self.x)
        total = float(self.rows_x.sum() * self.rows_y.sum()) / n**4
        square = self.product / n**2 + total - 2 * float(self.rows_x @ self.rows_y) / n**3
        return math.sqrt(max(square, 0.0))

    def _stake(self, payoff: float) -> None:
        if self.bets:
            gradient = self.payoff / (1 + self.payoff * self.bet)
            self.squares += gradient**2
            self.bet = min(max(self.bet + NEWTON * gradient / self.squares, 0.0), self.stake)
        self.log_wealth += math.log1p(self.bet * payoff)
        self.payoff = payoff
        self.bets += 1
        self.best = max(self.best, self.log_wealth)
        if self.rejected and self.stopped_at is None:
            self.stopped_at = len(self.x) + 2

    def _join(self, x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor) -> None:
        assert self.gamma_x is not None and self.gamma_y is not None
        new_x, new_y = _kernel(x, x, self.gamma_x), _kernel(y, y, self.gamma_y)
        self.rows_x = torch.cat([self.rows_x + of_x.sum(0), of_x.sum(1) + new_x.sum(1)])
        self.rows_y = torch.cat([self.rows_y + of_y.sum(0), of_y.sum(1) + new_y.sum(1)])
        self.product += float(2 * (of_x * of_y).sum() + (new_x * new_y).sum())
        self.x, self.y = torch.cat([self.x, x]), torch.cat([self.y, y])

    def state_dict(self) -> dict[str, Any]:
        """Tensors and numbers only."""
        return dict(vars(self))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        for key in vars(self):
            setattr(self, key, state[key])


def _kernel(a: Tensor, b: Tensor, gamma: float) -> Tensor:
    return torch.exp(-gamma * (a[:, None] - b[None]).square().sum(2))


def _median_gamma(points: Tensor) -> float:
    """1 / (2 median of the squared distances)."""
    squares = (points[:, None] - points[None]).square().sum(2)
    above = squares[torch.triu(torch.ones_like(squares), 1).bool()]
    median = float(above.median())
    return 1 / (2 * median) if median > 0 else 1.0
