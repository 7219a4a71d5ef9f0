"""Charts of planning: data, law and band; residuals; a forecast; families compared; the next runs.

Drawn with matplotlib (extra `plan`) as .png or .svg, or as .html with the SVG inside.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vario.nouns import VarioError

if TYPE_CHECKING:
    from vario.laws._compare import Candidate
    from vario.laws._forecast import Forecaster

__all__ = ["compare_chart", "design_chart", "fit_chart", "forecast_chart"]

Array = NDArray[np.float64]
BLUE, ORANGE, GREEN = "#0072b2", "#d55e00", "#009e73"


def fit_chart(plan: Forecaster, columns: Mapping[str, Array], path: Path) -> None:
    """Runs and law over the size of a run with its 95 % band, residuals beneath, and equal-compute curves."""
    law = plan.law
    x, y = {name: columns[name] for name in law.inputs}, columns[law.output]
    said = np.array([plan.at({name: float(x[name][i]) for name in x}) | {"i": i} for i in range(len(y))])
    value, low, high = (np.array([one[key] for one in said]) for key in ("value", "low", "high"))
    size = np.prod(list(x.values()), axis=0)
    order = np.argsort(size)
    figure, axes = _figure(3 if law.units == ("parameters", "tokens") else 2)
    if len(x) == 1:
        axes[0].fill_between(
            size[order], low[order], high[order], color=BLUE, alpha=0.2, linewidth=0, label="95 % of new runs"
        )
    else:  # runs of one product differ in shape: a band through them would jump
        axes[0].vlines(size, low, high, color=BLUE, alpha=0.3, linewidth=4, label="95 % of new runs")
    axes[0].plot(size[order], value[order], "-" if len(x) == 1 else ".", color=BLUE, ms=3, label=law.id)
    axes[0].plot(size, y, "o", color=ORANGE, ms=3, label="runs")
    axes[0].set(xscale="log", yscale="log", xlabel=" x ".join(law.inputs), ylabel=law.output)
    axes[0].legend(frameon=False)
    axes[1].axhline(0, color="grey", linewidth=0.8)
    axes[1].plot(size, 100 * (value / y - 1), "o", color=ORANGE, ms=3)
    axes[1].set(xscale="log", xlabel=" x ".join(law.inputs), ylabel="law minus run, %")
    _readable(axes[0].xaxis, axes[0].yaxis, axes[1].xaxis)
    if len(axes) == 3:
        _equal_compute(plan, x, axes[2])
    _save(figure, path, f"{law.id} on {len(y)} runs")


def forecast_chart(plan: Forecaster, at: Mapping[str, float], path: Path) -> None:
    """The law along the way from the middle of the measured runs to the forecast, with its band."""
    middle = {name: float(np.exp(np.mean(plan.ranges[name]))) for name in plan.law.inputs}
    share = np.linspace(0, 1, 60)
    way = [{name: float(middle[name] ** (1 - s) * at[name] ** s) for name in at} for s in share]
    told = [plan.at(one) for one in way]
    figure, (axis,) = _figure(1)
    size = [float(np.prod(list(one.values()))) for one in way]
    low, high = ([t[end] for t in told] for end in ("low", "high"))
    axis.fill_between(size, low, high, color=BLUE, alpha=0.2, linewidth=0, label="95 % of new runs")
    axis.plot(size, [t["value"] for t in told], color=BLUE, label=plan.law.id)
    axis.plot(size[-1:], [told[-1]["value"]], "o", color=ORANGE, label="forecast")
    within = [one for one, t in zip(size, told, strict=True) if t["decades"] == 0]
    if len(within) < len(size):
        axis.axvline(within[-1], color="grey", linestyle="--", linewidth=0.8, label="end of the runs")
    axis.set(xscale="log", yscale="log", xlabel=" x ".join(plan.law.inputs), ylabel=plan.law.output)
    axis.legend(frameon=False)
    _readable(axis.xaxis, axis.yaxis)
    _save(
        figure,
        path,
        f"{plan.law.output} {told[-1]['value']:.4g}, {told[-1]['decades']:.2f} decades beyond the runs",
    )


def compare_chart(found: Sequence[Candidate], path: Path) -> None:
    """The mean error of each family's forecast of the largest runs."""
    shown = [one for one in found if one.count][::-1]
    figure, (axis,) = _figure(1)
    names = [f"{one.law}, {one.rows}, delta {one.delta}" for one in shown]
    axis.barh(names, [100 * one.error for one in shown], color=BLUE)
    axis.set(xlabel="mean error, %")
    if not shown:
        axis.set_axis_off()
        axis.text(0.5, 0.5, "too few rows to look back: nothing to compare", ha="center", va="center")
    _save(figure, path, "Families by their forecasts of the largest runs")


