"""Margin loss: a boundary on the distance, one for all or one per class, that may be learned."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from tuplet.bounds import Finite, NotNegative, Number
from tuplet.engine import Outcome, Processes
from tuplet.engine.gather import all_reduce_sum, reduce_sum, shared
from tuplet.engine.program import Found, Mean, Pair, Term, count, total
from tuplet.errors import LabelError, ShapeError
from tuplet.losses.declare import PairLoss, register
from tuplet.losses.inputs import PairBatch
from tuplet.relation import SameLabel
from tuplet.tensors import wide_dtype


@register("margin")
class MarginLoss(PairLoss):
    r"""Positives stay a margin inside a boundary on the distance, negatives a margin outside of it.

    $$L = \frac{1}{n} \sum_{(a,p,n)} \big([D_{ap} - \beta_a + m]_+ + [\beta_a - D_{an} + m]_+\big)
    + \nu\, \overline{\beta_a}$$

    D is the Euclidean distance of unit vectors. The sum is over all triplets, so that positives and negatives of an
    anchor weigh the same; n counts the terms above 0. The last term is the mean over anchors.

    Args:
        margin: m, in the unit of D.
        beta: β, a number between 0 and 2, or "learned", or "per-class": one for each class, learned. A learned one
            starts at 1.2.
        nu: ν, how strongly a learned β is pulled down: more positives than negatives are then outside of it.
        num_classes: How many classes there are, for one β per class.

    References:
        Wu, Manmatha, Smola, Krähenbühl, "Sampling Matters in Deep Embedding Learning", 2017, eq. 5, 6 and section 4.3.
    """

    margin: NotNegative = 0.2
    beta: Finite | Literal["learned", "per-class"] = "learned"
    nu: NotNegative = 0.0
    num_classes: Number | None = None

    suits = "a threshold on the distance that is learned, for all or for each class"
    fixed_geometry = "cosine"  # decreases with D, whose digits it has not: small distances are computed as they are
    scored_as = "euclidean"
    reads = "distance"
    of_units = True
    divides_by = "the terms above 0, over all triplets"
    learnable: ClassVar[Mapping[str, float]] = {"beta": 1.2}
    of_module: ClassVar[frozenset[str]] = PairLoss.of_module | {"num_classes"}

    def setup(self) -> None:
        """Make the learned ones."""
        if self.beta == "per-class" and not self.num_classes:
            raise ShapeError(
                f'beta is "per-class", and num_classes is {self.num_classes}.',
                hint="Pass num_classes=, how many classes there are; examples of several labels share one beta.",
                reference="option-range",
            )
        if isinstance(self.beta, str):
            shape = [self.num_classes] if self.beta == "per-class" and self.num_classes else []
            self.boundary = nn.Parameter(torch.full(shape, self.learnable["beta"]))

    def values(self, problem: PairBatch, processes: Processes) -> dict[str, Any]:
        """β of each anchor."""
        beta = shared(self.boundary, processes) if isinstance(self.beta, str) else self.beta
        like = problem.anchors
        beta = torch.as_tensor(beta, dtype=wide_dtype(like), device=like.device)
        if beta.ndim == 0:
            return {"of_row": {"beta": beta.expand(len(like))}}
        if not isinstance(problem.relation, SameLabel):
            raise LabelError(
                "One beta per class needs the class id of each example.",
                hint="Pass labels of shape (rows,), or one beta for all.",
                reference="labels-missing",
            )
        return {"of_row": {"beta": beta[problem.relation.labels.clamp(0, len(beta) - 1)]}}

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Sums of both kinds, and how many are above 0."""
        boundary = pair.of_row["beta"]
        inside, outside = score - boundary + self.margin, boundary - score + self.margin
        return {
            "near": total(torch.relu(inside), where=pair.positive),
            "far": total(torch.relu(outside), where=pair.negative),
            "near_active": count(pair.positive & (inside > 0)),
            "far_active": count(pair.negative & (outside > 0)),
            "positives": count(pair.positive),
            "negatives": count(pair.negative),
        }

    def finish(self, found: Found) -> Mean:
        """Each positive meets each negative."""
        loss = found["negatives"] * found["near"] + found["positives"] * found["far"]
        active = found["negatives"] * found["near_active"] + found["positives"] * found["far_active"]
        return Mean(loss, active)

    def _streamed(self, problem: PairBatch, processes: Processes) -> Outcome:
        outcome = super()._streamed(problem, processes)
        if not self.nu:
            return outcome
        beta = self.values(problem, processes)["of_row"]["beta"]
        weight = problem.relation.keys()[0]["live"].to(beta.dtype)
        weight = weight if problem.weights is None else weight * problem.weights.to(beta.dtype)
        number = all_reduce_sum(weight.sum(), processes)
        mean = reduce_sum((beta * weight).sum(), processes) / torch.where(number > 0, number, 1.0)
        return replace(outcome, total=outcome.total + self.nu * mean * outcome.count.to(mean.dtype))


margin = MarginLoss.function()
