"""Batches of pairs, none of which answers another's question."""

from jaxtyping import Int64
from torch import Tensor

from tuplet.sampling.epoch import EpochSampler, registry


@registry.register("paired")
class PairedSampler(EpochSampler):
    """Every pair once per epoch; a batch never holds two pairs that share a query or an answer.

    Args:
        contents: Ids of the query and of the answer of each pair; equal ids mean equal contents.
        batch_size: Pairs of a global batch.
        seed: Seed of the run.
    """

    def __init__(self, contents: Int64[Tensor, "pairs sides"], batch_size: int, *, seed: int) -> None:
        raise NotImplementedError

    def plan(self, epoch: int) -> Int64[Tensor, "batches batch"]:
        raise NotImplementedError
