"""Hyperparameters: tuned by gradients, by the data, or by weights that answer to them."""

from vario.methods.hpo.data_emphasized_elbo import DataEmphasizedELBO as DataEmphasizedELBO
from vario.methods.hpo.first_order_bilevel import FirstOrderBilevel as FirstOrderBilevel
from vario.methods.hpo.implicit_hypergradient import implicit_hypergradient as implicit_hypergradient
from vario.methods.hpo.self_tuning import BestResponseConv2d as BestResponseConv2d
from vario.methods.hpo.self_tuning import BestResponseLinear as BestResponseLinear
from vario.methods.hpo.self_tuning import SelfTuning as SelfTuning
from vario.methods.hpo.self_tuning import TunedDropout as TunedDropout
