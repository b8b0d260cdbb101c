"""Angular loss: the angle at a negative of the triangle that it forms with a positive pair."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from tuplet.bounds import Bounds
from tuplet.engine import Outcome, Processes, combine, stream
from tuplet.engine.gather import all_reduce_max
from tuplet.engine.positives import positive_places
from tuplet.engine.program import Found, Mean, Pair, Program, Term, lse, softplus
from tuplet.losses.declare import PairLoss, register
from tuplet.losses.inputs import PairBatch

Acute = Annotated[float, Bounds(above=0, below=math.pi / 2, hint="The angle is in radians: 45 degrees are 0.7854.")]


@register("angular")
class AngularLoss(PairLoss):
    r"""Bounds the angle at which a negative sees a positive pair, whatever the lengths of the triangle's sides.

    $$L = \frac{1}{n} \sum_{(a,p)} \log\Big(1 + \sum_{n \in N_a} e^{f_{apn}}\Big), \quad
    f_{apn} = 4 \tan^2\!\alpha\, (x_a + x_p) \cdot x_n - 2 (1 + \tan^2\!\alpha)\, x_a \cdot x_p$$

    Embeddings are scaled to length one.

    Args:
        angle: α, in radians: the largest angle at a negative that has no loss.

    References:
        Wang, Zhou, Wen, Liu, Lin, "Deep Metric Learning with Angular Loss", 2017, eq. 7 and 8.
    """

    angle: Acute = 0.7

    family = "triplet"
    suits = "triplets by angle, which has no unit to choose a margin in"
    fixed_geometry = "cosine"
    of_units = True
    meets_all = True
    divides_by = "the positive pairs whose anchor has a negative"

    def program(self, problem: PairBatch | None = None) -> Program:
        """That of the k-th positive of each anchor."""
        del problem
        return _Pairs()

    def _streamed(self, problem: PairBatch, processes: Processes) -> Outcome:
        """The sum of an anchor and its k-th positive against all negatives, for each k."""
        steep = math.tan(self.angle) ** 2
        a, r = problem.anchors, problem.references
        places, there = positive_places(problem.relation)
        most = int(all_reduce_max(torch.tensor(places.shape[1]), processes)) if processes.size > 1 else places.shape[1]
        options = {**problem.stream_options, "stats": False}
        outcomes = []
        for k in range(max(1, most)):
            is_here = k < places.shape[1] and len(r) > 0
            positive = r[places[:, k]] if is_here else a
            own = 2 * (1 + steep) * (a * positive).sum(1)
            is_real = there[:, k] if is_here else torch.zeros_like(own, dtype=torch.bool)
            of_row = {"own": own, "there": is_real.to(own.dtype)}
            both = 4 * steep * (a + positive)
            outcomes.append(stream(self.program(), both, r, problem.relation, "dot", of_row=of_row, **options))
        return combine(*outcomes)


angular = AngularLoss.function()


@dataclass(frozen=True)
class _Pairs(Program):
    """One positive of each anchor against its negatives."""

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        return {"negative": lse(score, where=pair.negative)}

    def finish(self, found: Found) -> Mean:
        valid = (found["there"] > 0) & (found["negative"] > -torch.inf)
        exponent = torch.where(valid, found["negative"], 0.0) - found["own"]
        return Mean(torch.where(valid, softplus(exponent), 0.0), valid)