def design_chart(
    plan: Forecaster, runs: Sequence[Mapping[str, Any]], target: Mapping[str, float], path: Path
) -> None:
    """Where the next runs lie, against the measured range and the target; of one input, along the law."""
    names = plan.law.inputs
    figure, (axis,) = _figure(1)
    left, right = np.exp(plan.ranges[names[0]])
    if len(names) > 1:
        low, high = np.exp(plan.ranges[names[1]])
        box = [left, right, right, left, left], [low, low, high, high, low]
        axis.plot(*box, color="grey", label="measured range")
    else:
        axis.axvspan(left, right, color="grey", alpha=0.2, label="measured range")

    def place(inputs: Mapping[str, float]) -> tuple[float, float]:
        return inputs[names[0]], inputs[names[1]] if len(names) > 1 else plan.at(inputs)["value"]

    places: dict[tuple[float, float], list[str]] = {}
    for number, one in enumerate(runs, 1):
        places.setdefault(place(one["inputs"]), []).append(str(number))
    for where, numbers in places.items():
        axis.plot(*where, "o", color=GREEN)
        axis.annotate(", ".join(numbers), where, xytext=(4, 4), textcoords="offset points")
    axis.plot(*place(target), "*", color=ORANGE, ms=10, label="target")
    axis.set(
        xscale="log", yscale="log", xlabel=names[0], ylabel=names[1] if len(names) > 1 else plan.law.output
    )
    _readable(axis.xaxis, axis.yaxis)
    axis.legend(frameon=False)
    _save(figure, path, "The next runs, in order")


def _equal_compute(plan: Forecaster, x: Mapping[str, Array], axis: Any) -> None:
    """Loss over N at five budgets inside the measured range."""
    compute = np.log(6.0 * x["N"] * x["D"])
    for budget in np.exp(np.linspace(compute.min(), compute.max(), 5)):
        n = np.geomspace(x["N"].min(), x["N"].max(), 60)
        d = budget / 6.0 / n
        inside = (d > x["D"].min() / 3) & (d < x["D"].max() * 3)
        if inside.any():
            told = [
                plan.at({"N": float(a), "D": float(b)})["value"]
                for a, b in zip(n[inside], d[inside], strict=True)
            ]
            axis.plot(n[inside], told, label=f"{budget:.1e} FLOPs")
    axis.set(xscale="log", xlabel="N", ylabel=plan.law.output)
    axis.legend(frameon=False, fontsize=7)
    _readable(axis.xaxis)


def _readable(*axes: Any) -> None:
    """Plain numbers on logarithmic axes of less than two decades: 2.4, not 2.4 x 10^0; none that touch."""
    from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

    for axis in axes:
        low, high = axis.get_view_interval()
        if high >= 100 * low:
            continue
        axis.set_major_locator(MaxNLocator(6) if high < 4 * low else LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
        if high < 4 * low:
            axis.set_minor_locator(NullLocator())


def _figure(panels: int) -> tuple[Any, Any]:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise VarioError("charts need matplotlib; pip install 'vario[plan]'") from error
    figure = Figure(figsize=(5.2 * panels, 4.0), layout="constrained")
    return figure, [figure.add_subplot(1, panels, i + 1) for i in range(panels)]


def _save(figure: Any, path: Path, title: str) -> None:
    figure.suptitle(title)
    kind = path.suffix.lower()
    if kind not in (".png", ".svg", ".html"):
        raise VarioError(f"{path}: a chart is a .png, .svg or .html file")
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png" if kind == ".png" else "svg", dpi=150)
    content = drawn.getvalue()
    if kind == ".html":
        svg = content.decode()
        head = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>'
        content = f"{head}<body>{svg[svg.index('<svg') :]}</body></html>".encode()
    try:
        path.write_bytes(content)
    except OSError as error:
        raise VarioError(f"{path} cannot be written: {error.strerror}") from error
