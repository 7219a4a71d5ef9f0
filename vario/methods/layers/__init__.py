"""Layers: `nn.Module` objects that take the place of an existing one, and how weights start."""

from vario.methods.layers.ghost_batch_norm import GhostBatchNorm as GhostBatchNorm
from vario.methods.layers.nested_dropout import NestedDropout as NestedDropout
from vario.methods.layers.orthogonal_init import ShapedActivation as ShapedActivation
from vario.methods.layers.orthogonal_init import UncenteredBatchNorm as UncenteredBatchNorm
from vario.methods.layers.orthogonal_init import orthogonal_init as orthogonal_init
