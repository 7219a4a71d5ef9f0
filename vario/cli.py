"""The command line: arguments to verbs. Each verb imports what it needs when it is called."""

import io
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from vario.cli_measure import PASS_ON as MEASURE_WORDS
from vario.cli_measure import measure
from vario.cli_open import open_
from vario.cli_plan import app as plan
from vario.cli_trial import PASS_ON as TRIAL_WORDS
from vario.cli_trial import trial
from vario.nouns import VarioError

# no `from __future__ import annotations` here: typer would evaluate each of them four times per start
app = typer.Typer(
    name="vario",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help starts twice as fast
    help="Watch a PyTorch training run, learn what is wrong with it, and try what should help.",
    epilog="Start with:  vario run train.py   or   vario demo",
)

RunReference = Annotated[
    str, typer.Argument(metavar="[RUN]", help="An id, a unique prefix, a path, or 'last'.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]
Home = Annotated[
    Path | None, typer.Option("--home", help="Where records are (default: $VARIO_HOME or ./.vario).")
]
PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}


def main() -> None:
    """Run the command line; a mistake of the user ends in one clear line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):  # titles hold more than the terminal's encoding may know
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except VarioError as error:
        print(f"vario: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except BrokenPipeError:
        sys.stderr.close()
        raise SystemExit(141) from None


@app.command("run", context_settings=PASS_ON)
def run_(
    context: typer.Context,
    command: Annotated[str, typer.Argument(help="A Python script, or any command.")],
    overhead: Annotated[str, typer.Option(help="Share of step time that watching may cost.")] = "3%",
    metric: Annotated[
        list[str] | None,
        typer.Option(help="NAME=REGEX: record the number that the regex's first group finds on stdout."),
    ] = None,
    home: Home = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No lines of vario's own.")] = False,
    live: Annotated[bool, typer.Option("--live", help="Tell what is found while it still runs.")] = False,
    keep_examples: Annotated[
        int,
        typer.Option(
            help="Of how many of the worst examples to keep a small picture, or words, in the record."
        ),
    ] = 0,
) -> None:
    """Run a training script or command, unchanged, and watch it: vario run train.py --lr 0.1"""
    from vario.running import run

    arguments = [command, *context.args]
    code = run(
        arguments,
        home=home,
        overhead=overhead,
        metrics=metric or [],
        quiet=quiet,
        live=live,
        keep_examples=keep_examples,
    )
    raise typer.Exit(code)


@app.command()
def findings(run: RunReference = "last", home: Home = None, as_json: AsJson = False) -> None:
    """What is wrong with a run, most important first."""
    from vario.report.json import findings_json
    from vario.report.text import findings_text

    opened, diagnosis, prescriptions = _examined(run, home)
    if as_json:
        print(findings_json(opened, diagnosis, prescriptions))
    else:
        print(findings_text(opened, diagnosis, prescriptions))


@app.command()
def report(
    run: RunReference = "last",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to write it.")] = None,
    browser: Annotated[bool, typer.Option("--open", help="Open it in a browser.")] = False,
    home: Home = None,
) -> None:
    """Write one self-contained HTML page about a run, or about a trial by its id."""
    target = _trial_page(run, out, home)
    if target is None:
        from vario.record.reader import open_run
        from vario.record.runs import find_run
        from vario.report.html import write_report

        opened = open_run(find_run(run, home))
        target = write_report(opened, out or Path(opened.path) / "report.html")
    print(target)
    if browser:
        import webbrowser

        webbrowser.open(target.resolve().as_uri())


@app.command()
def explain(
    name: Annotated[str, typer.Argument(help="The id of a finding, a method, an instrument or a law.")],
) -> None:
    """What a finding, method, instrument or law means, how it is decided, and its paper."""
    from vario.remedies.catalog import find
    from vario.report.catalogue import explanation

    print(explanation(find(name)))


@app.command()
def methods(
    words: Annotated[list[str] | None, typer.Argument(help="Plain words, or the id of a finding.")] = None,
    slot: Annotated[
        str, typer.Option(help="Only methods of this slot: optimizer, schedule, sampler, ...")
    ] = "",
    as_json: AsJson = False,
) -> None:
    """The catalogue of methods; search by need: vario methods noisy labels"""
    from vario.report.catalogue import method_rows, method_table

    rows = method_rows(" ".join(words or []), slot=slot)
    print(_json(rows) if as_json else method_table(rows))


@app.command()
def papers(
    words: Annotated[list[str] | None, typer.Argument(help="Only papers with these words.")] = None,
    as_json: AsJson = False,
) -> None:
    """All papers that vario draws on: which is implemented where, and which is not."""
    from vario.report.catalogue import paper_rows, paper_table

    rows = paper_rows(" ".join(words or []))
    print(_json(rows) if as_json else paper_table(rows))


@app.command()
def runs(
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """The recorded runs, newest first."""
    from vario.record.runs import home as default_home
    from vario.record.runs import list_runs
    from vario.report.runs import runs_rows, runs_text

    listed = list_runs(home or default_home())[::-1]
    print(_json(runs_rows(listed)) if as_json else runs_text(listed))


@app.command()
def export(
    run: RunReference = "last",
    to: Annotated[str, typer.Option(help="parquet, csv or tensorboard.")] = "csv",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Where to write it.")] = None,
    home: Home = None,
) -> None:
    """Write a run's series for other tools."""
    from vario.record.export import export as write
    from vario.record.reader import open_run
    from vario.record.runs import find_run

    opened = open_run(find_run(run, home))
    written = write(opened, to, out)  # type: ignore[arg-type]
    print(written.path)
    for name in written.left_out:
        print(f"left out: {name}", file=sys.stderr)


@app.command()
def demo(
    home: Home = None,
    fault: Annotated[
        str, typer.Option(help="The planted fault: learning-rate, no-zero-grad, double-softmax or none.")
    ] = "learning-rate",
) -> None:
    """The whole loop on real handwritten digits with a planted fault, in about a minute."""
    from vario.demo import demonstrate

    raise typer.Exit(demonstrate(fault, home=home))


app.command("open")(open_)
app.command("measure", context_settings=MEASURE_WORDS)(measure)
app.add_typer(plan, name="plan")
app.command("trial", context_settings=TRIAL_WORDS)(trial)


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from vario import __version__

        print(__version__)
        raise typer.Exit


def _trial_page(reference: str, out: Path | None, home: Path | None) -> Path | None:
    """The page of the trial of this id or path; None where there is none of it."""
    from vario.record.runs import home as default_home
    from vario.report.trial_html import write_trial
    from vario.trials.result import find_trial, open_trial

    if reference == "last":  # the last run
        return None
    try:
        place = find_trial(reference, home or default_home())
    except VarioError:
        return None
    return write_trial(open_trial(place), out or place / "report.html")


def _examined(reference: str, home: Path | None) -> tuple[Any, Any, Any]:
    """A run, its diagnosis, and what is prescribed for each of its findings."""
    from vario.record.reader import open_run
    from vario.record.runs import find_run
    from vario.remedies.prescribe import prescribe_all
    from vario.rules._diagnose import diagnose

    opened = open_run(find_run(reference, home))
    diagnosis = diagnose(opened)
    return opened, diagnosis, prescribe_all(diagnosis, opened)


def _json(rows: Any) -> str:
    return json.dumps(rows, indent=2, ensure_ascii=False)
