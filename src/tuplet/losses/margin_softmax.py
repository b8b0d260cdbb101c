"""Softmax over learned class weights with a margin for the own class: A-Softmax, CosFace, ArcFace and all between."""

from typing import Literal, Unpack, get_args

from jaxtyping import Float, Shaped
from torch import Tensor

from tuplet.bounds import Count, Finite, NotNegative, Part, Positive, Radians, Scale, bounded
from tuplet.engine import ALONE, Processes
from tuplet.losses.base import register
from tuplet.losses.counters import known
from tuplet.losses.head import HeadLoss, HeadOptions, RowOptions, head_of, outcome_of
from tuplet.margin import Combined, Extension, Margin, Multiplicative, StraightThrough
from tuplet.registry import check_choice

Gradient = Literal["exact", "straight_through"]
Schedule = tuple[NotNegative, NotNegative, NotNegative, NotNegative]


@bounded
def a_softmax(
    embeddings: Float[Tensor, "anchors dim"],
    weight: Float[Tensor, "classes dim"],
    labels: Shaped[Tensor, " anchors"],
    *,
    margin: Literal[1, 2, 3, 4] = 4,
    annealing: NotNegative = 0.0,
    **options: Unpack[RowOptions],
) -> Float[Tensor, ""]:
    r"""Cross-entropy over class weights of length one, with the angle to the own class multiplied by m.

    $$L_i = -\log \frac{e^{\lVert x_i \rVert f(\theta_{y_i})}}{e^{\lVert x_i \rVert f(\theta_{y_i})}
    + \sum_{j \ne y_i} e^{\lVert x_i \rVert \cos\theta_j}}, \quad f = \frac{\lambda \cos\theta + \psi(\theta)}{1 +
    \lambda}, \quad \psi(\theta) = (-1)^k \cos(m\theta) - 2k, \; \theta \in [k\pi/m, (k+1)\pi/m]$$

    Args:
        embeddings: x; their length counts.
        weight: One vector per class; its length does not count.
        labels: Class ids, 0 to classes - 1; -1 leaves a row out.
        margin: m, 1 to 4.
        annealing: λ >= 0; 0 is the equation as printed, a large λ a softmax without margin.
        options: See `RowOptions`.

    Returns:
        Mean over the rows with a label.

    References:
        Liu et al., "SphereFace: Deep Hypersphere Embedding for Face Recognition", 2017, eq. 7.
    """
    return outcome_of(embeddings, labels, head_of(weight, {}), Multiplicative(margin, annealing), None, options).value


@bounded
def cosface(
    embeddings: Float[Tensor, "anchors dim"],
    weight: Float[Tensor, "vectors dim"],
    labels: Shaped[Tensor, " anchors"],
    *,
    margin: NotNegative = 0.35,
    scale: Scale = 64.0,
    **options: Unpack[HeadOptions],
) -> Float[Tensor, ""]:
    r"""Cross-entropy of cosines with a margin taken from the cosine of the own class.

    $$L_i = -\log \frac{e^{s(\cos\theta_{y_i} - m)}}{e^{s(\cos\theta_{y_i} - m)} + \sum_{j \ne y_i} e^{s\cos\theta_j}}$$

    Args:
        embeddings: Their length does not count.
        weight: Vectors of the classes; their length does not count.
        labels: Class ids, 0 to classes - 1; -1 leaves a row out.
        margin: m, in units of the cosine.
        scale: s > 0.
        options: See `HeadOptions`.

    Returns:
        Mean over the rows with a label.

    References:
        Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", 2018, eq. 4.
    """
    return outcome_of(embeddings, labels, head_of(weight, options), Combined(m3=margin), scale, options).value


@bounded
def arcface(
    embeddings: Float[Tensor, "anchors dim"],
    weight: Float[Tensor, "vectors dim"],
    labels: Shaped[Tensor, " anchors"],
    *,
    margin: Radians = 0.5,
    scale: Scale = 64.0,
    **options: Unpack[HeadOptions],
) -> Float[Tensor, ""]:
    r"""Cross-entropy of cosines with a margin added to the angle to the own class.

    $$L_i = -\log \frac{e^{s\cos(\theta_{y_i} + m)}}{e^{s\cos(\theta_{y_i} + m)} + \sum_{j \ne y_i} e^{s\cos\theta_j}}$$

    Where θ + m > π the score goes on falling, as -2 - cos(θ + m).

    Args:
        embeddings: Their length does not count.
        weight: Vectors of the classes; their length does not count.
        labels: Class ids, 0 to classes - 1; -1 leaves a row out.
        margin: m, in radians, at least 0.
        scale: s > 0.
        options: See `HeadOptions`.

    Returns:
        Mean over the rows with a label.

    References:
        Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", 2019, eq. 3.
    """
    return outcome_of(embeddings, labels, head_of(weight, options), Combined(m2=margin), scale, options).value


