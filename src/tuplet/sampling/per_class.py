"""Batches of some classes with some examples of each."""

import logging

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from tuplet.data.hashing import mix
from tuplet.errors import DataError
from tuplet.sampling.epoch import EpochSampler, registry
from tuplet.seeding import derive, derive_seed

logger = logging.getLogger(__name__)


@registry.register("per-class")
class PerClassSampler(EpochSampler):
    """P classes with K examples each; the K examples of a class stand together.

    An epoch is as long as it takes to draw about as many examples as there are. In it, every class is drawn equally
    often, at least once. The draws of a class walk through its examples in random laps that go on from epoch to epoch:
    big classes are used whole, and no draw repeats an example unless its class has fewer than K.

    Args:
        labels: Class id of each example; examples with a negative id are left out.
        classes_per_batch: P, at least 1.
        per_class: K, at least 1. With K > 1, classes with a single example are left out.
        seed: Seed of the run.
        groups: Group id of each example; the examples of a draw come from different groups as far as possible.

    Attributes:
        left_out: Ids of the classes that are left out.

    Raises:
        DataError: There are fewer classes than P, or none with two examples.
    """

    def __init__(
        self,
        labels: Int64[Tensor, " examples"],
        classes_per_batch: int,
        per_class: int,
        *,
        seed: int,
        groups: Int64[Tensor, " examples"] | None = None,
    ) -> None:
        if min(classes_per_batch, per_class) < 1:
            raise ValueError(f"a batch needs classes and examples, not {classes_per_batch} x {per_class}")
        known, class_of, counts = np.unique(labels.numpy(), return_inverse=True, return_counts=True)
        usable = (known >= 0) & (counts >= min(2, per_class))
        self.left_out: list[int] = known[~usable & (known >= 0)].tolist()
        self._counts = counts[usable]
        _require(len(self._counts), classes_per_batch, per_class)
        if self.left_out:
            logger.warning("%d classes with a single example are left out of training", len(self.left_out))

        members = np.argsort(class_of, kind="stable")
        self._members = members[usable[class_of[members]]]  # examples of the usable classes, class by class
        self._starts = np.cumsum(self._counts) - self._counts
        self._groups = None if groups is None else groups.numpy()
        self._size = classes_per_batch
        self._per_class = per_class
        self._rounds = max(1, len(self._members) // (len(self._counts) * per_class))
        super().__init__(-(-len(self._counts) * self._rounds // classes_per_batch), seed)

    def plan(self, epoch: int) -> Int64[Tensor, "batches batch"]:
        """All batches of an epoch."""
        classes = self._draw_classes(epoch)
        rounds = np.arange(len(classes)) // len(self._counts)
        draws = epoch * self._rounds + rounds  # how often the class was drawn before
        per_lap = np.maximum(1, self._counts[classes] // self._per_class)
        laps, parts = np.divmod(draws, per_lap)
        surplus = rounds == self._rounds  # fills the last batch: a lap of its own, so that the count goes on unharmed
        laps[surplus], parts[surplus] = -1 - epoch, 0

        span = int(laps.max() - laps.min()) + 1
        keys, lap_of = np.unique(classes * span + (laps - laps.min()), return_inverse=True)
        walked, starts = self._walk(keys // span, keys % span + laps.min())
        steps = parts[:, None] * self._per_class + np.arange(self._per_class)
        chosen = walked[starts[lap_of][:, None] + steps % self._counts[classes][:, None]]  # (draws, K)
        return torch.from_numpy(chosen.reshape(self.batches_per_epoch, -1))

    def _draw_classes(self, epoch: int) -> NDArray[np.int64]:
        """Classes of an epoch: shuffled rounds of all of them, such that no batch holds one twice."""
        generator = derive(self.seed, "sampler", epoch)
        count, size = len(self._counts), self._size
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

    def _walk(self, classes: NDArray[np.int64], laps: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The examples of some classes, each in the random order of one of its laps; and where each class starts."""
        counts = self._counts[classes]
        starts = np.cumsum(counts) - counts
        owner = np.repeat(np.arange(len(classes)), counts)
        examples = self._members[self._starts[classes][owner] + np.arange(len(owner)) - starts[owner]]
        secret = np.uint64(derive_seed(self.seed, "sampler", "laps"))
        keys = mix(examples.astype(np.uint64) + mix(laps.astype(np.uint64) + secret)[owner])
        order = np.lexsort((keys, owner))
        if self._groups is not None:
            groups = self._groups[examples]
            apart = np.lexsort((keys, groups, owner))
            is_first = np.ones(len(apart), bool)
            is_first[1:] = (np.diff(owner[apart]) != 0) | (np.diff(groups[apart]) != 0)
            firsts = np.flatnonzero(is_first)
            rank = np.empty(len(apart), np.int64)  # among the examples of the same class and group
            rank[apart] = np.arange(len(apart)) - np.repeat(firsts, np.diff(np.append(firsts, len(apart))))
            order = np.lexsort((keys, rank, owner))
        return examples[order], starts


def _require(classes: int, wanted: int, per_class: int) -> None:
    if not classes:
        raise DataError(
            "No class has two examples, so there is no pair to learn from.",
            hint="Check which column or folder names the class; or use a loss that needs no classes.",
            reference="no-class-has-two",
        )
    if classes < wanted:
        raise DataError(
            f"A batch asks for {wanted} classes, but only {classes} have {min(2, per_class)} examples or more.",
            hint=f"Set the classes per batch to {classes} or fewer.",
            reference="batch-too-large",
        )
