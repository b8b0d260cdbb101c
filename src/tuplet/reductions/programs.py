"""The losses of this package as row programs: the equation as terms of a pair, and what finishes a row."""

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from tuplet.engine.program import Found, Mean, Pair, Program, Term, count, largest, lse, smallest, softplus, total
from tuplet.types import MeanOver, Soft


@dataclass(frozen=True)
class SoftmaxProgram(Program):
    r"""$\log \sum_{k} e^{s_{ik}} - \frac{1}{|P_i|} \sum_{p \in P_i} s_{ip}$, or the mean inside the log ("in")."""

    where: Literal["out", "in"] = "out"
    skips: bool = False
    """Whether anchors without a negative are left out."""

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Mass of all candidates, and the positives' scores or their mass."""
        positive_term = total if self.where == "out" else lse
        terms = {
            "mass": lse(score, where=pair.positive | pair.negative),
            "wanted": positive_term(score, where=pair.positive),
            "positives": count(pair.positive),
        }
        return terms | ({"negatives": count(pair.negative)} if self.skips else {})

    def finish(self, found: Found) -> Mean:
        """Anchors without a positive are not counted."""
        valid, number = found["positives"] > 0, found["positives"].clamp_min(1).to(found["mass"])
        valid = valid & (found["negatives"] > 0) if self.skips else valid
        positive_term = torch.where(valid, found["wanted"], 0.0)
        positive_term = positive_term / number if self.where == "out" else positive_term - number.log()
        return Mean(torch.where(valid, torch.where(valid, found["mass"], 0.0) - positive_term, 0.0), valid)


@dataclass(frozen=True)
class SoftmaxEachProgram(Program):
    r"""Each positive alone: $\frac{1}{|P_i|} \sum_p \log(1 + \sum_{n \in N_i} e^{s_{in} - s_{ip}})$."""

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Mass of the negatives."""
        return {"mass": lse(score, where=pair.negative), "positives": count(pair.positive)}

    def then(self, score: Tensor, pair: Pair, found: Found) -> dict[str, Term]:
        """With the log of that mass, a positive's term is softplus(mass - score)."""
        return {"each": total(softplus(found["mass"] - score), where=pair.positive)}

    def finish(self, found: Found) -> Mean:
        """Anchors without a positive are not counted."""
        return Mean(found["each"] / found["positives"].clamp_min(1), found["positives"] > 0)


@dataclass(frozen=True)
class LogisticProgram(Program):
    r"""$\sum_p \mathrm{softplus}(-s_{ip}) + \sum_n \mathrm{softplus}(s_{in})$."""

    local: ClassVar[bool] = True

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Binary cross-entropy of each pair."""
        each = torch.where(pair.negative, softplus(score), 0.0)
        each = torch.where(pair.positive, softplus(-score), each)
        return {"loss": total(each), "positives": count(pair.positive)}

    def finish(self, found: Found) -> Mean:
        """One for each anchor that has a positive."""
        return Mean(found["loss"], found["positives"] > 0)


@dataclass(frozen=True)
class HingeProgram(Program):
    r"""$c\,D^p$ for positives and $c\,[m - D]_+^p$ for negatives.

    Args:
        margin: m, in the unit of the distance.
        power: p, 1 or 2.
        factor: c.
        mean_over: What the mean divides by.
        num_in_batch: So many leading references are the anchors' own set: such a pair occurs twice, each counts half.
        pos_margin: In the place of $D^p$ a positive has $[D - m_+]_+^p$, where it is above 0.
    """

    margin: float
    power: int = 2
    factor: float = 1.0
    mean_over: MeanOver = "all"
    num_in_batch: int = 0
    pos_margin: float = 0.0
    counted: bool = False
    reads: ClassVar[Literal["similarity", "distance"]] = "distance"
    local: ClassVar[bool] = True

    def _penalties(self, score: Tensor) -> tuple[Tensor, Tensor]:
        """Of a positive and of a negative."""
        near, far = torch.relu(score - self.pos_margin) if self.pos_margin else score, torch.relu(self.margin - score)
        return (near, far) if self.power == 1 else (near.square(), far.square())

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Penalty of each pair."""
        near, far = self._penalties(score)
        each = torch.where(pair.positive, near, torch.where(pair.negative, far, 0.0)) * self.factor
        visit = torch.where(pair.col < self.num_in_batch, 0.5, 1.0).to(score.dtype)
        met = torch.where(pair.positive | pair.negative, visit, 0.0)
        terms = {"loss": total(each * visit), "pairs": count(met)}
        if self.counted or self.mean_over == "active":
            terms["active"] = count(torch.where(each > 0, visit, 0.0))
        return terms

    def measured(self) -> Program:
        """With the number of pairs that have a loss."""
        return replace(self, counted=True)

    def finish(self, found: Found) -> Mean | tuple[Mean, ...]:
        """Counts as `mean_over` says."""
        number = found["active"] if self.mean_over == "active" else found["pairs"]
        number = number > 0 if self.mean_over == "anchors" else number
        stats = {name: found[name] for name in ("active", "pairs")} if self.counted else {}
        return Mean(found["loss"], number, stats=stats)