@bounded
def combined_margin(
    embeddings: Float[Tensor, "anchors dim"],
    weight: Float[Tensor, "vectors dim"],
    labels: Shaped[Tensor, " anchors"],
    *,
    m1: Positive = 1.0,
    m2: Radians = 0.3,
    m3: Finite = 0.2,
    extension: Extension = "reflect",
    gradient: Gradient = "exact",
    scale: Scale = 64.0,
    **options: Unpack[HeadOptions],
) -> Float[Tensor, ""]:
    r"""Cross-entropy of cosines, with the angle to the own class multiplied and shifted and its cosine lowered.

    $$L_i = -\log \frac{e^{s T(\theta_{y_i})}}{e^{s T(\theta_{y_i})} + \sum_{j \ne y_i} e^{s\cos\theta_j}}, \quad
    T(\theta) = \cos(m_1\theta + m_2) - m_3$$

    Args:
        embeddings: Their length does not count.
        weight: Vectors of the classes; their length does not count.
        labels: Class ids, 0 to classes - 1; -1 leaves a row out.
        m1: Multiplies the angle, above 0.
        m2: Added to the angle, in radians, at least 0.
        m3: Taken from the cosine.
        extension: How T goes on where m1 θ + m2 > π; see `tuplet.margin.Combined`.
        gradient: "exact", or "straight_through": that of the plain cosine, which is not the gradient of the value.
        scale: s > 0.
        options: See `HeadOptions`.

    Returns:
        Mean over the rows with a label.

    References:
        Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", 2019, eq. 4; several vectors for
        each
        class: "Sub-center ArcFace", 2020; drawn classes: An et al., "Partial FC", 2021.
    """
    margin = _combined(m1, m2, m3, extension, gradient)
    return outcome_of(embeddings, labels, head_of(weight, options), margin, scale, options).value


