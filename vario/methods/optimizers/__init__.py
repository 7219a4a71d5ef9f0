"""Optimizers: `torch.optim.Optimizer` objects, one published method per file."""

from vario.methods.optimizers.adafactor import adafactor as adafactor
from vario.methods.optimizers.adam_atan2 import AdamAtan2 as AdamAtan2
from vario.methods.optimizers.bloop import Bloop as Bloop
from vario.methods.optimizers.diff_grad import diff_grad as diff_grad
from vario.methods.optimizers.gradient_noise import GradientNoise as GradientNoise
from vario.methods.optimizers.lars import LARS as LARS
from vario.methods.optimizers.m_fac import MFAC as MFAC
from vario.methods.optimizers.m_fac import FisherInverse as FisherInverse
from vario.methods.optimizers.perp_grad import PerpGrad as PerpGrad
from vario.methods.optimizers.sam import SAM as SAM
from vario.methods.optimizers.shampoo import Shampoo as Shampoo
from vario.methods.optimizers.stable_spam import stable_spam as stable_spam
from vario.methods.optimizers.tvlars import TVLARS as TVLARS
from vario.methods.optimizers.width_groups import alignment_of as alignment_of
from vario.methods.optimizers.width_groups import width_exponent as width_exponent
from vario.methods.optimizers.width_groups import width_groups as width_groups
