"""Batches of pairs, none of which answers another's question."""

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from tuplet.errors import DataError
from tuplet.sampling.epoch import EpochSampler, registry
from tuplet.seeding import derive


@registry.register("paired")
class PairedSampler(EpochSampler):
    """Every pair once per epoch; no batch holds two pairs with the same query, nor two with the same answer.

    Such pairs would be negatives of each other although they belong together. What meets a twin waits for a later
    batch. Where twins are many, some still wait when the epoch ends; they are left out of it, and others fill their
    places.

    Args:
        contents: Ids of query and answer of each pair, see `tuplet.data.content_ids`.
        batch_size: Pairs of a global batch, at least 1.
        seed: Seed of the run.

    Raises:
        DataError: There are fewer different contents than pairs in a batch.
    """

    def __init__(self, contents: Int64[Tensor, "pairs sides"], batch_size: int, *, seed: int) -> None:
        different = min(len(side.unique()) for side in contents.T) if len(contents) else 0
        if not 1 <= batch_size <= different:
            raise DataError(
                f"A batch of {batch_size} pairs without twins cannot be drawn from {different} different contents.",
                hint=f"Set the batch size to a number from 1 to {different}." if different else "Add pairs.",
                reference="batch-too-large",
            )
        super().__init__(-(-len(contents) // batch_size), seed)
        self._contents = contents.numpy()
        self._size = batch_size

    def plan(self, epoch: int) -> Int64[Tensor, "batches batch"]:
        """All batches of an epoch."""
        generator = derive(self.seed, "sampler", epoch)
        count = len(self._contents)
        queue = torch.cat([torch.randperm(count, generator=generator) for _ in range(2)]).numpy()
        waiting = queue[:0]
        batches = []
        for _ in range(self.batches_per_epoch):
            chosen = waiting[self._apart(waiting)[: self._size]]
            while len(chosen) < self._size and len(queue):
                waiting, queue = np.concatenate([waiting, queue[: self._size]]), queue[self._size :]
                chosen = waiting[self._apart(waiting)[: self._size]]
            if len(chosen) < self._size:  # contents so entangled that no batch of this size is free of twins
                chosen = np.concatenate([chosen, np.setdiff1d(np.arange(count), chosen)])[: self._size]
            batches.append(chosen)
            waiting = waiting[~np.isin(waiting, chosen)]
        return torch.from_numpy(np.stack(batches))

    def _apart(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places of pairs that are the first ones with their contents, on every side."""
        first = np.ones(len(pairs), bool)
        for side in self._contents[pairs].T:
            is_first = np.zeros(len(pairs), bool)
            is_first[np.unique(side, return_index=True)[1]] = True
            first &= is_first
        return np.flatnonzero(first)
