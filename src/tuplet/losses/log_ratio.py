"""Log-ratio loss: metric learning with continuous labels."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, get_args

import torch
from jaxtyping import Float, Num
from torch import Tensor

from tuplet.bounds import Count, bounded
from tuplet.engine import ALONE, Outcome, Processes, gather, stream
from tuplet.engine.gather import everyones, first_row
from tuplet.errors import LabelError, ShapeError
from tuplet.keys import LabelDistance
from tuplet.losses.base import MetricLoss, register
from tuplet.losses.door import ROWS, Checks, check_embeddings, check_weights
from tuplet.reductions import LogRatio
from tuplet.registry import check_choice
from tuplet.relation import Graded
from tuplet.types import DistanceName, Supervision


@bounded
def log_ratio(
    embeddings: Float[Tensor, "anchors dim"],
    labels: Num[Tensor, "anchors *values"],
    *,
    geometry: DistanceName = "squared_euclidean",
    eps: float = 1e-6,
    anchors: Literal["all", "first"] = "all",
    mask_zero_label: bool = True,
    label_distance: LabelDistance | None = None,
    weights: Float[Tensor, " anchors"] | None = None,
    reference_weights: Float[Tensor, " anchors"] | None = None,
    tile_size: Count | None = None,
    processes: Processes = ALONE,
) -> Float[Tensor, ""]:
    r"""The ratio of two distances follows the ratio of the label distances, for every anchor and pair of others.

    $$L = \frac{1}{n} \sum_a \sum_{i<j} \Big(\log\frac{D(f_a, f_i)}{D(f_a, f_j)} - \log\frac{D(y_a, y_i)}{D(y_a,
    y_j)}\Big)^2$$

    Dense triplet mining takes all pairs (i, j); the sum over them collapses to a variance, O(anchors²) in all.

    Args:
        embeddings: f, one row per example.
        labels: y, one number or one vector per example.
        geometry: D, for embeddings and labels alike: "squared_euclidean" (the paper) or "euclidean" (its code).
        eps: Added to D inside the logarithms, above 0.
        anchors: Every example is an anchor, or the first alone, as in the paper's batches.
        mask_zero_label: Leave out examples whose label equals the anchor's; False is the paper.
        label_distance: Of labels (rows, values) and (cols, values), returns (rows, cols), finite and >= 0: takes the
            place of `geometry` for labels, and should be squared where that is.
        weights: One per anchor.
        reference_weights: v: the pair (i, j) weighs v_i v_j.
        tile_size: Most entries of a tile.
        processes: Who computes the loss together.

    Returns:
        Mean over anchors and unordered pairs; 0 if there is none.

    Raises:
        LabelError: If labels are not one finite number or vector per row.

    References:
        Kim, Seo, Laptev, Cho, Kwak, "Deep Metric Learning Beyond Binary Supervision", 2019, eq. 3.
    """
    walk = {"weights": weights, "reference_weights": reference_weights, "tile_size": tile_size, "processes": processes}
    return _outcome(
        embeddings, labels, geometry, label_distance, eps, anchors, walk, mask_zero_label=mask_zero_label
    ).value


@register("log_ratio")
class LogRatioLoss(MetricLoss):
    """Module form of `log_ratio`; labels are graded values `(n,)` or `(n, d)`.

    Args:
        geometry: Distance of embeddings and of labels.
        eps: Added to distances inside the logarithms, above 0.
        anchors: "all" or "first".
        mask_zero_label: True to leave out examples whose label equals the anchor's.
        label_distance: As in `log_ratio`.
        processes: Who computes the loss together.
    """

    supervision: ClassVar[Supervision] = "graded"
    takes: ClassVar[frozenset[str]] = ROWS | {"reference_weights"}

    def __init__(
        self,
        geometry: DistanceName = "squared_euclidean",
        eps: float = 1e-6,
        anchors: Literal["all", "first"] = "all",
        mask_zero_label: bool = True,
        *,
        label_distance: LabelDistance | None = None,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(_distance(geometry), processes=processes)
        self.label_distance = label_distance
        self.eps, self.anchors, self.mask_zero_label = eps, anchors, mask_zero_label

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        if labels is None:
            raise LabelError(
                "The log-ratio loss was called without labels.",
                hint="Pass one number or one vector per example.",
                reference="labels-missing",
            )
        chosen = self.geometry, self.label_distance, self.eps, self.anchors
        return _outcome(embeddings, labels, *chosen, sides, mask_zero_label=self.mask_zero_label)


def _outcome(
    embeddings: Tensor,
    labels: Tensor,
    geometry: str,
    label_distance: LabelDistance | None,
    eps: float,
    anchors: Literal["all", "first"],
    walk: Mapping[str, Any],
    *,
    mask_zero_label: bool,
) -> Outcome:
    if not eps > 0:
        raise ShapeError(
            f"eps is {eps}; a number above 0 is expected, since the logarithm of a distance of 0 is not finite.",
            hint="Usual values lie between 1e-8 and 1e-4.",
            reference="log-ratio-eps",
        )
    check_choice(anchors, ("all", "first"), "anchors")
    name = _distance(geometry)
    checks = Checks(walk.get("execution"))
    check_embeddings(embeddings, "embeddings", checks)
    weights, processes = walk.get("weights"), walk.get("processes", ALONE)
    reference_weights = walk.get("reference_weights")
    check_weights(weights, embeddings, checks)
    check_weights(reference_weights, embeddings, checks)
    _require_labels(labels, len(embeddings), checks)
    checks.done()
    everyone, graded = gather(embeddings, processes), everyones(labels.double(), processes)
    first = first_row(len(embeddings), processes, embeddings.device)
    mine = slice(first, first + len(embeddings))
    if anchors == "first":
        mine = slice(first, first + min(1, len(embeddings)) if first == 0 else first)
    # differences are taken in float64, so that large label values (years, time stamps) keep their digits
    relation = Graded(graded[mine], graded, label_distance or name, first=first)
    if reference_weights is not None:
        reference_weights = everyones(reference_weights, processes)
    reduction = LogRatio(eps, mask_zero_label=mask_zero_label, reference_weights=reference_weights)
    count = mine.stop - mine.start
    asking = everyone if everyone is embeddings and count == len(embeddings) else embeddings[:count]
    outcome = stream(
        reduction,
        asking,
        everyone,
        relation,
        name,
        weights=None if weights is None else weights[:count],
        tile_size=walk.get("tile_size"),
        processes=processes,
        stats=walk.get("stats", False),
        execution=walk.get("execution"),
    )
    # no pair is positive, so no anchor lacks one
    without = {"lonely", "positives", "positive_score"}
    return replace(outcome, stats={name: value for name, value in outcome.stats.items() if name not in without})


def _require_labels(labels: Tensor, count: int, checks: Checks) -> None:
    """One finite number, or one vector of them, for each of so many embeddings."""

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
