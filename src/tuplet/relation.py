"""Which pairs are positive, negative or ignored, answered one tile at a time.

Labels stay int64: as float32, ids above 2^24 would collide. A label of -1 means "not in this batch": such an example is
neither anchor nor reference. An anchor is never a reference of itself; *self* is known by position, not by value.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tuplet.errors import LabelError
from tuplet.geometry import geometry_of
from tuplet.keys import ByDistance, Compare, Keys, LabelDistance, equal_labels, paired, shared_labels
from tuplet.types import DistanceName

SPARSE = 8
"""Positives are listed one by one while they fill less than one entry in so many."""

FEW_VALUES = 4
"""Labels of so many values are compared value by value, longer ones by a matrix product."""


@dataclass(frozen=True)
class Entries:
    """Entries of a tile by position in it: `rows[k]`, `cols[k]`."""

    rows: Tensor
    cols: Tensor

    def __len__(self) -> int:
        return len(self.rows)

    @staticmethod
    def of(mask: Tensor) -> "Entries":
        """The true entries of a mask, row by row."""
        rows, cols = mask.nonzero(as_tuple=True)
        return Entries(rows, cols)


@runtime_checkable
class Relation(Protocol):
    """Masks of one tile, never of the matrix."""

    @property
    def anchors(self) -> int:
        """Number of rows."""

    @property
    def references(self) -> int:
        """Number of columns."""

    @property
    def first(self) -> int | None:
        """Position of anchor 0 among the references; None if the references are another set."""

    def masks(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor]:
        """Positive and negative pairs of a tile, both bool (rows, cols); pairs in neither are ignored."""

    def sparse_entries(self, rows: slice, cols: slice) -> tuple[Entries, Entries] | None:
        """Positive and ignored entries of a tile if all others are negative and these are few, else None."""

    def label_distances(self, rows: slice, cols: slice) -> Tensor | None:
        """Distances between graded labels (rows, cols); None if the labels are not graded."""

    def transposed(self) -> "Relation":
        """The same pairs with references as anchors."""

    def keys(self) -> tuple[Keys, Keys, Compare]:
        """Keys of the anchors and of the references, and how two of them are compared.

        `live` is False for unknown ones; references do without where all are known or the comparison tells.
        """


class Masks:
    """What a relation does without that knows its masks alone."""

    def sparse_entries(self, rows: slice, cols: slice) -> tuple[Entries, Entries] | None:
        """The masks answer."""

    def label_distances(self, rows: slice, cols: slice) -> Tensor | None:
        """There are no graded labels."""

    def transposed(self) -> Relation:
        """There is no other direction."""
        raise NotImplementedError


class SameLabel(Masks):
    """Positive if the labels are equal, negative if they differ.

    Args:
        labels: Class ids of the anchors; -1 leaves an example out.
        reference_labels: Class ids of the references. By default anchors and references are one set.
        first: Position of anchor 0 among the references. Default: 0 for one set, none for two.
    """

    def __init__(self, labels: Tensor, reference_labels: Tensor | None = None, *, first: int | None = None) -> None:
        self.labels = _ids(labels, "labels")
        self.reference_labels = self.labels if reference_labels is None else _ids(reference_labels, "reference_labels")
        self.first = 0 if reference_labels is None and first is None else first
        self.anchors, self.references = len(self.labels), len(self.reference_labels)

    @cached_property
    def _all_known(self) -> bool:
        return not bool((self.labels == -1).any()) and not bool((self.reference_labels == -1).any())

    @cached_property
    def _sorted(self) -> tuple[Tensor, Tensor, Tensor]:
        """One number per (class, position): the positives of a tile are one range of the sorted references."""
        _, ranks = torch.cat([self.labels, self.reference_labels]).unique(return_inverse=True)  # type: ignore[no-untyped-call]
        order = ranks[self.anchors :].argsort(stable=True)
        return ranks[: self.anchors] * self.references, order, ranks[self.anchors :][order] * self.references + order

    def masks(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor]:
        """Compare the labels of the tile."""
        mine, theirs = self.labels[rows, None], self.reference_labels[None, cols]
        same = mine == theirs
        other = ~same
        if not self._all_known:
            known = (mine != -1) & (theirs != -1)
            same, other = same & known, other & known
        itself = _diagonal(self, rows, cols)
        if itself is not None:
            same[itself.rows, itself.cols] = False
        return same, other

    def sparse_entries(self, rows: slice, cols: slice) -> tuple[Entries, Entries] | None:
        """Look the positives up in the sorted references."""
        if not self._all_known:
            return None
        all_keys, columns, keys = self._sorted
        wanted = all_keys[rows]
        begin = torch.searchsorted(keys, wanted + cols.start)
        count = torch.searchsorted(keys, wanted + cols.stop) - begin
        total = int(count.sum())
        if total * SPARSE > (rows.stop - rows.start) * (cols.stop - cols.start):
            return None
        i = torch.arange(len(count), device=count.device).repeat_interleave(count, output_size=total)
        within = torch.arange(total, device=count.device) - (count.cumsum(0) - count)[i]
        j = columns[begin[i] + within] - cols.start
        itself = _diagonal(self, rows, cols)
        if itself is None:
            return Entries(i, j), Entries(i[:0], i[:0])
        other = j + cols.start != i + (rows.start + (self.first or 0))
        return Entries(i[other], j[other]), itself

    def transposed(self) -> "SameLabel":
        """References ask, anchors answer."""
        first = None if self.first is None else -self.first
        return SameLabel(self.reference_labels, self.labels, first=first)

    def keys(self) -> tuple[Keys, Keys, Compare]:
        """The labels."""
        return {"label": self.labels, "live": self.labels != -1}, {"label": self.reference_labels}, equal_labels


class SharedLabel(Masks):
    """Positive if two examples share a label, negative if both have labels and share none.

    Args:
        labels: Multi-hot labels of the anchors, integer or bool (anchors, classes); a row without any is left out.
        reference_labels: The same for the references. By default anchors and references are one set.
        first: As in `SameLabel`.
    """

    def __init__(self, labels: Tensor, reference_labels: Tensor | None = None, *, first: int | None = None) -> None:
        self.labels = _multi_hot(labels, "labels")
        self.reference_labels = (
            self.labels if reference_labels is None else _multi_hot(reference_labels, "reference_labels")
        )
        if self.labels.shape[1] != self.reference_labels.shape[1]:
            raise LabelError(
                f"labels have {self.labels.shape[1]} columns, reference_labels have {self.reference_labels.shape[1]}.",
                hint="Give both one column for each class, in the same order.",
                reference="label-shape",
            )
        self.first = 0 if reference_labels is None and first is None else first
        self.anchors, self.references = len(self.labels), len(self.reference_labels)

    def masks(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor]:
        """Count the shared labels of the tile."""
        mine, theirs = self.labels[rows], self.reference_labels[cols]
        # float32 counts are exact up to 2^24 shared labels, far above any number of columns
        share = (mine.float() @ theirs.float().T) > 0
        known = mine.any(1)[:, None] & theirs.any(1)[None, :]
        positive, negative = share & known, ~share & known
        itself = _diagonal(self, rows, cols)
        if itself is not None:
            positive[itself.rows, itself.cols] = False
        return positive, negative

    def transposed(self) -> "SharedLabel":
        """References ask, anchors answer."""
        return SharedLabel(self.reference_labels, self.labels, first=None if self.first is None else -self.first)

    def keys(self) -> tuple[Keys, Keys, Compare]:
        """The labels as numbers, to be multiplied."""
        mine, theirs = ({"labels": x.float(), "live": x.any(1)} for x in (self.labels, self.reference_labels))
        return mine, theirs, shared_labels


class Paired(Masks):
    """Each anchor has at most one positive; all other references are its negatives.

    Args:
        partner: Position of each anchor's positive among the references; -1 for none.
        references: How many references there are.
        live: Which of them take part, (references,); None for all.
    """

    def __init__(self, partner: Tensor, references: int, live: Tensor | None = None) -> None:
        self.partner, self.live = _ids(partner, "partner"), live
        self.anchors, self.references = len(partner), references
        self.first: int | None = None

    @staticmethod
    def diagonal(anchors: int, references: int | None = None, device: torch.device | None = None) -> "Paired":
        """Reference i is the positive of anchor i."""
        return Paired(torch.arange(anchors, device=device), anchors if references is None else references)

    def masks(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor]:
        """Compare positions."""
        positive = self.partner[rows, None] == torch.arange(cols.start, cols.stop, device=self.partner.device)[None, :]
        return (positive, ~positive) if self.live is None else (positive & self.live[cols], ~positive & self.live[cols])

    def sparse_entries(self, rows: slice, cols: slice) -> tuple[Entries, Entries] | None:
        """One entry per row at most."""
        if self.live is not None:
            return None
        partner = self.partner[rows]
        i = ((partner >= cols.start) & (partner < cols.stop)).nonzero()[:, 0]
        return Entries(i, partner[i] - cols.start), Entries(i[:0], i[:0])

    def transposed(self) -> "Paired":
        """References ask, anchors answer; a reference without an anchor, or one that takes no part, has no positive."""
        back = self.partner.new_full((self.references,), -1)
        known = self.partner >= 0
        back[self.partner[known]] = torch.arange(self.anchors, device=back.device)[known]
        return Paired(back, self.anchors)

    def keys(self) -> tuple[Keys, Keys, Compare]:
        """Positions."""
        mine = {"partner": self.partner, "live": torch.ones_like(self.partner, dtype=torch.bool)}
        return mine, {} if self.live is None else {"live": self.live}, paired


class Graded(Masks):
    """Labels are numbers; every pair has a label distance and no pair is positive.

    Args:
        labels: Values of the anchors, (anchors,) or (anchors, values).
        reference_labels: The same for the references. By default anchors and references are one set.
        geometry: Distance between two labels, "euclidean" or "squared_euclidean", or any function of them.
        first: As in `SameLabel`.
    """

    def __init__(
        self,
        labels: Tensor,
        reference_labels: Tensor | None = None,
        geometry: DistanceName | LabelDistance = "squared_euclidean",
        *,
        first: int | None = None,
    ) -> None:
        self.labels = _columns(labels)
        self.reference_labels = self.labels if reference_labels is None else _columns(reference_labels)
        self.geometry = geometry
        self.first = 0 if reference_labels is None and first is None else first
        self.anchors, self.references = len(self.labels), len(self.reference_labels)

    def masks(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor]:
        """All pairs but an anchor with itself count."""
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        negative = torch.ones(shape, dtype=torch.bool, device=self.labels.device)
        itself = _diagonal(self, rows, cols)
        if itself is not None:
            negative[itself.rows, itself.cols] = False
        return torch.zeros_like(negative), negative

    def sparse_entries(self, rows: slice, cols: slice) -> tuple[Entries, Entries]:
        """No positives; at most one ignored entry per row."""
        nothing = torch.empty(0, dtype=torch.int64, device=self.labels.device)
        return Entries(nothing, nothing), _diagonal(self, rows, cols) or Entries(nothing, nothing)

    def label_distances(self, rows: slice, cols: slice) -> Tensor:
        """Distances of the labels of a tile."""
        mine, theirs = self.labels[rows], self.reference_labels[cols]
        if callable(self.geometry):
            return _checked(self.geometry(mine, theirs), len(mine), len(theirs))
        if mine.shape[1] > FEW_VALUES:
            out = mine.new_empty(len(mine), len(theirs))
            geometry_of(self.geometry).scores(mine, theirs, out)
            return out
        squares = (mine[:, 0, None] - theirs[:, 0]).square_()
        for k in range(1, mine.shape[1]):
            squares += (mine[:, k, None] - theirs[:, k]).square_()
        return squares.sqrt_() if self.geometry == "euclidean" else squares

    def transposed(self) -> "Graded":
        """References ask, anchors answer."""
        first = None if self.first is None else -self.first
        return Graded(self.reference_labels, self.labels, self.geometry, first=first)

    def check_distances(self) -> None:
        """Ask a person's function for all distances once, some rows at a time.

        Raises:
            LabelError: If one is negative or not finite, or the shape is wrong.
        """
        step = max(1, 2**22 // max(1, self.references))
        for begin in range(0, self.anchors, step):
            self.label_distances(slice(begin, min(begin + step, self.anchors)), slice(0, self.references))

    def keys(self) -> tuple[Keys, Keys, Compare]:
        """The values."""
        live = torch.ones(len(self.labels), dtype=torch.bool, device=self.labels.device)
        mine, theirs = self.labels, self.reference_labels
        return {"values": mine, "live": live}, {"values": theirs}, ByDistance(self.geometry)


def repeated(relation: Relation, times: int) -> Relation | None:
    """All anchors several times over, one time after the other, as a set of its own; None if it cannot be said.

    An anchor is a positive of itself then, where it is among the references, and as before no negative.
    """
    if isinstance(relation, SameLabel):
        return SameLabel(relation.labels.repeat(times), relation.reference_labels)
    if isinstance(relation, Paired):
        return Paired(relation.partner.repeat(times), relation.references, relation.live)
    return None


def _diagonal(relation: Relation, rows: slice, cols: slice) -> Entries | None:
    """Where anchors of a tile meet themselves; None if anchors and references are two sets."""
    if relation.first is None:
        return None
    begin = max(rows.start + relation.first, cols.start)
    stop = min(rows.stop + relation.first, cols.stop)
    device = relation.labels.device if hasattr(relation, "labels") else None
    met = torch.arange(begin, max(begin, stop), device=device)
    return Entries(met - (rows.start + relation.first), met - cols.start)


def _ids(labels: Tensor, name: str) -> Tensor:
    if labels.ndim != 1 or labels.is_floating_point() or labels.is_complex():
        raise LabelError(
            f"{name} have shape {tuple(labels.shape)} and type {labels.dtype}; "
            "one whole number per example is expected.",
            hint="Pass a 1-D tensor of int64 class ids; graded labels go to LogRatioLoss, multi-hot labels are 2-D.",
            reference="label-shape",
        )
    return labels.long()


def _checked(label_distances: Tensor, rows: int, cols: int) -> Tensor:
    """A copy of what a person's function returned, which the pass may write into."""
    if label_distances.shape != (rows, cols) or not bool(
        (torch.isfinite(label_distances) & (label_distances >= 0)).all()
    ):
        raise LabelError(
            f"The label distance returned shape {tuple(label_distances.shape)} for {rows} anchors and {cols} "
            "references, or numbers that are negative or not finite.",
            hint="Return one finite number >= 0 for each pair, (anchors, references); labels come as (n, values).",
            reference="label-distance",
        )
    return label_distances.double().clone()


def _columns(values: Tensor) -> Tensor:
    return values[:, None] if values.ndim == 1 else values.flatten(1)


def _multi_hot(labels: Tensor, name: str) -> Tensor:
    if labels.ndim != 2 or labels.is_floating_point() or bool(((labels < 0) | (labels > 1)).any()):
        raise LabelError(
            f"{name} have shape {tuple(labels.shape)} and type {labels.dtype}; multi-hot rows of 0 and 1 are expected.",
            hint="Pass an integer or bool tensor of shape (examples, classes); class ids are 1-D.",
            reference="label-shape",
        )
    return labels != 0
