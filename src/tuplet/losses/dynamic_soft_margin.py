"""Dynamic soft margin loss: hardest triplets, weighed by how large their difference is among all lately seen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from tuplet.bounds import Count, Part
from tuplet.engine import SINGLE_PROCESS, Outcome
from tuplet.engine.gather import all_reduce_sum, reduce_sum
from tuplet.engine.program import Pair, Program, Term, smallest
from tuplet.engine.rowwise import prepared, rowwise
from tuplet.losses.both_ends import at_both_ends, entries_of
from tuplet.losses.declare import PairLoss, register
from tuplet.losses.inputs import PairBatch
from tuplet.losses.pending import Call


@register("dynamic_soft_margin")
class DynamicSoftMarginLoss(PairLoss):
    r"""Each positive pair against the nearest negative of either end, weighed by the rank of their difference.

    $$L = \frac{1}{n} \sum_{(i,j)} F(z_{ij})\, z_{ij}, \quad
    z_{ij} = D_{ij} - \min\big(\min_{k \in N_i} D_{ik}, \min_{l \in N_j} D_{jl}\big)$$

    D is the Euclidean distance of unit vectors, and F the share of differences up to z, from a histogram of the
    positive pairs of this batch and, with decreasing weight, of those before. F is a constant in the gradient.

    Inputs:
        histogram: Shares of the differences seen before, at nodes from -2 to 2; none for those of the batch alone.

    Args:
        bins: Of the histogram.
        momentum: Weight of the batch in the histogram.

    References:
        Zhang, Rusinkiewicz, "Learning Local Descriptors With a CDF-Based Dynamic Soft Margin", 2019, eq. 4 to 6.
    """

    bins: Count = 512
    momentum: Part = 0.01

    family = "triplet"
    suits = "local descriptors: pairs with the hardest negatives, and no margin to choose"
    fixed_geometry = "cosine"
    of_units = True
    meets_all = True
    of_both_ends = True
    divides_by = "the positive pairs of which an end has a negative"
    stops_gradient = True
    keyword_inputs: ClassVar[Mapping[str, Any]] = {"histogram": Float[Tensor, " nodes"] | None}

    def setup(self) -> None:
        """Nothing has been seen."""
        self.seen: Tensor
        self.register_buffer("seen", torch.zeros(self.bins + 1, dtype=torch.float64))
        self._latest: Tensor | None = None

    def program(self, problem: PairBatch | None = None) -> Program:
        """None: a pair's weight depends on all other pairs."""
        raise NotImplementedError

    def _with_own(self, sides: dict[str, Any]) -> dict[str, Any]:
        return {"histogram": self.seen, **super()._with_own(sides)}

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        problem, processes = self.problem(embeddings, labels, sides), sides.get("processes", SINGLE_PROCESS)
        rows, cols = at_both_ends(_nearest, problem, "euclidean", processes)
        weights = problem.weights
        weights = torch.ones_like(rows) if weights is None else weights.to(rows.dtype)
        values: dict[str, Any] = {"of_row": {"nearest": rows, "weight": weights}, "of_col": {"nearest": cols}}
        values |= {"geometry": "euclidean", "entries": entries_of(problem), "summed": True}
        values |= {"is_prepared": True}
        sets = *prepared(problem.anchors, problem.references, "euclidean"), problem.relation
        with torch.no_grad():
            (counted,) = rowwise(self.counted, *sets, **values)
        counted = all_reduce_sum(counted, processes)
        self._latest = batch = counted / torch.where(counted.sum() > 0, counted.sum(), 1.0)
        cumulated = self.mixed(sides.get("histogram"), batch).cumsum(0)

        def weighed(distance: Tensor, pair: Pair) -> tuple[Tensor, Tensor]:
            excess, weight = _differences(distance, pair)
            rank = cumulated.to(weight.dtype)[self.place(excess)[0]]
            return (rank * weight * excess).sum(), weight.sum()

        total, number = rowwise(weighed, *sets, **values)
        return Outcome(reduce_sum(total, processes), all_reduce_sum(number.double(), processes))

    def counted(self, distance: Tensor, pair: Pair) -> tuple[Tensor]:
        """Weights of differences at each node."""
        excess, weight = _differences(distance, pair)
        node, part = (x.flatten() for x in self.place(excess))
        weight = weight.flatten().double()
        empty = weight.new_zeros(self.bins + 1)
        return (empty.index_add(0, node, weight * (1 - part)).index_add(0, node + 1, weight * part),)

    def place(self, excess: Tensor) -> tuple[Tensor, Tensor]:
        """The node below each difference, and how far above it the difference lies."""
        place = (excess.detach().double().nan_to_num() + 2) * (self.bins / 4)
        node = place.floor().clamp(0, self.bins - 1)
        return node.long(), place - node

    def mixed(self, seen: Tensor | None, batch: Tensor) -> Tensor:
        """The histogram with that of the batch; the first is the batch's own, and a batch of nothing adds nothing."""
        if seen is None:
            return batch
        share = torch.where(seen.sum() > 0, batch.new_tensor(self.momentum), 1.0) * batch.sum().round()
        return (1 - share) * seen.to(batch) + share * batch

    @property
    def has_state(self) -> bool:
        """What was seen."""
        return True

    def _call(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Call:
        call, self._latest, latest = super()._call(embeddings, labels, sides), None, self._latest
        return _Counted(call.embeddings, call.labels, call.processes, histogram=latest)

    def _take_in(self, calls: list[Call]) -> None:
        super()._take_in(calls)
        for call in calls:
            if isinstance(call, _Counted) and call.histogram is not None:
                self.seen.copy_(self.mixed(self.seen, call.histogram))


dynamic_soft_margin = DynamicSoftMarginLoss.function()


@dataclass(frozen=True)
class _Counted(Call):
    """A call, and the histogram of its batch."""

    histogram: Tensor | None = None


def _nearest(distance: Tensor, pair: Pair) -> Term:
    return smallest(distance, where=pair.negative)


def _differences(distance: Tensor, pair: Pair) -> tuple[Tensor, Tensor]:
    """Differences of positive pairs, and what each weighs: nothing for other pairs, and without any negative."""
    mine, theirs = pair.of_row["nearest"], pair.of_col["nearest"]
    nearest = torch.where(mine <= theirs, mine, theirs)  # of equal ones the anchor's has the gradient
    there = pair.positive & (nearest < torch.inf)
    excess = torch.where(there, distance - torch.where(there, nearest, 0.0), 0.0)
    return excess, torch.where(there, pair.of_row["weight"], 0.0)
