"""Batches of some classes with some examples of each."""

from jaxtyping import Int64
from torch import Tensor

from tuplet.sampling.epoch import EpochSampler, registry


@registry.register("per-class")
class PerClassSampler(EpochSampler):
    """P classes with K examples each; the K examples of a class stand together.

    Every class with enough examples is drawn equally often in an epoch, and at least once.
    The draws of a class walk through its examples in random laps that go on from epoch to epoch,
    so that big classes are used whole and no draw repeats an example unless its class has fewer than K.

    Args:
        labels: Class id of each example; examples with a negative id are left out.
        classes_per_batch: P, at least 1.
        per_class: K, at least 1. With K > 1 classes of a single example are left out.
        seed: Seed of the run.
        groups: Id of a group for each example; the K examples of a draw come from as many groups as possible.
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
        raise NotImplementedError

    def plan(self, epoch: int) -> Int64[Tensor, "batches batch"]:
        raise NotImplementedError
