"""Synthetic runs on disk, for tests of what is shown: a sick one, a healthy one, and the edge cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from vario.nouns import Diagnosis, Evidence, Finding, Prescription, Reading
from vario.record import Run, open_run
from vario.record.store import RecordWriter

LAYERS = tuple(f"{name}.{kind}" for name in ("conv1", "conv2", "fc1", "fc2") for kind in ("weight", "bias"))
SHAPES = {"conv1": [16, 1, 3, 3], "conv2": [32, 16, 3, 3], "fc1": [128, 1568], "fc2": [10, 128]}


def sick_run(path: Path, *, steps: int = 400, layers: tuple[str, ...] = LAYERS, seed: int = 0) -> Run:
    """A conv net on digits whose learning rate of 3 throws the weights about and kills its ReLUs."""
    return _write(path, lr=3.0, steps=steps, layers=layers, seed=seed, sick=True)


def healthy_run(path: Path, *, steps: int = 400, layers: tuple[str, ...] = LAYERS, seed: int = 0) -> Run:
    """The same net with a learning rate of 0.05, evaluated every 50 steps."""
    return _write(path, lr=0.05, steps=steps, layers=layers, seed=seed, sick=False)


def empty_run(path: Path) -> Run:
    """A script that raised before its first step."""
    writer = RecordWriter(path)
    writer.meta("command", ["python", "train.py"])
    writer.event("", -1, "exit", data={"code": 1, "error": "FileNotFoundError: no such file: data.csv"})
    writer.close()
    return open_run(path)


def sick_diagnosis() -> Diagnosis:
    """What is wrong with the sick run, said here: these tests are about telling, not about deciding."""
    rate = Finding(
        "learning-rate-too-high", "error", 0.96, (), (0, 399),
        (
            Evidence("largest update ratio, median of three", 0.52, 0.52, 0.52, 0.1),
            Evidence("loss at the end", 2.32, 2.31, 2.33, 77.0),
            Evidence("learning rate", 3.0, 3.0, 3.0, 0.0573),
        ),
        stream="model",
    )  # fmt: skip
    dead = Finding(
        "dead-units", "warning", 0.9, ("conv1", "conv2"), (12, 399),
        (Evidence("share of dead units", 0.875, 0.8, 0.93, 0.5, "conv1"),),
        explained_by="learning-rate-too-high", stream="model",
    )  # fmt: skip
    batch = Finding("batch-too-small", "advice", 0.7, (), (200, 399), (), stream="model")
    unknown = {"overfitting": "no evaluation was seen", "memorization": "no evaluation was seen"}
    return Diagnosis((rate, batch, dead), ("batch-too-small", "dead-units", "diverging"), unknown)


def cures_of(diagnosis: Diagnosis) -> dict[Finding, tuple[Prescription, ...]]:
    """One change with its command and one method that is only published, for every finding."""
    trial = "vario trial digits.py --lr 3.0 --batch 64 --set optimizer.lr=0.05"
    cures = (
        Prescription("lr 3 -> 0.05: the update is 52 % of the weight per step", trial=trial),
        Prescription("A paper of worth (not in vario yet)", paper="P248", available=False),
    )
    return {finding: cures for finding in diagnosis.findings}


def write_series(
    path: Path, series: dict[tuple[str, str], tuple[object, object]], *, stream: str = "model"
) -> Run:
    """A run of exactly these series: (name, where) to (steps, values)."""
    writer = RecordWriter(path)
    writer.meta("command", ["python", "train.py", "--lr", "3.0"])
    for (name, where), (steps, values) in series.items():
        for step, value in zip(steps, values, strict=True):  # type: ignore[call-overload]
            writer.readings(stream, int(step), [Reading(name, value, where)])
    writer.event("", -1, "exit", data={"code": 0})
    writer.close()
    return open_run(path)


def _write(path: Path, *, lr: float, steps: int, layers: tuple[str, ...], seed: int, sick: bool) -> Run:
    rng = np.random.default_rng(seed)
    writer = RecordWriter(path)
    writer.meta("command", ["python", "digits.py", "--lr", str(lr), "--batch", "64"])
    writer.meta("versions", {"vario": "0.1.0", "python": "3.11.7", "torch": "2.13.0"})
    writer.meta("hardware", {"cpu": "2 cores", "memory_gb": 24})
    _events(writer, layers, lr)
    for step in range(steps):
        writer.readings("model", step, _step(rng, step, steps, layers, lr, sick))
        if not sick and step % 50 == 49:
            share = step / steps
            writer.readings(
                "model",
                step,
                [
                    Reading("eval/loss", 0.25 + 2.0 * np.exp(-6 * share), "loader 1"),
                    Reading("eval/accuracy", 0.97 - 0.9 * np.exp(-6 * share), "loader 1"),
                ],
            )
    writer.event("", steps - 1, "exit", data={"code": 0})
    writer.close()
    return open_run(path)


def _step(
    rng: np.random.Generator, step: int, steps: int, layers: tuple[str, ...], lr: float, sick: bool
) -> list[Reading]:
    noise = rng.normal
    share = step / steps
    if sick:
        burst = 3e3 * np.exp(-0.5 * ((step - 6) / 2.5) ** 2)
        loss = 2.303 + abs(noise(0, 0.02)) + burst + (0.4 if step < 4 else 0)
        ratio = (0.6 * np.exp(-step / 12) + 0.015) * np.exp(noise(0, 0.2))
    else:
        loss = 0.12 + 2.2 * np.exp(-8 * share) * np.exp(noise(0, 0.12)) + abs(noise(0, 0.03))
        ratio = 0.004 * np.exp(-1.5 * share) * np.exp(noise(0, 0.2))
    readings = [
        Reading("loss/train", loss),
        Reading("hyper/lr", lr, "group 0"),
        Reading("hyper/momentum", 0.9, "group 0"),
        Reading("hyper/weight_decay", 0.0, "group 0"),
        Reading("update/ratio", ratio),
        Reading("time/step", 0.012 * np.exp(noise(0, 0.1))),
        Reading("time/data_wait", 0.001),
        Reading("time/own", 0.0002),
        Reading("batch/size", 64.0),
    ]
    if step % 4:
        return readings
    readings += [
        Reading(
            "accuracy/train", min(1.0, (0.11 if sick else 0.98 - 0.9 * np.exp(-8 * share)) + noise(0, 0.01))
        )
    ]
    readings += [Reading("batch/class_counts", rng.multinomial(64, np.full(10, 0.1)).astype(float))]
    readings += [Reading("input/mean", 0.13 + noise(0, 0.003)), Reading("input/std", 0.31 + noise(0, 0.003))]
    quantiles = np.sort(np.abs(rng.normal(loss, loss / 2, 11)))
    readings += [Reading("examples/loss_quantiles", quantiles)]
    worst = {"example": [4711.0, 12.0], "loss": [quantiles[-1], quantiles[-2]], "target": [3.0, 7.0]}
    worst |= {"guess": [5.0, 1.0], "probability": [0.002, 0.1]}
    readings += [Reading(f"worst/{name}", values, "loader 0") for name, values in worst.items()]
    total = 0.0
    for depth, name in enumerate(layers):
        level = 10 ** (-1.0 - 0.25 * depth) * (
            1e-3 if sick and step > 12 and depth < len(layers) - 4 else 1.0
        )
        norm = level * np.exp(noise(0, 0.25)) * (1 if sick else np.exp(-1.5 * share))
        total += norm**2
        readings += [
            Reading("gradient/norm", norm, name),
            Reading(
                "gradient/zero_share",
                min(1.0, 0.9 if sick and step > 12 and depth < 4 else 0.05 + 0.1 * rng.random()),
                name,
            ),
            Reading("weight/norm", 3.0 + depth + (4 if sick else share), name),
            Reading("update/ratio", ratio * np.exp(noise(0.1 * depth, 0.2)), name),
        ]
        if step % 20 == 0:
            readings.append(
                Reading(
                    "gradient/log_histogram",
                    _histogram(rng, norm, SHAPES.get(name.split(".")[0], [64])),
                    name,
                )
            )
    readings.append(Reading("gradient/norm", float(np.sqrt(total))))
    if step % 20 == 0:
        readings.append(Reading("gradient/log_histogram", _histogram(rng, float(np.sqrt(total)), [4000])))
    for layer in ("conv1", "conv2", "fc1"):
        dead = 14.0 if sick and step > 12 else 0.0
        readings += [
            Reading("activation/zero_share", 0.95 if dead else 0.5 + noise(0, 0.02), layer),
            Reading("activation/dead_channels", dead, layer),
            Reading("activation/channels", 16.0, layer),
        ]
    return readings


def _histogram(rng: np.random.Generator, norm: float, shape: list[int]) -> np.ndarray:
    count = int(np.prod(shape))
    magnitudes = np.abs(rng.normal(0, norm / np.sqrt(count) + 1e-30, min(count, 4000)))
    edges = np.linspace(-24, 8, 65)
    return np.histogram(np.log10(magnitudes + 1e-300), edges)[0].astype(float)


def _events(writer: RecordWriter, layers: tuple[str, ...], lr: float) -> None:
    rows = [
        {
            "name": name,
            "shape": SHAPES.get(name.split(".")[0], [64]),
            "dtype": "float32",
            "trainable": True,
            "in_optimizer": True,
        }
        for name in layers
    ]
    modules = [
        {"name": "conv1", "class": "Conv2d"},
        {"name": "relu1", "class": "ReLU"},
        {"name": "fc1", "class": "Linear"},
    ]
    writer.event("model", 0, "parameters", data={"parameters": rows})
    writer.event("model", 0, "modules", data={"modules": modules})
    writer.event(
        "model",
        0,
        "optimizer",
        data={"class": "SGD", "groups": [{"lr": lr, "momentum": 0.9, "weight_decay": 0.0}]},
    )
    loader = {
        "sampler": "RandomSampler",
        "batch_size": 64,
        "shuffle": True,
        "length": 5000,
        "drop_last": False,
        "workers": 0,
    }
    writer.event("model", 0, "loader", "loader 0", data=loader)
