"""Triplet loss: all, easy, semi-hard or hard triplets, the hardest of each anchor, or FaceNet's choice."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Unpack, get_args

from jaxtyping import Float, Shaped
from torch import Tensor

from tuplet.bounds import NotNegative, bounded
from tuplet.engine import ALONE, Outcome, Processes, Reduction, stream
from tuplet.errors import LabelError
from tuplet.losses.base import MetricLoss, register
from tuplet.losses.door import PAIRS, Sides, pose
from tuplet.losses.listed import refuse_labels, triplets
from tuplet.memory import FeatureQueue
from tuplet.reductions import HardestTriplet, NearestBeyond, Triplet
from tuplet.registry import check_choice
from tuplet.types import GeometryName, MeanOver

Select = Literal["all", "easy", "semihard", "hard", "batch_hard", "facenet"]


@bounded
def triplet(
    embeddings: Float[Tensor, "anchors dim"],
    labels: Shaped[Tensor, "anchors *classes"] | None = None,
    *,
    margin: NotNegative = 0.2,
    select: Select = "all",
    geometry: GeometryName = "squared_euclidean",
    power: Literal[1, 2] = 1,
    soft: bool = False,
    hard_offset: NotNegative | None = None,
    mean_over: MeanOver | None = None,
    positives: Float[Tensor, "anchors dim"] | None = None,
    negatives: Float[Tensor, "anchors *n dim"] | None = None,
    **sides: Unpack[Sides],
) -> Float[Tensor, ""]:
    r"""Each anchor's positives should be nearer than its negatives, by a margin.

    $$L = \frac{1}{n} \sum_{(a,p,n)} [D_{ap} - D_{an} + m]_+$$

    | `select` | triplets |
    | --- | --- |
    | all | every one |
    | easy | $D_{ap} + m < D_{an}$: their hinge is 0 |
    | semihard | $D_{ap} < D_{an} < D_{ap} + m$ |
    | hard | $D_{an} \le D_{ap}$; with `hard_offset` $D_{an} + \mathrm{hard\_offset} < D_{ap}$ |
    | batch_hard | farthest positive and nearest negative of each anchor |
    | facenet | for each positive pair the nearest negative beyond it, else (as in TensorFlow's form) the farthest |

    Args:
        embeddings: One row per example.
        labels: Class ids, or multi-hot rows; without them row i of `references` is the positive of row i.
        margin: m, in the unit of D.
        select: Which triplets.
        geometry: What D is. FaceNet: squared Euclidean between unit vectors; batch-hard in its paper: Euclidean.
        power: Exponent of the hinge, 1 or 2.
        soft: softplus(D_ap - D_an) in the place of the hinge; the margin then only tells easy from semi-hard.
        hard_offset: At least 0: hard triplets are those with D_an + hard_offset < D_ap. It only selects; 0 leaves ties
            out, None (the default) has them in.
        mean_over: n counts triplets with a loss above 0 ("active"; default of the first four), all that could be
            ("all"; default of facenet: positive pairs), or anchors ("anchors"; default of batch_hard).
        positives: For triplets that are listed: row i is the positive of anchor i.
        negatives: Then row i, (dim) or (n, dim), is what anchor i is compared with, and nothing else.
        sides: See `Sides`.

    Returns:
        Mean over n; 0 if n is 0.

    References:
        Schroff, Kalenichenko, Philbin, "FaceNet", 2015, eq. 2 to 4.
        Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017, eq. 5.
    """
    reduction = _reduction(margin, select, power, soft, hard_offset, mean_over)
    told = {**sides, "positives": positives, "negatives": negatives}
    return _outcome(reduction, embeddings, labels, geometry, told).value


@register("triplet")
class TripletLoss(MetricLoss):
    """Module form of `triplet`; labels are class ids, or `loss(anchors, positives=..., negatives=...)` lists triplets.

    Args:
        margin: In the unit of the distance.
        select: Which triplets; see `triplet`.
        geometry: What the distance is.
        power: Exponent of the hinge, 1 or 2.
        soft: True for softplus in the place of the hinge.
        hard_offset: A triplet is hard if D_an + hard_offset < D_ap; None: if D_an <= D_ap.
        mean_over: What the mean divides by; the default depends on `select`.
        queue: Latest batches as further references.
        processes: Who computes the loss together.
    """

    takes: ClassVar[frozenset[str]] = PAIRS | {"positives", "negatives"}

    def __init__(
        self,
        margin: NotNegative = 0.2,
        select: Select = "all",
        geometry: GeometryName = "squared_euclidean",
        power: Literal[1, 2] = 1,
        soft: bool = False,
        hard_offset: NotNegative | None = None,
        mean_over: MeanOver | None = None,
        *,
        queue: FeatureQueue | None = None,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(geometry, queue=queue, processes=processes)
        self.margin, self.select, self.power = margin, select, power
        self.soft, self.hard_offset, self.mean_over = soft, hard_offset, mean_over

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        reduction = _reduction(self.margin, self.select, self.power, self.soft, self.hard_offset, self.mean_over)
        return _outcome(reduction, embeddings, labels, self.geometry, sides)


def _reduction(
    margin: float, select: Select, power: int, soft: bool, hard_offset: float | None, mean_over: MeanOver | None
) -> Reduction[Any]:
    check_choice(select, get_args(Select), "select")
    check_choice(mean_over, (None, *get_args(MeanOver)), "mean_over")
    check_choice(power, (1, 2), "power")
    if select == "batch_hard":
        return HardestTriplet(margin, power=power, soft=soft, mean_over=mean_over or "anchors")
    if select == "facenet":
        return NearestBeyond(margin, power=power, soft=soft, mean_over=mean_over or "all")
    return Triplet(margin, select, power=power, soft=soft, hard_offset=hard_offset, mean_over=mean_over or "active")


def _outcome(
    reduction: Reduction[Any],
    embeddings: Tensor,
    labels: Tensor | None,
    geometry: GeometryName,
    sides: Mapping[str, Any],
) -> Outcome:
    positives, negatives = sides.get("positives"), sides.get("negatives")
    if positives is not None or negatives is not None:
        refuse_labels(labels, "positives and negatives")
        if positives is None or negatives is None or sides.get("references") is not None:
            raise LabelError(
                "Listed triplets came without positives, without negatives, or with references besides.",
                hint="Call loss(anchors, positives=..., negatives=...): row i of each is one triplet.",
                reference="labels-missing",
            )
        return triplets(reduction, embeddings, positives, negatives, geometry, sides)
    problem = pose(embeddings, labels, sides)
    return stream(reduction, problem.anchors, problem.references, problem.relation, geometry, **problem.walk)
