"""Transfer: keeping tuned hyperparameters right when the model grows."""

from vario.methods.transfer.mup import coordinate_check as coordinate_check
from vario.methods.transfer.mup import mup_groups as mup_groups
from vario.methods.transfer.mup import plan as plan
