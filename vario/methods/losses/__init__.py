"""Losses: what the model is asked to make small, one published loss per file."""

from vario.methods.losses.direct_coverage import DirectCoverageLoss as DirectCoverageLoss
from vario.methods.losses.global_balance import GlobalBalanceLoss as GlobalBalanceLoss
from vario.methods.losses.stable_max import StableMaxLoss as StableMaxLoss