@register("a_softmax")
class ASoftmaxLoss(HeadLoss):
    """Module form of `a_softmax`; owns the class weights and counts its steps.

    Args:
        num_classes: How many classes there are.
        dim: Length of an embedding.
        margin: m, 1 to 4.
        annealing: (base, least, gamma, power): λ = max(least, base (1 + gamma · step)^-power), where `advance` counts
            the steps; or a number that stays.
        sharded: Each process owns a range of the classes; see `tuplet.heads.ClassWeights`.
        seed: Of the first weights.
        processes: Who computes the loss together.
    """

    def __init__(
        self,
        num_classes: Count,
        dim: Count,
        margin: Literal[1, 2, 3, 4] = 4,
        annealing: NotNegative | Schedule = (1000.0, 5.0, 0.12, 1.0),
        *,
        sharded: bool = False,
        seed: int = 0,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(
            num_classes, dim, Multiplicative(margin), None, sharded=sharded, seed=seed, processes=processes
        )
        self.margin, self.annealing = margin, annealing
        self._margin()  # refuses an annealing below 0

    @property
    def steps(self) -> Tensor:
        """Steps so far, counted by `advance` where λ depends on them; saved with the class weights."""
        return self.classes.calls

    @property
    def remembers(self) -> bool:
        """λ depends on the number of steps, if it follows a schedule."""
        return isinstance(self.annealing, tuple)

    def present_annealing(self) -> float:
        """λ of the next step."""
        if not isinstance(self.annealing, tuple):
            return float(self.annealing)
        base, least, gamma, power = self.annealing
        return max(least, base * (1 + gamma * int(known(self.classes, "calls"))) ** -power)

    def _margin(self) -> Margin:
        return Multiplicative(self.margin, self.present_annealing())


@register("cosface")
class CosFaceLoss(HeadLoss):
    """Module form of `cosface`; owns the class weights.

    Args:
        num_classes: How many classes there are.
        dim: Length of an embedding.
        margin: m, in units of the cosine.
        scale: s > 0.
        sub_centers: Vectors for each class.
        sample_rate: Share of the classes in a step; see `tuplet.heads.ClassWeights`.
        correction: True to raise the scores of drawn classes by log(1 / probability to be drawn).
        sharded: Each process owns a range of the classes; see `tuplet.heads.ClassWeights`.
        seed: Of the first weights and of the draws.
        processes: Who computes the loss together.
    """

    def __init__(
        self,
        num_classes: Count,
        dim: Count,
        margin: NotNegative = 0.35,
        scale: Scale = 64.0,
        sub_centers: Count = 1,
        sample_rate: Part = 1.0,
        *,
        correction: bool = False,
        sharded: bool = False,
        seed: int = 0,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(
            num_classes,
            dim,
            Combined(m3=margin),
            scale,
            sub_centers=sub_centers,
            sample_rate=sample_rate,
            correction=correction,
            sharded=sharded,
            seed=seed,
            processes=processes,
        )


@register("arcface")
class ArcFaceLoss(HeadLoss):
    """Module form of `arcface`; owns the class weights.

    Args:
        num_classes: How many classes there are.
        dim: Length of an embedding.
        margin: m, in radians, at least 0.
        scale: s > 0.
        sub_centers: Vectors for each class.
        sample_rate: Share of the classes in a step; see `tuplet.heads.ClassWeights`.
        correction: True to raise the scores of drawn classes by log(1 / probability to be drawn).
        sharded: Each process owns a range of the classes; see `tuplet.heads.ClassWeights`.
        seed: Of the first weights and of the draws.
        processes: Who computes the loss together.
    """

    def __init__(
        self,
        num_classes: Count,
        dim: Count,
        margin: Radians = 0.5,
        scale: Scale = 64.0,
        sub_centers: Count = 1,
        sample_rate: Part = 1.0,
        *,
        correction: bool = False,
        sharded: bool = False,
        seed: int = 0,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(
            num_classes,
            dim,
            Combined(m2=margin),
            scale,
            sub_centers=sub_centers,
            sample_rate=sample_rate,
            correction=correction,
            sharded=sharded,
            seed=seed,
            processes=processes,
        )


@register("combined_margin")
class CombinedMarginLoss(HeadLoss):
    """Module form of `combined_margin`; owns the class weights.

    Args:
        num_classes: How many classes there are.
        dim: Length of an embedding.
        m1: Multiplies the angle, above 0.
        m2: Added to the angle, in radians, at least 0.
        m3: Taken from the cosine.
        extension: How the target's score goes on where m1 θ + m2 > π; see `tuplet.margin.Combined`.
        scale: s > 0.
        sub_centers: Vectors for each class.
        sample_rate: Share of the classes in a step; see `tuplet.heads.ClassWeights`.
        gradient: "exact", or "straight_through": that of the plain cosine, which is not the gradient of the value.
        correction: True to raise the scores of drawn classes by log(1 / probability to be drawn).
        sharded: Each process owns a range of the classes; see `tuplet.heads.ClassWeights`.
        seed: Of the first weights and of the draws.
        processes: Who computes the loss together.
    """

    def __init__(
        self,
        num_classes: Count,
        dim: Count,
        m1: Positive = 1.0,
        m2: Radians = 0.3,
        m3: Finite = 0.2,
        extension: Extension = "reflect",
        scale: Scale = 64.0,
        sub_centers: Count = 1,
        sample_rate: Part = 1.0,
        *,
        gradient: Gradient = "exact",
        correction: bool = False,
        sharded: bool = False,
        seed: int = 0,
        processes: Processes = ALONE,
    ) -> None:
        super().__init__(
            num_classes,
            dim,
            _combined(m1, m2, m3, extension, gradient),
            scale,
            sub_centers=sub_centers,
            sample_rate=sample_rate,
            correction=correction,
            sharded=sharded,
            seed=seed,
            processes=processes,
        )


def _combined(m1: float, m2: float, m3: float, extension: Extension, gradient: Gradient) -> Margin:
    check_choice(gradient, get_args(Gradient), "gradient")
    margin = Combined(m1, m2, m3, extension)
    return margin if gradient == "exact" else StraightThrough(margin)
