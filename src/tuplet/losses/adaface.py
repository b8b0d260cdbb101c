"""Margin softmax whose margin follows the quality of an example, of which the norm of its embedding tells."""

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tuplet.bounds import Positive, Radians, Scale
from tuplet.engine import Processes
from tuplet.losses.base import register
from tuplet.losses.pending import Call
from tuplet.losses.target_head import MOST_ROWS, TargetHeadLoss, mean_and_deviation
from tuplet.tensors import wide_dtype

FRESH = 0.01
"""Share of the latest step in the running mean and deviation."""
SHORTEST, LONGEST = 1e-3, 100.0
"""Norms are taken between these."""
EDGE = 1e-3
"""The margined angle stays so far from 0 and π, as in the paper's public code."""


@register("adaface")
class AdaFaceLoss(TargetHeadLoss):
    r"""Softmax with an angular and an additive margin that emphasises hard examples only where their quality is high.

    $$L_i = -\log \frac{e^{s T_i}}{e^{s T_i} + \sum_{j \ne y_i} e^{s\cos\theta_j}}, \quad
    T_i = \cos(\theta_{y_i} - m q_i) - m (q_i + 1), \quad
    q_i = \Big[h\, \frac{\lVert x_i \rVert - \mu}{\sigma}\Big]_{-1}^{1}$$

    q, the quality, is a constant in the gradient. μ and σ are the running mean and deviation of the norms: 20 and 100
    at first, and `advance` takes in 0.01 of each step.

    Inputs:
        embeddings: x; their length tells the quality.
        norm_mean: μ.
        norm_deviation: σ.

    Args:
        margin: m, at least 0.
        concentration: h > 0.
        scale: s > 0.

    References:
        Kim, Jain, Liu, "AdaFace: Quality Adaptive Margin for Face Recognition", 2022, eq. 13 to 16.
    """

    margin: Radians = 0.4
    concentration: Positive = 0.333
    scale: Scale = 64.0

    suits = "images of good and of bad quality together"
    stops_gradient = True
    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "weight": Float[Tensor, "classes dim"],
        "labels": Shaped[Tensor, " anchors"],
        "norm_mean": Float[Tensor, ""],
        "norm_deviation": Float[Tensor, ""],
    }

    def setup(self) -> None:
        """Draw the class weights; mean and deviation begin as in the paper's public code."""
        super().setup()
        self._pending.rows = MOST_ROWS
        self.norm_mean: Tensor
        self.norm_deviation: Tensor
        self.register_buffer("norm_mean", torch.tensor(20.0, dtype=torch.float64))
        self.register_buffer("norm_deviation", torch.tensor(100.0, dtype=torch.float64))

    def of_rows(self, embeddings: Tensor, angle: Tensor, labels: Tensor, processes: Processes) -> dict[str, Tensor]:
        """The margined cosine by the quality of each row."""
        del labels, processes
        mean, deviation = (known.detach().to(angle) for known in (self.norm_mean, self.norm_deviation))
        quality = (self.concentration * (_norms(embeddings) - mean) / (deviation + EDGE)).clamp(-1, 1)
        turned = (angle - self.margin * quality).clamp(EDGE, torch.pi - EDGE)
        return {"own": turned.cos() - self.margin * (1 + quality)}

    @property
    def has_state(self) -> bool:
        """Mean and deviation follow the norms."""
        return True

    def _take_in(self, calls: list[Call]) -> None:
        mean, deviation, count = mean_and_deviation(calls, [_norms(call.embeddings) for call in calls])
        fresh = torch.where(count > 1, FRESH, 0.0)
        self.norm_mean += fresh * (mean - self.norm_mean)
        self.norm_deviation += fresh * (deviation - self.norm_deviation)


adaface = AdaFaceLoss.function()


def _norms(x: Tensor) -> Tensor:
    """Norms as constants."""
    x = x.detach().to(wide_dtype(x))
    return torch.linalg.vector_norm(x, dim=1).clamp(SHORTEST, LONGEST)
