"""Embeddings that outlive their batch, in buffers of fixed size that are saved with the loss."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from tuplet.bounds import Count, Share, bounded
from tuplet.engine.gather import SINGLE_PROCESS, Processes, all_gather
from tuplet.engine.shards import Shards
from tuplet.errors import LabelError, ShapeError
from tuplet.geometry import normalise
from tuplet.seeding import normal_rows


class FeatureQueue(nn.Module):
    """The latest embeddings with their labels: further references for every pair and triplet loss.

    Rows are constants and never anchors. An unfilled slot has label -1 and does not count.

    Args:
        size: Number of rows kept, at least 1.
        dim: Length of an embedding.
    """

    embeddings: Tensor
    labels: Tensor
    written: Tensor

    @bounded
    def __init__(self, size: Count, dim: Count) -> None:
        super().__init__()
        if size < 1:
            raise ShapeError(f"A queue of {size} rows was asked for.", hint="Use size >= 1.", reference="queue-size")
        self.register_buffer("embeddings", torch.zeros(size, dim))
        self.register_buffer("labels", torch.full((size,), -1))
        self.register_buffer("written", torch.zeros((), dtype=torch.int64))

    @property
    def size(self) -> int:
        """Number of slots."""
        return len(self.labels)

    @torch.no_grad()
    def push(
        self,
        embeddings: Float[Tensor, "rows dim"],
        labels: Shaped[Tensor, " rows"] | None = None,
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        """Replace the oldest rows.

        Args:
            embeddings: The rows of this process; with several processes all push the same, in the order of their ranks.
            labels: Their class ids; rows with -1 are not stored. Default: 0 for all.
            processes: Who pushes together.
        """
        if labels is not None and labels.ndim != 1:
            raise LabelError(
                f"A queue was given labels of shape {tuple(labels.shape)}; it keeps one class id per row.",
                hint="Leave the queue out where an example has several labels.",
                reference="label-shape",
            )
        embeddings = all_gather(embeddings, processes)
        labels = (
            torch.zeros(len(embeddings), dtype=torch.int64, device=embeddings.device)
            if labels is None
            else all_gather(labels, processes)
        )
        labels = labels.long()  # of whatever whole type: unsigned ones have no -1, and bool selects
        known = labels != -1
        embeddings, labels = embeddings[known][-self.size :], labels[known][-self.size :]
        slots = (self.written + torch.arange(len(labels), device=self.written.device)) % self.size
        self.embeddings[slots] = embeddings.to(self.embeddings)
        self.labels[slots] = labels
        self.written += len(labels)

    def filled(self) -> tuple[Tensor, Tensor]:
        """Stored rows and their labels, by slot."""
        known = self.labels != -1
        return self.embeddings[known], self.labels[known]


@dataclass(frozen=True)
class BankRows:
    """The rows of a bank as a process sees them: constants.

    Args:
        rows: From `first` on.
        size: How many rows there are, in all processes.
        first: Position of the first row.
        shards: Who has the others.
    """

    rows: Tensor
    size: int
    first: int = 0
    shards: Processes = SINGLE_PROCESS

    def own(self, positions: Tensor) -> Tensor:
        """Positions counted from `first`; -1 where another process, or none, has the row."""
        own = positions - self.first
        return own.masked_fill((positions < 0) | (own < 0) | (own >= len(self.rows)), -1)

    def own_lists(self, lists: Tensor) -> tuple[Tensor, Tensor]:
        """Of lists of positions, (anchors, entries), the entries whose rows are here.

        Returns:
            They, counted from `first` and moved to the front; and which places hold one, both (anchors, most entries).
        """
        if self.shards.size == 1:
            return lists, torch.ones_like(lists, dtype=torch.bool)
        own = self.own(lists)
        is_own = own != -1
        number, place = is_own.sum(1, keepdim=True), is_own.cumsum(1) - 1
        width = int(number.max()) if len(number) else 0
        moved = own.new_zeros(len(own), width)
        anchors, entries = is_own.nonzero(as_tuple=True)
        moved[anchors, place[anchors, entries]] = own[anchors, entries]
        return moved, torch.arange(width, device=own.device) < number


class MemoryBank(Shards):
    r"""One unit row per example of the data set: $v_i \leftarrow \mathrm{normalise}(\mu v_i + (1 - \mu) \hat f_i)$.

    Args:
        size: Number of examples.
        dim: Length of an embedding.
        momentum: mu in [0, 1); 0 replaces the row.
        shards: Processes that own a range of the rows each; `state_dict` holds all ranges, so all must ask for it
            together, and any number of processes can load it.
        seed: Rows start as normalised Gaussians.

    Attributes:
        rows: Those of this process, from `first` on.
    """

    table: ClassVar[str] = "rows"
    rows: Tensor

    @bounded
    def __init__(
        self, size: Count, dim: Count, momentum: Share = 0.5, *, shards: Processes = SINGLE_PROCESS, seed: int = 0
    ) -> None:
        super().__init__(size, shards)
        if size < shards.size or not 0 <= momentum < 1:
            raise ShapeError(
                f"A bank of {size} rows with momentum {momentum} in {shards.size} shards was asked for.",
                hint="Use one row per example, at least one per shard, and a momentum in [0, 1).",
                reference="bank-size",
            )
        self.momentum = momentum
        self.register_buffer("rows", normalise(normal_rows(self.first, self.first + self.units, dim, seed, "bank")))

    @property
    def part(self) -> BankRows:
        """What a step compares with."""
        return BankRows(self.rows, self.all_units, self.first, self.shards)

    @torch.no_grad()
    def update(
        self,
        embeddings: Float[Tensor, "rows dim"],
        positions: Shaped[Tensor, " rows"],
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        """Mix the mean of the unit embeddings of each position into its row.

        A position that comes twice is updated once, so neither the order nor the number of processes matters. A row
        stays as it is if nothing is left of the mixture, or if its embeddings are zero.

        Args:
            embeddings: The examples of this process.
            positions: Which rows they belong to; -1 for none.
            processes: Who updates together; all hold the same bank afterwards, or each its part of it.
        """
        units = all_gather(normalise(embeddings.to(self.rows)), processes)
        positions = all_gather(positions, processes).long()
        own = self.part.own(positions)
        units, positions = units[own != -1], own[own != -1]
        touched, which, times = positions.unique(return_inverse=True, return_counts=True)  # type: ignore[no-untyped-call]
        mean = units.new_zeros(len(touched), units.shape[1]).index_add_(0, which, units) / times[:, None]
        before = self.rows[touched]
        mixed = self.momentum * before + (1 - self.momentum) * mean
        length = torch.linalg.vector_norm(mixed, dim=1, keepdim=True)
        there = (length > 1e-12) & (torch.linalg.vector_norm(mean, dim=1, keepdim=True) > 1e-12)
        self.rows[touched] = torch.where(there, mixed / length.clamp_min(1e-12), before)


def positions_in(positions: Tensor, size: int) -> tuple[Tensor, Callable[[], None]]:
    """Whether all positions lie inside a bank of `size` rows, and what raises a LabelError if they do not."""
    outside = (positions < -1) | (positions >= size)

    def explain() -> None:
        raise LabelError(
            f"Position {int(positions[outside][0])} lies outside a bank of {size} rows.",
            hint="Labels of this loss are positions in the data set: 0 to size - 1, or -1 for one that does not count.",
            reference="bank-position",
        )

    return ~outside.any(), explain
