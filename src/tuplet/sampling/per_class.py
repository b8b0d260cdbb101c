"""Batches of some classes with some examples of each."""

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from tuplet.bounds import Count
from tuplet.sampling.class_shuffler import ClassShuffler
from tuplet.sampling.epoch import EpochSampler, registry
from tuplet.seeding import derive


@registry.register("per-class")
class PerClassSampler(EpochSampler):
    """P classes with K examples each; the K examples of a class stand together.

    An epoch is as long as it takes to draw about as many examples as there are. In it, every class is drawn equally
    often, at least once. The draws of a class cycle through its examples in random order, across epochs:
    big classes are used whole, and no draw repeats an example unless its class has fewer than K.

    Args:
        labels: Class id of each example; examples with a negative id are left out.
        classes_per_batch: P, at least 1.
        per_class: K, at least 1. With K > 1, classes with a single example are left out.
        seed: Seed of the run.
        groups: Group id of each example; the examples of a draw come from different groups as far as possible.

    Attributes:
        left_out: Ids of the classes that are left out.
        classes_per_batch: P.

    Raises:
        DataError: There are fewer classes than P, or none with two examples.
    """

    def __init__(
        self,
        labels: Int64[Tensor, " examples"],
        classes_per_batch: Count,
        per_class: Count,
        *,
        seed: int,
        groups: Int64[Tensor, " examples"] | None = None,
    ) -> None:
        self._shuffler = ClassShuffler(labels, per_class, classes_per_batch, seed=seed, groups=groups)
        self.left_out = self._shuffler.left_out
        self.classes_per_batch = classes_per_batch
        classes = len(self._shuffler.counts)
        super().__init__(-(-classes * self._shuffler.rounds // classes_per_batch), seed)

    def plan(self, epoch: int) -> Int64[Tensor, "batches batch"]:
        """All batches of an epoch."""
        classes = self._draw_classes(epoch)
        rounds = np.arange(len(classes)) // len(self._shuffler.counts)
        draws = epoch * self._shuffler.rounds + rounds  # how often the class was drawn before
        cycles, chunks = np.divmod(draws, self._shuffler.chunks_per_cycle[classes])
        surplus = (
            rounds == self._shuffler.rounds
        )  # fills the last batch: a lap of its own, and the count goes on unharmed
        cycles[surplus], chunks[surplus] = -1 - epoch, 0
        return torch.from_numpy(self._shuffler.take(classes, cycles, chunks).reshape(self.batches_per_epoch, -1))

    def _draw_classes(self, epoch: int) -> NDArray[np.int64]:
        """Classes of an epoch: shuffled rounds of all of them, such that no batch holds one twice."""
        generator = derive(self.seed, "sampler", epoch)
        count, size = len(self._shuffler.counts), self.classes_per_batch
        found = np.empty(self.batches_per_epoch * size, np.int64)
        for start in range(0, len(found), count):
            shuffled = torch.randperm(count, generator=generator).numpy()
            begun = start % size  # classes of the last round in a batch that this one completes
            taken = np.zeros(count, bool)
            taken[found[start - begun : start]] = True
            first = np.flatnonzero(~taken[shuffled])[: (size - begun) % size]
            ordered = np.concatenate([shuffled[first], np.delete(shuffled, first)])
            found[start : start + count] = ordered[: len(found) - start]
        return found
