"""Runs one peer package on the held-out splits; started by ``bench/plan.py --peers PYTHON`` with that Python.

    python plan_peers.py simple-scaling-laws|chinchilla < splits.json > answers.json

Each answer has the forecasts of the held-out rows, an interval where the package gives one, and the
CPU seconds of its fit. Nothing of vario is imported: the interpreter may have nothing but the peer.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from typing import Any


def simple_scaling_laws(split: dict[str, Any]) -> dict[str, Any]:
    """Its default law and intervals for a new run, as its documentation has it."""
    import polars
    import simple_scaling_laws as peer

    columns = {
        "training_run_id": [f"run{i}" for i in range(len(split["N"]))],
        "model_size__n_params": split["N"],
        "dataset_size__n_tokens": split["D"],
        "test_loss__ce": split["loss"],
    }
    model = peer.fit(polars.DataFrame(columns), n_draws=200, seed=0)
    points = {"model_size__n_params": split["held_N"], "dataset_size__n_tokens": split["held_D"]}
    said = model.predict(polars.DataFrame(points), kind="new-run")
    middle = model.predict(polars.DataFrame(points), kind="mean")["test_loss__ce__median"]
    low, high = said["test_loss__ce__q025"], said["test_loss__ce__q975"]
    return {"value": middle.to_list(), "low": low.to_list(), "high": high.to_list()}


def chinchilla(split: dict[str, Any]) -> dict[str, Any]:
    """Its documented fit of five constants from a grid of starts (3 values each, as in our study)."""
    import numpy as np
    from chinchilla import Chinchilla

    grid = {
        "e": np.linspace(-0.5, 1.0, 3),
        "a": np.linspace(3.0, 12.0, 3),
        "b": np.linspace(3.0, 12.0, 3),
        "alpha": np.linspace(0.2, 0.6, 3),
        "beta": np.linspace(0.2, 0.6, 3),
    }
    with tempfile.TemporaryDirectory() as folder:
        peer = Chinchilla(folder, param_grid=grid, log_level=50)
        for n, d, loss in zip(split["N"], split["D"], split["loss"], strict=True):
            peer.database.append(C=6 * n * d, N=n, D=d, loss=loss)
        peer.fit(parallel=False)
        value = [
            float(peer.E + peer.A / n**peer.alpha + peer.B / d**peer.beta)
            for n, d in zip(split["held_N"], split["held_D"], strict=True)
        ]
    return {"value": value, "low": None, "high": None}


PEERS = {"simple-scaling-laws": simple_scaling_laws, "chinchilla": chinchilla}


def main(name: str) -> None:
    """Answer every split that comes in on stdin, on stdout; a split that the peer refuses says why."""
    answers = []
    stdout, sys.stdout = sys.stdout, sys.stderr  # what a peer prints is not an answer
    for split in json.load(sys.stdin):
        start = time.process_time()
        try:
            answers.append(PEERS[name](split))
        except ImportError:
            raise
        except Exception as error:  # noqa: BLE001 - a peer may fail in any way; the reason is printed
            answers.append({"failed": f"{type(error).__name__}: {error}"})
        answers[-1]["seconds"] = time.process_time() - start
    json.dump(answers, stdout)


if __name__ == "__main__":
    main(sys.argv[1])