@dataclass(frozen=True)
class HingeApartProgram(HingeProgram):
    """Two means: of the positives that have a loss, and of the negatives that have one."""

    local: ClassVar[bool] = False
    means: ClassVar[int] = 2

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Penalties of both kinds apart."""
        visit = torch.where(pair.col < self.num_in_batch, 0.5, 1.0).to(score.dtype)
        near, far = self._penalties(score)
        near = torch.where(pair.positive, near, 0.0) * self.factor
        far = torch.where(pair.negative, far, 0.0) * self.factor
        return {
            "near": total(near * visit),
            "far": total(far * visit),
            "near_active": count(torch.where(near > 0, visit, 0.0)),
            "far_active": count(torch.where(far > 0, visit, 0.0)),
        }

    def finish(self, found: Found) -> tuple[Mean, Mean]:
        """Each over its own number."""
        stats = {"active": found["near_active"] + found["far_active"]} if self.counted else {}
        return Mean(found["near"], found["near_active"], stats=stats), Mean(found["far"], found["far_active"])


@dataclass(frozen=True)
class _Triplets(Program):
    margin: float = 0.2
    power: int = 1
    soft: Soft = False
    mean_over: MeanOver = "active"
    reads: ClassVar[Literal["similarity", "distance"]] = "distance"

    def _loss(self, near: Tensor, far: Tensor) -> Tensor:
        """Of triplets with these distances."""
        if self.soft:
            return softplus(near - far if self.soft is True else near + self.margin - far)
        lacking = torch.relu(near + self.margin - far)
        return lacking if self.power == 1 else lacking.square()


@dataclass(frozen=True)
class HardestProgram(_Triplets):
    r"""$[\max_p D_{ap} - \min_n D_{an} + m]_+$, or with the nearest positive if easy."""

    easy: bool = False
    extremes: ClassVar[bool] = True

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Farthest or nearest positive, and nearest negative."""
        return {
            "chosen": (smallest if self.easy else largest)(score, where=pair.positive),
            "nearest": smallest(score, where=pair.negative),
        }

    def finish(self, found: Found) -> Mean:
        """Anchors that have both, or those with a loss above 0."""
        valid = found["chosen"].abs().ne(torch.inf) & (found["nearest"] != torch.inf)
        near, far = (torch.where(valid, found[name], 0.0) for name in ("chosen", "nearest"))
        loss = torch.where(valid, self._loss(near, far), 0.0)
        active = valid & (loss > 0) if not self.soft else valid
        stats = {"active": active, "anchors": valid}
        return Mean(loss, active if self.mean_over == "active" else valid, stats=stats)


@dataclass(frozen=True)
class TripletProgram(_Triplets):
    r"""$[D_{ap} - D_{an} + m]_+^p$ over all triplets of a kind; `near` are the distances of an anchor's positives.

    They are values of the anchor, padded with -inf, so a pair with a negative meets all positives at once.
    """

    kind: Literal["all", "easy", "semihard", "hard"] = "all"
    hard_offset: float | None = None
    counted: bool = False
    local: ClassVar[bool] = True
    near: ClassVar[bool] = True

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Sum over the positives of each negative's triplets."""
        near, far = pair.of_row["near"], score[..., None]
        real = (near != -torch.inf) & pair.negative[..., None]
        easy = real & (near + self.margin < far)
        hard = real & (far <= near if self.hard_offset is None else far + self.hard_offset < near)
        semihard = real & (near < far) & (far < near + self.margin)
        chosen = {"all": real, "easy": easy, "semihard": semihard, "hard": hard}[self.kind]
        near = torch.where(real, near, 0.0)
        each = torch.where(chosen, self._loss(near, far), 0.0)
        terms = {
            "loss": total(each.sum(-1)),
            "active": count((chosen if self.soft else each > 0).sum(-1)),
            "triplets": count(real.sum(-1)),
        }
        # each triplet is one of them: on the margin it has no loss and is easy, a tie is hard
        lies = {"easy": far >= near + self.margin, "semihard": semihard, "hard": far <= near}
        every = {name: real & (lie & (far > near) if name == "easy" else lie) for name, lie in lies.items()}
        kinds = every if self.counted else {}
        return terms | {name: count(kind.sum(-1)) for name, kind in kinds.items()}

    def measured(self) -> Program:
        """With the numbers of easy, semi-hard and hard triplets."""
        return replace(self, counted=True)

    def finish(self, found: Found) -> Mean:
        """Counts as `mean_over` says."""
        counts = {"active": found["active"], "all": found["triplets"], "anchors": found["triplets"] > 0}
        kinds = ("easy", "semihard", "hard") if self.counted else ()
        stats = {name: found[name] for name in ("active", "triplets", *kinds)}
        return Mean(found["loss"], counts[self.mean_over], stats=stats)


