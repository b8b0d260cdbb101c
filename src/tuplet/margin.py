"""Margins bend the cosine of an anchor with its own class.

A margin is a function of the angle θ. It takes the cosine and the sine (accurate also where the cosine is 1 or -1) and returns the
bent score T(θ) and its fall -dT/dθ, which is bounded where dT/dcos is not: no arccos, and no clamp that would take the gradient from
the worst examples.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from tuplet.relation import Entries

Margin = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Cosine and sine of the angle -> bent score T and fall -dT/dθ."""


@dataclass(frozen=True)
class Bend:
    """Bent entries of a tile and the way back.

    Args:
        at: Which entries.
        score: T(θ), before the scale.
        mine: Derivative of T by the anchors, (entries, dim), orthogonal to them.
        theirs: Derivative of T by the references, (entries, dim), orthogonal to them.
    """

    at: Entries
    score: Tensor
    mine: Tensor
    theirs: Tensor

    def pull(
        self, slope: Tensor, factor: Tensor | float, grad_a: Tensor | None, grad_r: Tensor | None, along: Tensor | None
    ) -> None:
        """Take these entries out of `slope` and add what they pull to the gradients and, `along`, to that of the scale."""
        rows, cols = self.at.rows, self.at.cols
        pulls = slope[rows, cols]
        slope[rows, cols] = 0
        if along is not None:
            along.index_add_(0, rows, pulls * self.score)
        pulls = (pulls * (factor[rows, 0] if isinstance(factor, Tensor) else factor))[:, None]
        if grad_a is not None:
            grad_a.index_add_(0, rows, pulls * self.mine)
        if grad_r is not None:
            grad_r.index_add_(0, cols, pulls * self.theirs)


def bend(margin: Margin, at: Entries, scores: Tensor, a: Tensor, r: Tensor) -> Bend:
    """Bend the entries `at` of `scores` in place.

    Args:
        margin: What to do with an angle.
        at: Entries of the tile, the positives.
        scores: Cosines (rows, cols).
        a: Unit anchors of the tile (rows, dim).
        r: Unit references, one for each entry (entries, dim).

    Returns:
        What `Bend.pull` needs.
    """
    u, v = a[at.rows], r
    apart, together = v - u, v + u
    near, far = apart.square().sum(1), together.square().sum(1)  # 2 - 2cos, 2 + 2cos
    exists = (u.square().sum(1) > 0.25) & (
        v.square().sum(1) > 0.25
    )  # a zero row has no direction: angle pi/2, no gradient
    cosine = torch.where(exists, scores[at.rows, at.cols], 0.0)
    sine = torch.where(exists, 0.5 * (near * far).sqrt(), 1.0)
    bent, fall = margin(cosine, sine)
    scores[at.rows, at.cols] = bent
    # the tangent v - cos u, from the smaller of the two differences so that no digits cancel; its length is the sine
    acute = (near < far)[:, None]
    near, far = near[:, None], far[:, None]
    mine = torch.where(acute, apart + 0.5 * near * u, together - 0.5 * far * u)
    theirs = torch.where(acute, 0.5 * near * v - apart, together - 0.5 * far * v)
    tiny = torch.finfo(sine.dtype).tiny
    rate = torch.where(exists & (sine > 0), fall / sine.clamp_min(tiny), 0.0)[:, None]
    return Bend(at, bent, rate * mine, rate * theirs)
