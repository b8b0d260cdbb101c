"""Batches of an anchor, what is nearest to it in label space, and others."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from torch import Tensor

from tuplet.bounds import Count, Number
from tuplet.errors import DataError, LabelError
from tuplet.sampling.epoch import Sampler, registry
from tuplet.seeding import derive


@registry.register("neighbours")
class NeighbourSampler(Sampler):
    """Dense triplet mining: an anchor, its K nearest neighbours by label, and random others; the anchor comes first.

    Every example is the anchor of one batch of each epoch. Label distance is Euclidean, in float64; of equally near
    examples those at the lower position count as nearer. No batch holds an example twice. Labels are sorted once, so
    that a batch looks at those near its anchor and not at all of them.

    Args:
        targets: Graded labels, one number or one vector per example; None if the data has none.
        batch_size: Examples of a global batch, the anchor included.
        neighbours: K, at least 0.
        seed: Seed of the run.

    Raises:
        LabelError: The data has no graded labels.
        DataError: There are fewer examples than the batch asks for.

    References:
        Kim, Seo, Laptev, Cho, Kwak, "Deep Metric Learning Beyond Binary Supervision", 2019, section 4.
    """

    def __init__(
        self,
        targets: Float[Tensor, "examples *values"] | None,
        batch_size: Count = 130,
        neighbours: Number = 5,
        *,
        seed: int,
    ) -> None:
        if targets is None:
            raise LabelError(
                "Neighbours in label space need graded labels, and the loss of this recipe reads none.",
                hint='Use a graded loss (loss.name = "log_ratio"), or another sampler.',
                reference="missing-labels",
            )
        if not 0 <= neighbours < batch_size:
            raise ValueError(f"an anchor and {neighbours=} do not fit into {batch_size=}")
        if batch_size > len(targets):
            raise DataError(
                f"A batch of {batch_size} examples cannot be sampled from {len(targets)}.",
                hint=f"Set the batch size to a number from {neighbours + 1} to {len(targets)}.",
                reference="batch-too-large",
            )
        super().__init__(len(targets), seed)
        self._count = len(targets)
        self._space = _LabelSpace(targets.double().view(len(targets), -1).numpy())
        self._size, self._neighbours = batch_size, neighbours
        self._anchors: tuple[int, Tensor] | None = None

    @property
    def batch_size(self) -> int:
        """Positions in a batch."""
        return self._size

    def draw(self, epoch: int, batch: int) -> Int64[Tensor, " batch"]:
        """One batch of an epoch."""
        if self._anchors is None or self._anchors[0] != epoch:
            self._anchors = epoch, torch.randperm(self._count, generator=derive(self.seed, "sampler", epoch))
        anchor = int(self._anchors[1][batch])
        near = np.concatenate([[anchor], self._space.nearest(anchor, self._neighbours)])
        others = self._others(near, derive(self.seed, "sampler", epoch, batch))
        return torch.from_numpy(np.concatenate([near, others]))

    def _others(self, near: NDArray[np.int64], generator: torch.Generator) -> NDArray[np.int64]:
        """Random examples that are not near, each at most once, in random order."""
        found, wanted = near[:0], self._size - len(near)
        while len(found) < wanted:
            if 4 * self._size > self._count:  # most draws would be taken already
                sampled = torch.randperm(self._count, generator=generator).numpy()
            else:
                sampled = torch.randint(self._count, (2 * self._size,), generator=generator).numpy()
            sampled = np.concatenate([found, sampled[~np.isin(sampled, near)]])
            found = sampled[np.sort(np.unique(sampled, return_index=True)[1])][:wanted]  # in the order of their draws
        return found


class _LabelSpace:
    """Different graded labels, sorted along the axis in which they spread most, and the examples that have each.

    Args:
        targets: (examples, values).
    """

    def __init__(self, targets: NDArray[np.float64]) -> None:
        if targets.shape[1]:
            axis = int(np.ptp(targets, axis=0).argmax())
            targets = np.roll(targets, -axis, axis=1)  # rows are sorted by their first value
        else:
            targets = np.zeros((len(targets), 1))
        self._labels, self._label_of, counts = np.unique(targets, axis=0, return_inverse=True, return_counts=True)
        self._label_of = self._label_of.reshape(-1)
        self._members = np.argsort(self._label_of, kind="stable")
        self._ends = np.cumsum(counts)
        self._starts = self._ends - counts

    def nearest(self, example: int, count: int) -> NDArray[np.int64]:
        """The `count` nearest to an example, nearest first; fewer if there are fewer."""
        if not count:
            return np.zeros(0, np.int64)
        mine, reach = int(self._label_of[example]), 2 * count
        along = self._labels[:, 0]
        while True:  # until whoever may be as near as the last one lies in the range
            first, last = max(0, mine - reach), min(len(along), mine + reach + 1)
            found, distances = self._sorted(example, first, last, count)
            limit = distances[-1] * (1 + 1e-12) if len(found) == count else np.inf
            least, most = np.searchsorted(along, [along[mine] - limit, np.nextafter(along[mine] + limit, np.inf)])
            if first <= least and most <= last:
                return found
            reach *= 4

    def _sorted(self, example: int, first: int, last: int, count: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Up to `count` examples of a range of labels, nearest first, and their distances."""
        label_differences = self._labels[first:last] - self._labels[self._label_of[example]]
        distances = (
            np.sqrt(np.square(label_differences).sum(1))
            if label_differences.shape[1] > 1
            else np.abs(label_differences[:, 0])
        )
        sizes = np.minimum(self._ends[first:last] - self._starts[first:last], count + 1)
        owner = np.repeat(np.arange(last - first), sizes)
        places = self._starts[first:last][owner] + np.arange(len(owner)) - (np.cumsum(sizes) - sizes)[owner]
        members = self._members[places]  # at most count + 1 of a label: more of them cannot be among the nearest
        order = np.lexsort((members, distances[owner]))
        order = order[members[order] != example][:count]
        return members[order], distances[owner[order]]
