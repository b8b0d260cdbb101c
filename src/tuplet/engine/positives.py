"""The positives of each anchor as a list of places: what a program reads that meets all of them at once.

Triplets compare a negative with every positive of the anchor. Their distances are values of the anchor,
(anchors, most), so that the pass over the matrix stays pointwise.
"""

from typing import Any

import torch
from torch import Tensor

from tuplet.engine.recording import most_of
from tuplet.engine.tiles import spans
from tuplet.relation import Paired, Relation, SameLabel

GATHERED = 2**24
"""Numbers of gathered positives held at once."""


def positive_places(relation: Relation) -> tuple[Tensor, Tensor]:
    """Places of each anchor's positives among the references, padded, and which of them exist: both (anchors, most).

    The number of columns is read back from an accelerator.
    """
    if isinstance(relation, Paired):
        return relation.partner.clamp_min(0)[:, None], (relation.partner >= 0)[:, None]
    if not isinstance(relation, SameLabel):
        return _by_masks(relation)
    mine, theirs = relation.labels, relation.reference_labels
    ordered, order = theirs.sort(stable=True)
    begin = torch.searchsorted(ordered, mine)
    known = mine != -1
    counts = torch.where(known, torch.searchsorted(ordered, mine, right=True) - begin, 0)
    step = torch.arange(most_of(counts), device=mine.device)
    there = step < counts[:, None]
    places = torch.where(there, begin[:, None] + step, 0)
    places = order[places] if len(theirs) else places
    if relation.first is not None:
        itself = torch.arange(len(mine), device=mine.device)[:, None] + relation.first
        there = there & (places != itself)
    return places, there


def _by_masks(relation: Relation) -> tuple[Tensor, Tensor]:
    """For labels in common, which no order brings together: some rows of the mask at a time."""
    everything = slice(0, relation.references)
    blocks = spans(relation.anchors, GATHERED // max(1, relation.references))
    most = max(most_of(relation.masks(rows, everything)[0].sum(1)) for rows in blocks)
    places, there = [], []
    for rows in blocks:
        positive = relation.masks(rows, everything)[0]
        found = positive.int().sort(dim=1, descending=True, stable=True)
        places.append(found.indices[:, :most])
        there.append(found.values[:, :most] > 0)
    return torch.cat(places), torch.cat(there)


def listed_products(a: Tensor, r: Tensor, places: Tensor, *, apart: bool) -> Tensor:
    """Inner products of each anchor with its listed references, or their squared distances; (anchors, listed).

    Args:
        a: (anchors, dim).
        r: (references, dim).
        places: (anchors, listed).
        apart: True for squared distances, coordinate by coordinate.
    """
    return _Listed.apply(a, r, places, apart)  # type: ignore[no-untyped-call]


class _Listed(torch.autograd.Function):
    """Gathers some anchors' references at a time, forth and back; the gradient is summed in a fixed order."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, r: Tensor, places: Tensor, apart: bool) -> Tensor:
        ctx.save_for_backward(a, r, places)
        ctx.apart = apart
        parts = [a.new_zeros(0, places.shape[1])]
        for rows in _blocks(places, a.shape[1]):
            theirs = r[places[rows]]
            if apart:
                parts.append((a[rows, None] - theirs).square_().sum(2))
            else:
                parts.append(torch.einsum("rd,rkd->rk", a[rows], theirs))
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:
        a, r, places = ctx.saved_tensors
        mine, theirs = torch.zeros_like(a), torch.zeros_like(r)
        for rows in _blocks(places, a.shape[1]):
            by = grad[rows, :, None]
            if ctx.apart:
                step = 2 * by * (a[rows, None] - r[places[rows]])
                mine[rows] = step.sum(1)
                theirs.index_put_((places[rows],), -step, accumulate=True)
            else:
                mine[rows] = (by * r[places[rows]]).sum(1)
                theirs.index_put_((places[rows],), by * a[rows, None], accumulate=True)
        return mine, theirs, None, None


def _blocks(places: Tensor, dim: int) -> list[slice]:
    size = max(1, GATHERED // max(1, places.shape[1] * dim))
    return [slice(begin, begin + size) for begin in range(0, len(places), size)]
