"""The examples of each class, in random cycles without end."""

import logging

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from tuplet.data.hashing import mix
from tuplet.errors import DataError, counted
from tuplet.seeding import derive_seed

logger = logging.getLogger(__name__)


class ClassShuffler:
    """A lap goes through all examples of a class in a random order of its own; parts of K examples are cut from it.

    Args:
        labels: Class id of each example; examples with a negative id are left out.
        per_class: K, at least 1. With K > 1, classes with a single example are left out.
        wanted: Fewest classes that are needed.
        seed: Seed of the run.
        groups: Group id of each example; the examples of a part come from different groups as far as possible.

    Attributes:
        counts: Examples of each class that is used. A class is named by its place here.
        chunks_per_cycle: Parts of K examples that a lap of each class has.
        class_of: Place of each example's class; -1 for an example that is left out.
        left_out: Ids of the classes that are left out.

    Raises:
        DataError: There are fewer classes than wanted, or none with two examples.
    """

    def __init__(
        self,
        labels: Int64[Tensor, " examples"],
        per_class: int,
        wanted: int,
        *,
        seed: int,
        groups: Int64[Tensor, " examples"] | None = None,
    ) -> None:
        if min(wanted, per_class) < 1:
            raise ValueError(f"a batch needs classes and examples, not {wanted} x {per_class}")
        known, class_of, counts = np.unique(labels.numpy(), return_inverse=True, return_counts=True)
        usable = (known >= 0) & (counts >= min(2, per_class))
        self.left_out: list[int] = known[~usable & (known >= 0)].tolist()
        self.counts = counts[usable]
        _require(len(self.counts), wanted, per_class)
        if self.left_out:
            alone = counted(len(self.left_out), "class with a single example is", "classes with a single example are")
            logger.warning("%s left out of training", alone)
        self.chunks_per_cycle = np.maximum(1, self.counts // per_class)
        self.class_of = np.where(usable, usable.cumsum() - 1, -1)[class_of]
        members = np.argsort(class_of, kind="stable")
        self._members = members[usable[class_of[members]]]  # examples of the usable classes, class by class
        self._starts = np.cumsum(self.counts) - self.counts
        self._groups = None if groups is None else groups.numpy()
        self._per_class = per_class
        self._secret = np.uint64(derive_seed(seed, "sampler", "laps"))

    @property
    def rounds(self) -> int:
        """How often each class is drawn until about as many examples are drawn as there are."""
        return max(1, len(self._members) // (len(self.counts) * self._per_class))

    def take(
        self, classes: NDArray[np.int64], cycles: NDArray[np.int64], chunks: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Examples of one part of one lap of each of some classes, (classes, K)."""
        span = int(cycles.max() - cycles.min()) + 1
        keys, cycle_of = np.unique(classes * span + (cycles - cycles.min()), return_inverse=True)
        shuffled, starts = self._shuffled(keys // span, keys % span + cycles.min())
        steps = chunks[:, None] * self._per_class + np.arange(self._per_class)
        return shuffled[starts[cycle_of][:, None] + steps % self.counts[classes][:, None]]

    def _shuffled(
        self, classes: NDArray[np.int64], cycles: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The examples of some classes, each in the random order of one of its laps; and where each class starts."""
        counts = self.counts[classes]
        starts = np.cumsum(counts) - counts
        owner = np.repeat(np.arange(len(classes)), counts)
        examples = self._members[self._starts[classes][owner] + np.arange(len(owner)) - starts[owner]]
        keys = mix(examples.astype(np.uint64) + mix(cycles.astype(np.uint64) + self._secret)[owner])
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
