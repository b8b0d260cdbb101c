"""Pairs and triplets that a person lists: row i of one tensor meets row i of the others, and nothing else."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuplet.engine import SINGLE_PROCESS, Outcome, Reduction
from tuplet.engine.gather import all_reduce_sum, reduce_sum
from tuplet.engine.reduction import Tile
from tuplet.errors import LabelError, ShapeError
from tuplet.geometry import normalise
from tuplet.keys import Compare, Keys
from tuplet.losses.inputs import check_embeddings, check_weights
from tuplet.relation import Masks
from tuplet.tensors import wide_dtype
from tuplet.types import GeometryName


@dataclass(frozen=True)
class ListedRelation(Masks):
    """A relation given entry by entry, for a few candidates of each anchor.

    Args:
        positive: bool (anchors, candidates).
        negative: bool (anchors, candidates).
    """

    positive: Tensor
    negative: Tensor
    first: int | None = None

    @property
    def anchors(self) -> int:
        """Number of rows."""
        return len(self.positive)

    @property
    def references(self) -> int:
        """Number of candidates of each."""
        return self.positive.shape[1]

    def masks(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor]:
        """As given."""
        return self.positive[rows, cols], self.negative[rows, cols]

    def keys(self) -> tuple[Keys, Keys, Compare]:
        """Entries are given one by one; they do not follow from an anchor and a candidate alone."""
        raise NotImplementedError


def triplets(
    reduction: Reduction[Any],
    anchors: Tensor,
    positives: Tensor,
    negatives: Tensor,
    geometry: GeometryName,
    sides: Mapping[str, Any],
    *,
    swap: bool = False,
) -> Outcome:
    """Each anchor with its own positive and its own negatives, (anchors, dim) or (anchors, n, dim).

    With the swap a negative is as far as the nearer of anchor and positive is from it.

    Raises:
        ShapeError: If there is not one positive, and one negative or list of them, for each anchor.
    """
    check_embeddings(anchors, "embeddings")
    check_embeddings(positives, "positives")
    others = negatives[:, None] if negatives.ndim == 2 else negatives
    if positives.shape != anchors.shape or others.ndim != 3 or (len(others), others.shape[2]) != anchors.shape:
        raise ShapeError(
            f"anchors have shape {tuple(anchors.shape)}, positives {tuple(positives.shape)}, negatives "
            f"{tuple(negatives.shape)}.",
            hint="Row i of all three is one triplet: (rows, dim) each; negatives may be (rows, n, dim).",
            reference="embedding-shape",
        )
    check_embeddings(others.flatten(0, 1), "negatives")
    candidates = torch.cat([positives[:, None], others], 1)
    positive = torch.zeros(candidates.shape[:2], dtype=torch.bool, device=anchors.device)
    positive[:, 0] = True
    swapped = positives if swap else None
    return _reduced(
        reduction, anchors, candidates, ListedRelation(positive, ~positive), geometry, sides, swapped=swapped
    )


def pairs(
    reduction: Reduction[Any],
    embeddings: Tensor,
    references: Tensor | None,
    same: Tensor,
    geometry: GeometryName,
    sides: Mapping[str, Any],
    *,
    only: bool | None = None,
) -> Outcome:
    """Row i of the embeddings with row i of the references: alike or not; `only` those that are, or are not.

    Raises:
        LabelError: If `same` does not say so of each row.
        ShapeError: If there are not as many references as embeddings.
    """
    check_embeddings(embeddings, "embeddings")
    if references is None or references.shape != embeddings.shape:
        found = "no references" if references is None else f"references of shape {tuple(references.shape)}"
        raise ShapeError(
            f"same was given with {found} for embeddings of shape {tuple(embeddings.shape)}.",
            hint="Call loss(first, references=second, same=...): row i of both is a pair.",
            reference="embedding-shape",
        )
    check_embeddings(references, "references")
    if same.shape != (len(embeddings),) or not bool(((same == 0) | (same == 1)).all()):
        raise LabelError(
            f"same has shape {tuple(same.shape)} for {len(embeddings)} pairs, or holds other numbers than 0 and 1.",
            hint="Pass 1 (or True) for a pair that is alike and 0 (or False) for one that is not.",
            reference="label-shape",
        )
    alike = same.bool()[:, None]
    relation = ListedRelation(alike & (only is not False), ~alike & (only is not True))
    return _reduced(reduction, embeddings, references[:, None], relation, geometry, sides)


def added(*outcomes: Outcome) -> Outcome:
    """The sum of several means, as one mean."""
    total = torch.stack([outcome.value for outcome in outcomes]).sum()
    return Outcome(total, torch.ones_like(outcomes[0].count), outcomes[0].stats)


def refuse_labels(labels: Tensor | None, given: str) -> None:
    """Listed rows say themselves who belongs to whom.

    Raises:
        LabelError: If class labels were given too.
    """
    if labels is not None:
        raise LabelError(
            f"labels and {given} were given; one of them says who belongs to whom.",
            hint="Leave labels out for listed rows; or leave them in, and the rest out, to compare all rows by class.",
            reference="labels-missing",
        )


def _reduced(
    reduction: Reduction[Any],
    anchors: Tensor,
    candidates: Tensor,
    relation: ListedRelation,
    geometry: GeometryName,
    sides: Mapping[str, Any],
    *,
    swapped: Tensor | None = None,
) -> Outcome:
    """The pass for candidates (anchors, n, dim) of each anchor: their scores are as many as the inputs have rows."""
    weights, processes = sides.get("weights"), sides.get("processes", SINGLE_PROCESS)
    check_weights(weights, anchors)
    wide = wide_dtype(anchors, candidates)
    with torch.autocast(anchors.device.type, enabled=False):
        scores = _distances(anchors.to(wide)[:, None], candidates.to(wide), geometry)
        if swapped is not None:
            from_positive = _distances(swapped.to(wide)[:, None], candidates[:, 1:].to(wide), geometry)
            scores = torch.cat([scores[:, :1], torch.minimum(scores[:, 1:], from_positive)], 1)
        total, count, stats = _Reduced.apply(scores, reduction, relation, weights, bool(sides.get("stats", False)))  # type: ignore[no-untyped-call]
    found = {name: all_reduce_sum(value, processes) for name, value in stats.items()}
    return Outcome(reduce_sum(total, processes), all_reduce_sum(count, processes), found)


def _distances(a: Tensor, b: Tensor, geometry: GeometryName) -> Tensor:
    """Distances row by row; where two rows are equal a plain distance has no gradient."""
    if geometry == "dot":
        return -(a * b).sum(-1)
    if geometry == "cosine":
        return 1 - (normalise(a) * normalise(b)).sum(-1)
    squares = (a - b).square().sum(-1)
    if geometry == "squared_euclidean":
        return squares
    apart = squares > 0
    return torch.where(apart, torch.where(apart, squares, 1.0).sqrt(), 0.0)


class _Reduced(torch.autograd.Function):
    """A reduction of rows that are all there; the gradient of each score is kept and multiplied in backward."""

    @staticmethod
    def forward(
        ctx: Any,
        scores: Tensor,
        reduction: Reduction[Any],
        relation: ListedRelation,
        weights: Tensor | None,
        stats: bool,
    ) -> Any:
        rows, cols = slice(0, relation.anchors), slice(0, relation.references)
        tile = Tile(scores.clone(), rows, cols, relation, kept=True, measured=stats)
        state = reduction.start(scores, rows)
        for step in range(reduction.passes):
            reduction.update(step, state, tile)
        partial = reduction.finish(state)
        grad_scores = reduction.grad_scores(state, tile)
        loss, count = partial.loss.double(), partial.count.double()
        each = None if weights is None else weights.double()
        if each is not None:
            loss, count, grad_scores = loss * each, count * each, grad_scores * weights[:, None].to(grad_scores.dtype)  # type: ignore[index]  # there it is
        ctx.save_for_backward(grad_scores)
        sums = {name: (value.double() if each is None else value * each).sum() for name, value in partial.stats.items()}
        ctx.mark_non_differentiable(count_sum := count.sum())
        return loss.sum().to(scores.dtype), count_sum, sums if stats else {}

    @staticmethod
    def backward(ctx: Any, grad: Tensor, *_: Any) -> Any:
        (grad_scores,) = ctx.saved_tensors
        return grad_scores * grad, None, None, None, None