@dataclass(frozen=True)
class NearestBeyondProgram(_Triplets):
    r"""For each positive the nearest negative beyond it; if none is, the farthest negative."""

    extremes: ClassVar[bool] = True
    near: ClassVar[bool] = True

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Nearest negative beyond each positive of the anchor, and the farthest of all."""
        near = pair.of_row["near"]
        beyond = pair.negative[..., None] & (score[..., None] > near) & (near > -torch.inf)
        return {
            "beyond": smallest(score[..., None], where=beyond),
            "farthest": largest(score, where=pair.negative),
        }

    def finish(self, found: Found) -> Mean:
        """Positive pairs whose anchor has a negative."""
        near, farthest = found["near"], found["farthest"][:, None]
        valid = (near > -torch.inf) & (farthest > -torch.inf)
        far = torch.where(found["beyond"] < torch.inf, found["beyond"], farthest)
        near, far = torch.where(valid, near, 0.0), torch.where(valid, far, 0.0)
        loss = torch.where(valid, self._loss(near, far), 0.0)
        active = (valid if self.soft else loss > 0).sum(1)
        pairs = valid.sum(1)
        counts = {"active": active, "all": pairs, "anchors": pairs > 0}
        return Mean(loss.sum(1), counts[self.mean_over], stats={"active": active, "pairs": pairs})


@dataclass(frozen=True)
class LogRatioProgram(Program):
    r"""$V \sum_i v_i (r_i - \bar r)^2$ with $r_i = \log(D_i + \epsilon) - \log(y_i + \epsilon)$, for one anchor.

    Args:
        eps: Added to both distances inside the logarithm.
        mask_zero_label: True to leave out references whose label equals the anchor's.
        weighted: True if references have a weight v, in `of_col`.
    """

    eps: float = 1e-6
    mask_zero_label: bool = True
    weighted: bool = False
    reads: ClassVar[Literal["similarity", "distance"]] = "distance"

    def _ratio(self, score: Tensor, pair: Pair) -> tuple[Tensor, Tensor]:
        if pair.distance is None:
            raise TypeError("the log-ratio loss takes graded labels")
        label_distance = pair.distance.to(score)
        chosen = pair.negative & (label_distance > 0) if self.mask_zero_label else pair.negative
        v = chosen.to(score) * (pair.of_col["v"] if self.weighted else 1.0)
        ratio = (torch.where(chosen, score, 1.0) + self.eps).log() - (
            torch.where(chosen, label_distance, 1.0) + self.eps
        ).log()
        return v, ratio

    def terms(self, score: Tensor, pair: Pair) -> dict[str, Term]:
        """Sums for the mean."""
        v, ratio = self._ratio(score, pair)
        return {"sum": total(v * ratio), "mass": count(v), "squares": count(v.square())}

    def then(self, score: Tensor, pair: Pair, found: Found) -> dict[str, Term]:
        """Squares around the mean: n Σ r² - (Σ r)² would cancel."""
        v, ratio = self._ratio(score, pair)
        mean = found["sum"] / torch.where(found["mass"] > 0, found["mass"], 1.0)
        return {"spread": total(v * (ratio - mean).square())}

    def finish(self, found: Found) -> Mean:
        """Pairs of references, weighted by v."""
        pairs = (found["mass"].square() - found["squares"]) / 2
        several = pairs > 0  # fewer than two references: no pair, whatever rounding left
        return Mean(torch.where(several, found["mass"] * found["spread"], 0.0), torch.where(several, pairs, 0.0))
