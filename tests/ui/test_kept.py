from __future__ import annotations

import os
import time
from pathlib import Path

from tests.report.sample import write_series
from tests.ui.serving import served
from vario.ui.kept import Kept
from vario.ui.shelf import at_rest, stamp


def test_what_was_not_asked_for_longest_goes_first() -> None:
    kept = Kept(budget=30)
    for name in ("a", "b", "c"):
        kept.keep(name, bytes(10))
    kept.find("a")
    kept.keep("d", bytes(10))
    assert [kept.find(name) is not None for name in "abcd"] == [True, False, True, True]
    kept.keep("a", bytes(25))
    assert kept.find("d") is None and kept.find("a") == bytes(25)


def test_a_record_at_rest_is_read_once_and_one_that_changed_anew(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "one"
    write_series(path, {("loss/train", ""): ([0, 1], [2.0, 1.0])}).close()
    for file in path.iterdir():
        os.utime(file, (time.time() - 60,) * 2)
    assert at_rest(stamp(path))
    question = "/api/run/one/series?name=loss/train"
    with served(tmp_path) as asking:
        first = asking.get(question).body
        monkeypatch.setattr("vario.ui.curves.series_reply", lambda *_, **__: b"read again")
        assert asking.get(question).body == first
        assert asking.get(f"{question}&points=7").body == b"read again"
        write_series(path, {("loss/train", ""): ([2, 3], [0.5, 0.2])}).close()
        assert not at_rest(stamp(path))
        assert asking.get(question).body == b"read again"
