from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vario.nouns import Reading
from vario.record.memory import record_of
from vario.record.reader import open_run
from vario.record.store import RecordWriter
from vario.record.stream import Event


def test_the_same_as_a_record_from_a_file(tmp_path: Path) -> None:
    steps, norms = [0, 2, 4], [1.0, float("nan"), 3.0]
    writer = RecordWriter(tmp_path)
    for step, norm in zip(steps, norms, strict=True):
        writer.readings("netG", step, [Reading("gradient/norm", norm, "a"), Reading("h", [norm, 1.0])])
    writer.event("netG", 6, "epoch", "loader 0", {"n": 1})
    writer.meta("seed", 3)
    writer.close()
    stored = open_run(tmp_path).main
    made = record_of(
        {("gradient/norm", "a"): (steps, norms), "h": (steps, [[n, 1.0] for n in norms])},
        events=[Event("epoch", 6, "loader 0", {"n": 1}, stream="netG")],
        meta={"seed": 3},
        stream="netG",
    )
    assert (made.stream, made.step_count, made.names()) == (stored.stream, stored.step_count, stored.names())
    assert made.meta == stored.meta and made.wheres("gradient/norm") == stored.wheres("gradient/norm")
    for key in (("gradient/norm", "a"), ("h", ""), ("nothing", "")):
        for one, other in zip(made.series(*key), stored.series(*key), strict=True):
            np.testing.assert_array_equal(one, other)
            assert one.dtype == other.dtype
            assert not one.flags.writeable or not one.size
    (one,), (other,) = made.events(), stored.events()
    assert (one.kind, one.step, one.where, one.data) == (other.kind, other.step, other.where, other.data)


def test_steps_are_sorted_and_shapes_checked() -> None:
    record = record_of({"x": ([3, 1, 2], [30.0, 10.0, 20.0])})
    assert record.series("x")[1].tolist() == [10, 20, 30]
    for values in ([1.0, 2.0], 1.0, np.ones((3, 1, 1))):
        with pytest.raises(ValueError, match="x has steps"):
            record_of({"x": ([1, 2, 3], values)})


def test_the_callers_arrays_stay_theirs() -> None:
    values = np.arange(3.0)
    record = record_of({"x": (np.arange(3), values)})
    values[0] = 9.0
    assert record.series("x")[1][0] == 0.0
