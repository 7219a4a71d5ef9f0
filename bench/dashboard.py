"""What the dashboard's server costs: start, answers, memory, beside the limits that it is to keep.

Each answer is asked for three times, and the fastest is told: by the clock, and in processor time of the
server, which holds on a busy machine too. A cold answer comes from a server that has only opened the run.
Run: python bench/dashboard.py [--series 200] [--steps 100000] [--wide 2000] [--keep FOLDER]
"""

from __future__ import annotations

import argparse
import http.client
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import numpy as np

from vario.nouns import Reading
from vario.record.store import RecordWriter

LONG, WIDE = "20260201-120000-owl", "20260202-120000-teal"
NAMES = ("gradient/norm", "update/ratio", "weight/norm")
TRIES = 3
TICK = os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Makes the records, asks, and prints the table."""
    words = argparse.ArgumentParser(description=__doc__)
    words.add_argument("--series", type=int, default=200)
    words.add_argument("--steps", type=int, default=100_000)
    words.add_argument("--wide", type=int, default=2_000, help="series of the wide record, of 1,000 steps")
    words.add_argument("--keep", type=Path, help="make the records here, or use those that are here")
    asked = words.parse_args()
    with tempfile.TemporaryDirectory() as name:
        home = asked.keep or Path(name)
        if not (home / LONG).exists():
            record(home / LONG, asked.series, asked.steps)
        if not (home / WIDE).exists():
            record(home / WIDE, asked.wide, 1_000)
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; clock / processor of the server")
        start(home)
        long(home)
        wide(home)


def start(home: Path) -> None:
    """From the command to the first byte of the page."""
    spent = []
    for _ in range(TRIES):
        began = time.perf_counter()
        with served(home) as server:
            server.get("/")
            spent.append((time.perf_counter() - began, server.cpu()))
    say("vario open to first byte", min(spent)[0], min(spent, key=lambda pair: pair[1])[1], "0.6 s")


def long(home: Path) -> None:
    """Few series of many steps."""
    run = f"/api/run/{LONG}"
    whole = {
        "list of runs": ("/api/runs", ""),
        "about the run": (run, ""),
        "findings (made once)": (f"{run}/findings", ""),
        "one curve": (f"{run}/series?name=loss/train", ""),
        "66 layers as a heat map": (f"{run}/heatmap?name=gradient/norm", "50 ms"),
        "8 curves": (f"{run}/series?name=gradient/norm{places(8)}", ""),
        "8 curves, zoomed to 1,500 steps": (
            f"{run}/series?name=gradient/norm{places(8)}&from=5000&to=6500",
            "",
        ),
    }
    for title, (path, limit) in whole.items():
        cold, warm = [], []
        for _ in range(TRIES):
            with served(home) as server:
                server.get(run if run != path else "/static/app.js")
                cold.append(server.timed(path))
                warm.append(server.timed(path))
        say(f"{title}, cold", *best(cold), limit)
        say(f"{title}, again", *best(warm), limit)
    everything = []
    for _ in range(TRIES):
        with served(home) as server:
            layers = server.json(run)["streams"][0]["series"]
            queries = [
                f"{run}/series?name={series['name']}{''.join(f'&where={quote(w)}' for w in series['wheres'])}"
                for series in layers
            ]
            took = [server.timed(query) for query in queries]
            everything.append((sum(pair[0] for pair in took), sum(pair[1] for pair in took)))
            server.json(f"{run}/findings")
            for query in queries:
                server.get(query)
            memory = server.memory()
    say("all series, cold", *best(everything), "1.5 s")
    print(f"  {'memory after all series and the findings':44} {memory:8.0f} MB             limit 200 MB")


def wide(home: Path) -> None:
    """Many series of few steps."""
    run = f"/api/run/{WIDE}"
    for title, path in {
        "wide: about the run": run,
        "wide: findings (made once)": f"{run}/findings",
        "wide: heat map of a third of the series": f"{run}/heatmap?name=gradient/norm",
        "wide: 500 curves": f"{run}/series?name=gradient/norm{places(500)}",
    }.items():
        took = []
        for _ in range(TRIES):
            with served(home) as server:
                server.get("/static/app.js")
                took.append(server.timed(path))
        say(f"{title}, cold", *best(took), "")


class Server:
    """`vario open` as a process, and a connection to it."""

    def __init__(self, process: subprocess.Popen[str], port: int, token: str) -> None:
        self.process, self.port, self.token = process, port, token
        self.headers = {"Cookie": f"vario-{port}={token}"}
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def address(self, fragment: str = "") -> str:
        return f"http://127.0.0.1:{self.port}/?token={self.token}{fragment}"

    def get(self, path: str) -> bytes:
        self.connection.request("GET", path, headers=self.headers)
        answer = self.connection.getresponse()
        body = answer.read()
        if answer.status != 200:
            raise SystemExit(f"{path}: {answer.status} {body[:200]!r}")
        return body

    def json(self, path: str) -> dict[str, list[dict[str, list[dict[str, list[str]]]]]]:
        import json

        return json.loads(self.get(path))  # type: ignore[no-any-return]

    def timed(self, path: str) -> tuple[float, float]:
        began, used = time.perf_counter(), self.cpu()
        self.get(path)
        return time.perf_counter() - began, self.cpu() - used

    def cpu(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def computed(self) -> float:
        """Milliseconds that its threads have been on a processor, finer than the ticks of `cpu`."""
        tasks = Path(f"/proc/{self.process.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e6

    def memory(self) -> float:
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGESIZE") / 1e6


@contextmanager
def served(home: Path) -> Iterator[Server]:
    command = [sys.executable, "-m", "vario", "open", str(home), "--no-browser", "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        port = int(address.partition("127.0.0.1:")[2].partition("/")[0])
        yield Server(process, port, address.partition("token=")[2])
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(20)


def record(path: Path, series: int, steps: int) -> None:
    """Noise in float32 on every layer, and a loss that falls: the least favourable case for compression."""
    draw = np.random.default_rng(0)
    layers = [f"layers.{i}.weight" for i in range(-(-series // len(NAMES)))]
    keys = [("loss/train", ""), *((name, where) for name in NAMES for where in layers)][:series]
    noise = np.exp(0.2 * draw.normal(size=(997, len(keys)))).astype(np.float32).astype(float)
    noise[:, [i for i, (name, _) in enumerate(keys) if name == "update/ratio"]] *= 1e-3
    writer = RecordWriter(path)
    writer.meta("command", ["python", "train.py"])
    for step in range(steps):
        row = noise[step % len(noise)].tolist()
        row[0] = 0.3 + 2 * float(np.exp(-5 * step / steps)) + 0.05 * row[0]
        writer.readings("model", step, [Reading(n, v, w) for (n, w), v in zip(keys, row, strict=True)])
    writer.event("", steps - 1, "exit", data={"code": 0})
    writer.close()


def places(count: int) -> str:
    return "".join(f"&where=layers.{i}.weight" for i in range(count))


def best(took: list[tuple[float, float]]) -> tuple[float, float]:
    return min(pair[0] for pair in took), min(pair[1] for pair in took)


def say(what: str, clock: float, cpu: float, limit: str) -> None:
    print(f"  {what:44} {1e3 * clock:8.0f} ms / {1e3 * cpu:5.0f} ms" + (f"   limit {limit}" if limit else ""))


if __name__ == "__main__":
    main()
