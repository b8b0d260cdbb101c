"""The ROC of weighted pairs, and operating points: thresholds by the false accept rate that is wanted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor

from tuplet.engine.topk import nearness
from tuplet.evaluation.bootstrap import class_draws, percentile_interval
from tuplet.evaluation.inputs import UNKNOWN, class_labels, finite_rows
from tuplet.evaluation.pairs import sample_pairs, scores_of
from tuplet.geometry import geometry_of
from tuplet.types import GeometryName

RATES = (
    0.5,
    0.3,
    0.2,
    0.1,
    0.05,
    0.03,
    0.02,
    0.01,
    0.005,
    0.003,
    0.002,
    0.001,
    5e-4,
    3e-4,
    2e-4,
    1e-4,
    5e-5,
    2e-5,
    1e-5,
)
"""Rates of false accepts for which there is a threshold, as far as there are pairs enough to measure them."""


@dataclass(frozen=True, eq=False)
class Accepted:
    """Shares of accepted pairs, from the strictest threshold to the one that accepts all.

    Attributes:
        tar: Of the pairs of one class, at each distinct score; NaN if there are none.
        far: Of the pairs of two classes.
        purity: Share of pairs of one class among the accepted ones, each pair as often as it stands for others.
        auc: Area under the polygon of TAR over FAR: P(same > different) + P(equal) / 2; from sums, not from shares, so
            that separated scores give 1.
    """

    tar: Float[Tensor, "weightings points"]
    far: Float[Tensor, "weightings points"]
    purity: Float[Tensor, "weightings points"]
    auc: Float[Tensor, " weightings"]

    @classmethod
    def of(
        cls,
        weights: Float[Tensor, "weightings pairs"],
        same: Bool[Tensor, " pairs"],
        ends: Int64[Tensor, " points"],
        odds: float = 1.0,
    ) -> "Accepted":
        """Accept weighted pairs, which are in descending order of score, up to each of `ends`.

        Args:
            weights: How often each pair counts; sums of whole numbers are exact, and so are the shares 0 and 1.
            same: Which pairs are of one class.
            ends: Last accepted pair.
            odds: How many pairs a pair of two classes stands for, relative to one of one class.
        """
        right = (weights * same).cumsum(1)[:, ends]
        wrong = (weights * ~same).cumsum(1)[:, ends]
        accepted = right + odds * wrong
        below = torch.trapezoid(_from_zero(right), _from_zero(wrong), dim=1)
        auc = below / (right[:, -1] * wrong[:, -1])
        return cls(right / right[:, -1:], wrong / wrong[:, -1:], right / accepted.where(accepted > 0, 1), auc)

    def measures(self, far: tuple[float, ...]) -> dict[str, Float[Tensor, " weightings"]]:
        """All measures by name; NaN for a weighting without pairs of both kinds."""
        found = {"auc": self.auc, "eer": self._equal_error_rate()}
        found |= {f"tar@far={limit:g}": self._tar_at(limit) for limit in far}
        found["average_precision"] = (
            self.tar.diff(dim=1, prepend=torch.zeros_like(self.tar[:, :1])) * self.purity
        ).sum(1)
        empty = (self.tar[:, -1] + self.far[:, -1]).isnan()
        return {name: values.masked_fill(empty, torch.nan) for name, values in found.items()}

    def last_within(self, limit: float) -> Int64[Tensor, " weightings"]:
        """Point of the largest false accept rate up to `limit`; -1 if the strictest threshold exceeds it."""
        return (self.far <= limit).sum(1) - 1

    def best(self) -> Int64[Tensor, " weightings"]:
        """Strictest point of the largest (TAR + 1 - FAR) / 2."""
        return (self.tar - self.far).argmax(1)

    def _tar_at(self, limit: float) -> Tensor:
        at = self.last_within(limit)
        return self.tar.gather(1, at.clamp_min(0)[:, None])[:, 0].where(at >= 0, 0.0)

    def _equal_error_rate(self) -> Tensor:
        """Where the polygon meets FAR = 1 - TAR."""
        far, gap = _from_zero(self.far), _from_zero(self.far) + _from_zero(self.tar) - 1
        after = (gap >= 0).int().argmax(1).clamp_min(1)[:, None]  # the polygon starts at gap -1
        gap_before, gap_after = gap.gather(1, after - 1), gap.gather(1, after)
        far_before, far_after = far.gather(1, after - 1), far.gather(1, after)
        return (far_after + gap_after / (gap_after - gap_before) * (far_before - far_after))[:, 0]


def tie_ends(scores: Float[Tensor, " pairs"]) -> Int64[Tensor, " points"]:
    """Last pair of each run of equal scores."""
    return torch.cat([(scores[1:] != scores[:-1]).nonzero()[:, 0], torch.tensor([len(scores) - 1])])


def midway(scores: Float[Tensor, " points"], at: int) -> float:
    """Threshold in the middle between the last accepted score and the first refused one; scores descend.

    It is the last accepted score where there is no lower one, or no number between them.
    """
    accepted = float(scores[at])
    if at + 1 == len(scores):
        return accepted
    refused = float(scores[at + 1])
    middle = refused + (accepted - refused) / 2
    return middle if refused < middle else accepted


def _from_zero(shares: Tensor) -> Tensor:
    return torch.nn.functional.pad(shares, (1, 0))


def operating_points(
    embeddings: Float[Tensor, "rows dim"],
    labels: Int[Tensor, " rows"],
    *,
    geometry: GeometryName,
    rates: Sequence[float] = RATES,
    max_pairs: int = 200_000,
    bootstrap: int = 200,
    seed: int = 0,
) -> dict[str, Any]:
    """A threshold for each wanted rate of false accepts, and what it does.

    Args:
        embeddings: One row per example.
        labels: Their class ids; rows with -1 are left out.
        geometry: How two embeddings are compared.
        rates: Most false accepts that are wanted, as shares of the pairs of two classes.
        max_pairs: If there are more pairs, so many are drawn, half of them of one class.
        bootstrap: Resamples of classes behind the 95 % intervals.
        seed: Of pairs and resamples.

    Returns:
        JSON: `points`, each with `rate`, and `threshold` (the middle between the last accepted and the first refused
        score), `false_accepts` and `false_rejects` as `value`, `low` and `high`; and how many pairs they rest on. Rates
        below one pair of two classes, and those that the nearest pair of two classes exceeds, have no point.

    Raises:
        DataError: If all pairs are of one kind.
    """
    known = class_labels(labels, len(embeddings))
    rows = (known != UNKNOWN).nonzero()[:, 0]
    first, second, same, _ = sample_pairs(known[rows], max_pairs, seed)
    finite = finite_rows(embeddings)
    scores = nearness(scores_of(finite, rows[first], finite, rows[second], geometry), geometry).double()
    order = scores.argsort(descending=True, stable=True)
    scores, same, first, second = scores[order], same[order], first[order], second[order]
    ends = tie_ends(scores)
    limits = _limits(scores, ends)
    whole = Accepted.of(torch.ones(1, len(scores), dtype=torch.float64), same, ends)
    different = int((~same).sum())
    asked = [rate for rate in rates if rate * different >= 1 and int(whole.last_within(rate)) >= 0]
    places = [int(whole.last_within(rate)) for rate in asked]
    classes, codes = torch.unique(known[rows], return_inverse=True)
    sampled = _sampled(asked, places, same, ends, limits, codes[first], codes[second], len(classes), bootstrap, seed)
    units = 1 if geometry_of(geometry).kind == "similarity" else -1
    points = []
    for at, (rate, place) in enumerate(zip(asked, places, strict=True)):
        found = (limits[place], whole.far[0, place], 1 - whole.tar[0, place])
        names = ("threshold", "false_accepts", "false_rejects")
        point: dict[str, Any] = {"rate": rate}
        for column, (name, value) in enumerate(zip(names, found, strict=True)):
            unit = units if name == "threshold" else 1
            ends_of = [unit * end for end in sampled[column][:, at].tolist()]
            point[name] = {"value": unit * float(value), "low": min(ends_of), "high": max(ends_of)}
        points.append(point)
    return {"points": points, "n_same": int(same.sum()), "n_different": different, "n_classes": len(classes)}


def _limits(scores: Tensor, ends: Tensor) -> Tensor:
    """Threshold of each point: midway to the next score; the last one accepts all."""
    reached = scores[ends]
    return torch.cat([(reached[:-1] + reached[1:]) / 2, reached[-1:]])


def _sampled(
    rates: Sequence[float],
    places: Sequence[int],
    same: Tensor,
    ends: Tensor,
    limits: Tensor,
    first: Tensor,
    second: Tensor,
    classes: int,
    bootstrap: int,
    seed: int,
) -> list[Tensor]:
    """Ends of the intervals (2, rates) of threshold, false accepts and false rejects: classes are drawn again."""
    found: list[list[Tensor]] = [[], [], []]
    for times in class_draws(classes, bootstrap, seed):
        for one in times.double():
            weights = (one[first] * torch.where(same, torch.ones(()).double(), one[second]))[None]
            accepted = Accepted.of(weights, same, ends)
            within = (
                torch.cat([accepted.last_within(rate) for rate in rates]).clamp_min(0)
                if rates
                else torch.zeros(0).long()
            )
            found[0].append(limits[within])
            found[1].append(accepted.far[0, places])
            found[2].append(1 - accepted.tar[0, places])
    return [percentile_interval(torch.stack(part)) for part in found]
