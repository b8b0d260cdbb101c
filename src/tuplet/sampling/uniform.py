"""Batches of examples drawn without regard to labels."""

import torch
from jaxtyping import Int64
from torch import Tensor

from tuplet.bounds import Count, Number
from tuplet.errors import DataError
from tuplet.sampling.epoch import EpochSampler, registry
from tuplet.seeding import derive


@registry.register("uniform")
class UniformSampler(EpochSampler):
    """Every example once per epoch, in random order; no batch holds an example twice.

    If the last batch is not full, examples from the start of the epoch fill it.

    Args:
        count: Number of examples.
        batch_size: Examples of a global batch, at most `count`.
        seed: Seed of the run.
    """

    def __init__(self, count: Number, batch_size: Count, *, seed: int) -> None:
        if not 1 <= batch_size <= count:
            raise DataError(
                f"A batch of {batch_size} examples cannot be sampled from {count}.",
                hint=f"Set the batch size to a number from 1 to {count}." if count else "Add examples.",
                reference="batch-too-large",
            )
        super().__init__(-(-count // batch_size), seed)
        self._count = count
        self._batch_size = batch_size

    def plan(self, epoch: int) -> Int64[Tensor, "batches batch"]:
        """All batches of an epoch."""
        order = torch.randperm(self._count, generator=derive(self.seed, "sampler", epoch))
        missing = self.batches_per_epoch * self._batch_size - self._count
        return torch.cat([order, order[:missing]]).view(self.batches_per_epoch, self._batch_size)
