"""Angular loss: the angle at a negative of the triangle that it forms with a positive pair."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor
from torch.nn.functional import pad

from tuplet.bounds import Bounds
from tuplet.engine import Outcome, Processes, combine, stream
from tuplet.engine.gather import all_reduce_max
from tuplet.engine.positives import positive_places
from tuplet.engine.program import Found, Mean, Pair, Program, Term, lse, softplus
from tuplet.losses.declare import PairLoss, register
from tuplet.losses.inputs import PairBatch
from tuplet.relation import Relation, repeated

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
        """The sum of an anchor and its k-th positive against all negatives: for all k together, or for each."""
        r, relation = problem.references, problem.relation
        places, there = positive_places(relation)
        most = int(all_reduce_max(torch.tensor(places.shape[1]), processes)) if processes.size > 1 else places.shape[1]
        if not len(r):
            places, there = places[:, :0], there[:, :0]
        short = max(1, most) - places.shape[1]  # of anchors of other processes
        places, there = pad(places, (0, short)), pad(there, (0, short))
        together = repeated(relation, places.shape[1])
        if together is not None:
            return self._of_pairs(problem, places.T.flatten(), there.T.flatten(), together)
        return combine(*(self._of_pairs(problem, *pair, relation) for pair in zip(places.T, there.T, strict=True)))

    def _of_pairs(self, problem: PairBatch, places: Tensor, there: Tensor, relation: Relation) -> Outcome:
        """Each anchor, one time after the other, with the positive at its place."""
        steep, times = math.tan(self.angle) ** 2, len(places) // max(1, len(problem.anchors))
        a, r, weights = problem.anchors.repeat(times, 1), problem.references, problem.weights
        positive = r[places] if len(r) else a
        of_row = {"own": 2 * (1 + steep) * (a * positive).sum(1), "there": there.to(a.dtype)}
        options = {**problem.stream_options, "stats": False}
        options["weights"] = None if weights is None else weights.repeat(times)
        return stream(self.program(), 4 * steep * (a + positive), r, relation, "dot", of_row=of_row, **options)


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
