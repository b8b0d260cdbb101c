"""Softmax over class weights with a margin for the own class: the call, label smoothing, and warnings."""

import logging
import math
from collections.abc import Mapping
from dataclasses import KW_ONLY, replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from tuplet.bounds import Radians, Share
from tuplet.engine import SINGLE_PROCESS, Outcome, gather, stream
from tuplet.engine.execution import DEFAULT, uses_tiles
from tuplet.engine.gather import all_gather, reduce_sum, shared
from tuplet.errors import ShapeError
from tuplet.geometry import normalise
from tuplet.heads import ClassWeights, Head, NearestCenter
from tuplet.losses.classes import ClassLoss, check_classes, row_weights
from tuplet.losses.counters import count_on
from tuplet.losses.inputs import Checks, RowOptions, check_embeddings, known, options_of
from tuplet.losses.pending import Call
from tuplet.margin import Margin, angles, least_scale, nearest_cosine
from tuplet.reductions import Softmax
from tuplet.relation import Paired
from tuplet.tensors import wide_dtype

logger = logging.getLogger(__name__)

LIKELY = 0.9
"""A scale is called small if no arrangement of the class weights lets a target reach this probability."""


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


class HeadLoss(ClassLoss):
    """A declaration over class weights whose own class has a margin; processes may share out the classes.

    Args:
        sharded: Each process owns a range of the classes; see `tuplet.heads.ClassWeights`.
    """

    _: KW_ONLY
    sharded: bool = False

    of_module: ClassVar[frozenset[str]] = ClassLoss.of_module | {"sharded"}

    def target_margin(self) -> Margin:
        """Margin of the own class."""
        raise NotImplementedError

    def of_classes(self) -> dict[str, Any]:
        """Who owns which."""
        return {"shards": self.processes if self.sharded else SINGLE_PROCESS}

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        labels, classes, scale = self.checked(embeddings, labels, sides), self.classes, self._scale()
        weights, processes = sides.get("weights"), sides.get("processes", SINGLE_PROCESS)
        execution = sides.get("execution") or DEFAULT
        if classes.shards.size > 1 and classes.shards != processes:
            raise ShapeError(
                f"{processes.size} processes called a head whose classes are in {classes.shards.size} shards.",
                hint="Build a sharded loss with the processes that call it.",
                reference="head-size",
            )
        embeddings, labels, weights = known(embeddings, labels, weights, execution)
        if uses_tiles(execution, embeddings.device):
            weights = row_weights(labels, weights, embeddings)
        embeddings = embeddings.to(wide_dtype(embeddings))
        gathered = all_gather(labels, processes)
        head = classes if isinstance(classes, Head) else classes.head(gathered)
        references, options = head.references(), options_of(sides)
        if head.shards.size > 1:  # every process meets all rows with its own classes
            embeddings, labels = gather(embeddings, processes, factor=processes.size), gathered
            weights = None if weights is None else all_gather(weights, processes)
            options |= {"processes": SINGLE_PROCESS, "shards": processes}
        else:
            references = shared(references, processes)
        return stream(
            Softmax(),
            embeddings,
            references,
            Paired(head.partners(labels), len(references)),
            NearestCenter(),
            margin=self.target_margin(),
            scale=torch.linalg.vector_norm(embeddings, dim=1) if scale is None else scale,
            offset=head.offset(gathered),
            weights=weights,
            **options,
        )

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
        above = self._above_mean(embeddings, labels.long(), sides)
        return replace(outcome, total=outcome.total + self.label_smoothing * above)

    def _above_mean(self, embeddings: Tensor, labels: Tensor, sides: Mapping[str, Any]) -> Tensor:
        """What the score of the own class is above the mean score of all, which is one product with summed weights."""
        classes: ClassWeights | Head = self.classes
        is_part = classes.classes is not None if isinstance(classes, Head) else classes.is_sampled
        if classes.centers > 1 or classes.shards.size > 1 or is_part:
            raise ShapeError(
                "label_smoothing was asked of class weights with sub-centers, shards or sampled classes.",
                hint="Use label_smoothing=0, or one vector for each class, all of them on each process.",
                reference="label-smoothing",
            )
        processes = sides.get("processes", SINGLE_PROCESS)
        wide = wide_dtype(embeddings, classes.weight)
        with torch.autocast(embeddings.device.type, enabled=False):
            x, w = normalise(embeddings.to(wide)), normalise(shared(classes.weight, processes).to(wide))
            angle = angles(x, w[labels.clamp_min(0)])
            own = self.target_margin()(angle.cos(), angle.sin())[0]
            above = own - (x @ w.sum(0) - angle.cos() + own) / len(w)
        weights = row_weights(labels, sides.get("weights"), above).to(wide)
        return (self._scale() or 1.0) * reduce_sum((above * weights).sum(), processes)

    def of_classes(self) -> dict[str, Any]:
        """How many vectors, and which take part."""
        mine = {"centers": vars(self)["sub_centers"], "sample_rate": vars(self)["sample_rate"]}
        return super().of_classes() | mine | {"correction": self.correction}


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
