"""Contrastive loss in three conventions."""

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar, Literal, cast

from jaxtyping import Shaped
from torch import Tensor

from tuplet.bounds import NotNegative
from tuplet.engine import Outcome
from tuplet.losses.declare import PairLoss, on_sphere, register
from tuplet.losses.inputs import PairBatch
from tuplet.losses.listed import added, pairs, refuse_labels
from tuplet.reductions import Hinge
from tuplet.reductions.programs import HingeApartProgram
from tuplet.types import GeometryName, MeanOver

Convention = Literal["sohn", "hadsell", "note"]

_POWER_AND_FACTOR: dict[Convention, tuple[int, float]] = {"sohn": (2, 1.0), "hadsell": (2, 0.5), "note": (1, 1.0)}


@register("contrastive")
class ContrastiveLoss(PairLoss):
    r"""Pulls pairs of one class together and pushes others apart until they are a margin away.

    $$L = \frac{1}{n} \sum_{i<j} y_{ij}\, D_{ij}^2 + (1 - y_{ij})\, [m - D_{ij}]_+^2$$

    with y = 1 for pairs of one class: the convention "sohn". "hadsell" is half of it (and the paper's Y is 1 - y).
    "note" takes the squared distance as it is: $y\,D + (1 - y)\,[m - D]_+$ with $D = \lVert x_i - x_j \rVert^2$.
    A call with `references` and `same` lists pairs.

    Inputs:
        same: For pairs that are listed: 1 where row i of `references` is like row i of the embeddings, 0 where not.
            Each row is one pair then, and nothing else is compared.

    Args:
        margin: m >= 0, in the unit of D.
        convention: Which of the three forms.
        geometry: What D is; by default the Euclidean distance, its square for "note". For cosine D is 1 - s.
        mean_over: n counts all unordered pairs, those with a loss above 0, or the anchors that have a pair.
            "apart" is the mean over positives with a loss above 0, plus that over negatives with one.
        pos_margin: m₊ >= 0: positives have [D - m₊]₊ in the place of D.
        normalise: Divide embeddings by their length first; evaluation then compares by the cosine, which ranks as the
            distance does.

    References:
        Hadsell, Chopra, LeCun, "Dimensionality Reduction by Learning an Invariant Mapping", 2006, eq. 4.
        Sohn, "Improved Deep Metric Learning with Multi-class N-pair Loss Objective", 2016, eq. 1.
    """

    margin: NotNegative = 1.0
    convention: Convention = "sohn"
    geometry: GeometryName | None = None  # type: ignore[assignment]  # then it is what the convention says
    mean_over: MeanOver | Literal["apart"] = "all"
    pos_margin: NotNegative = 0.0
    normalise: bool = False

    suits = "a threshold on the distance"
    divides_by = "n"
    keyword_inputs: ClassVar[Mapping[str, Any]] = {"same": Shaped[Tensor, " anchors"] | None}

    def compares(self) -> GeometryName:
        """What D is: the convention says so, unless somebody does."""
        return self.geometry or ("squared_euclidean" if self.convention == "note" else "euclidean")

    def program(self, problem: PairBatch | None = None) -> Hinge | HingeApartProgram:
        """Half a pair per visit where one set meets itself."""
        power, factor = _POWER_AND_FACTOR[self.convention]
        count = problem.num_in_batch if problem else 0
        if self.mean_over == "apart":
            return HingeApartProgram(self.margin, power, factor, num_in_batch=count, pos_margin=self.pos_margin)
        return Hinge(self.margin, power, factor, self.mean_over, count, self.pos_margin)

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        same = sides.get("same")
        if same is None:
            return super()._outcome(embeddings, labels, **sides)
        refuse_labels(labels, "same")
        if self.normalise:
            embeddings, sides = on_sphere(embeddings, sides)
        listed = partial(pairs, embeddings=embeddings, references=sides.get("references"), geometry=self.compares())
        if self.mean_over != "apart":
            return listed(cast("Hinge", self.program()), same=same, sides=sides)
        power, factor = _POWER_AND_FACTOR[self.convention]
        active = Hinge(self.margin, power, factor, "active", 0, self.pos_margin)
        return added(*(listed(active, same=same, sides=sides, only=kind) for kind in (True, False)))


contrastive = ContrastiveLoss.function()
