"""Contrastive loss in three conventions."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Unpack, get_args

from jaxtyping import Float, Shaped
from torch import Tensor

from tuplet.bounds import NotNegative, bounded
from tuplet.engine import ALONE, Outcome, Processes, stream
from tuplet.losses.base import MetricLoss, register
from tuplet.losses.door import PAIRS, Sides, pose
from tuplet.losses.listed import pairs, refuse_labels
from tuplet.memory import FeatureQueue
from tuplet.reductions import Hinge
from tuplet.registry import check_choice
from tuplet.types import GeometryName, MeanOver

Convention = Literal["sohn", "hadsell", "note"]

_POWER_AND_FACTOR: dict[Convention, tuple[int, float]] = {"sohn": (2, 1.0), "hadsell": (2, 0.5), "note": (1, 1.0)}


@bounded
def contrastive(
    embeddings: Float[Tensor, "anchors dim"],
    labels: Shaped[Tensor, "anchors *classes"] | None = None,
    *,
    margin: NotNegative = 1.0,
    convention: Convention = "sohn",
    geometry: GeometryName | None = None,
    mean_over: MeanOver = "all",
    same: Shaped[Tensor, " anchors"] | None = None,
    **sides: Unpack[Sides],
) -> Float[Tensor, ""]:
    r"""Pulls pairs of one class together and pushes others apart until they are a margin away.

    $$L = \frac{1}{n} \sum_{i<j} y_{ij}\, D_{ij}^2 + (1 - y_{ij})\, [m - D_{ij}]_+^2$$

    with y = 1 for pairs of one class: the convention "sohn". "hadsell" is half of it (and the paper's Y is 1 - y).
    "note" takes the squared distance as it is: $y\,D + (1 - y)\,[m - D]_+$ with $D = \lVert x_i - x_j \rVert^2$.

    Args:
        embeddings: One row per example.
        labels: Class ids, or multi-hot rows; without them row i of `references` is the positive of row i.
        margin: m >= 0, in the unit of D.
        convention: Which of the three forms.
        geometry: What D is; by default the Euclidean distance, its square for "note". For cosine D is 1 - s.
        mean_over: n counts all unordered pairs, those with a loss above 0, or the anchors that have a pair.
        same: For pairs that are listed: 1 where row i of `references` is like row i of the embeddings, 0 where not.
            Each row is one pair then, and nothing else is compared.
        sides: See `Sides`.

    Returns:
        Mean over n; 0 if n is 0.

    References:
        Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", 2006, eq. 4.
        Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", 2016, eq. 1.
    """
    return _outcome(embeddings, labels, margin, convention, geometry, mean_over, {**sides, "same": same}).value


@register("contrastive")
class ContrastiveLoss(MetricLoss):
    """Module form of `contrastive`; labels are class ids, or `loss(first, references=second, same=...)` lists pairs.

    Args:
        margin: m >= 0, in the unit of the distance.
        convention: "sohn", "hadsell" or "note".
        geometry: What the distance is; see `contrastive`.
        mean_over: What the mean divides by.
        queue: Latest batches as further references.
        processes: Who computes the loss together.
    """

    takes: ClassVar[frozenset[str]] = PAIRS | {"same"}

    def __init__(
        self,
        margin: NotNegative = 1.0,
        convention: Convention = "sohn",
        geometry: GeometryName | None = None,
        mean_over: MeanOver = "all",
        *,
        queue: FeatureQueue | None = None,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(_geometry(convention, geometry), queue=queue, processes=processes)
        self.margin, self.convention, self.mean_over = margin, convention, mean_over

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        return _outcome(embeddings, labels, self.margin, self.convention, self.geometry, self.mean_over, sides)


def _outcome(
    embeddings: Tensor,
    labels: Tensor | None,
    margin: float,
    convention: Convention,
    geometry: GeometryName | None,
    mean_over: MeanOver,
    sides: Mapping[str, Any],
) -> Outcome:
    check_choice(convention, get_args(Convention), "convention")
    check_choice(mean_over, get_args(MeanOver), "mean_over")
    power, factor = _POWER_AND_FACTOR[convention]
    chosen = _geometry(convention, geometry)
    if sides.get("same") is not None:
        refuse_labels(labels, "same")
        listed = Hinge(margin, power, factor, mean_over)
        return pairs(listed, embeddings, sides.get("references"), sides["same"], chosen, sides)
    problem = pose(embeddings, labels, sides)
    reduction = Hinge(margin, power, factor, mean_over, problem.inside)
    return stream(reduction, problem.anchors, problem.references, problem.relation, chosen, **problem.walk)


def _geometry(convention: Convention, geometry: GeometryName | None) -> GeometryName:
    """What D is: the convention says so, unless somebody does."""
    return geometry or ("squared_euclidean" if convention == "note" else "euclidean")
