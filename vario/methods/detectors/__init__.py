"""Detectors: which inputs are strange, and which streams depend on each other."""

from vario.methods.detectors.mahalanobis import MahalanobisDetector as MahalanobisDetector
from vario.methods.detectors.mahalanobis import layer_features as layer_features
from vario.methods.detectors.sequential_independence import (
    SequentialIndependenceTest as SequentialIndependenceTest,
)
