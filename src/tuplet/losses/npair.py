"""N-pair losses: one positive against the negatives of many classes at once."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tuplet.bounds import NotNegative
from tuplet.engine import SINGLE_PROCESS, Outcome, Processes, Reduction
from tuplet.engine.gather import reduce_sum
from tuplet.engine.listed import listed
from tuplet.errors import LabelError
from tuplet.losses.declare import PairLoss, register
from tuplet.losses.inputs import PairBatch, check_embeddings, check_weights
from tuplet.reductions import Softmax, SoftmaxEach, Triplet
from tuplet.relation import Paired


@register("npair")
class NPairLoss(PairLoss):
    r"""The positive's similarity against that of all negatives, by dot products of embeddings as they are.

    $$L = \frac{1}{N} \sum_i \log\Big(1 + \sum_{j \ne i} e^{f_i \cdot f_j^+ - f_i \cdot f_i^+}\Big)$$

    Pairs (`references`): the N-pair-mc loss above. Pairs and `negatives`: the (N+1)-tuplet loss, each anchor with its
    own negatives. Labels: each positive alone against the anchor's negatives, mean over positives, then over anchors.

    Inputs:
        embeddings: Anchors f.
        labels: Class ids; without them row i of `references` is f_i^+.
        negatives: Each anchor's own negatives.

    Args:
        norm_penalty: Adds this times the mean of ‖f‖² over all embeddings, which takes the place of normalising.
        one_vs_one: $\sum_j \log(1 + e^{\dots})$ in the place of the log of the sum; for pairs.

    References:
        Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", 2016, eq. 6 and 7.
    """

    norm_penalty: NotNegative = 0.0
    one_vs_one: bool = False

    family = "triplet"
    suits = "many classes at once, two examples of each"
    fixed_geometry = "dot"
    prefers_pairs = True
    keyword_inputs: ClassVar[Mapping[str, Any]] = {"negatives": Float[Tensor, "anchors n dim"] | None}

    def program(self, problem: PairBatch | None = None) -> Reduction[Any]:
        """One positive against all negatives; with class ids each of several."""
        if self.one_vs_one:
            return Triplet(soft=True, mean_over="anchors")  # of -dot as the distance
        return Softmax() if problem is None or isinstance(problem.relation, Paired) else SoftmaxEach()

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        references, negatives = sides.get("references"), sides.pop("negatives", None)
        self._check(labels, references, negatives)
        if negatives is None or references is None:
            outcome = super()._outcome(embeddings, labels, **sides)
        else:
            outcome = _tuplet(embeddings, references, negatives, sides)
        if not self.norm_penalty:
            return outcome
        weights = sides.get("weights")
        sets = [(embeddings, _of_known(labels, weights))]
        if references is not None:
            theirs = sides.get("reference_labels")
            sets.append((references, weights if labels is None else _of_known(theirs, None)))
        norms = self.norm_penalty * mean_square(sets, sides.get("processes", SINGLE_PROCESS))
        return Outcome(outcome.total + norms * outcome.count.to(norms.dtype), outcome.count, outcome.stats)

    def _check(self, labels: Tensor | None, references: Tensor | None, negatives: Tensor | None) -> None:
        if self.one_vs_one and (labels is not None or negatives is not None):
            raise LabelError(
                "The one-vs-one form is defined for pairs; labels or negatives were given.",
                hint="Call loss(anchors, references=positives), or use one_vs_one=False.",
                reference="one-vs-one",
            )
        if negatives is not None and (references is None or labels is not None):
            raise LabelError(
                "negatives were given with labels or without references; they belong to pairs.",
                hint="Call loss(anchors, references=positives, negatives=(anchors, n, dim)).",
                reference="labels-missing",
            )


npair = NPairLoss.function()


def _of_known(labels: Tensor | None, weights: Tensor | None) -> Tensor | None:
    """Weights that are 0 for rows without a label."""
    if labels is None:
        return weights
    known = labels != -1 if labels.ndim == 1 else (labels != 0).any(1)
    return known.double() if weights is None else torch.where(known, weights.double(), 0.0)


def mean_square(sets: list[tuple[Tensor, Tensor | None]], processes: Processes) -> Tensor:
    """Mean of ‖f‖² over all embeddings of all sets, by their weights; in pairs a weight counts for both."""
    total, number = sets[0][0].new_zeros(()), sets[0][0].new_zeros((), dtype=torch.float64)
    for x, w in sets:
        squares = x.square().sum(1)
        total = total + (squares.sum() if w is None else (squares * w.to(squares.dtype)).sum())
        number = number + (len(x) if w is None else w.sum().double())
    total, number = reduce_sum(total, processes), reduce_sum(number, processes)
    return total / torch.where(number > 0, number, 1).to(total.dtype)


def _tuplet(embeddings: Tensor, positives: Tensor, negatives: Tensor, sides: Mapping[str, Any]) -> Outcome:
    count, each = len(embeddings), negatives.shape[1]
    check_embeddings(embeddings, "embeddings")
    check_embeddings(positives, "references")
    others = negatives.flatten(0, 1)
    check_embeddings(others, "negatives")
    check_weights(sides.get("weights"), embeddings)
    if len(positives) != count or len(negatives) != count:
        raise LabelError(
            f"{count} anchors came with {len(positives)} positives and negatives for {len(negatives)}.",
            hint="Give every anchor one positive, (anchors, dim), and n negatives, (anchors, n, dim).",
            reference="labels-missing",
        )
    table = torch.cat([positives, others])
    mine = torch.arange(count, device=table.device)[:, None]
    lists = torch.cat([mine, count + mine * each + torch.arange(each, device=table.device)], 1)
    stream_options = {name: sides[name] for name in ("weights", "processes", "stats", "execution") if name in sides}
    return listed(Softmax(), embeddings, table, lists, "dot", **stream_options)
