"""Softmax over learned class weights with a margin for the own class: A-Softmax, CosFace, ArcFace and all between."""

from collections.abc import Mapping
from dataclasses import KW_ONLY
from typing import Any, ClassVar, Literal

from torch import Tensor

from tuplet.bounds import Count, Finite, NotNegative, Part, Positive, Radians, Scale
from tuplet.losses.base import register
from tuplet.losses.counters import known
from tuplet.losses.head import HeadLoss, ScaledHeadLoss
from tuplet.margin import Combined, Extension, Margin, Multiplicative, StraightThrough

Schedule = tuple[NotNegative, NotNegative, NotNegative, NotNegative]


@register("a_softmax")
class ASoftmaxLoss(HeadLoss):
    r"""Cross-entropy over class weights of length one, with the angle to the target class multiplied by m.

    $$L_i = -\log \frac{e^{\lVert x_i \rVert f(\theta_{y_i})}}{e^{\lVert x_i \rVert f(\theta_{y_i})}
    + \sum_{j \ne y_i} e^{\lVert x_i \rVert \cos\theta_j}}, \quad f = \frac{\lambda \cos\theta + \psi(\theta)}{1 +
    \lambda}, \quad \psi(\theta) = (-1)^k \cos(m\theta) - 2k, \; \theta \in [k\pi/m, (k+1)\pi/m]$$

    Inputs:
        embeddings: x; their length counts.

    Args:
        margin: m, 1 to 4.
        annealing: λ >= 0; 0 is the equation as printed, a large λ a softmax without margin. A module also takes (base,
            least, gamma, power): λ = max(least, base (1 + gamma · step)^-power), where `advance` counts the steps.

    References:
        Liu et al., "SphereFace: Deep Hypersphere Embedding for Face Recognition", 2017, eq. 7.
    """

    margin: Literal[1, 2, 3, 4] = 4
    annealing: NotNegative | Schedule = (1000.0, 5.0, 0.12, 1.0)

    suits = "embeddings whose length counts"
    of_function: ClassVar[Mapping[str, tuple[Any, Any]]] = {"annealing": (NotNegative, 0.0)}

    @property
    def steps(self) -> Tensor:
        """Steps so far, counted by `advance` where λ depends on them; saved with the class weights."""
        return self.classes.calls

    @property
    def has_state(self) -> bool:
        """λ depends on the number of steps, if it follows a schedule."""
        return isinstance(self.annealing, tuple)

    def present_annealing(self) -> float:
        """λ of the next step."""
        if not isinstance(self.annealing, tuple):
            return float(self.annealing)
        base, least, gamma, power = self.annealing
        return max(least, base * (1 + gamma * int(known(self.classes, "calls"))) ** -power)

    def target_margin(self) -> Margin:
        """The angle is multiplied."""
        return Multiplicative(self.margin, self.present_annealing())

    def _scale(self) -> None:
        """The length of the embedding."""


@register("cosface")
class CosFaceLoss(ScaledHeadLoss):
    r"""Cross-entropy of cosines with a margin subtracted from the cosine to the target class.

    $$L_i = -\log \frac{e^{s(\cos\theta_{y_i} - m)}}{e^{s(\cos\theta_{y_i} - m)} + \sum_{j \ne y_i} e^{s\cos\theta_j}}$$

    Args:
        margin: m, in units of the cosine.

    References:
        Wang et al., "CosFace: Large Margin Cosine Loss for Deep Face Recognition", 2018, eq. 4.
    """

    margin: NotNegative = 0.35
    scale: Scale = 64.0
    sub_centers: Count = 1
    sample_rate: Part = 1.0

    suits = "a margin in units of the score"

    def target_margin(self) -> Margin:
        """The cosine is lowered."""
        return Combined(m3=self.margin)


@register("arcface")
class ArcFaceLoss(ScaledHeadLoss):
    r"""Cross-entropy of cosines with a margin added to the angle to the target class.

    $$L_i = -\log \frac{e^{s\cos(\theta_{y_i} + m)}}{e^{s\cos(\theta_{y_i} + m)} + \sum_{j \ne y_i} e^{s\cos\theta_j}}$$

    Where θ + m > π the score goes on falling, as -2 - cos(θ + m).

    Args:
        margin: m, in radians, at least 0.

    References:
        Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", 2019, eq. 3.
    """

    margin: Radians = 0.5
    scale: Scale = 64.0
    sub_centers: Count = 1
    sample_rate: Part = 1.0

    suits = "a margin on the angle; sub-centers for noisy labels, `sample_rate` for very many classes"

    def target_margin(self) -> Margin:
        """The angle is shifted."""
        return Combined(m2=self.margin)


@register("combined_margin")
class CombinedMarginLoss(ScaledHeadLoss):
    r"""Cross-entropy of cosines, with the angle to the target class multiplied and shifted and its cosine lowered.

    $$L_i = -\log \frac{e^{s T(\theta_{y_i})}}{e^{s T(\theta_{y_i})} + \sum_{j \ne y_i} e^{s\cos\theta_j}}, \quad
    T(\theta) = \cos(m_1\theta + m_2) - m_3$$

    Args:
        m1: Multiplies the angle, above 0.
        m2: Added to the angle, in radians, at least 0.
        m3: Taken from the cosine.
        extension: How T goes on where m1 θ + m2 > π; see `tuplet.margin.Combined`.
        gradient: "exact", or "straight_through": that of the plain cosine, which is not the gradient of the value.

    References:
        Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition", 2019, eq. 4; several vectors for
        each class: "Sub-center ArcFace", 2020; drawn classes: An et al., "Partial FC", 2021.
    """

    m1: Positive = 1.0
    m2: Radians = 0.3
    m3: Finite = 0.2
    extension: Extension = "reflect"
    scale: Scale = 64.0
    sub_centers: Count = 1
    sample_rate: Part = 1.0
    _: KW_ONLY
    gradient: Literal["exact", "straight_through"] = "exact"

    suits = "margins of several kinds together"

    def target_margin(self) -> Margin:
        """All three."""
        margin = Combined(self.m1, self.m2, self.m3, self.extension)
        return margin if self.gradient == "exact" else StraightThrough(margin)


a_softmax, cosface = ASoftmaxLoss.function(), CosFaceLoss.function()
arcface, combined_margin = ArcFaceLoss.function(), CombinedMarginLoss.function()
