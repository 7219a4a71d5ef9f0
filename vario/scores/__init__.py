"""Scores: one number per example; selection, sampling and audits are built on them."""

from vario.scores.data_dimension import data_dimension as data_dimension
from vario.scores.data_dimension import label_sharpness as label_sharpness
from vario.scores.data_dimension import local_dimension as local_dimension
from vario.scores.data_dimension import two_nn as two_nn
from vario.scores.error_norm import error_norm as error_norm
from vario.scores.gradient_norm import gradient_norm as gradient_norm
from vario.scores.objective_dimension import Subspace as Subspace
from vario.scores.objective_dimension import smallest_dimension as smallest_dimension
from vario.scores.prototype_distance import prototype_distance as prototype_distance
from vario.scores.selection import hard_or_easy as hard_or_easy
from vario.scores.selection import keep as keep
