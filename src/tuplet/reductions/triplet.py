"""Triplets (anchor, positive, negative): all of a kind, the hardest of an anchor, or one for each positive pair.

There are no index lists of triplets. The positives of an anchor are sorted; which of them a negative meets is a range
in that order, found by binary search; sums over ranges are cumulative sums. All triplets of an anchor cost O(N log P)
in place of O(N P). Where an anchor has few positives, meeting them one after the other takes less time than the search.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from tuplet.engine.program import Program, softplus
from tuplet.engine.reduction import Partial, Reduction, Tile
from tuplet.reductions.programs import HardestProgram, NearestBeyondProgram, TripletProgram
from tuplet.reductions.softmax import add_at
from tuplet.types import MeanOver, Soft

Kind = Literal["all", "easy", "semihard", "hard"]

LOOP_UP_TO = 16
"""So many positives of an anchor are met one after the other; more are searched for the range that a negative meets."""


@dataclass
class State:
    """What a block of anchors contributes, and how it pulls."""

    loss: Tensor | None = None
    count: Tensor | None = None
    stats: dict[str, Tensor] = field(default_factory=dict)
    grad_scores: Tensor | None = None


class _Whole(Reduction[State]):
    """What the three selections share: whole rows, one pass that leaves the score gradients."""

    reads: ClassVar[Literal["similarity", "distance"]] = "distance"
    whole_rows = True
    work = 4

    def __init__(
        self, margin: float = 0.2, *, power: int = 1, soft: Soft = False, mean_over: MeanOver = "active"
    ) -> None:
        self.margin, self.power, self.soft, self.mean_over = margin, power, soft, mean_over
        self.added = 0.0 if soft is True else margin  # what is inside the hinge, or the softplus

    def start(self, like: Tensor, rows: slice) -> State:
        """Nothing met yet."""
        del like, rows
        return State()

    def plain(
        self, scores: Tensor, positive: Tensor, negative: Tensor, label_distances: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The equation, over all (anchor, positive, negative)."""
        del label_distances
        near, far = scores[:, :, None], scores[:, None, :]
        valid = positive[:, :, None] & negative[:, None, :]
        chosen = self._chosen(near, far, valid)
        z = (near + self.added) - far
        terms = torch.where(chosen, softplus(z) if self.soft else z.clamp_min(0) ** self.power, 0.0)
        counts = {
            "active": (chosen if self.soft else chosen & (z > 0)).sum((1, 2)),
            "all": self._every(valid),
            "anchors": valid.flatten(1).any(1),
        }
        return terms.sum((1, 2)), counts[self.mean_over].to(scores)

    def _chosen(self, near: Tensor, far: Tensor, valid: Tensor) -> Tensor:
        """Which triplets (rows, positives, negatives) are selected."""
        raise NotImplementedError

    def _every(self, valid: Tensor) -> Tensor:
        """What mean over "all" divides by, (rows,)."""
        return valid.sum((1, 2))

    def finish(self, state: State) -> Partial:
        """Return what `update` found."""
        if state.loss is None or state.count is None:
            raise AssertionError("finish before update")
        return Partial(state.loss, state.count, state.stats)

    def grad_scores(self, state: State, tile: Tile) -> Tensor:
        """Return what `update` found."""
        del tile
        if state.grad_scores is None:
            raise AssertionError("grad_scores before update")
        return state.grad_scores

    def term(self, gap: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of triplets with these D_ap - D_an, and its derivative."""
        if self.soft:
            return softplus(gap + self.added), (gap + self.added).sigmoid()
        z = (gap + self.margin).clamp_min(0)
        return z**self.power, self.power * z ** (self.power - 1) * (z > 0)


@dataclass
class _Positives:
    """Distances of the positives, sorted in each row and padded with infinity."""

    sorted: Tensor  # (rows, most)
    counts: Tensor  # (rows,)
    back: Tensor  # (rows, most): which positive of the row stands there
    within: Tensor  # (positives,): its place in the row

    @staticmethod
    def of(tile: Tile) -> "_Positives":
        at = tile.positives
        counts = torch.bincount(at.rows, minlength=len(tile.scores))
        within = torch.arange(len(at), device=counts.device) - (counts.cumsum(0) - counts)[at.rows]
        most = int(counts.max()) if len(at) else 1
        padded = tile.scores.new_full((len(tile.scores), most), torch.inf)
        padded[at.rows, within] = tile.scores[at.rows, at.cols]
        values, back = padded.sort(dim=1, stable=True)
        return _Positives(values, counts, back, within)

    def spread(self, values: Tensor, tile: Tile) -> Tensor:
        """Values in sorted order (rows, most) -> one for each positive entry of the tile."""
        unsorted = torch.empty_like(values).scatter_(1, self.back, values)
        return unsorted[tile.positives.rows, self.within]


class Triplet(_Whole):
    r"""$[D_{ap} - D_{an} + m]_+^p$ over all triplets of a kind; $\mathrm{softplus}(D_{ap} - D_{an})$ if soft.

    Args:
        margin: m, in the unit of the distance.
        kind: easy: D_ap + m < D_an; semihard: D_ap < D_an < D_ap + m; hard: D_an <= D_ap.
        power: p, 1 or 2.
        soft: True for the smooth form, where the margin only tells easy from semi-hard; "margin" adds it inside.
        hard_offset: At least 0; hard is then D_an + `hard_offset` < D_ap. It only selects.
        mean_over: What the mean divides by: triplets with a loss above 0 (all selected ones if soft), all valid
            triplets whatever the kind, or the anchors that have a triplet.
    """

    def __init__(
        self,
        margin: float = 0.2,
        kind: Kind = "all",
        *,
        power: int = 1,
        soft: Soft = False,
        hard_offset: float | None = None,
        mean_over: MeanOver = "active",
    ) -> None:
        super().__init__(margin, power=power, soft=soft, mean_over=mean_over)
        self.kind, self.hard_offset = kind, hard_offset

    def update(self, step: int, state: State, tile: Tile) -> None:
        """Sort, then loop or search; leaves the score gradients in the state."""
        del step
        near = _Positives.of(tile)
        triplets = near.counts * tile.negatives_per_row()
        far = tile.hide_all_but_negatives(torch.inf)
        if tile.measured:
            state.stats = self._shares(near, far, tile)
        if self.kind == "easy" and not self.soft:  # the hinge of an easy triplet is 0 by definition
            zero = torch.zeros_like(triplets)
            state.loss, active, at_positives, grad_scores = (
                zero.double(),
                zero,
                torch.zeros_like(near.sorted),
                far.zero_(),
            )
        else:
            is_looped = self.soft or near.sorted.shape[1] <= LOOP_UP_TO
            state.loss, active, at_positives, grad_scores = (self._one_by_one if is_looped else self._sums)(near, far)
        at = tile.positives
        state.grad_scores = add_at(grad_scores, at.rows, at.cols, near.spread(at_positives, tile))
        state.stats |= {"active": active, "triplets": triplets}
        state.count = {"active": active, "all": triplets, "anchors": triplets > 0}[self.mean_over].double()

    def program(self) -> tuple[Program, dict[str, Tensor]]:
        """The same as a row program."""
        return TripletProgram(self.margin, self.power, self.soft, self.mean_over, self.kind, self.hard_offset), {}

    def _chosen(self, near: Tensor, far: Tensor, valid: Tensor) -> Tensor:
        if self.kind == "easy":
            return valid & (near + self.margin < far)
        if self.kind == "semihard":
            return valid & (near < far) & (far < near + self.margin)
        if self.kind == "hard":
            return valid & (far <= near if self.hard_offset is None else far + self.hard_offset < near)
        return valid

    def _ranges(self, near: _Positives, far: Tensor, kind: Kind) -> tuple[Tensor, Tensor]:
        """For each negative, which of the sorted positives it meets: [low, high)."""
        most = near.counts[:, None]
        reach = near.sorted + self.margin  # one rounding; a triplet is active if D_an < fl(D_ap + m)
        if kind == "easy":
            return torch.zeros_like(far, dtype=torch.int64), torch.searchsorted(reach, far).minimum(most)
        low = torch.searchsorted(reach, far, right=True).minimum(most)
        if kind == "all":
            return low, most.expand_as(low)
        if kind == "semihard":
            return low, torch.searchsorted(near.sorted, far).minimum(most).maximum(low)
        if self.hard_offset is None:
            below = torch.searchsorted(near.sorted, far).minimum(most)
        else:
            below = torch.searchsorted(near.sorted, far + self.hard_offset, right=True).minimum(most)
        return (below if self.soft else below.maximum(low)), most.expand_as(low)

    def _sums(self, near: _Positives, far: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The hinge by cumulative sums: losses and active triplets (rows,), gradients of sorted positives and tile."""
        low, high = self._ranges(near, far, self.kind)
        met = high - low
        real = torch.isfinite(near.sorted)
        # reach * partners and n * met cancel: the row's mean is taken out first, and all sums are float64
        centre = torch.where(real, near.sorted, 0.0).double().sum(1, keepdim=True) / near.counts.clamp_min(1)[:, None]
        reach = torch.where(real, near.sorted - centre + self.margin, 0.0)
        n = torch.where(met > 0, far - centre, 0.0)
        ends = torch.zeros(len(far), near.sorted.shape[1] + 1, dtype=torch.float64, device=far.device)
        ones = torch.ones_like(ends[:, :1]).expand_as(n)
        partners = ends.scatter_add(1, low, ones).scatter_add_(1, high, -ones).cumsum_(1)[:, :-1]
        if self.power == 1:
            loss = (reach * partners).sum(1) - n.mul_(met).sum(1)
            return loss, met.sum(1), partners.to(far.dtype), met.neg_().to(far.dtype)
        first, second = (torch.nn.functional.pad(x.cumsum(1), (1, 0)) for x in (reach, reach.square()))
        first = first.gather(1, high) - first.gather(1, low)
        second = second.gather(1, high) - second.gather(1, low)
        loss = (second - 2 * n * first + n.square() * met).sum(1)
        steps = ends.scatter_add_(1, low, n).scatter_add_(1, high, -n).cumsum_(1)[:, :-1]
        positive_grads = 2 * (reach * partners - steps)
        return loss, met.sum(1), positive_grads.to(far.dtype), (-2 * (first - n * met)).to(far.dtype)

    def _one_by_one(self, near: _Positives, far: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The same, and the smooth form, one sorted positive at a time."""
        loss = far.new_zeros(len(far), dtype=torch.float64)
        active, positive_grads, grad_scores = (
            torch.zeros_like(near.counts),
            torch.zeros_like(near.sorted),
            torch.zeros_like(far),
        )
        masked, z = self.soft or self.kind != "all", torch.empty_like(far)
        for k in range(near.sorted.shape[1]):
            real = (near.counts > k)[:, None]
            mine = torch.where(real, near.sorted[:, k, None], -torch.inf)
            torch.sub(mine + self.added, far, out=z)
            chosen = self._chosen(mine, far, (far < torch.inf) & real) if masked else None
            if chosen is not None:
                z.masked_fill_(~chosen, -torch.inf)
            if self.soft:
                loss += softplus(z).sum(1)
                steep = z.sigmoid_()
            else:
                loss += (z.clamp_min_(0) if self.power == 1 else z.clamp_min_(0).square()).sum(1)
                steep = z.sign_() if self.power == 1 else z.mul_(2)
            positive_grads[:, k] = steep.sum(1)
            met = chosen if self.soft and chosen is not None else steep > 0
            active += positive_grads[:, k].long() if self.power == 1 and not self.soft else met.sum(1)
            grad_scores -= steep
        return loss, active, positive_grads, grad_scores

    def _shares(self, near: _Positives, far: Tensor, tile: Tile) -> dict[str, Tensor]:
        """Numbers of easy, semi-hard and hard triplets: every triplet is one of them, those between two kinds too.

        A triplet on the margin, D_an = D_ap + m, has no loss and counts as easy; a tie, D_an = D_ap, counts as hard.
        """
        shown = tile.hide_all_but_negatives(-torch.inf, far.clone())
        most = near.counts[:, None]
        nearer = torch.searchsorted(near.sorted, shown).minimum(most)  # positives with D_ap < D_an
        easy = torch.searchsorted(near.sorted + self.margin, shown, right=True).minimum(nearer)
        real = shown > -torch.inf
        found = {"easy": easy, "semihard": nearer - easy, "hard": torch.where(real, most - nearer, 0)}
        return {kind: number.sum(1) for kind, number in found.items()}


class HardestTriplet(_Whole):
    r"""The farthest positive and the nearest negative of each anchor: $[\max_p D_{ap} - \min_n D_{an} + m]_+$.

    Args:
        margin: m, in the unit of the distance.
        power: Exponent of the hinge.
        soft: True for softplus without margin, "margin" for softplus with it.
        mean_over: What the mean divides by: anchors that have both ("anchors", "all") or those with a loss above 0.
        easy: True for the nearest positive in the place of the farthest.
    """

    def __init__(self, margin: float = 0.2, *, easy: bool = False, **form: Any) -> None:
        super().__init__(margin, **form)
        self.easy = easy

    def update(self, step: int, state: State, tile: Tile) -> None:
        """Among equals the lowest position is chosen."""
        del step
        near = _Positives.of(tile)
        valid = (near.counts > 0) & (tile.negatives_per_row() > 0)
        at = tile.positives
        mine = tile.scores[at.rows, at.cols]
        far = tile.hide_all_but_negatives(torch.inf)
        if not far.shape[1]:
            state.loss = state.count = far.new_zeros(len(far))
            state.grad_scores = far
            return
        end, which = (torch.inf, "amin") if self.easy else (-torch.inf, "amax")
        chosen = mine.new_full((len(far),), end).scatter_reduce(0, at.rows, mine, which)
        first = torch.where(mine == chosen[at.rows], at.cols, far.shape[1])
        positive = torch.full_like(near.counts, far.shape[1]).scatter_reduce(0, at.rows, first, "amin")
        negative = far.argmin(1)
        gap = torch.where(valid, chosen - far.gather(1, negative[:, None])[:, 0], -torch.inf)
        loss, steep = self.term(gap)
        active = valid & (loss > 0) if not self.soft else valid
        state.loss = torch.where(valid, loss, 0.0)
        state.count = (active if self.mean_over == "active" else valid).double()
        steep = torch.where(valid, steep, 0.0)
        rows = valid.nonzero()[:, 0]
        state.grad_scores = add_at(far.zero_(), rows, positive[rows], steep[rows])
        state.grad_scores = add_at(state.grad_scores, rows, negative[rows], -steep[rows])
        state.stats = {"active": active, "anchors": valid}

    def program(self) -> tuple[Program, dict[str, Tensor]]:
        """The same as a row program."""
        return HardestProgram(self.margin, self.power, self.soft, self.mean_over, self.easy), {}

    def _chosen(self, near: Tensor, far: Tensor, valid: Tensor) -> Tensor:
        signed = -near[:, :, 0] if self.easy else near[:, :, 0]
        positive = torch.where(valid.any(2), signed, -torch.inf).argmax(1)
        negative = torch.where(valid.any(1), far[:, 0], torch.inf).argmin(1)
        only = torch.zeros_like(valid)
        only[torch.arange(len(only)), positive, negative] = True
        return only & valid

    def _every(self, valid: Tensor) -> Tensor:
        return valid.flatten(1).any(1)


class NearestBeyond(_Whole):
    r"""For each positive pair the nearest negative beyond the positive; if none is, the farthest negative.

    $[D_{ap} - D_{an} + m]_+$ with $n = \arg\min_{D_{an} > D_{ap}} D_{an}$, even if that is beyond the margin.

    Args:
        margin: m, in the unit of the distance.
        power: Exponent of the hinge.
        soft: True for softplus without margin, "margin" for softplus with it.
        mean_over: What the mean divides by: positive pairs whose anchor has a negative ("all"), pairs with a loss above
            0, or anchors.
    """

    def update(self, step: int, state: State, tile: Tile) -> None:
        """Nearest negatives of all sorted positives at once: negatives fall into the intervals between positives."""
        del step
        near = _Positives.of(tile)
        at = tile.positives
        mine = tile.scores[at.rows, at.cols]
        valid = tile.negatives_per_row() > 0
        far = tile.hide_all_but_negatives(torch.inf)
        if not far.shape[1]:
            state.loss = state.count = far.new_zeros(len(far))
            state.grad_scores = far
            return
        interval = torch.searchsorted(near.sorted, far).minimum(near.counts[:, None])  # so many positives are nearer
        shape = (len(far), near.sorted.shape[1] + 1)
        least = far.new_full(shape, torch.inf).scatter_reduce(1, interval, far, "amin")
        columns = torch.arange(far.shape[1], device=far.device).expand_as(far)
        first = torch.where(far == least.gather(1, interval), columns, far.shape[1])
        first = torch.full(shape, far.shape[1], device=far.device).scatter_reduce(1, interval, first, "amin")
        beyond, where = least.flip(1)[:, :-1].cummin(1)  # over the intervals above each positive
        chosen = first.flip(1).gather(1, where)
        beyond, chosen = beyond.flip(1), chosen.flip(1)
        worst = torch.where(far < torch.inf, far, -torch.inf)
        farthest = worst.argmax(1, keepdim=True)
        none = beyond == torch.inf
        chosen = torch.where(none, farthest, chosen)
        distance = torch.where(none, worst.gather(1, farthest), beyond)
        rows, negative = at.rows, near.spread(chosen, tile)
        counted = valid[rows]
        gap = torch.where(counted, mine - near.spread(distance, tile), -torch.inf)
        loss, steep = self.term(gap)
        loss, steep = torch.where(counted, loss, 0.0), torch.where(counted, steep, 0.0)
        active = tile.per_row((loss > 0).double() if not self.soft else counted.double())
        pairs = tile.per_row(counted.double())
        state.loss = tile.per_row(loss.double())
        state.count = {"active": active, "all": pairs, "anchors": (pairs > 0).double()}[self.mean_over]
        state.stats = {"active": active, "pairs": pairs}
        negative = torch.where(counted, negative, 0)
        grad_scores = add_at(far.zero_(), rows, at.cols, steep)
        state.grad_scores = add_at(grad_scores, rows, negative, -steep)

    def program(self) -> tuple[Program, dict[str, Tensor]]:
        """The same as a row program."""
        return NearestBeyondProgram(self.margin, self.power, self.soft, self.mean_over), {}

    def _chosen(self, near: Tensor, far: Tensor, valid: Tensor) -> Tensor:
        beyond = valid & (far > near)
        nearest = torch.where(beyond, far, torch.inf).argmin(2)
        farthest = torch.where(valid, far, -torch.inf).argmax(2)
        chosen = torch.where(beyond.any(2), nearest, farthest)
        return torch.zeros_like(valid).scatter_(2, chosen[:, :, None], True) & valid  # noqa: FBT003  # the value to scatter

    def _every(self, valid: Tensor) -> Tensor:
        return valid.any(2).sum(1)
