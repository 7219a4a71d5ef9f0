"""The command line of the dashboard: which runs, which port, and whether a browser is opened."""

from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

__all__ = ["open_"]


def open_(
    place: Annotated[
        str,
        typer.Argument(
            metavar="[RUN|DIR]",
            help="A run (id, prefix, path or 'last'), a directory of runs, a trial, or a fit.",
        ),
    ] = "",
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Listen here (default: the first free from 7333 on).")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open a browser.")] = True,
) -> None:
    """Show runs in a dashboard on 127.0.0.1, live while they train, until Ctrl-C."""
    from vario.ui.serve import serve

    home, fragment = _meant(place)
    serve(home, port=port, fragment=fragment, browser=browser, say=_say)
    typer.echo("vario: the dashboard has ended", err=True)


def _say(address: str) -> None:
    typer.echo(f"vario: {address}")
    typer.echo("vario: Ctrl-C ends it", err=True)


def _meant(place: str) -> tuple[Path, str]:
    """The directory of runs that `place` means, and the part of the page to begin with."""
    from vario.record.runs import find_run
    from vario.record.runs import home as default_home
    from vario.record.schema import FILE_NAME
    from vario.trials.result import FILE as TRIAL

    if not place:
        return default_home().resolve(), ""
    given = Path(place).expanduser()
    if given.suffix == ".json" and given.is_file():
        return _of_plan(given.resolve())
    if (given / TRIAL).is_file() and given.resolve().parent.name == "trials":
        return given.resolve().parent.parent, f"#/trial/{quote(given.resolve().name)}"
    if given.is_dir() and not (given / FILE_NAME).exists():
        return given.resolve(), ""
    run = find_run(place).resolve()
    return run.parent, f"#/run/{quote(run.name)}"


def _of_plan(path: Path) -> tuple[Path, str]:
    """The home beside which a kept fit lies, and its page."""
    from vario.nouns import VarioError
    from vario.ui.plans import plan_paths

    for home in (path.parent / ".vario", path.parent.parent, path.parent):
        found = next((id for id, other in plan_paths(home).items() if other.resolve() == path), None)
        if found is not None and home.is_dir():
            return home, f"#/plan/{quote(found)}"
    raise VarioError(f"{path} is no fit that `vario plan fit -o` kept. Name a run, a directory, or a fit.")
