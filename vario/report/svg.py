"""Small pictures as inline SVG, for pages without scripts and for notebooks: curves, meters, the dial.

They carry their own colours: a notebook has none of the page's style.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from itertools import cycle

import numpy as np
from numpy.typing import NDArray

from vario.nouns import Evidence
from vario.remedies.figures import amount, number

__all__ = ["COLORS", "curve", "dial", "meter"]

# Okabe and Ito's colours, which people with any colour vision can tell apart.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#b8a900", "#7f7f7f")
LIMIT, BROKEN = "#d55e00", "#d55e00"

Floats = NDArray[np.float64]
Curve = tuple[str, Floats, Floats, Floats, Floats]  # label, steps, low, mean, high


def curve(
    curves: Sequence[Curve],
    label: str,
    *,
    limits: Sequence[float] = (),
    colors: Sequence[str] = COLORS,
    width: int = 560,
    height: int = 170,
) -> str:
    """The curves over the steps; bands from low to high, dashed limits, logarithmic where it must be.

    `colors` are used in turn; a point without neighbours is a dot.
    """
    values = np.concatenate(
        [part[np.isfinite(part)] for _, _, *band in curves for part in band] or [np.zeros(0)]
    )
    steps = np.concatenate([at for _, at, *_ in curves] or [np.zeros(0)])
    if not len(values):
        return f'<p class="nothing">{html.escape(label)}: no finite value was recorded.</p>'
    log = _is_wide(values)
    shown = [limit for limit in limits if math.isfinite(limit) and (not log or limit > 0)]
    span = _span(np.concatenate([values, np.array(shown)]), log)
    left, right, top, bottom = 58, width - 8, 8, height - 20
    first, last = float(steps.min()), float(steps.max())
    x = _Scale((first - (first == last), last + (first == last)), (left, right), False)
    y = _Scale(span, (bottom, top), log)
    parts = [
        _axis(span, y, left, right, log),
        _ends(first, last, left, right, height),
    ]
    for color, (name, at, low, mean, high) in zip(cycle(colors), curves, strict=False):
        if not np.array_equal(low, high, equal_nan=True):
            outline = [*zip(at, high, strict=True), *reversed(list(zip(at, low, strict=True)))]
            parts.append(f'<path d="{_path(outline, x, y, log)}Z" fill="{color}" opacity=".22"/>')
        parts.append(
            f'<path d="{_path(list(zip(at, mean, strict=True)), x, y, log)}" fill="none" stroke="{color}"'
            f' stroke-width="1.5"><title>{html.escape(name)}</title></path>'
        )
        parts += [_dot(color, at[i], low[i], mean[i], high[i], x, y) for i in _alone(mean, log)]
    parts += [
        f'<path d="M{left} {y(limit):.1f}H{right}" stroke="{LIMIT}" stroke-dasharray="5 4" fill="none"/>'
        for limit in shown
    ]
    return _svg(width, height, label, "".join(parts), "curve")


def meter(item: Evidence) -> str:
    """One evidence as a needle on a scale: the value, its interval as a bar, the limit as a mark."""
    known = [v for v in (item.value, item.low, item.high, item.limit) if math.isfinite(v)]
    if (
        len({round(v, 12) for v in known}) < 2
        or not math.isfinite(item.value)
        or not math.isfinite(item.limit)
    ):
        return ""
    log = min(known) > 0 and max(known) / min(known) > 30
    low, high = (min(known), max(known)) if log else (min(*known, 0.0), max(known))
    margin = (high / low) ** 0.08 if log else 0.06 * (high - low)
    x = _Scale((low / margin, high * margin) if log else (low, high + margin), (4, 136), log)
    a, b = (x(v) if math.isfinite(v) else (4 if i == 0 else 136) for i, v in enumerate((item.low, item.high)))
    body = (
        '<path d="M4 11H136" stroke="currentColor" opacity=".25"/>'
        f'<path d="M{a:.1f} 11H{max(b, a + 1):.1f}" stroke="{COLORS[0]}" stroke-width="6" opacity=".45"/>'
        f'<path d="M{x(item.limit):.1f} 2V20" stroke="{LIMIT}" stroke-width="2" stroke-dasharray="3 2"/>'
        f'<circle cx="{x(item.value):.1f}" cy="11" r="4.5" fill="{COLORS[0]}"/>'
    )
    return _svg(
        140,
        22,
        f"{amount(item.name, item.value)} against a limit of {amount(item.name, item.limit)}",
        body,
        "meter",
    )


def dial(severity: str) -> str:
    """The variometer itself: the needle points up where all is well, down where the run sinks."""
    angle, color = {
        "error": (-52, "#d55e00"), "warning": (-24, "#e69f00"), "advice": (18, "#56b4e9"), 
        "unknown": (0, "#8a94a3"),
    }.get(severity, (46, "#009e73"))  # fmt: skip
    ticks = "".join(
        f'<path d="M8 40h{6 if step % 2 else 9}" stroke="currentColor" opacity=".55" stroke-width="2"'
        f' transform="rotate({step * 26} 40 40)"/>'
        for step in range(-3, 4)
    )
    body = (
        '<circle cx="40" cy="40" r="37" fill="none" stroke="currentColor" opacity=".25" stroke-width="2"/>'
        f'{ticks}<path d="M44 36.5 9 40 44 43.5z" fill="{color}" transform="rotate({angle} 40 40)"/>'
        f'<circle cx="40" cy="40" r="6" fill="{color}"/>'
    )
    return f'<svg class="dial" viewBox="0 0 80 80" width="72" height="72" aria-hidden="true">{body}</svg>'


def _is_wide(values: Floats) -> bool:
    """Whether a linear axis would hide most of the curve."""
    return bool(values.min() > 0 and values.max() / np.median(values) > 20)


def _span(values: Floats, log: bool) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return (low / 2, high * 2) if log else (low - (abs(low) or 1) / 2, high + (abs(high) or 1) / 2)
    if log:
        return low / 1.2, high * 1.2
    return low - 0.04 * (high - low), high + 0.04 * (high - low)


class _Scale:
    """A straight or logarithmic map from values to pixels."""

    def __init__(self, span: tuple[float, float], pixels: tuple[float, float], log: bool) -> None:
        self.log = log
        self.low, self.high = (math.log10(v) for v in span) if log else span
        self.a, self.b = pixels

    def __call__(self, value: float) -> float:
        at = math.log10(value) if self.log else value
        return self.a + (self.b - self.a) * (at - self.low) / ((self.high - self.low) or 1.0)


def _path(points: Sequence[tuple[float, float]], x: _Scale, y: _Scale, log: bool) -> str:
    """Straight from point to point; a gap where a value cannot be drawn."""
    words, pen = [], "M"
    for step, value in points:
        if not math.isfinite(value) or (log and value <= 0):
            pen = "M"
            continue
        words.append(f"{pen}{x(step):.1f} {y(value):.1f}")
        pen = "L"
    return "".join(words) or "M0 0"


def _alone(mean: Floats, log: bool) -> NDArray[np.intp]:
    """Where a line would show nothing: points that can be drawn and whose neighbours cannot."""
    drawn = np.pad(np.isfinite(mean) & (mean > (0.0 if log else -np.inf)), 1)
    return np.flatnonzero(drawn[1:-1] & ~drawn[:-2] & ~drawn[2:])


def _dot(color: str, at: float, low: float, mean: float, high: float, x: _Scale, y: _Scale) -> str:
    bar = ""
    if math.isfinite(low) and math.isfinite(high) and (low > 0 or not y.log):
        line = f"M{x(at):.1f} {y(low):.1f}V{y(high):.1f}"
        bar = f'<path d="{line}" stroke="{color}" stroke-width="5" opacity=".35"/>'
    return f'{bar}<circle cx="{x(at):.1f}" cy="{y(mean):.1f}" r="3.5" fill="{color}"/>'


def _axis(span: tuple[float, float], y: _Scale, left: int, right: int, log: bool) -> str:
    low, high = span
    middle = math.sqrt(low * high) if log else (low + high) / 2
    return "".join(
        f'<path d="M{left} {y(value):.1f}H{right}" stroke="currentColor" opacity=".13"/>'
        f'<text x="{left - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{number(value)}</text>'
        for value in (low, middle, high)
    )


def _ends(first: float, last: float, left: int, right: int, height: int) -> str:
    if first == last:
        middle = (left + right) / 2
        return f'<text x="{middle}" y="{height - 4}" text-anchor="middle">step {first:,.0f}</text>'
    return (
        f'<text x="{left}" y="{height - 4}">step {first:,.0f}</text>'
        f'<text x="{right}" y="{height - 4}" text-anchor="end">{last:,.0f}</text>'
    )


def _svg(width: int, height: int, label: str, body: str, kind: str) -> str:
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img"'
        f' aria-label="{html.escape(label, quote=True)}" font-size="11" fill="currentColor"'
        f' font-family="system-ui, sans-serif">{body}</svg>'
    )
