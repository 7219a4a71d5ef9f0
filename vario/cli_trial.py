"""The command line of trials: what to try, how it is compared, and who runs it."""

import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vario.nouns import VarioError

__all__ = ["PASS_ON", "trial"]

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True}  # what is not ours is the script's
Many = list[str] | None


Script = Annotated[
    str, typer.Argument(metavar="[SCRIPT [ARGS]...]", help="The script, or any command, as for `vario run`.")
]
With = Annotated[
    Many, typer.Option("--with", help="METHOD[:key=value,...]; join several by +; may be repeated.")
]
Set = Annotated[Many, typer.Option("--set", help="A plain change, such as optimizer.lr=0.1.")]
FromFinding = Annotated[
    Many, typer.Option("--from-finding", help="RUN:1, the first prescription for a run's first finding.")
]
Auto = Annotated[str, typer.Option("--auto", metavar="RUN", help="What this run's own findings ask for.")]
Control = Annotated[
    str, typer.Option("--control", help="random: also a method drawn at random; none (--auto: random).")
]
Seeds = Annotated[int, typer.Option("--seeds", help="Pairs of runs at most.")]
MetricName = Annotated[
    str, typer.Option("--metric", help="A recorded series, or NAME=REGEX on the output (default: the loss).")
]
Higher = Annotated[
    bool | None,
    typer.Option(
        "--higher-is-better/--lower-is-better",
        help="Which way is better (default: as the name of the metric says).",
    ),
]
BudgetName = Annotated[str, typer.Option("--budget", help="Compare at equal steps, examples or time.")]
Minutes = Annotated[
    float | None, typer.Option("--minutes", help="End every run after so many, and judge what it has.")
]
Stall = Annotated[
    float, typer.Option("--stall", help="A run without step and output for so many minutes has hung.")
]
Tune = Annotated[
    Many, typer.Option("--tune", help="lr=0.03,0.1 or lr=x0.3,x1,x3: tried alike on every arm first.")
]
Margin = Annotated[
    float | None, typer.Option("--margin", help="The largest difference that does not matter to you.")
]
AllSeeds = Annotated[
    bool, typer.Option("--all-seeds", help="Run all pairs and look once: narrower, and no early end.")
]
Jobs = Annotated[int | None, typer.Option("--jobs", min=1, help="Runs at once (default: one per core).")]
RunnerName = Annotated[str, typer.Option("--runner", help="local, ray, or ray:ADDRESS.")]
Reopen = Annotated[str, typer.Option("--reopen", metavar="TRIAL", help="Show an earlier trial again.")]
Out = Annotated[Path | None, typer.Option("--out", help="Where the HTML page goes.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Also make runs again that are done.")]
Retry = Annotated[bool, typer.Option("--retry", help="Make runs again that failed.")]
Home = Annotated[
    Path | None, typer.Option("--home", help="Where records go (default: $VARIO_HOME or ./.vario).")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def trial(
    context: typer.Context,
    script: Script = "",
    with_: With = None,
    set_: Set = None,
    from_finding: FromFinding = None,
    auto: Auto = "",
    control: Control = "",
    seeds: Seeds = 10,
    metric: MetricName = "",
    higher: Higher = None,
    budget: BudgetName = "steps",
    minutes: Minutes = None,
    stall: Stall = 10.0,
    tune: Tune = None,
    margin: Margin = None,
    all_seeds: AllSeeds = False,
    jobs: Jobs = None,
    runner: RunnerName = "local",
    reopen: Reopen = "",
    out: Out = None,
    fresh: Fresh = False,
    retry: Retry = False,
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Does it help here? The script as it is against treatments: vario trial train.py --with sam

    Options that are not listed here are the script's; after -- all of them are. What has been run is not run
    again: a trial that was ended goes on where it was.
    """
    from vario.record.runs import home as default_home
    from vario.trials.asked import Asked

    place = home or default_home()
    if reopen:
        return _show(reopen, place, out, as_json)
    asked = Asked(
        [*([script] if script else []), *context.args], with_ or [], set_ or [], from_finding or [], auto,
        control, seeds, metric, higher, budget, minutes if minutes is not None else math.inf, stall,
        tune or [], 2, margin, all_seeds, fresh, retry,
    )  # fmt: skip
    made = _conducted(asked, runner, jobs, place, quiet=as_json)
    _print(made, out, as_json)
    return None


def _conducted(asked: Any, runner: str, jobs: int | None, home: Path, *, quiet: bool) -> Any:
    from vario.report.trial_live import watching
    from vario.trials.trial import conduct

    made = _runner(runner, jobs, asked.limits)
    with watching(sys.stderr) as tell:
        try:
            return conduct(asked, made, home=home, tell=tell)
        except KeyboardInterrupt:
            typer.echo("vario: ended; the same command goes on where this one stopped", err=True)
            raise typer.Exit(130) from None


def _runner(name: str, jobs: int | None, limits: Any) -> Any:
    kind, _, address = name.partition(":")
    if kind == "local" and not address:
        from vario.trials.local import LocalRunner

        return LocalRunner(jobs, limits=limits)
    if kind == "ray":
        from vario.trials.ray import RayRunner

        return RayRunner(address or None, jobs=jobs, limits=limits)
    raise VarioError(f"--runner {name}: write local, ray or ray:ADDRESS.")


def _show(reference: str, home: Path, out: Path | None, as_json: bool) -> None:
    from vario.trials.result import find_trial, open_trial

    _print(open_trial(find_trial(reference, home)), out, as_json)


def _print(made: Any, out: Path | None, as_json: bool) -> None:
    from vario.report.trial_html import write_trial
    from vario.report.trial_json import trial_json
    from vario.report.trial_text import trial_text

    typer.echo(trial_json(made) if as_json else trial_text(made))
    place = out or made.path / "report.html"
    try:
        page = write_trial(made, place)
    except OSError as error:
        raise VarioError(
            f"the page cannot be written to {place}: {error.strerror}. The trial is kept: "
            f"vario trial --reopen {made.id} --out FILE."
        ) from None
    if not as_json:
        typer.echo(f"  page: {page}")
