"""Log-ratio loss: metric learning with continuous labels."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, replace
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Num
from torch import Tensor

from tuplet.engine import SINGLE_PROCESS, Outcome, Processes, gather
from tuplet.engine.gather import all_gather, first_row
from tuplet.errors import LabelError, ShapeError
from tuplet.keys import LabelDistance
from tuplet.losses.declare import DeclaredLoss, register
from tuplet.losses.inputs import ROWS, Checks, PairBatch, RowOptions, check_embeddings, check_weights, options_of
from tuplet.reductions import LogRatio
from tuplet.relation import Graded
from tuplet.types import DistanceName, GeometryName


@register("log_ratio")
class LogRatioLoss(DeclaredLoss):
    r"""The ratio of two distances follows the ratio of the label distances, for every anchor and pair of others.

    $$L = \frac{1}{n} \sum_a \sum_{i<j} \Big(\log\frac{D(f_a, f_i)}{D(f_a, f_j)} - \log\frac{D(y_a, y_i)}{D(y_a,
    y_j)}\Big)^2$$

    Dense triplet mining takes all pairs (i, j); the sum over them collapses to a variance, O(anchors²) in all.

    Inputs:
        embeddings: f, one row per example.
        labels: y, one number or one vector per example.
        reference_weights: v: the pair (i, j) weighs v_i v_j.

    Args:
        geometry: D, for embeddings and labels alike: "squared_euclidean" (the paper) or "euclidean" (its code).
        eps: Added to D inside the logarithms, above 0.
        anchors: Every example is an anchor, or the first alone, as in the paper's batches.
        mask_zero_label: Leave out examples whose label equals the anchor's; False is the paper.
        label_distance: Of labels (rows, values) and (cols, values), returns (rows, cols), finite and >= 0: takes the
            place of `geometry` for labels, and should be squared where that is.
        processes: Who computes the loss together.

    Raises:
        LabelError: If labels are not one finite number or vector per row.

    References:
        Kim, Seo, Laptev, Cho, Kwak, "Deep Metric Learning Beyond Binary Supervision", 2019, eq. 3.
    """

    geometry: DistanceName = "squared_euclidean"
    eps: float = 1e-6
    anchors: Literal["all", "first"] = "all"
    mask_zero_label: bool = True
    _: KW_ONLY
    label_distance: LabelDistance | None = None
    processes: Processes = SINGLE_PROCESS

    family = "triplet"
    suits = "distances that follow those of the labels"
    supervision = "graded"
    divides_by = "anchors and unordered pairs"
    takes: ClassVar[frozenset[str]] = ROWS
    sides: ClassVar[Any] = RowOptions
    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "labels": Num[Tensor, "anchors *values"],
    }
    keyword_inputs: ClassVar[Mapping[str, Any]] = {"reference_weights": Float[Tensor, " anchors"] | None}
    of_module: ClassVar[frozenset[str]] = frozenset({"processes"})

    def compares(self) -> GeometryName:
        """By a distance: the negative of a similarity has no logarithm."""
        return _distance(self.geometry)

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        outcome = super()._outcome(embeddings, labels, **sides)
        # no pair is positive, so no anchor lacks one
        without = {"anchors_without_positives", "positives", "positive_score"}
        return replace(outcome, stats={name: value for name, value in outcome.stats.items() if name not in without})

    def problem(self, embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> PairBatch:
        """The anchors of this process among the examples of all."""
        graded = self._checked(embeddings, labels, sides).double()
        weights, processes = sides.get("weights"), sides.get("processes", SINGLE_PROCESS)
        gathered, graded = gather(embeddings, processes), all_gather(graded, processes)
        first = first_row(len(embeddings), processes, embeddings.device)
        mine = slice(first, first + len(embeddings))
        if self.anchors == "first":
            mine = slice(first, first + min(1, len(embeddings)) if first == 0 else first)
        # differences are taken in float64, so that large label values (years, time stamps) keep their digits
        relation = Graded(graded[mine], graded, self.label_distance or _distance(self.geometry), first=first)
        count = mine.stop - mine.start
        asking = gathered if gathered is embeddings and count == len(embeddings) else embeddings[:count]
        weights = None if weights is None else weights[:count]
        stream_options = options_of(sides) | {"weights": weights}
        if sides.get("reference_weights") is not None:
            stream_options["of_col"] = {"v": all_gather(sides["reference_weights"], processes)}
        return PairBatch(asking, gathered, relation, weights, 0, stream_options)

    def program(self, problem: PairBatch | None = None) -> LogRatio:
        """Sums over pairs of references, as a variance."""
        weights = problem.stream_options.get("of_col", {}).get("v") if problem else None
        return LogRatio(self.eps, mask_zero_label=self.mask_zero_label, reference_weights=weights)

    def _checked(self, embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> Tensor:
        if labels is None:
            raise LabelError(
                "The log-ratio loss was called without labels.",
                hint="Pass one number or one vector per example.",
                reference="labels-missing",
            )
        if not self.eps > 0:
            raise ShapeError(
                f"eps is {self.eps}; a number above 0 is expected, since the logarithm of a distance of 0 is not "
                "finite.",
                hint="Usual values lie between 1e-8 and 1e-4.",
                reference="log-ratio-eps",
            )
        checks = Checks(sides.get("execution"))
        check_embeddings(embeddings, "embeddings", checks)
        check_weights(sides.get("weights"), embeddings, checks)
        check_weights(sides.get("reference_weights"), embeddings, checks)
        check_graded(labels, len(embeddings), checks)
        checks.done()
        return labels


log_ratio = LogRatioLoss.function()


def check_graded(labels: Tensor, count: int, checks: Checks) -> None:
    """Refuse graded labels that are not one finite number, or vector of them, for each of so many embeddings.

    Raises:
        LabelError: See above; where the numbers are not finite, at the end of `checks`.
    """

    def explain() -> None:
        raise LabelError(
            f"labels have shape {tuple(labels.shape)} for {count} embeddings, or hold NaN or infinity.",
            hint="Pass one finite number or one vector of them per example.",
            reference="label-shape",
        )

    if len(labels) != count:
        explain()
    checks.require(torch.isfinite(labels.double()).all(), explain)


def _distance(geometry: str) -> DistanceName:
    """The geometry, if it is one of distances: the negative of a similarity has no logarithm."""
    for name in get_args(DistanceName):
        if geometry == name:
            return name
    raise ShapeError(
        f"geometry is {geometry!r}; the log-ratio loss compares distances.",
        hint="Use 'squared_euclidean' or 'euclidean'; normalise embeddings first to compare by their angle.",
        reference="log-ratio-geometry",
    )
