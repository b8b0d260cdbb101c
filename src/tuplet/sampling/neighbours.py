"""Batches of an anchor, what is nearest to it in label space, and others."""

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tuplet.errors import DataError, LabelError
from tuplet.sampling.epoch import Sampler, registry
from tuplet.seeding import derive


@registry.register("neighbours")
class NeighbourSampler(Sampler):
    """Dense triplet mining: an anchor, its K nearest neighbours by label, and random others; the anchor comes first.

    Every example is the anchor of one batch of each epoch. Label distance is Euclidean; of equally near examples those
    at the lower position count as nearer. No batch holds an example twice. Distances are taken from one anchor at a
    time, in float64, so working memory is that of the labels.

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
        batch_size: int = 130,
        neighbours: int = 5,
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
                f"A batch of {batch_size} examples cannot be drawn from {len(targets)}.",
                hint=f"Set the batch size to a number from {neighbours + 1} to {len(targets)}.",
                reference="batch-too-large",
            )
        super().__init__(len(targets), seed)
        self._targets = targets.double().view(len(targets), -1).numpy()
        self._size, self._neighbours = batch_size, neighbours
        self._anchors: tuple[int, Tensor] | None = None

    @property
    def batch_size(self) -> int:
        """Positions in a batch."""
        return self._size

    def draw(self, epoch: int, batch: int) -> Int64[Tensor, " batch"]:
        """One batch of an epoch."""
        if self._anchors is None or self._anchors[0] != epoch:
            self._anchors = epoch, torch.randperm(len(self._targets), generator=derive(self.seed, "sampler", epoch))
        anchor = int(self._anchors[1][batch])
        nearest = self._nearest(anchor)
        order = torch.randperm(len(self._targets), generator=derive(self.seed, "sampler", epoch, batch))
        taken = torch.zeros(len(order), dtype=torch.bool)
        taken[anchor] = taken[nearest] = True
        others = order[~taken[order]][: self._size - 1 - len(nearest)]
        return torch.cat([torch.tensor([anchor]), nearest, others])

    def _nearest(self, anchor: int) -> Int64[Tensor, " neighbours"]:
        """The K nearest by label, nearest first."""
        squares = np.square(self._targets - self._targets[anchor]).sum(1)
        squares[anchor] = np.inf
        limit = np.partition(squares, self._neighbours - 1)[self._neighbours - 1] if self._neighbours else -1.0
        within = np.flatnonzero(squares <= limit)
        return torch.from_numpy(within[np.argsort(squares[within], kind="stable")][: self._neighbours])
