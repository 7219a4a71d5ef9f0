"""What is measured: one quantity to a file, each turning a Moment into Readings.

``ALL`` holds one of each, loaded on first use, because instruments import torch.
"""

from __future__ import annotations

from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vario.instruments._protocol import Instrument

    ALL: tuple[Instrument, ...]

_PLACES = {  # file: class
    "loss": "Loss",
    "hyper": "Hyper",
    "gradient_norm": "GradientNorm",
    "gradient_statistics": "GradientStatistics",
    "gradient_distribution": "GradientDistribution",
    "gradient_cosine": "GradientCosine",
    "gradient_carried": "GradientCarried",
    "gradient_noise": "GradientNoise",
    "gradient_parts": "GradientParts",
    "example_gradients": "ExampleGradients",
    "clipping": "Clipping",
    "weight": "Weight",
    "weight_symmetry": "WeightSymmetry",
    "update": "Update",
    "shards": "Shards",
    "activation": "Activation",
    "representation_rank": "QuickRepresentationRank",
    "logits": "Logits",
    "logits_doubled": "LogitsDoubled",
    "input": "Input",
    "target": "Target",
    "batch": "Batch",
    "data": "Data",
    "examples": "Examples",
    "worst_examples": "WorstExamples",
    "accuracy": "Accuracy",
    "adversarial": "Adversarial",
    "mode": "Mode",
    "time": "Time",
    "memory": "Memory",
}

__all__ = ["ALL"]


def __getattr__(name: str) -> tuple[Instrument, ...]:
    if name == "ALL":
        return _all()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


@cache
def _all() -> tuple[Instrument, ...]:
    return tuple(getattr(import_module(f"{__name__}.{file}"), kind)() for file, kind in _PLACES.items())
