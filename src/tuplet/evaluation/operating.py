"""Thresholds by the rate of false accepts that is wanted, with the rates that they have on other classes."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from tuplet.engine.topk import nearness
from tuplet.evaluation.bootstrap import class_draws, percentile_interval
from tuplet.evaluation.inputs import UNKNOWN, class_labels, finite_rows
from tuplet.evaluation.pairs import scores_of
from tuplet.evaluation.roc import Accepted, tie_ends
from tuplet.evaluation.verification import draw_pairs
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
    first, second, same, _ = draw_pairs(known[rows], max_pairs, seed)
    finite = finite_rows(embeddings)
    keys = nearness(scores_of(finite, rows[first], finite, rows[second], geometry), geometry).double()
    order = keys.argsort(descending=True, stable=True)
    keys, same, first, second = keys[order], same[order], first[order], second[order]
    ends = tie_ends(keys)
    limits = _limits(keys, ends)
    whole = Accepted.of(torch.ones(1, len(keys), dtype=torch.float64), same, ends)
    different = int((~same).sum())
    asked = [rate for rate in rates if rate * different >= 1 and int(whole.last_within(rate)) >= 0]
    places = [int(whole.last_within(rate)) for rate in asked]
    classes, codes = torch.unique(known[rows], return_inverse=True)
    drawn = _drawn(asked, places, same, ends, limits, codes[first], codes[second], len(classes), bootstrap, seed)
    units = 1 if geometry_of(geometry).kind == "similarity" else -1
    points = []
    for at, (rate, place) in enumerate(zip(asked, places, strict=True)):
        found = (limits[place], whole.far[0, place], 1 - whole.tar[0, place])
        names = ("threshold", "false_accepts", "false_rejects")
        point: dict[str, Any] = {"rate": rate}
        for column, (name, value) in enumerate(zip(names, found, strict=True)):
            unit = units if name == "threshold" else 1
            ends_of = [unit * end for end in drawn[column][:, at].tolist()]
            point[name] = {"value": unit * float(value), "low": min(ends_of), "high": max(ends_of)}
        points.append(point)
    return {"points": points, "n_same": int(same.sum()), "n_different": different, "n_classes": len(classes)}


def _limits(keys: Tensor, ends: Tensor) -> Tensor:
    """Threshold of each point: midway to the next score; the last one accepts all."""
    reached = keys[ends]
    return torch.cat([(reached[:-1] + reached[1:]) / 2, reached[-1:]])


def _drawn(
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
