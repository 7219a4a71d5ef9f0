"""What else must change when the batch changes: rules that need no fit.

SGD: learning rate in proportion to the batch. Adam and RMSprop: by its square root, with
1 - beta multiplied by the factor and eps divided by its root. A moving average of weights or targets:
its momentum to the power of the factor. All are exact for the stochastic differential equation
behind the optimizer, and fail once the batch passes the critical one.

When to use: keeping a tuned run's course at another batch, below the critical batch.
When not to: noise no longer dominates the gradient (`batch` above `critical_batch`): the rules
then overshoot.
"""

from __future__ import annotations

from dataclasses import dataclass

CARD = {
    "papers": ("P298", "P246", "P248", "P017"),
    "inputs": ("factor",),
    "output": "hyperparameters",
    "checked": "closed form: identities of the rules; a noisy quadratic",
    "changed": "",
}


@dataclass(frozen=True)
class Setting:
    """What an optimizer was tuned to. Momentum is None for Adam; betas and eps are None for SGD."""

    lr: float
    momentum: float | None = None
    betas: tuple[float, float] | None = None
    eps: float | None = None
    ema: float | None = None


def at_batch(setting: Setting, factor: float) -> Setting:
    """The setting for a batch ``factor`` times as large."""
    if not factor > 0:
        raise ValueError(f"factor must be positive; got {factor}")
    ema = None if setting.ema is None else setting.ema**factor
    if setting.betas is None:
        return Setting(setting.lr * factor, setting.momentum, None, None, ema)
    betas = (_faster(setting.betas[0], factor), _faster(setting.betas[1], factor))
    eps = None if setting.eps is None else setting.eps / factor**0.5
    return Setting(setting.lr * factor**0.5, None, betas, eps, ema)


def holds_until(batch: float, critical_batch: float) -> float:
    """The largest factor for which noise still dominates: the batch may grow to the critical one."""
    return max(critical_batch / batch, 1.0)


def _faster(beta: float, factor: float) -> float:
    faster = 1.0 - factor * (1.0 - beta)
    if faster < 0.0:
        raise ValueError(
            f"beta {beta} at {factor:g} times the batch would be {faster:.3g}; the rule ends at "
            f"a factor of {1 / (1 - beta):.3g}"
        )
    return faster
