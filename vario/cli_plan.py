"""The command line of planning: from small runs to a forecast, a decision, and the next runs to do."""

import json
from collections.abc import Mapping
from math import isfinite
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Predict what a larger run will do, and how sure that is.")

Table = Annotated[
    Path,
    typer.Argument(
        help="A .csv, .json, .jsonl or .parquet file (or .gz), or a directory of vario's records."
    ),
]
ColumnsOption = Annotated[
    str,
    typer.Option(
        "--columns", help="NAME=COLUMN for every input and the output, e.g. N=params,D=tokens,loss=loss."
    ),
]
Where = Annotated[
    str | None, typer.Option("--where", help="Rows to keep, e.g. 'decay == \"short\" and N > 1e6'.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Chart = Annotated[Path | None, typer.Option("--chart", help="Also draw it: a .png, .svg or .html file.")]
KeepDuplicates = Annotated[
    bool, typer.Option("--keep-duplicates", help="Accept rows that are the same throughout.")
]
FitFile = Annotated[Path, typer.Argument(help="A file written by `vario plan fit -o`.")]


LEVEL = 0.1  # slope of a coordinate check that is as good as none
ENDLESS = "\0infinity"  # stands for a number that JSON cannot write
WIDE = 2.0  # high over low, beyond which a forecast says nothing that is worth a run


@app.command("fit")
def fit_(
    table: Table,
    columns: ColumnsOption = "",
    law: Annotated[
        str, typer.Option(help="A family; 'auto' takes what foretold the largest of these runs best.")
    ] = "auto",
    delta: Annotated[
        str, typer.Option(help="Width of the Huber loss: a number, auto, or inf (least squares).")
    ] = "1e-3",
    where: Where = None,
    bootstrap: Annotated[int, typer.Option(help="Refits for the intervals.")] = 1000,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    block: Annotated[
        str | None, typer.Option(help="Column that names the run of which a row is a checkpoint.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Keep the fit in this file.")] = None,
    chart: Chart = None,
    keep_duplicates: KeepDuplicates = False,
    lean: Annotated[
        float, typer.Option(help="Weigh a row by (product of its inputs)^LEAN; 0 weighs all alike.")
    ] = 0.0,
    best_only: Annotated[
        bool, typer.Option("--best", help="Of rows with the same inputs (a sweep) keep the lowest.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Fit a scaling law to runs, with intervals, cautions, or a refusal and its reason."""
    from vario.laws._answer import answer

    result = answer(
        _read(table), columns, law=law, delta=delta, where=where, bootstrap=bootstrap, seed=seed, block=block,
        keep_duplicates=keep_duplicates, lean=lean, best_only=best_only,
    )  # fmt: skip
    if out is not None:
        data = {name: column.tolist() for name, column in result.columns.items()}
        _write(out, _json({**result.shown, "plan": result.kept, "data": data}))
    if chart is not None and result.plan is not None:
        from vario.report.plan_charts import fit_chart

        fit_chart(result.plan, result.columns, chart)
    print(_json(result.shown) if as_json else _fit_text(result.shown))
    if not as_json and result.plan is not None:
        at = ",".join(f"{name}=..." for name in result.plan.law.inputs)
        kept = f"kept in {out}" if out else "-o fit.json keeps it"
        print(f"{kept}; next: vario plan predict {out or 'fit.json'} --at {at}, or vario plan design")


@app.command()
def predict(
    fit: FitFile,
    at: Annotated[str | None, typer.Option("--at", help="The new run, e.g. N=7e9,D=1.4e11.")] = None,
    compute: Annotated[
        float | None, typer.Option(help="Or a budget in FLOPs: the best N and D for it.")
    ] = None,
    chart: Chart = None,
    as_json: AsJson = False,
) -> None:
    """What a run would reach (--at), or the best run for a budget (--compute), with 95 % intervals."""
    from vario.laws._answer import load, numbers
    from vario.nouns import VarioError

    plan = load(fit)
    if (at is None) == (compute is None):
        raise VarioError("give one of --at N=...,D=... and --compute FLOPS")
    if compute is not None:
        try:
            best = plan.best(compute)
        except ValueError as error:
            raise VarioError(str(error)) from error
        print(_json(best) if as_json else _best_text(best))
        return
    inputs = numbers(at or "", plan.law)
    said = plan.at(inputs)
    if chart is not None:
        from vario.report.plan_charts import forecast_chart

        forecast_chart(plan, inputs, chart)
    print(_json(said) if as_json else _forecast_text(plan.law.output, said))


@app.command()
def compare(
    table: Table,
    columns: ColumnsOption = "",
    laws: Annotated[
        str, typer.Option(help="Families, separated by commas.")
    ] = "two-term,two-term-tied,coupled,kaplan",
    where: Where = None,
    keep_duplicates: KeepDuplicates = False,
    chart: Chart = None,
    as_json: AsJson = False,
) -> None:
    """Rank families by how well they would have forecast the largest of these runs from the smaller."""
    from dataclasses import asdict

    from vario.laws._answer import ranked

    found = ranked(_read(table), columns, laws.split(","), where=where, keep_duplicates=keep_duplicates)
    if chart is not None:
        from vario.report.plan_charts import compare_chart

        compare_chart(found, chart)
    if as_json:
        print(_json([asdict(one) for one in found]))
        return
    once = {(one.law, one.rows, one.refused or one.delta): one for one in found}
    for one in once.values():
        if one.refused:  # whatever the width of the loss
            print(f"{one.law:16s} rows {one.rows:12s} refused: {one.refused}")
            continue
        told = f"{100 * one.error:.2f} % off the {one.count} largest" if one.count else "too few to look back"
        print(f"{one.law:16s} rows {one.rows:12s} delta {one.delta}: {told}")


@app.command("table")
def table_(
    records: Annotated[Path, typer.Argument(help="A directory of vario's records, or one record.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write it to this .csv file.")] = None,
    as_json: AsJson = False,
) -> None:
    """The runs of a directory as the rows that `plan fit` reads: size, tokens, rate, loss, seconds."""
    import csv
    import io

    from vario.record.table import COLUMNS

    read = _read(records)
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in zip(*(read[n] for n in COLUMNS), strict=True)]
    if as_json:
        print(_json(rows))
        return
    page = io.StringIO()
    writer = csv.DictWriter(page, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if out is not None:
        _write(out, page.getvalue())
    print(f"{len(rows)} runs in {out}" if out is not None else page.getvalue().rstrip())


@app.command()
def design(
    fit: FitFile,
    target: Annotated[str, typer.Option("--target", help="The run to forecast, e.g. N=7e9,D=1.4e11.")],
    budget: Annotated[
        float, typer.Option(help="FLOPs for all new runs together; of a law of one input, as much of that.")
    ],
    runs: Annotated[int, typer.Option(help="At most this many.")] = 5,
    chart: Chart = None,
    as_json: AsJson = False,
) -> None:
    """Which small runs to do next to narrow one forecast most, for a budget."""
    from vario.laws._answer import load, numbers
    from vario.laws._design import next_runs, spread_now
    from vario.nouns import VarioError

    plan = load(fit)
    aim = numbers(target, plan.law)
    try:
        chosen = next_runs(plan, aim, budget, runs=runs)
    except ValueError as error:
        raise VarioError(str(error)) from error
    before = spread_now(plan, aim)
    if chart is not None:
        from vario.report.plan_charts import design_chart

        design_chart(plan, chosen, aim, chart)
    if as_json:
        print(_json({"spread_before": before, "runs": chosen}))
        return
    print(f"forecast's own spread now: {100 * before:.2f} % (one standard deviation, without a run's noise)")
    for one in chosen:
        inputs = ", ".join(f"{name} {value:.3g}" for name, value in one["inputs"].items())
        print(f"  {inputs}: {one['cost']:.3g} {one['unit']}, then {100 * one['spread_after']:.2f} %")
    if not chosen:
        print("  no run within this budget would narrow it")


@app.command()
def coverage(
    table: Table,
    at: Annotated[str, typer.Option("--at", help="Numbers of tries, separated by commas.")] = "1,10,100",
    columns: ColumnsOption = "",
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap over problems.")] = 0,
    as_json: AsJson = False,
) -> None:
    """What k tries at a problem are worth (pass@k), from rows with the columns samples and correct."""
    from vario.laws._answer import coverage_of

    told = coverage_of(_read(table), columns, at.split(","), seed=seed)
    if as_json:
        print(_json(told))
        return
    print(
        f"{told['problems']} problems, {told['samples']} samples each, {told['solved']} solved at least once"
    )
    for row in told["coverage"]:
        mark = "   beyond 30 times the samples: read it as a guess" if row["far"] else ""
        print(f"  k {row['k']:<10g} {row['value']:.4f}   95 % {row['low']:.4f} to {row['high']:.4f}{mark}")


@app.command()
def mup(
    model: Annotated[
        Path, typer.Argument(help="A Python file with a function make(width) that returns a model.")
    ],
    width: Annotated[int, typer.Option(help="Width to train at.")] = 256,
    base: Annotated[int, typer.Option(help="Width at which the learning rate was tuned.")] = 64,
    lr: Annotated[float, typer.Option(help="Learning rate that was best at the base width.")] = 1e-3,
    optimizer: Annotated[str, typer.Option(help="adam or sgd.")] = "adam",
    check: Annotated[
        bool, typer.Option("--check", help="Also run the coordinate check (needs make_batch(width)).")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Per-layer rates, init and multipliers that keep a tuned learning rate right at another width."""
    from vario.methods.transfer.mup import describe_file
    from vario.nouns import VarioError

    if width == base:
        raise VarioError(f"--width and --base are both {width}: nothing grows, so no rate changes")
    try:
        told = describe_file(model, width=width, base=base, lr=lr, optimizer=optimizer, check=check)
    except ValueError as error:
        raise VarioError(str(error)) from error
    if as_json:
        print(_json(told))
        return
    for row in told["parameters"]:
        print(
            f"{row['name']:40s} {row['kind']:9s} lr {row['lr']:.3g}  init std "
            f"{row['init_std']:.3g}"
            + (f" (is {row['init_std'] / row['rescale']:.3g})" if row["rescale"] != 1 else "")
            + f"  multiplier {row['multiplier']:.3g}"
            + (f"  (mup: lr {row['lr_by_mup']:.3g})" if told["mup_installed"] else "")
        )
    off = sum(row["rescale"] != 1 for row in told["parameters"])
    if off:
        print(
            f"  {off} weights of make({width}) start otherwise than muP asks: vario.methods.transfer."
            f"mup_groups(..., init=True) rescales them"
        )
    for row in told.get("coordinates", []):
        print(f"{row['module']:40s} slope of log change against log width {row['slope']:+.3f}")
    if told.get("coordinates"):
        print(_coordinates_text(told["coordinates"]))


def _coordinates_text(rows: list[dict[str, Any]]) -> str:
    far = [f"{row['module']} ({row['slope']:+.2f})" for row in rows if abs(row["slope"]) > LEVEL]
    if not far:
        return (
            f"  all slopes within {LEVEL:g} of 0: the net moves alike at every width, so one learning rate "
            f"serves all"
        )
    told = (
        f"  {', '.join(far)} more than {LEVEL:g} off 0: as the net grows these move otherwise under "
        f"one learning rate"
    )
    if rows[-1]["slope"] < -LEVEL and len(far) == 1:
        told += (
            ". Below 0 in the last layer alone is its init, which fades as the net grows: start that layer "
            "at zero to see how it learns"
        )
    return told


def _read(table: Path) -> Any:
    """A file as it is; the records of a directory as columns, also by the laws' own short names."""
    if not table.is_dir():
        return table
    import sys

    from vario.record.table import runs_table

    found, left_out = runs_table([table])
    for name, reason in left_out.items():
        print(f"vario: {name} is left out: {reason}", file=sys.stderr)
    short = {"N": "params", "D": "tokens", "B": "batch", "S": "steps"}
    named = {**found, **{name: found[long] for name, long in short.items()}}
    if (found["embedding"] > 0).all():  # otherwise nothing is left out of N
        named["N_body"] = found["params"] - found["embedding"]
    return named


def _write(path: Path, text: str) -> None:
    from vario.nouns import VarioError

    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise VarioError(f"{path} cannot be written: {error.strerror}") from error


def _json(value: Any) -> str:
    """JSON that every reader takes: null for what is not known, and 1e999, which reads as infinity."""
    text = json.dumps(_finite(value), allow_nan=False)
    return text.replace(json.dumps(ENDLESS), "1e999").replace(json.dumps("-" + ENDLESS), "-1e999")


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    if not isinstance(value, float) or isfinite(value):
        return value
    return None if value != value else "-" * (value < 0) + ENDLESS


def _fit_text(shown: dict[str, Any]) -> str:
    if shown["refused"]:
        return f"refused: {shown['refused']}"
    lines = [
        f"{shown['law']} on {shown['n']} rows, delta {shown['delta']:.3g}: objective "
        f"{shown['objective']:.9g} "
        f"({shown['starts']['agreeing']} of {shown['starts']['tried']} starts agree)"
    ]
    for name, number in {**shown["parameters"], **shown["derived"]}.items():
        sure = f"95 % {number['low']:.4g} to {number['high']:.4g}"
        if number["low"] == number["high"]:
            sure = "by the form of this law, whatever the runs"
        lines.append(f"  {name:22s} {number['value']:12.6g}   {sure}")
    lines += [
        f"  at delta {one['delta']:.3g} the objective is {one['objective']:.6g}"
        for one in shown["neighbours"]
    ]
    if shown.get("frontier"):
        number = shown["frontier"]["n_exponent"]
        lines.append(
            f"  {len(shown['frontier']['budgets'])} budgets by themselves: n_exponent "
            f"{number['value']:.4g}   95 % {number['low']:.4g} to {number['high']:.4g}"
        )
    return "\n".join(lines + [f"{one['id']}: {one['text']}" for one in shown["warnings"]])


def _forecast_text(output: str, said: dict[str, float]) -> str:
    far = (
        f"{said['decades']:.2f} decades beyond the runs"
        if said["decades"] > 0
        else "within the measured range"
    )
    told = f"{output} {said['value']:.4g}, 95 % {said['low']:.4g} to {said['high']:.4g}; {far}"
    if not said["high"] < WIDE * said["low"]:
        told += ". So wide an interval means that these runs do not tell: add larger ones, or ask nearer by"
    return told


def _best_text(best: dict[str, Any]) -> str:
    lines = [f"for {best['compute']:.3g} FLOPs, {best['decades']:.2f} decades beyond the runs:"]
    for name in ("N", "D", "tokens_per_parameter", "loss"):
        number = best[name]
        lines.append(f"  {name:22s} {number['value']:.4g}   95 % {number['low']:.4g} to {number['high']:.4g}")
    return "\n".join(
        [*lines, f"  if N is off by one standard deviation the loss rises by {100 * best['regret']:.3g} %"]
    )
