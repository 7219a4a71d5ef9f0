"""Optimizers: `torch.optim.Optimizer` objects, one published method per file."""

from vario.methods.optimizers.perp_grad import PerpGrad as PerpGrad
