"""Margins modify the cosine of an anchor with its target class.

A margin is a function of the angle θ. It takes the cosine and the sine (accurate also where the cosine is 1 or -1) and
returns the logit T(θ) and -dT/dθ, which is bounded where dT/dcos is not: no arccos, and no clamp that
would take the gradient from the worst examples.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from tuplet.errors import ShapeError
from tuplet.registry import check_choice
from tuplet.relation import Entries

Margin = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Cosine and sine of the angle -> logit T and -dT/dθ."""

Extension = Literal["reflect", "linear", "easy", "tangent", "none"]
"""What becomes of a score beyond the angle where cos(m1 θ + m2) would rise again."""

ALIGNED = 8
"""Angles below so many units in the last place of 1 are rounding: each unit row is off by about two of them."""

TANGENT_FROM = math.pi - 0.1
"""Where the tangent takes over: at π itself it would be flat."""


@dataclass(frozen=True)
class Multiplicative:
    r"""The angle times m, as printed for A-Softmax, mixed with the plain cosine while training begins.

    $$T = \frac{\lambda \cos\theta + \psi(\theta)}{1 + \lambda}, \quad
    \psi(\theta) = (-1)^k \cos(m\theta) - 2k, \quad \theta \in [k\pi/m, (k+1)\pi/m]$$

    cos(mθ) and sin(mθ)/sinθ are polynomials in cosθ.

    Args:
        times: m, 1 to 4.
        annealing: λ >= 0.
    """

    times: int = 4
    annealing: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what has no polynomial or would turn the mixture around."""
        if self.times not in (1, 2, 3, 4) or not 0 <= self.annealing < math.inf:
            raise ShapeError(
                f"A multiplicative margin of {self.times!r} with annealing {self.annealing!r} was asked for.",
                hint="The margin is 1, 2, 3 or 4, annealing is 0 or more; CombinedMarginLoss takes fractions as m1.",
                reference="margin-range",
            )

    def __call__(self, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
        """T and -dT/dθ."""
        m, mixed = self.times, self.annealing
        k = torch.zeros_like(cosine)
        for j in range(1, m):
            k += (cosine <= math.cos(j * math.pi / m)).to(k)
        sign = 1 - 2 * (k % 2)
        before, polynomial = torch.ones_like(cosine), cosine  # cos(nθ) for n = 0, 1, ...
        second_before, second = torch.zeros_like(cosine), torch.ones_like(cosine)  # sin(nθ) / sinθ for n = 0, 1, ...
        for _ in range(m - 1):
            before, polynomial = polynomial, 2 * cosine * polynomial - before
            second_before, second = second, 2 * cosine * second - second_before
        logit, neg_dlogit = sign * polynomial - 2 * k, m * sign * second * sine
        return (mixed * cosine + logit) / (1 + mixed), (mixed * sine + neg_dlogit) / (1 + mixed)


@dataclass(frozen=True)
class Combined:
    r"""$T = \cos(m_1\theta + m_2) - m_3$, carried on beyond $u = m_1\theta + m_2 = \pi$.

    | extension | beyond | monotone |
    | --- | --- | --- |
    | reflect | $(-1)^k \cos u - 2k - m_3$, $k = \lfloor u/\pi \rfloor$ | yes, smooth |
    | tangent | from $u_0 = \pi - 0.1$ on the tangent there | yes, smooth, never flat |
    | linear | $\cos\theta - m_2 \sin m_2 - m_3$ | yes, with a jump down |
    | easy | $\cos\theta - m_3$ from $\theta = \pi/2$ on | no, jumps up |
    | none | $\cos u - m_3$ | no, turns upward |

    Args:
        m1: Multiplies the angle, above 0.
        m2: Added to the angle, in radians, at least 0.
        m3: Taken from the cosine.
        extension: See the table; linear and easy exist for m1 = 1.
    """

    m1: float = 1.0
    m2: float = 0.0
    m3: float = 0.0
    extension: Extension = "reflect"

    def __post_init__(self) -> None:
        """Refuse what is no margin."""
        check_choice(self.extension, get_args(Extension), "extension")
        finite = all(math.isfinite(m) for m in (self.m1, self.m2, self.m3))
        if not finite or self.m1 <= 0 or self.m2 < 0 or (self.m1 != 1 and self.extension in ("linear", "easy")):
            raise ShapeError(
                f"A margin of m1 = {self.m1}, m2 = {self.m2}, m3 = {self.m3} with extension {self.extension!r} was "
                f"asked for.",
                hint="m1 is above 0, m2 (in radians) is 0 or more; linear and easy need m1 = 1, reflect takes any.",
                reference="margin-range",
            )

    def __call__(self, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
        """T and -dT/dθ."""
        u = self.m1 * torch.atan2(sine, cosine) + self.m2
        logit, neg_dlogit = u.cos(), self.m1 * u.sin()
        match self.extension:
            case "reflect":
                k = (u / math.pi).detach().floor()
                sign = 1 - 2 * (k % 2)
                logit, neg_dlogit = sign * logit - 2 * k, sign * neg_dlogit
            case "tangent":
                steep = math.sin(TANGENT_FROM)
                line = math.cos(TANGENT_FROM) - steep * (u - TANGENT_FROM)
                beyond = u > TANGENT_FROM
                logit, neg_dlogit = torch.where(beyond, line, logit), torch.where(beyond, self.m1 * steep, neg_dlogit)
            case "linear":
                beyond = u >= math.pi
                line = cosine - self.m2 * math.sin(self.m2)
                logit, neg_dlogit = torch.where(beyond, line, logit), torch.where(beyond, sine, neg_dlogit)
            case "easy":
                beyond = cosine <= 0
                logit, neg_dlogit = torch.where(beyond, cosine, logit), torch.where(beyond, sine, neg_dlogit)
            case "none":
                pass
        return logit - self.m3, neg_dlogit


@dataclass(frozen=True)
class StraightThrough:
    """The value of another margin with the gradient of the plain cosine: not the gradient of that value.

    Args:
        margin: The margin that gives the value.
    """

    margin: Margin

    def __call__(self, cosine: Tensor, sine: Tensor) -> tuple[Tensor, Tensor]:
        """T, and -dcosθ/dθ in place of -dT/dθ."""
        logit, _ = self.margin(cosine, sine)
        return cosine + (logit - cosine).detach(), sine


@dataclass(frozen=True)
class MarginGrad:
    """Entries of a tile with a margin, and their gradients.

    Args:
        at: Which entries.
        score: T(θ), before the scale.
        mine: Derivative of T by the anchors, (entries, dim), orthogonal to them.
        theirs: Derivative of T by the unit references, (entries, dim), orthogonal to them.
    """

    at: Entries
    score: Tensor
    mine: Tensor
    theirs: Tensor


def apply_margin(margin: Margin, at: Entries, a: Tensor, r: Tensor) -> MarginGrad:
    """Apply a margin to the entries `at` of a tile.

    Args:
        margin: What to do with an angle.
        at: Entries of the tile, the positives.
        a: Unit anchors of the tile (rows, dim).
        r: Unit references, one for each entry (entries, dim).

    Returns:
        The logits and their derivatives.
    """
    u, v = a[at.rows], r
    apart, together = v - u, v + u
    near, far = apart.square().sum(1), together.square().sum(1)  # 2 - 2cos, 2 + 2cos
    exists = near + far > 2.5  # 4 for unit rows; a zero row has no direction: angle pi/2, no gradient
    cosine = torch.where(exists, (u * v).sum(1), 0.0)
    sine = torch.where(exists, 0.5 * (near * far).sqrt(), 1.0)
    logit, neg_dlogit = margin(cosine, sine)
    # two unit rows that differ by the rounding of their entries have no direction between them
    is_apart = exists & (sine > ALIGNED * torch.finfo(sine.dtype).eps)
    rate = torch.where(is_apart, neg_dlogit / torch.where(is_apart, sine, 1.0), 0.0)
    # the tangent v - cos u, from the smaller of the two differences so that no digits cancel; its length is the sine
    acute = near < far
    smaller = torch.where(acute[:, None], apart, together)
    along = (rate * torch.where(acute, 0.5 * near, -0.5 * far))[:, None]
    mine = torch.addcmul(smaller * rate[:, None], along, u)
    theirs = torch.addcmul(smaller * torch.where(acute, -rate, rate)[:, None], along, v)
    return MarginGrad(at, logit, mine, theirs)


@dataclass(frozen=True)
class Targets:
    """Scores of the positives, one per anchor, and their derivatives.

    Args:
        score: T(θ), (anchors,).
        mine: Derivative by the anchor, (anchors, dim).
        theirs: Derivative by the anchor's own reference as it was given, (anchors, dim).
        at: Position of that reference, among all centers where a reference has several.
    """

    score: Tensor
    mine: Tensor
    theirs: Tensor
    at: Tensor


def target_scores(margin: Margin, a: Tensor, r: Tensor, partner: Tensor, *, unit: bool = False) -> Targets:
    """The margin's score of each anchor with its own reference, accurate at every angle.

    Args:
        margin: What to do with an angle.
        a: Unit anchors (anchors, dim).
        r: Unit references (references, dim), or (references, centers, dim), of which the nearest counts.
        partner: Position of each anchor's reference; -1 for none, whose score is that of some other.
        unit: True if the references still have to be scaled to length one.
    """
    at = partner.clamp_min(0)
    own = r[at]
    if own.ndim == 3:
        length = torch.linalg.vector_norm(own, dim=2, keepdim=True)
        units = own / length.clamp_min(1e-12)
        which = torch.einsum("rd,rkd->rk", a, units).argmax(1)
        own, at = r[at, which], at * r.shape[1] + which
    rate = None
    if unit:
        length = torch.linalg.vector_norm(own, dim=1, keepdim=True)
        rate = torch.where(length > 1e-12, 1 / length.clamp_min(1e-12), 0.0)
        own = own / length.clamp_min(1e-12)
    every = torch.arange(len(a), device=a.device)
    logit = apply_margin(margin, Entries(every, every), a, own)
    return Targets(logit.score, logit.mine, logit.theirs if rate is None else logit.theirs * rate, at)


def angles(u: Tensor, v: Tensor) -> Tensor:
    """Angles of unit rows, in radians, to the last digit at every angle; where rows are equal or opposite, a constant.

    A row of length zero has no direction: its angle is a right one.
    """
    apart, together = (length(x) for x in (v - u, v + u))
    exists = (u.square().sum(1) > 0.25) & (v.square().sum(1) > 0.25)
    has_direction = exists & (torch.minimum(apart, together) > ALIGNED * torch.finfo(u.dtype).eps)
    plain = 2 * torch.atan2(apart, together)
    found = torch.where(has_direction, plain, plain.detach())
    return torch.where(exists, found, torch.pi / 2)


def length(x: Tensor) -> Tensor:
    """Length of rows, with a gradient of 0 at 0."""
    squares = x.square().sum(1)
    return torch.where(squares > 0, torch.where(squares > 0, squares, 1.0).sqrt(), 0.0)


def nearest_cosine(classes: int, dim: int) -> float:
    """Least cosine that the two nearest of so many vectors can have: the regular simplex, if there is room."""
    if classes <= dim + 1:
        return -1 / (classes - 1)
    return math.cos(2 * math.pi / classes) if dim == 2 else 0.0


def least_scale(classes: int, probability: float, best: float = 1.0) -> float:
    r"""Scale below which not all classes reach a probability at once, however their weights are arranged.

    $$s \ge \log\frac{(C - 1) P}{1 - P} \Big/ \Big(T(0) + \frac{1}{C - 1}\Big)$$

    Args:
        classes: C, at least 2.
        probability: P in (0, 1).
        best: T(0), the logit of an embedding that lies on its class weight.

    Returns:
        The bound; infinite if T(0) is below the mean score of the other classes. A single class may reach the
        probability with less, where all others lie on the far side.

    References:
        Wang et al., "CosFace", 2018, eq. 6, for embeddings on their class weights. For any others: the mean over the
        classes of x_y · (w_y - w_j) is at most C / (C - 1), and the loss is convex in it.
    """
    room = best + 1 / (classes - 1)
    return max(0.0, math.log((classes - 1) * probability / (1 - probability)) / room) if room > 0 else math.inf
