"""Margin softmax whose margin is drawn anew for each example."""

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from tuplet.bounds import NotNegative, Radians, Scale
from tuplet.engine import Processes
from tuplet.engine.gather import all_gather, counts, first_row
from tuplet.losses.base import register
from tuplet.losses.counters import count_on
from tuplet.losses.counters import known as known_number
from tuplet.losses.pending import Call
from tuplet.losses.target_head import TargetHeadLoss, beyond
from tuplet.seeding import derive


@register("elasticface")
class ElasticFaceLoss(TargetHeadLoss):
    r"""ArcFace or CosFace with a margin of each example that is drawn from a normal distribution in every step.

    $$L_i = -\log \frac{e^{s T_i}}{e^{s T_i} + \sum_{j \ne y_i} e^{s\cos\theta_j}}, \quad
    T_i = \cos(\theta_{y_i} + E_i) \;\text{ or }\; \cos\theta_{y_i} - E_i, \quad E_i \sim \mathcal{N}(m, \sigma^2)$$

    Where θ + E > π the score goes on falling, as -2 - cos(θ + E).

    Inputs:
        margins: E, one for each row.

    Args:
        margin: m, in radians for "arc", in units of the cosine for "cos".
        sigma: σ, at least 0.
        scale: s > 0.
        kind: T, by the angle or by the cosine.
        hard_first: True to give the largest margins to the examples farthest from their class, as in ElasticFace+.
        seed: Of the first weights and of the margins.

    References:
        Boutros, Damer, Kirchbuchner, Kuijper, "ElasticFace: Elastic Margin Loss for Deep Face Recognition", 2022, eq. 5
        and 6.
    """

    margin: Radians = 0.5
    sigma: NotNegative = 0.0125
    scale: Scale = 64.0
    kind: Literal["arc", "cos"] = "arc"
    hard_first: bool = False

    suits = "a margin that differs from example to example by chance"
    inputs: ClassVar[Mapping[str, Any]] = {
        "embeddings": Float[Tensor, "anchors dim"],
        "weight": Float[Tensor, "classes dim"],
        "labels": Shaped[Tensor, " anchors"],
        "margins": Float[Tensor, " anchors"],
    }
    of_module: ClassVar[frozenset[str]] = TargetHeadLoss.of_module | {"margin", "sigma"}

    def setup(self) -> None:
        """Draw the class weights, and count the draws of margins."""
        super().setup()
        self.register_buffer("calls", torch.zeros((), dtype=torch.int64))

    def of_rows(self, embeddings: Tensor, angle: Tensor, labels: Tensor, processes: Processes) -> dict[str, Tensor]:
        """The margin of each row in its place."""
        del embeddings
        given = vars(self).get("margins")
        margins = (self.draw(labels, processes) if given is None else given).to(angle)
        if self.hard_first:
            margins = _by_angle(margins, angle.detach(), processes)
        return {"own": beyond(angle + margins) if self.kind == "arc" else angle.cos() - margins}

    def draw(self, labels: Tensor, processes: Processes) -> Tensor:
        """Margins in this step, (anchors,): those of this process's rows among those of the global batch."""
        rows = counts(len(labels), processes, labels.device)
        generator = derive(self.seed, "elastic margins", int(known_number(self, "calls")))
        begin = sum(rows[: processes.rank])
        chances = torch.randn(sum(rows), generator=generator, dtype=torch.float64)[begin : begin + len(labels)]
        return (self.margin + self.sigma * chances).to(labels.device)

    @property
    def has_state(self) -> bool:
        """Each step draws other margins."""
        return True

    def _take_in(self, calls: list[Call]) -> None:
        del calls
        count_on(self, "calls")


elasticface = ElasticFaceLoss.function()


def _by_angle(margins: Tensor, angle: Tensor, processes: Processes) -> Tensor:
    """The same margins of the global batch, larger ones for larger angles."""
    begin = first_row(len(angle), processes, angle.device)
    place = all_gather(angle, processes).argsort(stable=True).argsort(stable=True)
    return all_gather(margins, processes).sort().values[place][begin : begin + len(angle)]
