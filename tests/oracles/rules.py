"""What all oracles share: kinks, zero vectors, who is compared with whom, and the one division at the end."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

EPS = 1e-12


class Truth(NamedTuple):
    value: Tensor  # differentiable scalar
    count: float  # what the sum of the terms was divided by; weighted
    counts: dict[str, float]


class Term(NamedTuple):
    weight: float  # of the anchor
    loss: Tensor  # sum of the anchor's terms
    share: float  # of the anchor in the normaliser


def divide(terms: Iterable[Term], like: Tensor, **counts: float) -> Truth:
    """Sum of w l over sum of w n; exactly 0, with a gradient of 0, if there is nothing to divide by."""
    terms = [term for term in terms if term.weight != 0]
    count = float(sum(term.weight * term.share for term in terms))
    if count == 0:
        return Truth(like[:0].sum(), 0.0, counts)
    return Truth(sum(term.weight * term.loss for term in terms) / count, count, counts)


def sum_of_means(like: Tensor, *means: tuple[float, list[Term]]) -> Truth:
    """Each mean times a number, added up; such a loss counts as 1."""
    return Truth(sum(share * divide(terms, like).value for share, terms in means), 1.0, {})


def hinge(z: Tensor) -> Tensor:
    return torch.relu(z)  # its derivative at 0 is 0


def softplus(z: Tensor) -> Tensor:
    return torch.logaddexp(z, torch.zeros_like(z))


def root(q: Tensor) -> Tensor:
    """Square root with derivative 0 at 0."""
    return torch.where(q > 0, torch.where(q > 0, q, 1.0).sqrt(), 0.0)


def norm(x: Tensor) -> Tensor:
    """Length of the last axis, with gradient 0 for zero vectors."""
    return root(x.square().sum(-1))


def unit(x: Tensor) -> Tensor:
    """x / max(|x|, eps), with gradient 0 where |x| <= eps."""
    length = norm(x)[..., None]
    return torch.where(length > EPS, x / torch.where(length > EPS, length, 1.0), (x / EPS).detach())


def similarities(x: Tensor, y: Tensor, geometry: str) -> Tensor:
    """Larger is nearer, shape (anchors, references)."""
    if geometry == "cosine":
        return unit(x) @ unit(y).T
    if geometry == "dot":
        return x @ y.T
    return -distances(x, y, geometry)


def distances(x: Tensor, y: Tensor, geometry: str) -> Tensor:
    """Smaller is nearer, shape (anchors, references)."""
    if geometry == "cosine":
        return 1 - similarities(x, y, geometry)
    if geometry == "dot":
        return -similarities(x, y, geometry)
    squared = (x[:, None] - y[None]).square().sum(-1)
    return squared if geometry == "squared_euclidean" else root(squared)


def weight_list(weights: Tensor | None, rows: int) -> list[float]:
    return [1.0] * rows if weights is None else weights.tolist()


class Matrix(NamedTuple):
    references: Tensor  # (references, dim)
    positive: list[list[int]]  # of each anchor, ascending
    negative: list[list[int]]
    own: int  # the first `own` references are the anchors themselves


def relate(
    x: Tensor,
    labels: Tensor | None,
    *,
    references: Tensor | None = None,
    reference_labels: Tensor | None = None,
    queue: Tensor | None = None,
    queue_labels: Tensor | None = None,
) -> Matrix:
    """References, and for each anchor its positives and negatives; no labels mean that row i belongs to row i."""
    own = len(x) if references is None else 0
    if labels is None:
        labels, reference_labels = torch.arange(len(x)), torch.arange(len(references))
    rows = x if references is None else references
    theirs = labels if references is None else reference_labels
    if queue is not None:
        rows, theirs = torch.cat([rows, queue.detach()]), torch.cat([theirs, queue_labels])
    positive, negative = [], []
    for a in range(len(x)):
        others = [j for j in range(len(rows)) if not (own and j == a) and _known(labels[a]) and _known(theirs[j])]
        positive.append([j for j in others if _alike(labels[a], theirs[j])])
        negative.append([j for j in others if not _alike(labels[a], theirs[j])])
    return Matrix(rows, positive, negative, own)


def masks(matrix: Matrix) -> tuple[Tensor, Tensor]:
    """The same as bool tensors (anchors, references)."""
    positive = torch.zeros(len(matrix.positive), len(matrix.references), dtype=torch.bool)
    negative = torch.zeros_like(positive)
    for a, (P, N) in enumerate(zip(matrix.positive, matrix.negative, strict=True)):
        positive[a, P], negative[a, N] = True, True
    return positive, negative


def in_batch(labels: Tensor | None, row: int) -> bool:
    """Whether a row takes part, as one with a label does, and each of a list of pairs."""
    return labels is None or _known(labels[row])


def _known(label: Tensor) -> bool:
    return bool(label.any()) if label.ndim else label.item() != -1


def _alike(one: Tensor, two: Tensor) -> bool:
    return bool((one.bool() & two.bool()).any()) if one.ndim else one.item() == two.item()
