"""Posthoc: what is done to models after they are trained; a new model comes out and the old ones stay."""

from vario.methods.posthoc.adaround import adaround as adaround
from vario.methods.posthoc.delta_editing import bit_delta as bit_delta
from vario.methods.posthoc.delta_editing import dare as dare
from vario.methods.posthoc.delta_editing import expo as expo
from vario.methods.posthoc.delta_editing import loss_change as loss_change
from vario.methods.posthoc.delta_editing import low_rank as low_rank
from vario.methods.posthoc.delta_editing import ties as ties
from vario.methods.posthoc.model_stock import model_stock as model_stock
from vario.methods.posthoc.online_platt import OnlinePlatt as OnlinePlatt
from vario.methods.posthoc.sparse_soup import magnitude_masks as magnitude_masks
from vario.methods.posthoc.sparse_soup import sparse_soup as sparse_soup
from vario.methods.posthoc.temperature_scaling import fit_temperature as fit_temperature
from vario.methods.posthoc.temperature_scaling import temperature_scaling as temperature_scaling
from vario.methods.posthoc.wise_ft import bang_batch as bang_batch
from vario.methods.posthoc.wise_ft import wise_ft as wise_ft
