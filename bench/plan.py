"""Measures the numbers that planning is held to: speed on one thread, published fits, held-out runs, peers.

OMP_NUM_THREADS=1 python bench/plan.py [FOLDER of published tables] [--peers PYTHON]; simple-scaling-laws
(needs Python 3.12) and chinchilla run in the interpreter named; it says so and skips one that is not there.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.laws.tables import chinchilla, table
from vario.laws._compare import choose, insist
from vario.laws._newton import minimise
from vario.laws._uncertainty import interval, uncertainty
from vario.laws.fit import fit
from vario.laws.isoflop import frontier
from vario.laws.repeated_sampling import coverage
from vario.laws.two_term import TWO_TERM

Split = tuple[str, np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def timed(what: str, limit: float, call: Callable[[], object]) -> None:
    """Best CPU time of three calls against its limit."""
    seconds = []
    for _ in range(3):
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    print(
        f"{what:52s} {min(seconds):7.3f} s   limit {limit:g} s   "
        f"{'ok' if min(seconds) <= limit else 'MISSED'}"
    )


def speed() -> None:
    """The speed targets, and how far the bootstrap's refits are from their optima."""
    x, loss = chinchilla()
    done = fit(TWO_TERM, x, loss)
    print(
        f"chinchilla, n = {len(loss)}: objective {done.objective:.13f}; {done.agreeing} of "
        f"{done.tried} starts agree"
    )
    print(f"  {', '.join(f'{k} {v[0]:.5g}' for k, v in TWO_TERM.derived(done.theta[None]).items())}")
    weights = np.random.default_rng(0).multinomial(240, np.full(240, 1 / 240), size=4000).astype(float)
    timed("125 starts", 0.3, lambda: fit(TWO_TERM, x, loss))
    timed("4000 bootstraps", 1.0, lambda: done.refit(weights=weights))
    _, quick = done.refit(weights=weights)
    centred, start = done.x - done.centre[:, None], np.repeat(done.centred[None], 4000, axis=0) + 0.02
    _, slow = minimise(
        lambda t: TWO_TERM.evaluate(t, centred), start, done.y - done.level, weights=weights, delta=1e-3,
        rounds=500, tolerance=1e-13,
    )  # fmt: skip
    print(
        f"  largest excess objective {(quick - np.minimum(slow, quick)).max():.2e} (relative "
        f"{(quick / np.minimum(slow, quick) - 1).max():.2e})"
    )
    runs = table("porian_rw_isoflop_points.csv")
    groups = list(configurations(runs).values())
    again = [(i, groups[i % len(groups)]) for i in range(15)]  # fifteen were published; the table has ten
    timed(
        f"15 isoflop configurations ({len(groups)} differ) x 1000 draws", 5.0,
        lambda: [
            frontier(runs["flops"][k], runs["params"][k], runs["loss"][k], seed=i) for i, k in again
        ],
    )  # fmt: skip
    counts = np.random.default_rng(0).integers(0, 10_001, 1_000_000).astype(float)
    timed(
        "pass@k of a million counts",
        1.0,
        lambda: coverage(counts, 10_000, np.array([1.0, 10.0, 100.0, 1000.0])),
    )


