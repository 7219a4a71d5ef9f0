"""Times that cannot judge a law of times: those of a processor that others use at the same moment."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

APART = 0.05  # half of what the laws of time may be off


def skip_if_busy(rounds: NDArray[np.float64]) -> None:
    """Skip where the two best rounds (2, n) of the same work differ by more than APART at the median."""
    apart = float(np.median(rounds.max(axis=0) / rounds.min(axis=0)) - 1)
    if apart > APART:
        pytest.skip(f"the same work took {100 * apart:.0f} % longer a moment later: this processor is busy")
