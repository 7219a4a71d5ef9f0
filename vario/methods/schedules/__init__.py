"""Rules of change and schedules: how learning rate, batch and averages move together, and over time."""

from vario.methods.schedules.accumulation import Accumulation as Accumulation
from vario.methods.schedules.gradual_warmup import GradualWarmup as GradualWarmup
from vario.methods.schedules.noise_scale_batch import NoiseScaleBatch as NoiseScaleBatch
from vario.methods.schedules.norm_test import NormTest as NormTest
from vario.methods.schedules.refined_decay import RefinedDecay as RefinedDecay
from vario.methods.schedules.refined_decay import refined_factors as refined_factors
from vario.methods.schedules.scale_batch import Change as Change
from vario.methods.schedules.scale_batch import scale_batch as scale_batch
from vario.methods.schedules.scale_batch import scale_settings as scale_settings
from vario.methods.schedules.svag import svag as svag
