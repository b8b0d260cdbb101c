r"""Several methods, each trained with several seeds, compared in pairs on the same test classes.

A difference has two sources of chance: which classes happen to be tested, and which seeds happened to be trained with.
Both are in every interval and every p value here. Classes are drawn again, or their signs are flipped, of the values
averaged over seeds; to each such draw the noise of seeds is added,

$$\tau\, t_\nu, \quad \tau^2 = \tfrac{2}{S} \max\big(\tfrac{1}{2}(s_a^2 + s_b^2),\ \tilde s^2\big), \quad
\nu = M (S - 1),$$

with $s_a^2$ the variance between the S seeds of method a, and $\tilde s^2$ the median of those of all M methods,
divided by the median of $\chi^2_{S-1} / (S - 1)$ so that it is right for normal noise. A method that fails with one
seed widens its own comparisons and not those of the others; two seeds that happen to agree do not make a method sure.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import NormalDist
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from tuplet.engine.tiles import spans
from tuplet.errors import DataError
from tuplet.evaluation.bootstrap import class_draws
from tuplet.seeding import derive

LEVEL = 0.05
"""Chance of any wrong conclusion among all pairs, if all methods are worth the same."""
POWER = 0.8
"""Chance that the classes which `Pair.needs` names decide, if the difference is as large as the one found."""
DRAWS = 10_000
_AT_ONCE = 1 << 20  # numbers resampled at a time
Conclusion = Literal["better", "worse", "undecided"]


@dataclass(frozen=True)
class Needs:
    """What it would take to decide a pair.

    Args:
        units: Test classes (examples, where the classes are fixed).
        seeds: Trainings of each method; more than there were, where no number of classes would be enough.
    """

    units: int
    seeds: int


@dataclass(frozen=True)
class Pair:
    """The first method against the second.

    Args:
        first: Position of a method.
        second: Position of another one.
        difference: First minus second, averaged over seeds; every query counts once.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p: Two-sided p value.
        corrected: The same by Holm's method, for all pairs.
        conclusion: Of the first: better or worse where `corrected` is below `LEVEL`.
        needs: What would decide it; None where it is decided, or where they do the same as far as can be seen.
    """

    first: int
    second: int
    difference: float
    low: float
    high: float
    p: float
    corrected: float
    conclusion: Conclusion
    needs: Needs | None


def compare_methods(
    sums: Float[Tensor, "methods seeds units"], sizes: Float[Tensor, " units"], *, draws: int = DRAWS, seed: int = 0
) -> list[Pair]:
    """Compare all pairs of methods; larger values are better.

    Args:
        sums: Sum of the values of a measure over the queries of a class, by method and seed.
        sizes: How many queries each class has.
        draws: Resamples and sign flips.
        seed: Of both, and of the noise of seeds.

    Returns:
        One pair for each two methods, in the order of their positions.

    Raises:
        DataError: With fewer than two methods, two seeds or two classes, from which nothing can be concluded.
    """
    methods, seeds, units = sums.shape
    if min(methods, seeds, units) < 2:
        raise DataError(
            f"{methods} methods, {seeds} seeds and {units} test classes were given; at least two of each are expected.",
            hint="Compare two or more, with --seeds 2 or more, on data whose test split holds several classes.",
            reference="too-few-to-compare",
        )
    pairs, total = list(combinations(range(methods), 2)), sizes.sum()
    firsts, seconds = (torch.tensor(side) for side in zip(*pairs, strict=True))
    means = sums.mean(1)
    differences = (means[firsts] - means[seconds]).T.contiguous()  # (units, pairs)
    found = differences.sum(0) / total
    noise = _seed_noise(sums.sum(2) / total, firsts, seconds)
    flipped = _extreme(differences / total, noise, methods * (seeds - 1), draws, seed)
    p_values = ((1 + flipped) / (1 + draws)).tolist()
    resampled = _resampled(differences, sizes, draws, seed)
    ends = _interval(resampled, noise, methods * (seeds - 1), seed)
    adjusted, levels = holm(p_values)
    of_classes = resampled.var(0)
    result = []
    for at, (first, second) in enumerate(pairs):
        gap, corrected = float(found[at]), adjusted[at]
        is_decided = corrected < LEVEL
        conclusion: Conclusion = "undecided" if not is_decided else "better" if gap > 0 else "worse"
        variances = float(of_classes[at]), float(noise[at]) ** 2
        needs = None if is_decided else needed(gap, *variances, units=units, seeds=seeds, level=levels[at])
        low, high = ends[:, at].tolist()
        result.append(Pair(first, second, gap, low, high, p_values[at], corrected, conclusion, needs))
    return result


def intervals(
    sums: Float[Tensor, "methods seeds units"], sizes: Float[Tensor, " units"], *, draws: int = DRAWS, seed: int = 0
) -> Float[Tensor, "3 methods"]:
    """Value of each method, and the ends of its 95 % interval, over classes and seeds as for `compare_methods`.

    Args:
        sums: As for `compare_methods`.
        sizes: As for `compare_methods`.
        draws: Resamples.
        seed: Of them.
    """
    seeds, total = sums.shape[1], sizes.sum()
    values = sums.sum(2) / total
    means = sums.mean(1).T.contiguous()  # (units, methods)
    noise = (
        (torch.maximum(values.var(1), _typical(values)) / seeds).sqrt() if seeds > 1 else values.new_zeros(len(sums))
    )
    ends = _interval(_resampled(means, sizes, draws, seed), noise, max(1, len(sums) * (seeds - 1)), seed)
    return torch.cat([values.mean(1)[None], ends])


def holm(p_values: Sequence[float]) -> tuple[list[float], list[float]]:
    """Holm's correction: the chance of any wrong rejection stays below the level, however the p values depend.

    Args:
        p_values: Of all hypotheses.

    Returns:
        Corrected p values, and the level that each uncorrected one has to be below.

    References:
        Holm, "A Simple Sequentially Rejective Multiple Test Procedure", 1979.
    """
    order = sorted(range(len(p_values)), key=lambda at: p_values[at])
    corrected, levels, largest = [0.0] * len(p_values), [0.0] * len(p_values), 0.0
    for rank, at in enumerate(order):
        left = len(p_values) - rank
        largest = max(largest, min(1.0, left * p_values[at]))
        corrected[at], levels[at] = largest, LEVEL / left
    return corrected, levels


def needed(
    difference: float, of_classes: float, of_seeds: float, *, units: int, seeds: int, level: float
) -> Needs | None:
    r"""How many classes, and if need be seeds, would show a difference of this size.

    The variance of a difference is $V_c / N + V_s / S$; with a chance of `POWER` it is shown where that is at most
    $W = (\Delta / (z_{1 - \alpha/2} + z_{\mathrm{power}}))^2$. If the seeds alone are beyond W, each part gets half.

    Args:
        difference: Found.
        of_classes: Variance of the difference by classes, as it is with `units` of them.
        of_seeds: By seeds, as it is with `seeds` of them.
        units: How many classes there were.
        seeds: How many seeds there were.
        level: Two-sided.

    Returns:
        At least what there was; None for no difference at all.
    """
    normal = NormalDist()
    both = normal.inv_cdf(1 - level / 2) + normal.inv_cdf(POWER)
    wanted = (difference / both) ** 2
    if wanted == 0:
        return None
    if of_seeds < wanted:
        return Needs(max(units, _round_up(units * of_classes / (wanted - of_seeds))), seeds)
    half = wanted / 2
    return Needs(max(units, _round_up(units * of_classes / half)), _round_up(seeds * of_seeds / half))


def _round_up(count: float) -> int:
    """To two digits: more would claim a precision that an estimate from one experiment has not."""
    whole = -int(-count // 1)
    unit = 10 ** max(0, len(str(whole)) - 2)
    return -(-whole // unit) * unit


def _seed_noise(values: Float[Tensor, "methods seeds"], firsts: Tensor, seconds: Tensor) -> Float[Tensor, " pairs"]:
    """Standard deviation of the difference of two means over seeds; see the top."""
    variances, seeds = values.var(1), values.shape[1]
    of_pair = (variances[firsts] + variances[seconds]) / 2
    return (torch.maximum(of_pair, _typical(values)) * 2 / seeds).sqrt()


def _typical(values: Float[Tensor, "methods seeds"]) -> Tensor:
    """Variance between seeds that is right for most methods, whatever the others do."""
    return values.var(1).quantile(0.5) / _median_chi2(values.shape[1] - 1)


def _median_chi2(freedom: int) -> float:
    """Median of chi-squared over its degrees of freedom."""
    from scipy.stats import chi2  # noqa: PLC0415  # losses and other metrics do without scipy

    return float(chi2.median(freedom)) / freedom


def _resampled(
    differences: Float[Tensor, "units pairs"], sizes: Tensor, draws: int, seed: int
) -> Float[Tensor, "draws pairs"]:
    """The difference of each resample of the classes."""
    parts = [(times @ differences) / (times @ sizes)[:, None] for times in class_draws(len(differences), draws, seed)]
    return torch.cat(parts)


def _interval(
    resampled: Float[Tensor, "draws pairs"], noise: Float[Tensor, " pairs"], freedom: int, seed: int
) -> Float[Tensor, "2 pairs"]:
    shaken = resampled + _student(len(resampled), freedom, seed, "interval")[:, None] * noise
    return shaken.quantile(torch.tensor([0.025, 0.975], dtype=resampled.dtype), dim=0)


def _extreme(
    differences: Float[Tensor, "units pairs"], noise: Float[Tensor, " pairs"], freedom: int, flips: int, seed: int
) -> Float[Tensor, " pairs"]:
    """How many sign flips of whole classes, with the noise of seeds, are as extreme as what was found."""
    generator = derive(seed, "sign flips", len(differences))
    least = differences.sum(0).abs() * (1 - 1e-12)  # the same differences in another order are as extreme
    shaking = _student(flips, freedom, seed, "flips")
    found = torch.zeros(differences.shape[1], dtype=torch.float64)
    for part in spans(flips, max(1, _AT_ONCE // len(differences))):
        signs = 2 * torch.randint(2, (part.stop - part.start, len(differences)), generator=generator).double() - 1
        found += ((signs @ differences + shaking[part, None] * noise).abs() >= least).sum(0)
    return found


def _student(count: int, freedom: int, seed: int, purpose: str) -> Float[Tensor, " count"]:
    """Draws of Student's t: a normal number over the root of a mean of squares."""
    generator = derive(seed, "noise of seeds", purpose)
    rows = torch.randn(count, freedom + 1, generator=generator, dtype=torch.float64)
    return rows[:, 0] / rows[:, 1:].square().mean(1).sqrt()
