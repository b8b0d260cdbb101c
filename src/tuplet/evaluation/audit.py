"""What may be wrong with a labelled collection: copies, wrong labels, outliers, classes that are confused."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from tuplet.bounds import Count, bounded
from tuplet.engine.topk import nearness, topk
from tuplet.types import GeometryName

FAR = 4.0
"""Robust deviations from the median at which an example is called an outlier."""


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """How well the neighbours of each example agree with its label.

    Attributes:
        evidence: Share of neighbours of the most frequent other class, less that of the example's own, in [-1, 1], with
            ties ranked by how much nearer the other class is. Large values are likely wrong labels.
        suggested: That other class; -1 where no neighbour has one.
        nearest: The nearest neighbour of that class, a row of the gallery; -1 for none.
    """

    evidence: Float[Tensor, " queries"]
    suggested: Int64[Tensor, " queries"]
    nearest: Int64[Tensor, " queries"]


@bounded
def label_issues(
    queries: Float[Tensor, "queries dim"],
    labels: Int64[Tensor, " queries"],
    gallery: Float[Tensor, "gallery dim"],
    gallery_labels: Int64[Tensor, " gallery"],
    geometry: GeometryName = "cosine",
    *,
    exclude: Int64[Tensor, " queries"] | None = None,
    neighbours: Count = 10,
) -> LabelIssues:
    """Compare each label with those of the nearest examples.

    A model that was trained on an example with a wrong label may have learned it; let each example be evaluated by a
    model that has not seen it, for instance by cross-validation.

    Args:
        queries: Embeddings whose labels are in question.
        labels: Their class ids; -1 for unknown, which are never suspected.
        gallery: Key embeddings.
        gallery_labels: Their class ids; those of -1 do not vote.
        geometry: How two embeddings are compared.
        exclude: For each query one row of the gallery that does not vote, usually its own; -1 for none.
        neighbours: How many vote.

    Returns:
        Evidence against each label.
    """
    known = (gallery_labels >= 0).nonzero()[:, 0]
    if exclude is not None:
        places = torch.full((len(gallery) + 1,), -1)
        places[known] = torch.arange(len(known))
        exclude = places[exclude]
    found = topk(queries, gallery[known], neighbours, geometry, exclude=exclude)
    votes = gallery_labels[known][found.positions.clamp_min(0)].masked_fill(found.positions < 0, -1)
    scores = nearness(found.scores, geometry)
    own = votes == labels[:, None]
    # How many neighbours share the class of each neighbour; the most frequent other class is the largest.
    alike = ((votes[:, :, None] == votes[:, None, :]) & (votes >= 0)[:, None, :]).sum(2)
    others = torch.where(own | (votes < 0), 0, alike)
    most, at = others.max(1)  # of equal counts the nearest
    suggested = torch.where(most > 0, votes.gather(1, at[:, None])[:, 0], -1)
    best_own = torch.where(own, scores, -torch.inf).amax(1)
    best_other = torch.where(others == most[:, None], scores, -torch.inf).amax(1)
    gap = torch.where(most > 0, best_other, -torch.inf) - best_own.clamp_min(scores[:, -1])
    evidence = (most - own.sum(1)).double() / neighbours + torch.tanh(gap.nan_to_num(0.0)) / (2 * neighbours)
    evidence = torch.where((labels >= 0) & (most > 0), evidence, -1.0)
    nearest = found.positions.gather(1, at[:, None])[:, 0]
    nearest = torch.where(most > 0, known[nearest.clamp_min(0)], -1)
    return LabelIssues(evidence.float(), suggested, nearest)


@bounded
def duplicate_groups(
    features: Float[Tensor, "rows dim"], least: float = 0.99, *, contents: tuple[str, ...] | None = None
) -> list[NDArray[np.int64]]:
    """Groups of rows that are nearly the same: chains of pairs with a cosine of at least `least`.

    Args:
        features: The inputs themselves as vectors, centred, not embeddings: those are alike within a class.
        least: Cosine from which two rows are copies, in (0, 1].
        contents: Digest of each item; equal ones are copies whatever their features.

    Returns:
        Positions of each group of two or more, the largest group first.
    """
    count, width = len(features), min(len(features), 11)
    pairs: list[NDArray[np.int64]] = []
    if count > 1:
        found = topk(features, features, width - 1, "cosine", exclude=torch.arange(count))
        row, rank = ((found.scores >= least) & (found.positions >= 0)).nonzero(as_tuple=True)
        pairs.append(torch.stack([row, found.positions[row, rank]]).numpy())
    if contents is not None:
        first: dict[str, int] = {}
        same = [(first.setdefault(content, at), at) for at, content in enumerate(contents)]
        pairs.append(np.array([pair for pair in same if pair[0] != pair[1]], np.int64).reshape(-1, 2).T)
    edges = np.concatenate(pairs, 1) if pairs else np.empty((2, 0), np.int64)
    graph = coo_array((np.ones(edges.shape[1]), (edges[0], edges[1])), shape=(count, count))
    _, component = connected_components(graph, directed=False)
    order = np.argsort(component, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(component[order])) + 1) if count else []
    return sorted((group for group in groups if len(group) > 1), key=lambda group: (-len(group), int(group[0])))


@bounded
def outliers(
    embeddings: Float[Tensor, "rows dim"], geometry: GeometryName = "cosine", *, neighbours: Count = 5
) -> Float[Tensor, " rows"]:
    """How far each row is from its nearest ones, in robust deviations from the median; `FAR` and more is an outlier."""
    own = torch.arange(len(embeddings))
    found = topk(embeddings, embeddings, min(neighbours, max(1, len(own) - 1)), geometry, exclude=own)
    far = -nearness(found.scores, geometry).mean(1)
    middle = far.median()
    spread = 1.4826 * (far - middle).abs().median()
    return ((far - middle) / spread.clamp_min(1e-12)).float()


def confused(
    labels: Int64[Tensor, " rows"], suggested: Int64[Tensor, " rows"], evidence: Tensor
) -> list[tuple[int, int, int]]:
    """Pairs of classes, and how many examples of the first are taken for the second; the most frequent first."""
    wrong = (evidence > 0) & (labels >= 0) & (suggested >= 0)
    pairs, counts = torch.unique(torch.stack([labels[wrong], suggested[wrong]]), dim=1, return_counts=True)
    found = zip(pairs[0].tolist(), pairs[1].tolist(), counts.tolist(), strict=True)
    return sorted(found, key=lambda each: (-each[2], each[:2]))
