"""Which examples make up a step."""

from tuplet.sampling.epoch import EpochSampler, Sampler, UniformSampler, registry
from tuplet.sampling.mixture import MixtureSampler
from tuplet.sampling.neighbours import NeighbourSampler
from tuplet.sampling.npair import HardClassSampler
from tuplet.sampling.paired import PairedSampler
from tuplet.sampling.per_class import PerClassSampler
from tuplet.sampling.related import RelatedSampler
from tuplet.sampling.windows import WindowSampler

__all__ = [
    "EpochSampler",
    "HardClassSampler",
    "MixtureSampler",
    "NeighbourSampler",
    "PairedSampler",
    "PerClassSampler",
    "RelatedSampler",
    "Sampler",
    "UniformSampler",
    "WindowSampler",
    "registry",
]
