"""Numbers as people read them: three digits that matter, shares in percent, settings as one types them."""

from __future__ import annotations

import math
import re

__all__ = ["amount", "number", "percent", "rounded", "setting", "size"]

# Whole words: the "loss of guessing by class shares" is a loss.
PERCENT_NAMES = re.compile(r"\b(share|accuracy|probability|confidence|percentage|update ratio)\b", re.I)


def amount(name: str, value: float, style: str = "") -> str:
    """A value in the unit that its name asks for: percent for shares, else three digits."""
    percent = style == "%" or (style != "#" and PERCENT_NAMES.search(name) is not None)
    if percent and math.isfinite(value):
        return f"{number(100 * value)} %"
    return number(value)


def number(value: float) -> str:
    """Three digits that matter, whole numbers whole, no exponent where none is needed."""
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    if value == 0:
        return "0"
    if abs(value) < 1e6 and value == round(value):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.0f}"
    if 1e-3 <= abs(value) < 1e5:
        digits = max(0, 2 - math.floor(math.log10(abs(value))))
        text = f"{value:.{digits}f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    mantissa, exponent = f"{value:.2e}".split("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def size(count: float) -> str:
    """A large count for people: ``1.2 M``."""
    for unit, scale in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if abs(count) >= scale:
            return f"{number(count / scale)} {unit}"
    return number(count)


def percent(share: float) -> str:
    """``0.4`` as ``40 %``."""
    return f"{number(100 * share)} %"


def rounded(value: float) -> float:
    """The nearest of 1, 2, 3, 5 times a power of ten, by ratio: what a person would type."""
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"only a positive finite number can be rounded to a round one; got {value}")
    exponent = math.floor(math.log10(value))
    choices = [digit * 10.0**power for power in (exponent, exponent + 1) for digit in (1, 2, 3, 5)]
    return min(choices, key=lambda choice: abs(math.log(choice / value)))


def setting(value: float) -> str:
    """A number as it is typed into a command: ``0.003``, ``64``, ``1e-05``."""
    return f"{value:.4g}"
