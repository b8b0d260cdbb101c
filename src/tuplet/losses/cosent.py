"""Losses of scored pairs: what people call more alike should be nearer, pair against pair."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Num
from torch import Tensor

from tuplet.bounds import Positive
from tuplet.engine import SINGLE_PROCESS, Outcome, Processes, gather
from tuplet.engine.gather import all_gather
from tuplet.errors import LabelError, ShapeError
from tuplet.geometry import normalise
from tuplet.losses.declare import DeclaredLoss, register
from tuplet.losses.inputs import ROWS, Checks, RowOptions, check_embeddings, check_weights
from tuplet.losses.log_ratio import check_graded
from tuplet.tensors import wide_dtype

FAR_BELOW = 1e4
"""What is so far below all others adds exactly nothing to a sum of exponentials, and is still a number."""


@register("cosent")
class CoSENTLoss(DeclaredLoss):
    r"""Of every two pairs the one with the higher score should have the larger cosine.

    $$L = \log\Big(1 + \sum_{y_i > y_j} e^{\lambda (s_j - s_i)}\Big), \quad s_i = \cos(a_i, b_i)$$

    Only the order of the scores y counts. The sum over pairs of pairs is a running sum along them by score, O(n log n).
    The weights of two pairs, relative to the mean weight, multiply their term.

    Inputs:
        embeddings: a, the first sides.
        references: b, the second sides; row i belongs to row i.
        labels: y, one finite number for each pair: how alike its two sides are.

    Args:
        scale: λ > 0.
        processes: Who computes the loss together.

    References:
        Huang et al., "CoSENT: Consistent Sentence Embedding via Similarity Ranking", 2024, eq. 10.
    """

    scale: Positive = 20.0
    processes: Processes = SINGLE_PROCESS

    suits = "pairs with a score, of which the order counts"
    supervision = "scored"
    fixed_geometry = "cosine"
    divides_by = "nothing: it is one number for all pairs"
    takes: ClassVar[frozenset[str]] = (ROWS | {"references"}) - {"tile_size"}
    sides: ClassVar[Any] = RowOptions
    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "references": Float[Tensor, "anchors dim"],
        "labels": Num[Tensor, " anchors"],
    }
    of_module: ClassVar[frozenset[str]] = frozenset({"processes"})

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """How alike the sides of each pair are, from unit rows."""
        return (a * b).sum(1)

    def of_tensors(self, inputs: dict[str, Any], sides: dict[str, Any]) -> Outcome:
        """Both sides as tensors."""
        return self._outcome(inputs["embeddings"], inputs["labels"], references=inputs["references"], **sides)

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        labels, references = _checked(embeddings, labels, sides), sides["references"]
        processes, weights = sides.get("processes", SINGLE_PROCESS), sides.get("weights")
        with torch.autocast(embeddings.device.type, enabled=False):
            wide = wide_dtype(embeddings)
            scores = self.similarity(normalise(embeddings.to(wide)), normalise(references.to(wide))) * self.scale
            scores, order = gather(scores, processes), all_gather(labels.detach().double(), processes)
            weights = None if weights is None else all_gather(weights, processes)
            value, count = _over_all(scores, order, weights)
        return Outcome(value, count)


@register("angle")
class AnglELoss(CoSENTLoss):
    r"""CoSENT by the angle in a complex plane, which has a gradient where the cosine is near 1 or -1.

    $$L = \log\Big(1 + \sum_{y_i > y_j} e^{\lambda (s_j - s_i)}\Big), \quad
    s_i = \frac{|a_i \cdot b_i + a_i \cdot J b_i|}{\lVert a_i \rVert \lVert b_i \rVert}$$

    The first half of a row is the real part of complex numbers and the second the imaginary part; J turns them by a
    right angle. A row of odd length is filled up with a zero.

    Args:
        scale: λ > 0.

    References:
        Li and Li, "AnglE-optimized Text Embeddings", 2023, eq. 5 to 8, in the form of sentence-transformers.
    """

    suits = "pairs with a score, most of them much alike"

    def similarity(self, a: Tensor, b: Tensor) -> Tensor:
        """The cosine and the sine of complex rows, which sentence-transformers adds up."""
        half = (a.shape[1] + 1) // 2
        a, b = (torch.nn.functional.pad(x, (0, 2 * half - x.shape[1])) for x in (a, b))
        turned = torch.cat([-b[:, half:], b[:, :half]], 1)
        return (a * (b + turned)).sum(1).abs()


cosent, angle = CoSENTLoss.function(), AnglELoss.function()


def _checked(embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> Tensor:
    """The score of each pair, one after the other."""
    references = sides.get("references")
    if labels is None or references is None:
        raise LabelError(
            "A loss of scored pairs was called without second sides or without scores.",
            hint="Call loss(first, scores, references=second): row i of all three is one pair.",
            reference="labels-missing",
        )
    checks = Checks(sides.get("execution"))
    check_embeddings(embeddings, "embeddings", checks)
    check_embeddings(references, "references", checks)
    if references.shape != embeddings.shape:
        raise ShapeError(
            f"embeddings have shape {tuple(embeddings.shape)}, references {tuple(references.shape)}.",
            hint="Row i of both is a pair: pass as many rows of the same length.",
            reference="embedding-shape",
        )
    labels = labels.flatten(1).squeeze(1) if labels.ndim > 1 and labels[:1].numel() == 1 else labels
    check_graded(labels, len(embeddings), checks)
    if labels.ndim != 1:
        raise LabelError(
            f"labels have shape {tuple(labels.shape)}; a scored pair has one score.",
            hint="Pass one finite number per pair.",
            reference="label-shape",
        )
    check_weights(sides.get("weights"), embeddings, checks)
    checks.done()
    return labels


def _over_all(scores: Tensor, order: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """The logarithm, and 1 if anybody has a weight."""
    if not len(scores):
        return scores.sum(), scores.new_zeros((), dtype=torch.float64)
    order, by = order.sort(stable=True)
    scores = scores[by]
    there, log_weight = torch.ones_like(scores, dtype=torch.bool), torch.zeros_like(scores)
    if weights is not None:
        there, mean = weights[by] > 0, weights.mean()
        log_weight = (torch.where(there, weights[by], 1.0) / torch.where(mean > 0, mean, 1.0)).log().to(scores.dtype)
    floor = scores.detach().min() - FAR_BELOW
    lower = torch.where(there, scores + log_weight, floor).logcumsumexp(0)
    below = torch.searchsorted(order, order)  # how many have a lower score
    exponents = lower[(below - 1).clamp_min(0)] - scores + log_weight
    exponents = torch.where(there & (below > 0), exponents, -torch.inf)
    value = torch.cat([scores.new_zeros(1), exponents]).logsumexp(0)
    return value, there.any().double()
