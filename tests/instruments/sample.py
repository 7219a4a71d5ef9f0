"""What the tests of the instruments share: reading one instrument of one step, and odd gradients."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vario.capture.moment import Moment, raw_needs
from vario.instruments._protocol import Instrument


def read(instrument: Instrument, **raw: Any) -> dict[tuple[str, str], Any]:
    """Readings by series and place; fails where one comes twice, or where raw needs are left out."""
    undeclared = set(raw) - raw_needs(instrument.needs)
    assert not undeclared, f"the step offers {undeclared}, which {instrument.name} never asks for"
    moment = Moment("model", 0, raw)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a user's script must not be warned of what only vario does
        readings = list(instrument.read(moment.declared(instrument.needs)))
    found = {(reading.series, reading.where): reading.value for reading in readings}
    assert len(found) == len(readings), "one series was given twice for one place"
    return found


def draw(*shape: int, seed: int = 0, scale: float = 1.0, dtype: torch.dtype = torch.float32) -> Tensor:
    return (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * scale).to(dtype)


def exact(tensor: Tensor) -> np.ndarray[Any, Any]:
    return tensor.detach().double().numpy()
