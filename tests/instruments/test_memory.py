from __future__ import annotations

import resource
import sys

import numpy as np
import pytest
import torch
from torch import nn

from tests.instruments.sample import read
from vario.instruments.memory import Memory

RESIDENT = ("memory/resident", "")


@pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")
def test_an_array_of_known_size_shows() -> None:
    before = read(Memory(), params=[])[RESIDENT]
    array = np.ones(64 << 20, dtype=np.uint8)
    after = read(Memory(), params=[])[RESIDENT]
    assert after - before == pytest.approx(array.nbytes, rel=0.1)
    assert after <= resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 * 1.05, (
        "resident, not all that is mapped"
    )


def test_a_model_in_main_memory_has_none_on_a_device() -> None:
    assert set(read(Memory(), params=[nn.Parameter(torch.ones(2))])) <= {RESIDENT}
