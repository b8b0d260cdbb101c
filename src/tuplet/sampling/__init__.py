"""Which examples make up a step."""

from tuplet.sampling.epoch import EpochSampler, registry
from tuplet.sampling.paired import PairedSampler
from tuplet.sampling.per_class import PerClassSampler
from tuplet.sampling.uniform import UniformSampler
from tuplet.sampling.windows import WindowSampler

__all__ = ["EpochSampler", "PairedSampler", "PerClassSampler", "UniformSampler", "WindowSampler", "registry"]
