"""Problems of papers with known answers: the scripts reproduce them, and vario says what it can know."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.diagnosis.known import FEATURES, KNOWN, Known
from vario.nouns import Diagnosis
from vario.record import open_run
from vario.rules import diagnose

SCRIPTS = Path(__file__).parent.parent / "bench" / "diagnosis" / "known_answers"


def printed(text: str) -> dict[str, float]:
    """The last figure of each name, of lines "name: figure"."""
    pairs = (line.rsplit(": ", 1) for line in text.splitlines() if ": " in line)
    return {name: float(value) for name, value in pairs}


def script(program: str, flags: str, *before: str, home: Path | None = None) -> dict[str, float]:
    command = [sys.executable, *before, str(SCRIPTS / f"{program}.py"), *flags.split()]
    more = {"OMP_NUM_THREADS": "1"} | ({} if home is None else {"VARIO_HOME": str(home)})
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=900, env=os.environ | more
    )
    assert done.returncode == 0, done.stderr
    return printed(done.stdout)


def trained(known: Known, home: Path) -> tuple[dict[str, float], Diagnosis, Path]:
    found = script(known.program, known.flags, "-m", "vario", "run", "--quiet", home=home)
    (record,) = home.rglob("record.sqlite")
    with open_run(record.parent) as run:
        return found, diagnose(run), record.parent


def wrong(known: Known, figures: dict[str, float], told: Diagnosis) -> list[str]:
    """What is not as it is known to be."""
    off = [
        f"{name} is {figures[name]}, known to lie in {low} to {high}"
        for name, (low, high) in known.figures.items()
        if not low - 1e-6 <= figures[name] <= high + 1e-6
    ]
    ids = [finding.id for finding in told.findings]
    loud = [finding.id for finding in told.findings if finding.severity != "advice"]
    if known.says and (not ids or ids[0] not in known.says):
        off.append(f"{known.says} should come first of {ids}")
    off += [f"{one} is not told" for one in known.tells if one not in ids]
    off += [f"{one} is told" for one in loud if known.silent or one in known.never]
    off += [f"{one} should not be knowable" for one in known.cannot if one not in told.not_applicable]
    return off + [why for why in told.not_applicable.values() if why.startswith("failed")]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("known", [k for k in KNOWN if k.quick], ids=lambda known: known.name)
def test_what_is_known_is_found(known: Known, tmp_path: Path) -> None:
    figures, told, _ = trained(known, tmp_path)
    assert not wrong(known, figures, told)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("known", [k for k in KNOWN if not k.quick], ids=lambda known: known.name)
def test_what_is_known_is_found_in_longer_runs(known: Known, tmp_path: Path) -> None:
    figures, told, _ = trained(known, tmp_path)
    assert not wrong(known, figures, told)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_noise_scale_that_is_recorded_is_that_of_the_closed_form(tmp_path: Path) -> None:
    """P229, accept: within a tenth, of weights that stay where they are."""
    still = Known("P229", "structured_features", "--batch 512 --lr 1e-12 --steps 4000")
    *_, path = trained(still, tmp_path)
    with open_run(path) as run:
        signal, noise = (run.main.series(f"gradient_noise/{part}")[1] for part in ("signal", "noise"))
    assert noise.mean() / signal.mean() == pytest.approx(FEATURES.truth["noise_scale"], rel=0.1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_both_cures_of_rare_classes_win_five_points() -> None:
    """P086, accept."""
    plain, balanced = (script("rare_digits", flags) for flags in ("", "--sampler balanced"))
    assert plain["balanced accuracy over the prior"] >= plain["balanced accuracy"] + 0.05
    assert balanced["balanced accuracy"] >= plain["balanced accuracy"] + 0.05


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_memorization_tells_wrong_labels() -> None:
    """P070, accept: AUROC > .8, and three times the score of clean labels."""
    found = script("flipped_digits", "--models 60")
    assert found["AUROC of memorization"] > 0.8 and found["memorization, flipped over clean"] > 3


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "flags",
    [
        [f"--temperature {t}" for t in (1, 2, 4, 8)],
        [f"--temperature 4 --examples {n}" for n in (250, 500, 1000, 2000)],
    ],
)
def test_signal_and_time_of_a_perceptron_are_power_laws(flags: list[str]) -> None:
    """P028, accept: of the temperature and of the examples, R^2 > .95 of the logarithms."""
    found = [script("perceptron", one) for one in flags]
    for quantity in ("signal", "time"):
        logs = np.log([one[quantity] for one in found])
        assert np.corrcoef(np.arange(4), logs)[0, 1] ** 2 > 0.95 and logs[-1] > logs[0]
