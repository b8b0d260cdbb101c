"""Batches of anchors, each with some of its positives under a relation."""

import torch
from jaxtyping import Int64
from torch import Tensor

from tuplet.bounds import Count
from tuplet.data.related import Related
from tuplet.errors import DataError, LabelError
from tuplet.sampling.epoch import Sampler, registry
from tuplet.seeding import derive


@registry.register("related")
class RelatedSampler(Sampler):
    """Anchors in random order, and behind each so many random positives of it; others fill the batch.

    Every example is an anchor once an epoch. Under a hierarchy a positive is one of the finest level on which the
    anchor has any. An anchor without a positive stands alone. No batch holds an example twice. The relation is asked
    about an anchor and all examples when its batch is drawn.

    Args:
        related: Which pairs are positive; None if nothing says it.
        batch_size: Examples of a global batch.
        positives: Of each anchor, as many as there are.
        seed: Seed of the run.

    Raises:
        LabelError: No relation says which pairs are positive.
        DataError: There are fewer examples than a batch asks for, or no two of them are positive.
    """

    def __init__(self, related: Related | None, batch_size: Count = 128, positives: Count = 1, *, seed: int) -> None:
        if related is None or related.distance is not None:
            raise LabelError(
                "Batches of related examples need a relation that says which pairs are positive; the data has none.",
                hint="Say --set data.relation=..., or use another sampler: --set batch.name=uniform",
                reference="missing-labels",
            )
        if not positives < batch_size:
            raise ValueError(f"an anchor and {positives=} do not fit into {batch_size=}")
        if batch_size > len(related):
            raise DataError(
                f"A batch of {batch_size} examples cannot be sampled from {len(related)}.",
                hint=f"Set the batch size to a number from {positives + 1} to {len(related)}.",
                reference="batch-too-large",
            )
        self._anchors = batch_size // (1 + positives)
        super().__init__(-(-len(related) // self._anchors), seed)
        self._count, self._size, self._positives = len(related), batch_size, positives
        self._finest_first = related.about_all()[::-1]
        self._order: tuple[int, Tensor] | None = None

    @property
    def batch_size(self) -> int:
        """Positions in a batch."""
        return self._size

    def draw(self, epoch: int, batch: int) -> Int64[Tensor, " batch"]:
        """One batch of an epoch."""
        if self._order is None or self._order[0] != epoch:
            self._order = epoch, torch.randperm(self._count, generator=derive(self.seed, "sampler", epoch))
        order, generator = self._order[1], derive(self.seed, "sampler", epoch, batch)
        places = torch.arange(batch * self._anchors, (batch + 1) * self._anchors) % self._count
        is_free = torch.ones(self._count, dtype=torch.bool)
        found = [self._with_positives(anchor, is_free, generator) for anchor in order[places].tolist()]
        chosen = torch.cat(found)
        others = torch.randperm(self._count, generator=generator)
        return torch.cat([chosen, others[is_free[others]][: self._size - len(chosen)]])

    def _with_positives(self, anchor: int, is_free: Tensor, generator: torch.Generator) -> Tensor:
        """An anchor and its positives, as far as they are not in the batch already; they are then."""
        row, everyone = torch.tensor([anchor]), slice(0, self._count)
        near = row[:0]
        for relation in self._finest_first:
            positive = relation.masks(row, everyone)[0][0]
            if bool(positive.any()):
                near = (positive & is_free).nonzero()[:, 0]
                break
        near = near[torch.randperm(len(near), generator=generator)[: self._positives]]
        mine = torch.cat([row[is_free[row]], near])
        is_free[mine] = False
        return mine
