"""The command line of measurements on demand: what is too dear for every run, asked for by name."""

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from vario.nouns import VarioError

__all__ = ["measure"]

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": True}
DIMENSION = "intrinsic-dimension"
TABLES = (".npy", ".npz", ".csv", ".pt", ".safetensors")


def measure(
    context: typer.Context,
    target: Annotated[
        str, typer.Argument(help="A script, the run whose command is run again, or a data file.")
    ],
    what: Annotated[
        str,
        typer.Argument(
            help="curvature, density, kernel, spectra, conflict (several: joined by +), intrinsic-dimension."
        ),
    ],
    steps: Annotated[
        str, typer.Option(help="Optimizer steps at which to measure, such as 10,100,1000.")
    ] = "",
    share: Annotated[
        str, typer.Option(help="Instead of steps: as often as costs this share of the run's time, e.g. 5%.")
    ] = "",
    score: Annotated[
        str, typer.Option(help="For intrinsic-dimension of a script: the series that says how good a run is.")
    ] = "",
    home: Annotated[
        Path | None, typer.Option(help="Where records go (default: $VARIO_HOME or ./.vario).")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False,
) -> None:
    """Measure what costs many steps: vario measure train.py curvature --steps 10,100 -- --lr 0.1"""
    if what == DIMENSION and Path(target).suffix in TABLES:
        from vario.measuring import data_dimension

        found = data_dimension(Path(target))
    elif what == DIMENSION:
        from vario.measuring import objective_dimension

        found = objective_dimension(_command(target, context.args, home), home=home, score=score)
    else:
        from vario.measuring import in_run

        found = in_run(
            _command(target, context.args, home), what.split("+"), steps=_steps(steps), share=share, home=home
        )
    typer.echo(json.dumps(found, indent=2) if as_json else _text(found))
    if found.get("code"):
        raise typer.Exit(int(found["code"]))


def _command(target: str, arguments: list[str], home: Path | None) -> list[str]:
    """The command to run: a script or program with its arguments, or what an earlier run was started with."""
    if os.path.exists(target) and not os.path.isdir(target):
        return [target, *arguments]
    from vario.record.reader import open_run
    from vario.record.runs import find_run

    if target.endswith(".py"):
        raise VarioError(f"there is no script {target} here; name a script, a run or a data file.")
    with open_run(find_run(target, home)) as run:
        command = [str(word) for word in run.meta.get("command", ())]
    if not command:
        raise VarioError(f"run {target} does not say what command it was; name the script instead.")
    return [*command, *arguments]


def _steps(text: str) -> tuple[int, ...]:
    try:
        found = tuple(sorted({int(part) for part in text.split(",") if part.strip()}))
    except ValueError:
        raise VarioError(f"--steps {text}: write numbers of optimizer steps, such as 10,100,1000.") from None
    if any(step < 1 for step in found):
        raise VarioError(
            f"--steps {text}: 1 is the first that can be measured, the step after the first one."
        )
    return found


def _text(found: dict[str, Any]) -> str:
    """One line a value; the reasons of what could not be measured at the end."""
    lines = [str(found["title"])] if found.get("title") else []
    for row in found.get("rows", ()):
        name = f"{row['series']} {row['where']}".strip()
        step = f"step {row['step']}" if "step" in row else ""
        low, high = row.get("low"), row.get("high")
        between = f"   [{low:.5g}, {high:.5g}]" if low is not None and high is not None else ""
        value = row["value"]
        shown = " ".join(f"{v:.4g}" for v in value) if isinstance(value, list) else f"{value:.5g}"
        lines.append(f"  {step:>10}  {name:44} {shown}{between}")
    lines += [f"  not measured: {row['need']}: {row['reason']}" for row in found.get("refused", ())]
    return "\n".join([*lines, *found.get("notes", ())])
