"""Cross-entropy of positives against all candidates: InfoNCE, SupCon, NT-Xent."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Unpack

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tuplet.bounds import Tau, bounded
from tuplet.engine import ALONE, Outcome, Processes, stream
from tuplet.engine.execution import DEFAULT, uses_tiles
from tuplet.engine.gather import counts, everyones, first_row
from tuplet.errors import LabelError
from tuplet.losses.base import MetricLoss, register
from tuplet.losses.door import Checks, Options, Problem, Sides, check_embeddings, check_weights, options_of, pose
from tuplet.losses.temperature import Temperature, scale_of
from tuplet.memory import FeatureQueue
from tuplet.reductions import Softmax, SoftmaxEach
from tuplet.relation import Relation, SameLabel, SharedLabel
from tuplet.types import GeometryName, Supervision

Where = Literal["out", "in"]

EARLIER = -2
"""Label of what lies in a queue where pairs are numbered anew in each batch: no number of a pair."""


@bounded
def info_nce(
    anchors: Float[Tensor, "anchors dim"],
    references: Float[Tensor, "references dim"],
    relation: Relation | None = None,
    *,
    temperature: Tau | Tensor = 0.07,
    symmetric: bool = False,
    geometry: GeometryName = "cosine",
    **options: Unpack[Options],
) -> Float[Tensor, ""]:
    r"""Cross-entropy of each anchor's positives against all its references.

    $$L_i = \log \sum_k e^{s_{ik}/\tau} - \frac{1}{|P_i|} \sum_{p \in P_i} s_{ip}/\tau$$

    Args:
        anchors: Embeddings that ask.
        references: Embeddings that answer.
        relation: Positives and negatives of each anchor. By default reference i is the only positive of anchor i, and
            further references are negatives.
        temperature: tau > 0, no unit; a tensor is learned.
        symmetric: Average with the loss of the first references as anchors.
        geometry: How two embeddings are compared.
        options: See `Options`; a queue needs the default relation.

    Returns:
        Mean over the anchors that have a positive; 0 if none has one.

    References:
        van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, eq. 4.
    """
    if relation is None:
        sides = {"references": references, **options}
        return _info_nce(anchors, None, temperature, geometry, sides, symmetric=symmetric).value
    checks, weights = Checks(options.get("execution")), options.get("weights")
    for x, name in ((anchors, "anchors"), (references, "references")):
        check_embeddings(x, name, checks)
    check_weights(weights, anchors, checks)
    checks.done()
    walk = options_of(options) | {"weights": weights}
    forth = _walk(Problem(anchors, references, relation, weights, 0, walk), Softmax(), geometry, temperature).value
    if not symmetric:
        return forth
    back = Problem(references, anchors, relation.transposed(), None, 0, walk | {"weights": None})
    return (forth + _walk(back, Softmax(), geometry, temperature).value) / 2


@bounded
def supcon(
    embeddings: Float[Tensor, "anchors dim"],
    labels: Shaped[Tensor, "anchors *classes"] | None = None,
    *,
    temperature: Tau | Tensor = 0.1,
    where: Where = "out",
    geometry: GeometryName = "cosine",
    **sides: Unpack[Sides],
) -> Float[Tensor, ""]:
    r"""Supervised contrastive loss: all examples of the anchor's class against everything else in the batch.

    $$L_i = \frac{-1}{|P_i|} \sum_{p \in P_i} \log \frac{e^{s_{ip}/\tau}}{\sum_{k \ne i} e^{s_{ik}/\tau}}, \qquad
    L_i^{in} = -\log \frac{\frac{1}{|P_i|} \sum_p e^{s_{ip}/\tau}}{\sum_{k \ne i} e^{s_{ik}/\tau}}$$

    Args:
        embeddings: One row per example.
        labels: Class ids, or multi-hot rows; without them row i of `references` is the positive of row i.
        temperature: tau > 0; a tensor is learned.
        where: Mean over positives outside ("out") or inside ("in") the log; in <= out, equal for one positive.
        geometry: How two embeddings are compared.
        sides: See `Sides`.

    Returns:
        Mean over the anchors that have a positive; 0 if none has one.

    References:
        Khosla et al., "Supervised Contrastive Learning", 2020, eq. 2 and 3.
    """
    return _walk(pose(embeddings, labels, sides), Softmax(where), geometry, temperature).value


@bounded
def nt_xent(
    embeddings: Float[Tensor, "anchors dim"],
    labels: Shaped[Tensor, " anchors"] | None = None,
    *,
    temperature: Tau | Tensor = 0.1,
    geometry: GeometryName = "cosine",
    **sides: Unpack[Sides],
) -> Float[Tensor, ""]:
    r"""Normalised temperature-scaled cross-entropy over two views of each example, joined into one set.

    $$L_i = -\log \frac{e^{s_{ij}/\tau}}{\sum_{k \ne i} e^{s_{ik}/\tau}}, \quad j \text{ the other view of } i$$

    Unlike symmetric InfoNCE, the other examples of the same view are negatives too. Where an id has more than two rows,
    each other row of it is a positive by itself, against the negatives and without the other positives: the mean over
    these is the loss of the row. (`supcon` leaves the other positives in the sum.)

    Args:
        embeddings: First views; row i of `references` is the second view of row i.
        labels: Pair ids, if both views are among the embeddings.
        temperature: tau > 0; a tensor is learned.
        geometry: How two embeddings are compared.
        sides: See `Sides`; a weight counts for both views of its row.

    Returns:
        Mean over all views that have a partner.

    References:
        Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", 2020,
        eq. 1.
    """
    problem = _joined(embeddings, labels, sides)
    return _walk(problem, _of_pairs(problem), geometry, temperature).value


@register("info_nce")
class InfoNCELoss(MetricLoss):
    """Module form of `info_nce`; labels are class ids or pair ids, or row i of the references belongs to row i.

    Args:
        temperature: tau, or "learned" (starts at 0.07).
        symmetric: Average with the loss of the references as anchors.
        geometry: How two embeddings are compared.
        queue: Latest references as further negatives.
        processes: Who computes the loss together.
    """

    supervision: ClassVar[Supervision] = "pair"

    def __init__(
        self,
        temperature: Tau | Literal["learned"] = 0.07,
        symmetric: bool = False,
        geometry: GeometryName = "cosine",
        *,
        queue: FeatureQueue | None = None,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(geometry, queue=queue, processes=processes)
        self.temperature, self.symmetric = Temperature(temperature, 0.07), symmetric

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        temperature = self.temperature.value(sides["processes"])
        return _info_nce(embeddings, labels, temperature, self.geometry, sides, symmetric=self.symmetric)


@register("supcon")
class SupConLoss(MetricLoss):
    """Module form of `supcon`; labels are class ids.

    Args:
        temperature: tau, or "learned" (starts at 0.1).
        where: Mean over positives outside ("out") or inside ("in") the log.
        geometry: How two embeddings are compared.
        queue: Latest batches as further references.
        processes: Who computes the loss together.
    """

    def __init__(
        self,
        temperature: Tau | Literal["learned"] = 0.1,
        where: Where = "out",
        geometry: GeometryName = "cosine",
        *,
        queue: FeatureQueue | None = None,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(geometry, queue=queue, processes=processes)
        self.temperature, self.where = Temperature(temperature, 0.1), where

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        temperature = self.temperature.value(sides["processes"])
        return _walk(pose(embeddings, labels, sides), Softmax(self.where), self.geometry, temperature)


@register("nt_xent")
class NTXentLoss(MetricLoss):
    """Module form of `nt_xent`; `loss(a, references=b)` joins two views, or labels are pair ids.

    Args:
        temperature: tau, or "learned" (starts at 0.1).
        geometry: How two embeddings are compared.
        queue: Latest second views as further negatives; with pair ids as labels, whatever was called, and ids must not
            come again for another pair.
        processes: Who computes the loss together.
    """

    supervision: ClassVar[Supervision] = "pair"

    def __init__(
        self,
        temperature: Tau | Literal["learned"] = 0.1,
        geometry: GeometryName = "cosine",
        *,
        queue: FeatureQueue | None = None,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(geometry, queue=queue, processes=processes)
        self.temperature = Temperature(temperature, 0.1)

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        temperature = self.temperature.value(sides["processes"])
        problem = _joined(embeddings, labels, sides)
        return _walk(problem, _of_pairs(problem), self.geometry, temperature)


def _of_pairs(problem: Problem) -> Softmax | SoftmaxEach:
    """One positive for each row is the plain form; several stand alone against the negatives."""
    relation = problem.relation
    execution = problem.walk.get("execution") or DEFAULT
    if isinstance(relation, SameLabel) and not uses_tiles(execution, relation.labels.device):
        met = relation.reference_labels[torch.isin(relation.reference_labels, relation.labels[relation.labels != -1])]
        most = 2 if relation.first is not None else 1  # an anchor of the set itself is no positive of its own
        has_one = not len(met) or int(met.unique(return_counts=True)[1].max()) <= most  # type: ignore[no-untyped-call]
        return Softmax() if has_one else SoftmaxEach()
    # for one positive both are the same; an accelerator is not asked how many there are
    return SoftmaxEach() if isinstance(relation, SameLabel | SharedLabel) else Softmax()


def _walk(
    problem: Problem, reduction: Softmax | SoftmaxEach, geometry: GeometryName, temperature: float | Tensor
) -> Outcome:
    scale = scale_of(temperature)
    return stream(
        reduction, problem.anchors, problem.references, problem.relation, geometry, scale=scale, **problem.walk
    )


def _info_nce(
    embeddings: Tensor,
    labels: Tensor | None,
    temperature: float | Tensor,
    geometry: GeometryName,
    sides: Mapping[str, Any],
    *,
    symmetric: bool,
) -> Outcome:
    forth = _walk(pose(embeddings, labels, sides), Softmax(), geometry, temperature)
    references, theirs = sides.get("references"), sides.get("reference_labels")
    if not symmetric or references is None:
        return forth
    back = {**sides, "references": embeddings, "reference_labels": labels, "queue": None, "queue_labels": None}
    if labels is None:
        references = references[: len(embeddings)]
    elif (weights := sides.get("weights")) is not None:
        back["weights"] = _of_references(weights, references, sides.get("processes", ALONE))
    back["execution"] = replace(sides.get("execution") or DEFAULT, check="off")  # all of it was looked at above
    second = _walk(pose(references, theirs, back), Softmax(), geometry, temperature)
    return Outcome((forth.value + second.value) / 2 * forth.count.to(forth.total.dtype), forth.count, forth.stats)


def _earlier(sides: Mapping[str, Any]) -> Tensor | None:
    """Labels of a queue none of whose rows belongs to a pair of this batch; slots that are not filled stay so."""
    queue, labels = sides.get("queue"), sides.get("queue_labels")
    if queue is None:
        return None
    earlier = torch.full((len(queue),), EARLIER, device=queue.device)
    return earlier if labels is None else earlier.where(labels != -1, -1)


def _of_references(weights: Tensor, references: Tensor, processes: Processes) -> Tensor | None:
    """The weight of row i for reference i, if there are as many references as anchors on all processes together."""
    everyone, rows = everyones(weights, processes), counts(len(references), processes, references.device)
    begin = sum(rows[: processes.rank])
    return everyone[begin : begin + len(references)] if len(everyone) == sum(rows) else None


def _joined(embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> Problem:
    """Both views as one set, with the number of the pair as label."""
    references, weights = sides.get("references"), sides.get("weights")
    if references is None:
        return pose(embeddings, labels, sides)
    if len(references) != len(embeddings):
        raise LabelError(
            f"There are {len(embeddings)} first views and {len(references)} second views.",
            hint="Pass as many references as embeddings: row i of both are views of one example.",
            reference="labels-missing",
        )
    theirs, queue_labels = sides.get("reference_labels"), sides.get("queue_labels")
    if labels is None:
        begin = first_row(len(embeddings), sides.get("processes", ALONE), embeddings.device)
        labels = torch.arange(len(embeddings), device=embeddings.device) + begin
        queue_labels = _earlier(sides)
    both = {
        **sides,
        "queue_labels": queue_labels,
        "references": None,
        "reference_labels": None,
        "weights": None if weights is None else torch.cat([weights, weights]),
    }
    check_weights(weights, embeddings)
    labels = torch.cat([labels, labels if theirs is None else theirs])
    return pose(torch.cat([embeddings, references]), labels, both)
