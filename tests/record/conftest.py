"""What the tests of the record share: a process of its own, and a run with known points."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from vario.nouns import Reading
from vario.record.store import RecordWriter


def start(work: Callable[[], Any]) -> tuple[int, int]:
    """Forks a child that does `work`; its number and the end of a pipe that carries the answer."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # numpy's idle threads are no danger here
        pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    try:
        answer: Any = work()
    except BaseException as error:  # carried to the parent, which fails with it
        answer = error
    with os.fdopen(writing, "wb") as pipe:
        pickle.dump(answer, pipe)
    os._exit(0)


def finish(child: tuple[int, int]) -> Any:
    """The answer of a child that `start` made; raises what it raised."""
    with os.fdopen(child[1], "rb") as pipe:
        text = pipe.read()
    os.waitpid(child[0], 0)
    answer = pickle.loads(text)
    if isinstance(answer, BaseException):
        raise answer
    return answer


def without_rights(work: Callable[[], Any]) -> Any:
    """Does `work` as a user who owns nothing: root may write into every folder."""

    def lowered() -> Any:
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        return work()

    return finish(start(lowered))


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that other users can enter, which pytest's own are not."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


def write_run(path: Path, *, steps: int = 2_500, close: bool = True) -> RecordWriter:
    """`loss/train` is 1 / (step + 1); `gradient/norm` at a and b is step and -step."""
    writer = RecordWriter(path)
    for step in range(steps):
        writer.readings(
            "model",
            step,
            [
                Reading("loss/train", 1 / (step + 1)),
                Reading("gradient/norm", float(step), "a"),
                Reading("gradient/norm", -float(step), "b"),
            ],
        )
    writer.flush()
    if close:
        writer.close()
    return writer
