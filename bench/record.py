"""What the record costs: writing, pauses, size, reading; beside JSONL and one SQLite row per value.

Every writer gets the same readings, in blocks that take turns inside one process, so the ratios hold
also on a busy machine. Run: python bench/record.py [--series 200] [--steps 100000] [--peer-steps 5000]
"""

from __future__ import annotations

import argparse
import json
import os
import sqlite3
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from vario.nouns import Reading
from vario.record.reader import open_run
from vario.record.store import RecordWriter

BLOCK = 250  # steps that one writer takes before the next has its turn
Batch = list[Reading]


class Jsonl:
    """One line per step, flushed every 50 steps."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.jsonl"
        self.file = self.path.open("w")

    def readings(self, stream: str, step: int, batch: Batch) -> None:
        values = {f"{r.series}/{r.where}": r.value for r in batch}
        self.file.write(json.dumps({"stream": stream, "step": step, **values}) + "\n")
        if step % 50 == 49:
            self.file.flush()

    def read(self, name: str, where: str) -> int:
        self.file.flush()
        key = f"{name}/{where}"
        return sum(1 for line in self.path.open() if key in json.loads(line))

    def close(self) -> None:
        self.file.close()


class Rows:
    """SQLite with one row per value, committed every 50 steps."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "rows.sqlite"
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.connection.execute("pragma journal_mode=wal")
        self.connection.execute("pragma synchronous=normal")
        self.connection.execute("create table point(series integer, step integer, value real)")
        self.connection.execute("create index by_series on point(series, step)")
        self.ids: dict[tuple[str, str], int] = {}
        self.rows: list[tuple[int, int, float]] = []

    def readings(self, stream: str, step: int, batch: Batch) -> None:
        ids = self.ids
        self.rows += [(ids.setdefault((r.series, r.where), len(ids)), step, r.value) for r in batch]
        if step % 50 == 49:
            self.connection.execute("begin immediate")
            self.connection.executemany("insert into point values(?, ?, ?)", self.rows)
            self.connection.execute("commit")
            self.rows = []

    def read(self, name: str, where: str) -> int:
        query = "select step, value from point where series=? order by step"
        return len(np.array(self.connection.execute(query, (self.ids[name, where],)).fetchall()))

    def close(self) -> None:
        self.connection.close()


def main() -> None:
    """Prints the table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--series", type=int, default=200)
    words.add_argument("--steps", type=int, default=100_000)
    words.add_argument("--peer-steps", type=int, default=5_000)
    asked = words.parse_args()
    batches = _batches(asked.series)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = RecordWriter(folder / "run")
        writers = {"vario": ours, "jsonl": Jsonl(folder), "row per value": Rows(folder)}
        times: dict[str, list[float]] = {name: [] for name in writers}
        for start in range(0, asked.peer_steps, BLOCK):
            for name, writer in writers.items():
                times[name] += _write(writer.readings, batches, start, start + BLOCK)
        compared = {name: np.array(spent) * 1e6 for name, spent in times.items()}
        more = np.array(_write(ours.readings, batches, asked.peer_steps, asked.steps)) * 1e6
        ours.close()
        print(f"{asked.series} series; the writers took turns for {asked.peer_steps} steps")
        for name, spent in compared.items():
            ratio = compared[name].mean() / compared["vario"].mean()
            print(
                f"  {name:14} {spent.mean():8.1f} us/step   x {ratio:5.2f}   "
                f"worst pause {spent.max() / 1e3:7.1f} ms"
            )
        whole = np.concatenate([compared["vario"], more])
        share = np.sort(whole)[-len(whole) // 1_000 :].mean() / 1e3
        print(
            f"vario alone, {len(whole)} steps: {whole.mean():.1f} us/step, median {np.median(whole):.1f}, "
            f"worst pause {whole.max() / 1e3:.1f} ms (mean of the worst 0.1 %: {share:.1f} ms)"
        )
        _read(folder, writers["jsonl"], writers["row per value"], asked.peer_steps)


def _batches(series: int) -> list[Batch]:
    """Noise in float32, as torch gives: the least favourable case for compression."""
    draw = np.random.default_rng(0)
    names = [("gradient/norm", f"layers.{i}.weight") for i in range(series)]
    return [
        [
            Reading(name, float(v), where)
            for (name, where), v in zip(names, draw.random(series, np.float32), strict=True)
        ]
        for _ in range(61)
    ]


def _write(
    readings: Callable[[str, int, Batch], None], batches: list[Batch], start: int, stop: int
) -> list[float]:
    spent = []
    for step in range(start, stop):
        batch = batches[step % len(batches)]
        began = time.perf_counter()
        readings("model", step, batch)
        spent.append(time.perf_counter() - began)
    return spent


def _read(folder: Path, jsonl: Jsonl, rows: Rows, peer_steps: int) -> None:
    size = os.path.getsize(folder / "run" / "record.sqlite")
    firsts = []
    for layer in range(9):
        run = open_run(folder / "run")
        began = time.perf_counter()
        steps, _ = run.main.series("gradient/norm", f"layers.{layer}.weight")
        firsts.append(time.perf_counter() - began)
        run.close()
    print(f"  file {size / 1e6:.1f} MB; one series of {len(steps)} steps: {np.median(firsts) * 1e3:.1f} ms")
    run = open_run(folder / "run")
    began = time.perf_counter()
    for where in run.main.wheres("gradient/norm"):
        run.main.series("gradient/norm", where)
    print(
        f"  all {len(run.main.wheres('gradient/norm'))} series: {time.perf_counter() - began:.2f} s", end="; "
    )
    began = time.perf_counter()
    for where in run.main.wheres("gradient/norm"):
        run.main.series("gradient/norm", where)
    print(f"again, from what is kept: {(time.perf_counter() - began) * 1e3:.1f} ms")
    run.close()
    for name, peer in (("jsonl", jsonl), ("row per value", rows)):
        began = time.perf_counter()
        count = peer.read("gradient/norm", "layers.3.weight")
        spent = time.perf_counter() - began
        print(f"  {name}: {peer.path.stat().st_size / 1e6:.1f} MB and {spent * 1e3:.1f} ms for {count} steps")
        peer.close()


if __name__ == "__main__":
    main()
