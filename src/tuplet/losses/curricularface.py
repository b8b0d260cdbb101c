"""Angular margin softmax whose hard negatives weigh more as training goes on."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tuplet.bounds import Radians, Scale
from tuplet.engine import Processes
from tuplet.engine.program import Pair, Term, lse
from tuplet.geometry import normalise
from tuplet.losses.base import register
from tuplet.losses.pending import Call
from tuplet.losses.target_head import MOST_ROWS, TargetHeadLoss, beyond, mean_and_deviation

FRESH = 0.01
"""Share of the latest step in the running mean."""


@register("curricularface")
class CurricularFaceLoss(TargetHeadLoss):
    r"""ArcFace with negatives that are nearer than the margined target made harder, the more the model has learned.

    $$L_i = -\log \frac{e^{s T_i}}{e^{s T_i} + \sum_{j \ne y_i} e^{s N_{ij}}}, \quad T_i = \cos(\theta_{y_i} + m), \quad
    N_{ij} = \cos\theta_j \text{ up to } T_i, \; \cos\theta_j (t + \cos\theta_j) \text{ beyond}$$

    t is the running mean of the cosines with the own class: 0 at first, and `advance` takes in 0.01 of each step. Where
    θ + m > π the score goes on falling, as -2 - cos(θ + m).

    Inputs:
        progress: t.

    Args:
        margin: m, in radians, at least 0.
        scale: s > 0.

    References:
        Huang et al., "CurricularFace: Adaptive Curriculum Learning Loss for Deep Face Recognition", 2020, eq. 5 to 9.
    """

    margin: Radians = 0.5
    scale: Scale = 64.0

    suits = "a margin on the angle, hard classes late"
    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "weight": Float[Tensor, "classes dim"],
        "labels": Shaped[Tensor, " anchors"],
        "progress": Float[Tensor, ""],
    }

    def setup(self) -> None:
        """Draw the class weights; t begins at 0."""
        super().setup()
        self._pending.rows = MOST_ROWS
        self.progress: Tensor
        self.register_buffer("progress", torch.zeros((), dtype=torch.float64))

    def of_rows(self, embeddings: Tensor, angle: Tensor, labels: Tensor, processes: Processes) -> dict[str, Tensor]:
        """Target, and t."""
        del embeddings, labels, processes
        progress = self.progress.detach().to(angle)
        return {"own": beyond(angle + self.margin), "progress": progress.expand(len(angle))}

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Negatives nearer than the target are changed; which ones is a constant."""
        harder = score > pair.of_row["own"].detach()
        score = torch.where(harder, score * (pair.of_row["progress"] + score), score)
        return {"others": lse(self.scale * score, where=pair.negative)}

    @property
    def has_state(self) -> bool:
        """T follows the cosines."""
        return True

    @torch.no_grad()
    def _call(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Call:
        call, weight = super()._call(embeddings, labels, sides), self.classes.weight
        own = weight[call.labels.long().clamp_min(0)]  # type: ignore[union-attr]  # the call had some
        return replace(call, notes=(normalise(call.embeddings.to(own)) * normalise(own)).sum(1))

    def _take_in(self, calls: list[Call]) -> None:
        mean, _, count = mean_and_deviation(calls, [call.notes for call in calls if call.notes is not None])
        fresh = torch.where(count > 0, FRESH, 0.0)
        self.progress += fresh * (mean - self.progress)


curricularface = CurricularFaceLoss.function()
