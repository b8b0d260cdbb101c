"""What the losses over class weights share: the call, the checks and the warnings."""

import logging
import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, replace
from typing import Any, ClassVar, TypedDict

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from tuplet.bounds import Count, Radians, Share
from tuplet.engine import SINGLE_PROCESS, Execution, Outcome, Processes, gather, stream
from tuplet.engine.execution import uses_tiles
from tuplet.engine.gather import all_gather, shared
from tuplet.errors import LabelError, ShapeError
from tuplet.geometry import normalise
from tuplet.heads import ClassWeights, Head, NearestCenter
from tuplet.losses.counters import count_on
from tuplet.losses.declare import DeclaredLoss
from tuplet.losses.inputs import ROWS, Checks, check_dim, check_embeddings, check_weights, known, row_ids
from tuplet.losses.pending import Call
from tuplet.losses.smoothing import above_mean
from tuplet.margin import Margin, least_scale, nearest_cosine
from tuplet.reductions import Softmax
from tuplet.relation import Paired

logger = logging.getLogger(__name__)

LIKELY = 0.9
"""A scale is called small if no arrangement of the class weights lets a target reach this probability."""


class RowOptions(TypedDict, total=False):
    """Options of every loss over class weights.

    weights: One number >= 0 per row; multiplies its loss and its share of the mean.
    tile_size: Most entries of a tile; changes memory, not the result.
    processes: Who computes the loss together; all hold the same weight.
    execution: How it is carried out, see `tuplet.engine.Execution`.
    """

    weights: Tensor | None
    tile_size: int | None
    processes: Processes
    execution: Execution | None


class HeadOptions(RowOptions, total=False):
    """Options of the losses with a scale.

    sub_centers: K vectors for each class, of which the nearest counts; class j owns the rows jK to jK + K - 1 of the
        weight.
    classes: Only these classes are in the sum, those of the batch among them; the gradient of the weight is then
        sparse. `tuplet.heads.draw_classes` draws them.
    correction: True to correct the scores of sampled classes by log(1 / sampling probability): the expected sum is that
        of all.
    """

    sub_centers: int
    classes: Tensor | None
    correction: bool