def configurations(runs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows of each configuration of the isoflop table."""
    names = np.array(
        [
            "/".join(t)
            for t in zip(
                *(runs[k] for k in ("hparams", "warmup", "decay", "param_count", "split")), strict=True
            )
        ]
    )
    return {name: names == name for name in np.unique(names)}


def splits() -> list[Split]:
    """(name, N, D, loss, held out) for every table with N, D and loss: the largest runs are held out."""
    x, loss = chinchilla()
    size = x["N"] * x["D"]
    found: list[Split] = [("chinchilla", x["N"], x["D"], loss, size >= np.quantile(size, 0.9))]
    runs = table("porian_rw_isoflop_points.csv")
    for name, k in configurations(runs).items():
        c = runs["flops"][k]
        found.append((name, runs["params"][k], runs["tokens"][k], runs["loss"][k], c == c.max()))
    over = table("overtrain_rpj.csv")
    found += [
        (f"redpajama {c}", over["params"], over["tokens"], over[c], over["params"] > 1e9)
        for c in ("loss_c4_val", "loss_openlm")
    ]
    step = table("steplaw_dense.csv")
    cells, back = np.unique(np.stack([step["N"], step["D"]], axis=1), axis=0, return_inverse=True)
    best = np.array([step["smooth_loss"][back.reshape(-1) == i].min() for i in range(len(cells))])
    size = cells.prod(axis=1)
    found.append(("step law, best of each cell", cells[:, 0], cells[:, 1], best, size >= np.sort(size)[-3]))
    again = table("repetition.csv")
    fresh = again["tokens"] <= again["unique_tokens"] * 1.001
    n, d, loss = again["params"][fresh], again["tokens"][fresh], again["loss"][fresh]
    found.append(("repetition, fresh tokens only", n, d, loss, n * d >= np.quantile(n * d, 0.9)))
    return found


def held_out() -> None:
    """Error, coverage and width of the held-out runs: two-term on all rows, and `--law auto`."""
    for label in ("two-term, all rows, delta 1e-3", "auto"):
        errors, covers, widths = [], [], []
        print(f"\nheld-out largest runs: {label}")
        for name, n, d, loss, held in splits():
            x, y = {"N": n[~held], "D": d[~held]}, loss[~held]
            choice = choose(x, y) if label == "auto" else insist(TWO_TERM, x, y)
            if choice.done is None:
                print(f"  {name:44s} refused: {choice.best.refused}")
                continue
            done = choice.done
            known = uncertainty(done, draws=300, rivals=choice.rivals)
            value, low, high = interval(done.law, done.theta, known, {"N": n[held], "D": d[held]})
            errors.append(100 * np.abs(value / loss[held] - 1).mean())
            covers.append(((low <= loss[held]) & (loss[held] <= high)).mean())
            widths.append(100 * np.median((high - low) / value))
            print(
                f"  {name:44s} error {errors[-1]:5.2f} %  covered {covers[-1]:.2f}  width {widths[-1]:5.1f} %"
            )
        print(
            f"  median error {np.median(errors):.2f} %, mean {np.mean(errors):.2f} %, covered "
            f"{np.mean(covers):.3f}, median width {np.median(widths):.1f} %"
        )


def peers(python: str) -> None:
    """The plain rival, log-linear least squares without a floor, and two packages on the same splits."""
    errors = []
    for _, n, d, loss, held in splits():
        lines = np.stack([np.ones_like(n), np.log(n), np.log(d)], axis=1)
        answer = np.linalg.lstsq(lines[~held], np.log(loss[~held]), rcond=None)[0]
        errors.append(100 * np.abs(np.exp(lines[held] @ answer) / loss[held] - 1).mean())
    print(f"\nlog-linear least squares: median error {np.median(errors):.2f} %, mean {np.mean(errors):.2f} %")
    asked = json.dumps(
        [
            {"N": n[~held].tolist(), "D": d[~held].tolist(), "loss": loss[~held].tolist(),
             "held_N": n[held].tolist(), "held_D": d[held].tolist()}
            for _, n, d, loss, held in splits()
        ]
    )  # fmt: skip
    if shutil.which(python) is None:
        print(f"peers: skipped, there is no {python}")
        return
    for name in ("simple-scaling-laws", "chinchilla"):
        script = Path(__file__).with_name("plan_peers.py")
        ran = subprocess.run([python, script, name], input=asked, capture_output=True, text=True, check=False)
        if ran.returncode:
            reason = ran.stderr.strip().splitlines()[-1:] or ["no reason"]
            print(f"{name}: skipped, {python} cannot run it ({reason[0]}); --peers PYTHON names one that can")
            continue
        peer(name, json.loads(ran.stdout))


def peer(name: str, answers: list[dict[str, Any]]) -> None:
    """Error, coverage, width and time of one package on the splits that it did not refuse."""
    errors, covers, widths = [], [], []
    for (split, _, _, loss, held), said in zip(splits(), answers, strict=True):
        if "failed" in said:
            print(f"  {name}, {split}: {said['failed']}")
            continue
        value, truth = np.array(said["value"]), loss[held]
        errors.append(100 * np.abs(value / truth - 1).mean())
        if said["low"] is not None:
            low, high = np.array(said["low"]), np.array(said["high"])
            covers.append(((low <= truth) & (truth <= high)).mean())
            widths.append(100 * np.median((high - low) / value))
    told = (
        f", covered {np.mean(covers):.3f}, median width {np.median(widths):.1f} %"
        if covers
        else ", no intervals"
    )
    print(
        f"{name}: median error {np.median(errors):.2f} %, mean {np.mean(errors):.2f} % on {len(errors)} "
        f"splits{told}; {np.median([one['seconds'] for one in answers]):.2f} CPU s a split"
    )


def import_time() -> None:
    """Seconds that `import vario.laws` and its fitter add to an interpreter."""
    code = (
        "import time; t = time.process_time(); import vario.laws, vario.laws.fit; "
        "print(time.process_time() - t)"
    )
    seconds = min(
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    )
    print(
        f"import of vario.laws and its fitter                   {seconds:7.3f} s   limit 0.3 s   "
        f"{'ok' if seconds <= 0.3 else 'MISSED'}"
    )


if __name__ == "__main__":
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folder", nargs="?", help="folder of published tables")
    options.add_argument("--peers", default=sys.executable, help="Python that has the peer packages")
    options.add_argument("--only-peers", action="store_true")
    chosen = options.parse_args()
    if chosen.folder:
        os.environ["VARIO_SCALING_DATA"] = chosen.folder
    if not chosen.only_peers:
        import_time()
        speed()
        held_out()
    peers(chosen.peers)
