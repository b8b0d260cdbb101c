"""Angular margin softmax whose margin and penalty follow the norm of the embedding, so that it tells the quality."""

import torch
from torch import Tensor

from tuplet.bounds import NotNegative, Positive, Radians, Scale
from tuplet.engine import Processes
from tuplet.engine.program import Found, Mean
from tuplet.losses.base import register
from tuplet.losses.target_head import TargetHeadLoss, beyond, cross_entropy


@register("magface")
class MagFaceLoss(TargetHeadLoss):
    r"""ArcFace with a margin that grows with the norm of the embedding, and a penalty that makes norms grow.

    $$L_i = -\log \frac{e^{s T_i}}{e^{s T_i} + \sum_{j \ne y_i} e^{s\cos\theta_j}} + \lambda \Big(\frac{1}{a_i} +
    \frac{a_i}{u_a^2}\Big), \quad T_i = \cos(\theta_{y_i} + m(a_i))$$

    a is the norm of x, no less than l_a and no more than u_a, and m grows in a line from `least_margin` to
    `largest_margin` on the way. The gradient goes through both, but not beyond the bounds. Where θ + m > π the score
    goes on falling, as -2 - cos(θ + m).

    Inputs:
        embeddings: x; their length counts.

    Args:
        least_margin: m(l_a), in radians, at least 0.
        largest_margin: m(u_a), in radians, at least 0.
        least_norm: l_a > 0.
        largest_norm: u_a, above l_a.
        penalty: λ, at least 0.
        scale: s > 0.

    References:
        Meng, Zhao, Huang, Zhou, "MagFace: A Universal Representation for Face Recognition and Quality Assessment",
        2021, eq. 3 and 6.
    """

    least_margin: Radians = 0.45
    largest_margin: Radians = 0.8
    least_norm: Positive = 10.0
    largest_norm: Positive = 110.0
    penalty: NotNegative = 35.0
    scale: Scale = 64.0

    suits = "a norm that tells the quality of an example"

    def of_rows(self, embeddings: Tensor, angle: Tensor, labels: Tensor, processes: Processes) -> dict[str, Tensor]:
        """The margined cosine and the penalty, by the norm of each row."""
        del labels, processes
        squares = embeddings.square().sum(1)
        norm = torch.where(squares > 0, torch.where(squares > 0, squares, 1.0).sqrt(), 0.0)
        norm = norm.clamp(self.least_norm, self.largest_norm)
        way = (norm - self.least_norm) / (self.largest_norm - self.least_norm)
        margin = self.least_margin + (self.largest_margin - self.least_margin) * way
        return {"own": beyond(angle + margin), "penalty": self.penalty * (1 / norm + norm / self.largest_norm**2)}

    def finish(self, found: Found) -> Mean:
        """Cross-entropy and penalty."""
        mean = cross_entropy(found, self.scale)
        return Mean(mean.loss + found["penalty"], mean.count)


magface = MagFaceLoss.function()