class HeadLoss(DeclaredLoss):
    """A declaration over class weights, which the module owns.

    Inputs:
        weight: Vectors of the classes; their length does not count.
        labels: Class ids, 0 to classes - 1; -1 leaves a row out.

    Args:
        num_classes: How many classes there are.
        dim: Length of an embedding.
        sharded: Each process owns a range of the classes; see `tuplet.heads.ClassWeights`.
        seed: Of the first weights.
        processes: Who computes the loss together.
    """

    num_classes: Count
    dim: Count
    _: KW_ONLY
    sharded: bool = False
    seed: int = 0
    processes: Processes = SINGLE_PROCESS

    family = "softmax-based"
    divides_by = "the rows with a label"
    fixed_geometry = "cosine"
    takes: ClassVar[frozenset[str]] = ROWS
    sides: ClassVar[Any] = RowOptions
    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "weight": Float[Tensor, "vectors dim"],
        "labels": Shaped[Tensor, " anchors"],
    }
    of_module: ClassVar[frozenset[str]] = frozenset({"num_classes", "dim", "sharded", "seed", "processes"})

    def target_margin(self) -> Margin:
        """Margin of the own class."""
        raise NotImplementedError

    def setup(self) -> None:
        """Draw the class weights."""
        shards = self.processes if self.sharded else SINGLE_PROCESS
        self.classes = ClassWeights(self.num_classes, self.dim, shards=shards, seed=self.seed, **self._sampling())

    def _sampling(self) -> dict[str, Any]:
        return {}

    def _scale(self) -> float | None:
        """Of all cosines; None for the length of the embedding."""
        return None

    @property
    def weight(self) -> nn.Parameter:
        """Vectors of the classes, (classes · sub_centers, dim); if sharded, those of this process's classes."""
        return self.classes.weight

    def logits(self, embeddings: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows classes"]:
        """Scores of all classes without a margin, as a prediction reads them; of several centers the nearest counts.

        All of them are held, rows × classes; of a sharded head those of this process's classes.

        Args:
            embeddings: (rows, dim).
        """
        check_embeddings(embeddings, "embeddings")
        check_dim(self.weight, embeddings, "head")
        cosines = normalise(embeddings) @ normalise(self.weight.to(embeddings.dtype)).T
        nearest = cosines.reshape(len(cosines), -1, self.classes.centers).amax(2)
        scale = self._scale()
        return nearest * (torch.linalg.vector_norm(embeddings, dim=1, keepdim=True) if scale is None else scale)

    def of_tensors(self, inputs: dict[str, Any], sides: dict[str, Any]) -> Outcome:
        """Class weights given as a tensor."""
        vars(self)["classes"] = head_of(inputs["weight"], sides)
        return self._outcome(inputs["embeddings"], inputs["labels"], **sides)

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        if labels is None:
            raise LabelError(
                f"{type(self).__name__} was called without labels.",
                hint="Pass the class id of each row, 0 to num_classes - 1.",
                reference="labels-missing",
            )
        return outcome_of(embeddings, labels, self.classes, self.target_margin(), self._scale(), sides)

    @property
    def has_state(self) -> bool:
        """Each step draws other classes, where a sample of them takes part."""
        return self.classes.is_sampled

    def _take_in(self, calls: list[Call]) -> None:
        del calls
        count_on(self.classes, "calls")


class ScaledHeadLoss(HeadLoss):
    """A declaration over class weights whose cosines are scaled by a number, and of which a sample may take part.

    A subclass declares its margin first, then `scale`, `sub_centers` and `sample_rate`.

    Args:
        scale: s > 0.
        sub_centers: Vectors for each class.
        sample_rate: Share of the classes in a step; see `tuplet.heads.ClassWeights`.
        correction: True to correct the scores of sampled classes by log(1 / sampling probability).
        label_smoothing: Share of the target that all classes have alike, at least 0 and below 1; for one vector per
            class, all classes in each step, and no shards.
        seed: Of the first weights and of the draws.
    """

    _: KW_ONLY
    correction: bool = False
    label_smoothing: Share = 0.0

    sides: ClassVar[Any] = HeadOptions
    of_module: ClassVar[frozenset[str]] = HeadLoss.of_module | {"sub_centers", "sample_rate", "correction"}

    def setup(self) -> None:
        """Say what cannot work well."""
        super().setup()
        _warn(self.num_classes, self.dim, self.target_margin(), self._scale() or 1.0)

    @torch.no_grad()
    def outliers(
        self,
        embeddings: Float[Tensor, "rows dim"],
        labels: Shaped[Tensor, " rows"],
        *,
        angle: Radians = 1.309,
    ) -> Bool[Tensor, " rows"]:
        """Which examples are far from the main center of their class: mislabelled ones gather around the others.

        The main center is the one that is nearest to most of the class's examples among those that are given, the first
        among equals.

        Args:
            embeddings: (rows, dim); best all examples of a class together.
            labels: Class ids; -1 is no outlier.
            angle: From the main center, in radians; 1.309 are 75 degrees.

        Raises:
            ShapeError: If classes are sharded: the centers of some are elsewhere.
        """
        check_embeddings(embeddings, "embeddings")
        check_classes(labels, embeddings, self.num_classes, Checks())
        if self.classes.is_sharded:
            raise ShapeError(
                "outliers was called on a head whose classes are sharded.",
                hint="Load its state into one process, with sharded=False.",
                reference="head-size",
            )
        centers = self.weight.to(embeddings.dtype).reshape(self.num_classes, self.classes.centers, -1)
        known = labels >= 0
        own = labels.clamp_min(0).long()
        cosines = torch.einsum("rd,rcd->rc", normalise(embeddings), normalise(centers[own]))
        votes = torch.zeros(self.num_classes, self.classes.centers, device=own.device)
        votes.index_put_((own[known], cosines[known].argmax(1)), votes.new_ones(()), accumulate=True)
        main = cosines.gather(1, votes.argmax(1)[own][:, None])[:, 0]
        return known & (main < math.cos(angle))

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        outcome = super()._outcome(embeddings, labels, **sides)
        if not self.label_smoothing or labels is None:
            return outcome
        above = above_mean(embeddings, labels, self.classes, self.target_margin(), self._scale() or 1.0, sides)
        return replace(outcome, total=outcome.total + self.label_smoothing * above)

    def _scale(self) -> float | None:
        return float(vars(self)["scale"])

    def _sampling(self) -> dict[str, Any]:
        values = vars(self)
        return {"centers": values["sub_centers"], "sample_rate": values["sample_rate"], "correction": self.correction}


def outcome_of(
    embeddings: Tensor,
    labels: Tensor,
    classes: ClassWeights | Head,
    margin: Margin,
    scale: float | None,
    options: Mapping[str, Any],
) -> Outcome:
    """Cross-entropy of each row's class against all that take part.

    Raises:
        ShapeError: If tensors or numbers do not fit.
        LabelError: If a label is no class; the message names the rows.
    """
    weights, processes = options.get("weights"), options.get("processes", SINGLE_PROCESS)
    checks = Checks(options.get("execution"))
    check_embeddings(embeddings, "embeddings", checks)
    check_weights(weights, embeddings, checks)
    _check(embeddings, labels, classes, scale, processes, checks)
    checks.done()
    embeddings, labels, weights = known(embeddings, labels.long(), weights, options.get("execution"))
    if uses_tiles(checks.execution, embeddings.device):  # rows without a class stay, with a weight of 0
        weights = (labels != -1).to(embeddings) if weights is None else torch.where(labels != -1, weights, 0.0)
    embeddings = embeddings.to(torch.promote_types(embeddings.dtype, torch.float32))
    gathered = all_gather(labels, processes)
    head = classes if isinstance(classes, Head) else classes.head(gathered)
    references, together = head.references(), {"processes": processes}
    if head.shards.size > 1:  # every process meets all rows with its own classes
        embeddings, labels = gather(embeddings, processes, factor=processes.size), gathered
        weights, together = None if weights is None else all_gather(weights, processes), {"shards": processes}
    else:
        references = shared(references, processes)
    return stream(
        Softmax(),
        embeddings,
        references,
        Paired(head.partners(labels), len(references)),
        NearestCenter(),
        margin=margin,
        scale=torch.linalg.vector_norm(embeddings, dim=1) if scale is None else scale,
        offset=head.offset(gathered),
        weights=weights,
        tile_size=options.get("tile_size"),
        stats=options.get("stats", False),
        execution=options.get("execution"),
        **together,
    )


def head_of(weight: Tensor, options: Mapping[str, Any]) -> Head:
    """Class weights given as a tensor.

    Raises:
        ShapeError: If its rows cannot be dealt out to classes.
        LabelError: If `classes` holds what is no class.
    """
    centers, classes = options.get("sub_centers", 1), options.get("classes")
    if weight.ndim != 2 or centers < 1 or len(weight) % centers or not len(weight):
        raise ShapeError(
            f"weight has shape {tuple(weight.shape)}, with {centers} vectors for each class.",
            hint="Pass one row per class, or sub_centers rows for each class one after the other.",
            reference="head-size",
        )
    num_classes = len(weight) // centers
    if classes is not None:
        classes = classes.unique()
        if len(classes) and not 0 <= int(classes[0]) <= int(classes[-1]) < num_classes:
            raise LabelError(
                f"classes holds ids from {int(classes[0])} to {int(classes[-1])}; there are {num_classes} classes.",
                hint=f"Ids run from 0 to {num_classes - 1}.",
                reference="class-outside-head",
            )
    return Head(weight, num_classes, centers, classes, options.get("correction", False))


def _check(
    x: Tensor, labels: Tensor, classes: ClassWeights | Head, scale: float | None, processes: Processes, checks: Checks
) -> None:
    num_classes, dim = classes.num_classes, classes.weight.shape[1]
    if x.shape[1] != dim or (classes.shards.size > 1 and classes.shards != processes):
        raise ShapeError(
            f"Embeddings of length {x.shape[1]} in {processes.size} processes meet class weights of length {dim} "
            f"in {classes.shards.size} shards.",
            hint=(
                "Build the loss with dim = the length of an embedding, and a sharded one with the processes that "
                "call it."
            ),
            reference="head-size",
        )
    if scale is not None and not 0 < scale < math.inf:
        raise ShapeError(
            f"scale is {scale!r}; a number above 0 is expected.",
            hint="Usual values lie between 10 and 64.",
            reference="scale-range",
        )
    check_classes(labels, x, num_classes, checks)


def check_classes(labels: Tensor, x: Tensor, num_classes: int, checks: Checks) -> None:
    """Refuse labels that are neither a class, 0 to num_classes - 1, nor -1.

    Raises:
        LabelError: See above.
    """
    labels = row_ids(labels, x, "labels")
    num_in_batch = labels.clamp(-1, num_classes - 1) == labels

    def explain() -> None:
        rows = (~num_in_batch).nonzero()[:, 0]
        shown = ", ".join(f"{row} ({labels[row]})" for row in rows[:10].tolist())
        raise LabelError(
            f"labels hold no class of this head in {len(rows)} of {len(x)} rows: {shown}"
            f"{f' and {len(rows) - 10} more' if len(rows) > 10 else ''}; there are {num_classes} classes.",
            hint=f"Number the classes from 0 to {num_classes - 1}; -1 leaves a row out.",
            reference="class-outside-head",
        )

    checks.require(num_in_batch.all(), explain)


def _warn(num_classes: int, dim: int, margin: Margin, scale: float) -> None:
    """Say once what cannot work well: at best an embedding is on its class weight, and weights are far apart."""
    if num_classes == 1:
        return
    best = float(margin(torch.ones(1), torch.zeros(1))[0])
    nearest, least = nearest_cosine(num_classes, dim), least_scale(num_classes, LIKELY, best)
    if best <= nearest:
        logger.warning(
            "The margin leaves a target a score of at most %.3g, but the nearest two of %d class weights in %d "
            "dimensions have a cosine of at least %.3g: not all classes can be distinguished by this margin at once. "
            "Use a smaller margin.",
            best,
            num_classes,
            dim,
            nearest,
        )
    elif scale < least:
        logger.warning(
            "With scale %.3g not all of the %d classes can reach a probability of %g at once; the loss stays large. "
            "Use a scale of %.3g or more.",
            scale,
            num_classes,
            LIKELY,
            least,
        )
