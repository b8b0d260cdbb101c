"""Lifted structure loss: a positive pair against the negatives of both of its ends."""

import torch
from torch import Tensor

from tuplet.bounds import Finite
from tuplet.engine import Outcome, Processes, stream
from tuplet.engine.program import Found, Mean, Pair, Term, count, lse, total
from tuplet.losses.both_ends import at_both_ends
from tuplet.losses.declare import PairLoss, register
from tuplet.losses.inputs import PairBatch
from tuplet.types import GeometryName


@register("lifted_structure")
class LiftedStructureLoss(PairLoss):
    r"""Each positive pair is nearer than the negatives of either end, through their soft minimum.

    $$L = \frac{1}{2 n} \sum_{(i,j)} [J_{ij}]_+^2, \quad
    J_{ij} = D_{ij} + \log\Big(\sum_{k \in N_i} e^{m - D_{ik}} + \sum_{l \in N_j} e^{m - D_{jl}}\Big)$$

    n counts the positive pairs with a negative. In a second set or a queue, the negatives of a reference are anchors.

    Args:
        margin: m, in the unit of D.
        geometry: What D is; in the paper the Euclidean distance.
        normalise: Divide embeddings by their length first; evaluation then compares by the cosine, which ranks as the
            distance does.

    References:
        Oh Song, Xiang, Jegelka, Savarese, "Deep Metric Learning via Lifted Structured Feature Embedding", 2016, eq. 4.
    """

    margin: Finite = 1.0
    geometry: GeometryName = "euclidean"
    normalise: bool = False

    family = "triplet"
    suits = "small batches, since a pair meets the negatives of both ends"
    divides_by = "the positive pairs of which an end has a negative"
    reads = "distance"
    local = True
    meets_all = True
    of_both_ends = True

    def _streamed(self, problem: PairBatch, processes: Processes) -> Outcome:
        """Negatives of all ends first, then pairs."""

        def mass(distance: Tensor, pair: Pair) -> Term:
            return lse(self.margin - distance, where=pair.negative)

        rows, cols = at_both_ends(mass, problem, self.compares(), processes)
        sets = problem.anchors, problem.references, problem.relation
        options = {"of_row": {"mass": rows}, "of_col": {"mass": cols}, **problem.stream_options}
        return stream(self.program(problem), *sets, self.compares(), **options)

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """A positive pair with the negatives of both ends."""
        mine, theirs = pair.of_row["mass"], pair.of_col["mass"]
        peak = torch.maximum(mine, theirs).detach()
        chosen = pair.positive & (peak > -torch.inf)
        peak = torch.where(peak > -torch.inf, peak, 0.0)
        both = (mine - peak).exp() + (theirs - peak).exp()
        hinge = torch.relu(score + torch.where(both > 0, both, 1.0).log() + peak)
        return {"loss": total(hinge.square() / 2, where=chosen), "pairs": count(chosen)}

    def finish(self, found: Found) -> Mean:
        """Each positive pair counts."""
        return Mean(found["loss"], found["pairs"])


lifted_structure = LiftedStructureLoss.function()
