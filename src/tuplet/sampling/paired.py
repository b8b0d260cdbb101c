"""Batches of pairs without false negatives: none of them holds the same content twice."""

import numpy as np
import torch
from jaxtyping import Int64
from numpy.typing import NDArray
from torch import Tensor

from tuplet.bounds import Count
from tuplet.errors import DataError
from tuplet.sampling.epoch import EpochSampler, registry
from tuplet.seeding import derive


def largest_batch(contents: Int64[Tensor, "pairs sides"], most: int) -> int:
    """Pairs of the largest batch without a common content that is found; the search ends at `most`.

    Args:
        contents: Ids of query and answer of each pair, see `tuplet.data.content_ids`.
        most: Largest batch that is of interest.
    """
    return len(_rarest_first(_keys(contents), most))


def sharing(contents: Int64[Tensor, "pairs sides"]) -> int:
    """How many pairs share their query, or their answer, with another pair; argument as for `largest_batch`."""
    keys = _keys(contents)
    _, key, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return int((counts[key.reshape(keys.shape)] > 1).any(1).sum())


@registry.register("paired")
class PairedSampler(EpochSampler):
    """Every pair once per epoch; no batch holds two pairs with the same query, nor two with the same answer.

    Such pairs would be negatives of each other although they belong together. What shares a content with a pair of the
    batch waits for a later one. Where many do, some still wait when the epoch ends; they are left out of it, and
    others fill their places.

    Args:
        contents: Ids of query and answer of each pair, see `tuplet.data.content_ids`; one column for single examples,
            whose copies are then kept apart.
        batch_size: Pairs of a global batch, at least 1.
        seed: Seed of the run.

    Raises:
        DataError: No batch of this size was found in which all contents differ.
    """

    def __init__(self, contents: Int64[Tensor, "pairs sides"], batch_size: Count, *, seed: int) -> None:
        self._keys = _keys(contents)
        self._size = batch_size
        self._witness = _rarest_first(self._keys, batch_size)
        if not 1 <= batch_size <= len(self._witness):
            found = len(self._witness) if batch_size > 0 else largest_batch(contents, len(contents))
            raise DataError(
                f"A batch of {batch_size} pairs in which all queries and all answers differ cannot be sampled from "
                f"{len(contents)} pairs: the largest that was found has {found}.",
                hint=f"Set the batch size to a number from 1 to {found}." if found else "Add pairs.",
                reference="batch-too-large",
            )
        super().__init__(-(-len(contents) // batch_size), seed)

    def plan(self, epoch: int) -> Int64[Tensor, "batches batch"]:
        """All batches of an epoch."""
        generator = derive(self.seed, "sampler", epoch)
        count = len(self._keys)
        queue = torch.cat([torch.randperm(count, generator=generator) for _ in range(2)]).numpy()
        waiting = queue[:0]
        batches = []
        for _ in range(self.batches_per_epoch):
            chosen = self._apart(waiting)
            while len(chosen) < self._size and len(queue):
                waiting, queue = np.concatenate([waiting, queue[: self._size]]), queue[self._size :]
                chosen = self._apart(waiting)
            if len(chosen) < self._size:  # what waits shares too much: any pairs, then those that are known to fit
                chosen = self._apart(np.concatenate([waiting, torch.randperm(count, generator=generator).numpy()]))
                chosen = chosen if len(chosen) == self._size else self._witness
            batches.append(chosen)
            waiting = waiting[~np.isin(waiting, chosen)]
        return torch.from_numpy(np.stack(batches))

    def _apart(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        """The first of some pairs that make up a batch; fewer where more do not fit together."""
        return _apart(self._keys, pairs, self._size)


def _keys(contents: Tensor) -> NDArray[np.int64]:
    """Contents as numbers that are equal for equal contents of one side; each side has numbers of its own."""
    ids = contents.numpy()
    return ids + np.arange(ids.shape[1]) * (np.ptp(ids) + 1 if ids.size else 1)


def _rarest_first(keys: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Up to `size` pairs without a common content; those whose contents are rare take fewer places from others."""
    _, key, counts = np.unique(keys, return_inverse=True, return_counts=True)
    return _apart(keys, np.argsort(counts[key.reshape(keys.shape)].sum(1), kind="stable"), size)


def _apart(keys: NDArray[np.int64], pairs: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """The first of some pairs, up to `size`, none of which shares a content with another."""
    found = pairs[:0]
    while len(pairs) and len(found) < size:
        mine = keys[pairs]
        _, first, key = np.unique(mine, return_index=True, return_inverse=True)
        is_first = (first[key.reshape(mine.shape)] // mine.shape[1] == np.arange(len(pairs))[:, None]).all(1)
        found = np.concatenate([found, pairs[is_first]])
        pairs = pairs[~np.isin(mine, mine[is_first]).any(1)]
    return found[: max(size, 0)]
