"""Centroid triplet loss: each example against the means of classes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor

from tuplet.bounds import NotNegative
from tuplet.engine import Processes
from tuplet.engine.execution import DEFAULT, uses_tiles
from tuplet.engine.program import Found, Mean, Pair, Term, count, smallest, total
from tuplet.errors import LabelError
from tuplet.losses.declare import PairLoss, register
from tuplet.losses.inputs import PairBatch
from tuplet.relation import Paired, SameLabel
from tuplet.tensors import wide_dtype


@register("centroid_triplet")
class CentroidTripletLoss(PairLoss):
    r"""Each example is nearer to the centroid of its class than to those of other classes, by a margin.

    $$L = \frac{1}{n} \sum_a \sum_{k \ne y_a} \big[\lVert x_a - c_{y_a}^{-a} \rVert^2 - \lVert x_a - c_k \rVert^2
    + m\big]_+$$

    $c_k$ is the mean of class k in the batch, and $c_{y_a}^{-a}$ the mean of the anchor's class without the anchor.

    Args:
        margin: m, in units of the squared distance.
        select: Which classes k: all others, or the nearest one.

    Raises:
        LabelError: If examples have several labels, or a relation in the place of labels.

    References:
        Wieczorek, Rychalska, Dąbrowski, "On the Unreasonable Effectiveness of Centroids in Image Retrieval", 2021,
        eq. 3.
    """

    margin: NotNegative = 0.3
    select: Literal["all", "nearest"] = "all"

    family = "triplet"
    suits = "search among class centroids, and single labels that are wrong"
    fixed_geometry = "squared_euclidean"
    divides_by = "the triplets with a loss above 0"
    reads = "distance"
    meets_all = True
    reads_classes = True

    def problem(self, embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> PairBatch:
        """Examples against the centroids of classes; each row of a second set without labels is its own."""
        problem = super().problem(embeddings, labels, sides)
        if isinstance(problem.relation, Paired):
            return problem
        if not isinstance(problem.relation, SameLabel):
            raise LabelError(
                "CentroidTripletLoss was called without a class id for each example.",
                hint="Pass class ids of shape (rows,): an example belongs to one centroid.",
                reference="label-shape",
            )
        relation, wide = problem.relation, wide_dtype(problem.references)
        group, classes = _grouped(relation.reference_labels)
        if not uses_tiles(sides.get("execution") or DEFAULT, group.device):
            classes = classes[: int(group.max()) + 1] if len(group) else classes
        theirs = problem.references.to(wide)
        number = theirs.new_zeros(len(classes)).index_add(0, group, theirs.new_ones(len(group)))
        sums = theirs.new_zeros(len(classes), theirs.shape[1]).index_add(0, group, theirs)
        centroids = sums / number.clamp_min(1)[:, None]
        if relation.first is not None:  # without itself: x - c' = (x - c) n / (n - 1)
            others = (number - 1).clamp_min(0)
            factor = torch.where(others > 0, number / others.clamp_min(1), 0.0).square()
        else:
            factor = torch.ones_like(number)
        options = {**problem.stream_options, "of_col": {"without_itself": factor}}
        relation = SameLabel(relation.labels, classes)
        return replace(problem, references=centroids, relation=relation, num_in_batch=0, stream_options=options)

    def values(self, problem: PairBatch, processes: Processes) -> dict[str, Any]:
        """Where nothing is said, centroids are as they are."""
        del processes
        if "of_col" in problem.stream_options:
            return {}
        wide = wide_dtype(problem.references)
        return {"of_col": {"without_itself": problem.references.new_ones(len(problem.references), dtype=wide)}}

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """The own centroid, and the nearest of another class."""
        factor = pair.of_col["without_itself"]
        own = pair.positive & (factor > 0)
        found = {"own": total(score * factor, where=own), "owns": count(own)}
        return found | ({"nearest": smallest(score, where=pair.negative)} if self.select == "nearest" else {})

    def then(self, score: Tensor, pair: Pair, found: Found) -> dict[str, Term]:
        """All of other classes."""
        if self.select == "nearest":
            return {}
        excess, chosen = found["own"] - score + self.margin, pair.negative & (found["owns"] > 0)
        return {"loss": total(torch.relu(excess), where=chosen), "active": count(chosen & (excess > 0))}

    def finish(self, found: Found) -> Mean:
        """Triplets that violate."""
        if self.select == "all":
            return Mean(found["loss"], found["active"])
        there = (found["owns"] > 0) & (found["nearest"] < torch.inf)
        excess = found["own"] - torch.where(there, found["nearest"], 0.0) + self.margin
        return Mean(torch.where(there, torch.relu(excess), 0.0), there & (excess > 0))


centroid_triplet = CentroidTripletLoss.function()


def _grouped(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which class each row is of, counted from 0, and the label of each; -1 behind the last."""
    ordered, order = labels.sort(stable=True)
    is_new = torch.ones_like(ordered, dtype=torch.bool)
    is_new[1:] = ordered[1:] != ordered[:-1]
    rank = is_new.long().cumsum(0) - 1
    group = torch.empty_like(rank).scatter_(0, order, rank)
    return group, torch.full_like(labels, -1).scatter_(0, group, labels)
