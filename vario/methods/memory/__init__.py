"""Memory: the same training in fewer bytes."""

from vario.methods.memory.adamw_8bit import AdamW8bit as AdamW8bit
from vario.methods.memory.approximate_backward import ReGELU2 as ReGELU2
from vario.methods.memory.approximate_backward import ReSiLU2 as ReSiLU2
from vario.methods.memory.few_bit import FewBit as FewBit
from vario.methods.memory.shared_norm import SharedNorm as SharedNorm
from vario.methods.memory.tiled_contrastive import TiledContrastiveLoss as TiledContrastiveLoss
