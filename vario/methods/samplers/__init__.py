"""Samplers: which examples the next epoch shows, and with what weight."""

from vario.methods.samplers.imbalance import ImbalanceSampler as ImbalanceSampler
from vario.methods.samplers.imbalance import PriorThreshold as PriorThreshold
from vario.methods.samplers.importance import ImportanceSampler as ImportanceSampler
from vario.methods.samplers.infobatch import InfoBatch as InfoBatch
from vario.methods.samplers.temperature import TemperatureSampler as TemperatureSampler
