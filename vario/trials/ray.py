"""Runs as Ray tasks, for those who outgrow one machine: the same subprocess, on whichever node has room.

The node needs vario, the script and its data, these under the same paths. What a run wrote is brought back,
so that no shared disk is needed. A worker that dies is tried again by Ray.
"""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from vario.nouns import VarioError
from vario.trials.child import run_to_end
from vario.trials.pairs import Job
from vario.trials.runner import Limits, Outcome

__all__ = ["RayRunner"]

RETRIES = 3
Files = dict[str, bytes]


class RayRunner:
    """As many runs at once as the cluster has cores, each on `cores` of them; or at most `jobs`."""

    def __init__(
        self,
        address: str | None = None,
        *,
        jobs: int | None = None,
        limits: Limits | None = None,
        cores: float = 1.0,
        devices: float = 0.0,
    ) -> None:
        try:
            import ray
        except ImportError:
            raise VarioError(
                "the Ray runner needs Ray: pip install -c constraints.txt 'vario[ray]'"
            ) from None
        self._ray = ray
        if not ray.is_initialized():
            try:
                if address is None:
                    ray.init(include_dashboard=False, log_to_driver=False, logging_level="error")
                else:
                    ray.init(address=address, log_to_driver=False, logging_level="error")
            except Exception as error:  # Ray raises many kinds, also bare ones
                raise VarioError(f"no Ray cluster answers at {address or 'this machine'}: {error}") from None
        self._limits = limits or Limits()
        self._cores, self._devices = cores, devices
        total = ray.cluster_resources()
        room = int(total.get("CPU", 1) // cores)
        if total.get("GPU") and not devices:
            self._devices = 1.0
            room = min(room, int(total["GPU"]))
        self.jobs = max(1, jobs or room)
        self._running: dict[Any, tuple[Job, Path, float]] = {}

    def has_room(self) -> bool:
        """Whether fewer than `jobs` are under way; where a run goes is Ray's to decide."""
        return len(self._running) < self.jobs

    def start(self, job: Job, home: Path) -> None:
        """Hand a run to the cluster."""
        import os

        task = self._ray.remote(num_cpus=self._cores, num_gpus=self._devices, max_retries=RETRIES)(_on_node)
        env = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(max(1, int(self._cores))))}
        reference = task.remote(job, self._limits, os.getcwd(), env)
        self._running[reference] = (job, home, time.time())

    def wait(self, seconds: float) -> Outcome | None:
        """The next run that has ended."""
        if not self._running:
            return None
        ended, _ = self._ray.wait(list(self._running), num_returns=1, timeout=seconds)
        if not ended:
            return None
        job, home, began = self._running.pop(ended[0])
        try:
            outcome, name, files = self._ray.get(ended[0])
        except self._ray.exceptions.RayError as error:
            words = str(error).strip().splitlines()
            reason = f"Ray lost it: {words[0] if words else type(error).__name__}"
            return Outcome(job, None, time.time() - began, reason)
        path = home / name
        for part, content in files.items():
            (path / part).parent.mkdir(parents=True, exist_ok=True)
            (path / part).write_bytes(content)
        return Outcome(job, path, outcome.seconds, outcome.reason, outcome.stopped, outcome.peak_bytes)

    def one_by_one(self) -> bool:
        """Start no run beside another from here on; False where that is so already."""
        before, self.jobs = self.jobs, 1
        return before > 1

    def stop(self) -> None:
        """Cancel all that is under way."""
        for reference in self._running:
            self._ray.cancel(reference, force=False)
        self._running.clear()


def _on_node(job: Job, limits: Limits, cwd: str, env: dict[str, str]) -> tuple[Outcome, str, Files]:
    """One run, where Ray has put it: how it ended, the name of its directory, and what is in that."""
    import os

    os.chdir(cwd)
    home = Path(tempfile.mkdtemp(prefix="vario-"))
    try:
        outcome = run_to_end(job, home, limits=limits, env=env)
        assert outcome.path is not None
        files = {
            path.relative_to(outcome.path).as_posix(): path.read_bytes()
            for path in outcome.path.rglob("*")
            if path.is_file()
        }
        return outcome, outcome.path.name, files
    finally:
        shutil.rmtree(home, ignore_errors=True)
