"""Triplet loss: all, easy, semi-hard or hard triplets, the hardest of each anchor, or FaceNet's choice."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, cast

from jaxtyping import Float
from torch import Tensor

from tuplet.bounds import NotNegative
from tuplet.engine import Outcome, Reduction
from tuplet.errors import LabelError
from tuplet.losses.declare import PairLoss, on_sphere, register
from tuplet.losses.inputs import PairBatch
from tuplet.losses.listed import refuse_labels, triplets
from tuplet.losses.swap import swapped
from tuplet.reductions import HardestTriplet, NearestBeyond, Triplet
from tuplet.reductions.triplet import Kind
from tuplet.types import GeometryName, MeanOver, Soft

Select = Literal["all", "easy", "semihard", "hard", "batch_hard", "batch_easy", "facenet", "swap"]


@register("triplet")
class TripletLoss(PairLoss):
    r"""Each anchor's positives should be nearer than its negatives, by a margin.

    $$L = \frac{1}{n} \sum_{(a,p,n)} [D_{ap} - D_{an} + m]_+$$

    | `select` | triplets |
    | --- | --- |
    | all | every one |
    | easy | $D_{ap} + m < D_{an}$: their hinge is 0 |
    | semihard | $D_{ap} < D_{an} < D_{ap} + m$ |
    | hard | $D_{an} \le D_{ap}$; with `hard_offset` $D_{an} + \mathrm{hard\_offset} < D_{ap}$ |
    | batch_hard | farthest positive and nearest negative of each anchor |
    | batch_easy | nearest positive and nearest negative of each anchor |
    | facenet | for each positive pair the nearest negative beyond it, else (as in TensorFlow's form) the farthest |
    | swap | every one, with the smaller of $D_{an}$ and $D_{pn}$ in the place of $D_{an}$ |

    A call with `positives` and `negatives` lists triplets; of the kinds, only swap has a meaning then.

    Inputs:
        positives: For triplets that are listed: row i is the positive of anchor i.
        negatives: Then row i, (dim) or (n, dim), is what anchor i is compared with, and nothing else.

    Args:
        margin: m, in the unit of D.
        select: Which triplets.
        geometry: What D is. FaceNet: squared Euclidean between unit vectors; batch-hard in its paper: Euclidean.
        power: Exponent of the hinge, 1 or 2.
        soft: softplus(D_ap - D_an) in the place of the hinge, where the margin only tells easy from semi-hard; "margin"
            for softplus(D_ap - D_an + m).
        hard_offset: At least 0: hard triplets are those with D_an + hard_offset < D_ap. It only selects; 0 leaves ties
            out, None (the default) has them in.
        mean_over: n counts triplets with a loss above 0 ("active"; default of the first four), all that could be
            ("all"; default of facenet: positive pairs), or anchors ("anchors"; default of batch_hard and batch_easy).
        normalise: Divide embeddings by their length first; evaluation then compares by the cosine, which ranks as the
            distance does.

    References:
        Schroff, Kalenichenko, Philbin, "FaceNet", 2015, eq. 2 to 4.
        Hermans, Beyer, Leibe, "In Defense of the Triplet Loss for Person Re-Identification", 2017, eq. 5.
        Balntas et al., "Learning Local Feature Descriptors with Triplets and Shallow Convolutional Neural Networks",
        2016, sec. 3.3 (swap).
        Xuan, Stylianou, Pless, "Improved Embeddings with Easy Positive Triplet Mining", 2020, sec. 3 (batch_easy).
    """

    margin: NotNegative = 0.2
    select: Select = "all"
    geometry: GeometryName = "squared_euclidean"
    power: Literal[1, 2] = 1
    soft: Soft = False
    hard_offset: NotNegative | None = None
    mean_over: MeanOver | None = None
    normalise: bool = False

    family = "triplet"
    suits = "the order of distances; batch-hard for few epochs"
    divides_by = "n"
    keyword_inputs: ClassVar[Mapping[str, Any]] = {
        "positives": Float[Tensor, "anchors dim"] | None,
        "negatives": Float[Tensor, "anchors *n dim"] | None,
    }

    def program(self, problem: PairBatch | None = None) -> Reduction[Any]:
        """By the kind of triplets."""
        del problem
        form: dict[str, Any] = {"power": self.power, "soft": self.soft}
        if self.select in ("batch_hard", "batch_easy"):
            easy = self.select == "batch_easy"
            return HardestTriplet(self.margin, **form, mean_over=self.mean_over or "anchors", easy=easy)
        if self.select == "facenet":
            return NearestBeyond(self.margin, **form, mean_over=self.mean_over or "all")
        mean_over = self.mean_over or "active"
        kind: Kind = "all" if self.select == "swap" else cast("Kind", self.select)
        return Triplet(self.margin, kind, **form, hard_offset=self.hard_offset, mean_over=mean_over)

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        positives, negatives = sides.get("positives"), sides.get("negatives")
        if positives is None and negatives is None and self.select == "swap":
            problem = self.problem(embeddings, labels, sides)
            return swapped(cast("Triplet", self.program(problem)), problem, self.compares())
        if positives is None and negatives is None:
            return super()._outcome(embeddings, labels, **sides)
        refuse_labels(labels, "positives and negatives")
        if positives is None or negatives is None or sides.get("references") is not None:
            raise LabelError(
                "Listed triplets came without positives, without negatives, or with references besides.",
                hint="Call loss(anchors, positives=..., negatives=...): row i of each is one triplet.",
                reference="labels-missing",
            )
        if self.normalise:
            embeddings, sides = on_sphere(embeddings, sides)
        positives, negatives = sides["positives"], sides["negatives"]
        return triplets(
            self.program(), embeddings, positives, negatives, self.compares(), sides, swap=self.select == "swap"
        )


triplet = TripletLoss.function()
