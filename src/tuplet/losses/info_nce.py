"""Cross-entropy of positives against all candidates: InfoNCE, SupCon, NT-Xent."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tuplet.bounds import Finite, Tau
from tuplet.engine import SINGLE_PROCESS, Outcome, Processes, stream
from tuplet.engine.execution import DEFAULT, uses_tiles
from tuplet.engine.gather import all_gather, counts, first_row
from tuplet.errors import LabelError, ShapeError
from tuplet.losses.candidates import Direction, Sides, joint
from tuplet.losses.declare import PairLoss, register
from tuplet.losses.inputs import Checks, Options, PairBatch, check_embeddings, check_weights, options_of, prepare_inputs
from tuplet.losses.temperature import Temperature, scale_of
from tuplet.reductions import Softmax, SoftmaxEach
from tuplet.reductions.programs import SoftmaxProgram
from tuplet.relation import Paired, Relation, SameLabel, SharedLabel
from tuplet.rule import Levels, Rule
from tuplet.types import GeometryName

EARLIER = -2
"""Label of what lies in a queue where pairs are numbered anew in each batch: no number of a pair."""


class TemperatureLoss(PairLoss):
    """A declaration whose scores are divided by a temperature.

    Args:
        temperature: tau > 0, no unit; or "learned".
    """

    temperature: Tau | Literal["learned"] = 0.1

    learnable: ClassVar[Mapping[str, float]] = {"temperature": 0.1}

    def setup(self) -> None:
        """Learn the temperature, or keep it."""
        self.add_module("temperature", Temperature(vars(self).pop("temperature"), self.learnable["temperature"]))

    def values(self, problem: PairBatch, processes: Processes) -> dict[str, Any]:
        """Scores are divided by the temperature."""
        del problem
        temperature: Any = self.temperature
        is_own = isinstance(temperature, Temperature)
        return {"scale": scale_of(temperature.value(processes) if is_own else temperature)}


@register("info_nce")
class InfoNCELoss(TemperatureLoss):
    r"""Cross-entropy of each anchor's positives against all its references.

    $$L_i = \log \sum_k e^{s_{ik}/\tau} - \frac{1}{|P_i|} \sum_{p \in P_i} s_{ip}/\tau$$

    A queue holds latest references as further negatives. Of pairs, `directions` says what is in the sum besides:
    queries are the anchors, documents their references, and each is left out of the sums of its own pair.

    Inputs:
        anchors: Query embeddings.
        references: Key embeddings.
        relation: Positives and negatives of each anchor, as a rule of `tuplet.relations`. By default reference i is the
            only positive of anchor i, and further references are negatives; only then a queue may be given.
        negatives: Of each anchor its own, n of them; they are negatives of all other anchors too.
        guide: What another model makes of the anchors: a candidate that it finds nearer than the positive is no
            negative. With `reference_guide`, and `negative_guide` where there are negatives.
        reference_guide: The same of the references.
        negative_guide: The same of the negatives.

    Args:
        temperature: tau > 0, no unit; or "learned", from 0.07 on.
        symmetric: Average with the loss of the first references as anchors.
        directions: What the sum is over: documents compared with the query, which is the plain form, and besides
            queries with the query, queries with the document, documents with the document.
        false_negative_margin: A candidate is left out where its cosine, by the guide or else by the embeddings
            themselves, is above that of the positive less this; None leaves out nothing without a guide, and is 0 with
            one.
        geometry: How two embeddings are compared.

    References:
        van den Oord, Li, Vinyals, "Representation Learning with Contrastive Predictive Coding", 2018, eq. 4. For
        directions Li et al., "Towards General Text Embeddings with Multi-stage Contrastive Learning", 2023,
        eq. 2. For the guide Solatorio, "GISTEmbed", 2024.
    """

    temperature: Tau | Literal["learned"] = 0.07
    symmetric: bool = False
    geometry: GeometryName = "cosine"
    directions: tuple[Direction, ...] = ("query_to_doc",)
    false_negative_margin: Finite | None = None

    suits = "most pairs; a `FeatureQueue` for more negatives"
    supervision = "pair"
    learnable: ClassVar[Mapping[str, float]] = {"temperature": 0.07}
    sides: ClassVar[Any] = Options
    inputs: ClassVar[Mapping[str, Any]] = {
        "anchors": Float[Tensor, "anchors dim"],
        "references": Float[Tensor, "references dim"],
        "relation": Relation | Rule | Levels | None,
    }
    keyword_inputs: ClassVar[Mapping[str, Any]] = {
        "negatives": Float[Tensor, "anchors n dim"] | None,
        "guide": Float[Tensor, "anchors guide"] | None,
        "reference_guide": Float[Tensor, "references guide"] | None,
        "negative_guide": Float[Tensor, "anchors n guide"] | None,
    }

    def program(self, problem: PairBatch | None = None) -> Softmax:
        """Softmax over the references."""
        del problem
        return Softmax()

    def of_tensors(self, inputs: dict[str, Any], sides: dict[str, Any]) -> Outcome:
        """Row by row, or by a relation."""
        anchors, references, relation = inputs.values()
        if relation is not None and self._is_joint(sides):
            raise _no_pairs("a relation")
        if relation is None or isinstance(relation, Rule | Levels):
            return self._of_levels(anchors, None, {**sides, "references": references, "relation": relation})
        checks, weights, processes = (
            Checks(sides.get("execution")),
            sides.get("weights"),
            sides.get("processes", SINGLE_PROCESS),
        )
        for name in ("anchors", "references"):
            check_embeddings(inputs[name], name, checks)
        check_weights(weights, anchors, checks)
        checks.done()
        stream_options = options_of(sides)
        forth = self._streamed(
            PairBatch(anchors, references, relation, weights, 0, stream_options | {"weights": weights}), processes
        )
        if not self.symmetric:
            return forth
        back = PairBatch(references, anchors, relation.transposed(), None, 0, stream_options)
        return _mean_of(forth, self._streamed(back, processes))

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        if self._is_joint(sides):
            return self._joint(embeddings, labels, sides)
        forth = super()._outcome(embeddings, labels, **sides)
        references, theirs = sides.get("references"), sides.get("reference_labels")
        if not self.symmetric or references is None:
            return forth
        back = {**sides, "references": embeddings, "reference_labels": labels, "queue": None, "queue_labels": None}
        if sides.get("relation") is not None:
            back["relation"] = sides["relation"].swapped()
        elif labels is None:
            references = references[: len(embeddings)]
        elif (weights := sides.get("weights")) is not None:
            back["weights"] = _of_references(weights, references, sides.get("processes", SINGLE_PROCESS))
        back["execution"] = replace(sides.get("execution") or DEFAULT, check="off")  # all of it was looked at above
        return _mean_of(forth, super()._outcome(references, theirs, **back))

    def _is_joint(self, sides: Mapping[str, Any]) -> bool:
        """Whether anything is asked that the plain form has not."""
        is_asked = len(self.directions) > 1 or self.false_negative_margin is not None
        return is_asked or any(sides.get(name) is not None for name in self.keyword_inputs)

    def _joint(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Outcome:
        """Pairs in several directions, with own negatives, without candidates that look like positives."""
        if labels is not None or sides.get("relation") is not None:
            raise _no_pairs("a relation" if labels is None else "labels")
        if self.geometry not in ("cosine", "dot") or "query_to_doc" not in self.directions:
            raise ShapeError(
                f"info_nce has directions {', '.join(self.directions)} and geometry {self.geometry!r}.",
                hint="Directions hold query_to_doc, which has the positives; they, own negatives and false negatives "
                "are for geometry 'cosine' or 'dot'.",
                reference="directions",
            )
        if self.symmetric and len(self.directions) > 1:
            raise ShapeError(
                "symmetric averages two sums, and directions join several in one; both were asked for.",
                hint="Use symmetric=False, or leave directions as they are.",
                reference="directions",
            )
        forth = self._of_sides(Sides.of(embeddings, sides), sides)
        if not self.symmetric:
            return forth
        guides = {"guide": sides.get("reference_guide"), "reference_guide": sides.get("guide")}
        if guides["guide"] is not None:
            guides["guide"] = guides["guide"][: len(embeddings)]
        back = {**sides, **guides, "references": embeddings, "queue": None, "negatives": None, "negative_guide": None}
        return _mean_of(forth, self._of_sides(Sides.of(sides["references"][: len(embeddings)], back), back))

    def _of_sides(self, given: Sides, sides: dict[str, Any]) -> Outcome:
        weights, processes = sides.get("weights"), sides.get("processes", SINGLE_PROCESS)
        check_weights(weights, given.queries)
        with torch.autocast(given.queries.device.type, enabled=False):
            a, r, relation = joint(given, self.directions, self.false_negative_margin, self.geometry, sides)
        problem = PairBatch(a, r, relation, weights, 0, {"weights": weights, **options_of(sides)})
        values: dict[str, Any] = self.values(problem, processes) | problem.stream_options
        return stream(Softmax(), a, r, relation, "dot", **values)


@register("supcon")
class SupConLoss(TemperatureLoss):
    r"""Supervised contrastive loss: all examples of the anchor's class against everything else in the batch.

    $$L_i = \frac{-1}{|P_i|} \sum_{p \in P_i} \log \frac{e^{s_{ip}/\tau}}{\sum_{k \ne i} e^{s_{ik}/\tau}}, \qquad
    L_i^{in} = -\log \frac{\frac{1}{|P_i|} \sum_p e^{s_{ip}/\tau}}{\sum_{k \ne i} e^{s_{ik}/\tau}}$$

    Args:
        temperature: tau > 0; or "learned", from 0.1 on.
        where: Mean over positives outside ("out") or inside ("in") the log; in <= out, equal for one positive.
        geometry: How two embeddings are compared.
        one_class: Anchors without a negative, as in a batch of one class: "count" as printed, or "skip" to leave them
            out, as pytorch-metric-learning does.

    References:
        Khosla et al., "Supervised Contrastive Learning", 2020, eq. 2 and 3.
    """

    where: Literal["out", "in"] = "out"
    geometry: GeometryName = "cosine"
    one_class: Literal["count", "skip"] = "count"

    suits = "classes whose examples should all come together"

    def program(self, problem: PairBatch | None = None) -> Softmax | SoftmaxProgram:
        """Softmax over the batch."""
        del problem
        return Softmax(self.where) if self.one_class == "count" else SoftmaxProgram(self.where, skips=True)


@register("nt_xent")
class NTXentLoss(TemperatureLoss):
    r"""Normalised temperature-scaled cross-entropy over two views of each example, joined into one set.

    $$L_i = -\log \frac{e^{s_{ij}/\tau}}{\sum_{k \ne i} e^{s_{ik}/\tau}}, \quad j \text{ the other view of } i$$

    Unlike symmetric InfoNCE, the other examples of the same view are negatives too. Where an id has more than two rows,
    each other row of it is a positive by itself, against the negatives and without the other positives: the mean over
    these is the loss of the row. (`supcon` leaves the other positives in the sum.) A weight counts for both views of
    its row.

    Inputs:
        embeddings: First views; row i of `references` is the second view of row i.
        labels: Pair ids, if both views are among the embeddings.

    Args:
        temperature: tau > 0; or "learned", from 0.1 on.
        geometry: How two embeddings are compared.
        queue: Latest second views as further negatives; with pair ids as labels, whatever was called, and ids must not
            come again for another pair.

    References:
        Chen, Kornblith, Norouzi, Hinton, "A Simple Framework for Contrastive Learning of Visual Representations", 2020,
        eq. 1.
    """

    geometry: GeometryName = "cosine"

    suits = "two augmented views of each example"
    supervision = "pair"
    divides_by = "all views that have a partner"

    def problem(self, embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> PairBatch:
        """Both views as one set."""
        return joined_views(embeddings, labels, sides)

    def program(self, problem: PairBatch | None = None) -> Softmax | SoftmaxEach:
        """One positive for each row is the plain form; several stand alone against the negatives."""
        if problem is None or _has_one_positive(problem):
            return Softmax()
        return SoftmaxEach()


info_nce, supcon, nt_xent = InfoNCELoss.function(), SupConLoss.function(), NTXentLoss.function()


def _no_pairs(given: str) -> LabelError:
    return LabelError(
        f"Directions, own negatives and false negatives are those of pairs; {given} came with them.",
        hint="Call loss(queries, references=docs): row i of both is a pair.",
        reference="labels-missing",
    )


def _has_one_positive(problem: PairBatch) -> bool:
    relation = problem.relation
    if not isinstance(relation, SameLabel | SharedLabel):
        return isinstance(relation, Paired)
    execution = problem.stream_options.get("execution") or DEFAULT
    if isinstance(relation, SharedLabel) or uses_tiles(execution, relation.labels.device):
        return False  # for one positive both forms are the same; an accelerator is not asked how many there are
    met = relation.reference_labels[torch.isin(relation.reference_labels, relation.labels[relation.labels != -1])]
    most = 2 if relation.first is not None else 1  # an anchor of the set itself is no positive of its own
    return not len(met) or int(met.unique(return_counts=True)[1].max()) <= most  # type: ignore[no-untyped-call]


def _mean_of(forth: Outcome, back: Outcome) -> Outcome:
    """Mean of two means, with what the first counts."""
    return Outcome((forth.value + back.value) / 2 * forth.count.to(forth.total.dtype), forth.count, forth.stats)


def _earlier(sides: Mapping[str, Any]) -> Tensor | None:
    """Labels of a queue none of whose rows belongs to a pair of this batch; slots that are not filled stay so."""
    queue, labels = sides.get("queue"), sides.get("queue_labels")
    if queue is None:
        return None
    earlier = torch.full((len(queue),), EARLIER, device=queue.device)
    return earlier if labels is None else earlier.where(labels != -1, -1)


def _of_references(weights: Tensor, references: Tensor, processes: Processes) -> Tensor | None:
    """The weight of row i for reference i, if there are as many references as anchors on all processes together."""
    gathered, rows = all_gather(weights, processes), counts(len(references), processes, references.device)
    begin = sum(rows[: processes.rank])
    return gathered[begin : begin + len(references)] if len(gathered) == sum(rows) else None


def joined_views(embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> PairBatch:
    """Both views as one set, with the number of the pair as label."""
    references, weights = sides.get("references"), sides.get("weights")
    if references is None:
        return prepare_inputs(embeddings, labels, sides)
    if len(references) != len(embeddings):
        raise LabelError(
            f"There are {len(embeddings)} first views and {len(references)} second views.",
            hint="Pass as many references as embeddings: row i of both are views of one example.",
            reference="labels-missing",
        )
    theirs, queue_labels = sides.get("reference_labels"), sides.get("queue_labels")
    if labels is None:
        begin = first_row(len(embeddings), sides.get("processes", SINGLE_PROCESS), embeddings.device)
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
    return prepare_inputs(torch.cat([embeddings, references]), labels, both)
