"""Intervals and comparisons by resampling classes.

Queries of one class share their fate, so the class is what is drawn, with replacement. The gallery stays as it is: an
interval says how much the value moves with the classes that happen to be asked about.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tuplet.engine.tiles import spans
from tuplet.errors import DataError
from tuplet.evaluation.result import Estimates, QueryResult, Result
from tuplet.seeding import derive

DRAWS = 2000
FEW_CLASSES = 20
_AT_ONCE = 1 << 20  # numbers drawn at a time


def class_draws(classes: int, draws: int, seed: int) -> Iterator[Float[Tensor, "some classes"]]:
    """How often each class is in each resample, a few resamples at a time.

    Args:
        classes: How many classes there are.
        draws: How many resamples.
        seed: The same seed and number of classes give the same resamples.

    Yields:
        Multiplicities; each row sums to `classes`.
    """
    generator = derive(seed, "bootstrap", classes)
    for part in spans(draws, _AT_ONCE // classes) if draws else ():
        picked = torch.randint(classes, (part.stop - part.start, classes), generator=generator)
        ones = torch.ones(picked.shape, dtype=torch.float64)
        yield torch.zeros_like(ones).scatter_add_(1, picked, ones)


def percentile_interval(draws: Float[Tensor, "draws measures"]) -> Float[Tensor, "2 measures"]:
    """Ends of the central 95 % of each column; draws in which a measure is not defined (NaN) do not count."""
    return draws.nanquantile(draws.new_tensor([0.025, 0.975]), dim=0)


def average(
    per_query: Mapping[str, Float[Tensor, " queries"]], classes: Int64[Tensor, " queries"], draws: int, seed: int
) -> tuple[Estimates, Estimates]:
    """Micro and macro averages with class-bootstrap intervals.

    Args:
        per_query: Value of each query, by the name of the measure.
        classes: Label of each query.
        draws: Resamples; 0 for no intervals.
        seed: Of the resamples.

    Returns:
        The mean over queries, and the mean over classes of the mean within each.
    """
    values = torch.stack(list(per_query.values()), 1)
    sums, sizes = _class_sums(values, classes)
    means = sums / sizes
    micro, macro = [], []
    for times in class_draws(len(sums), draws, seed):
        micro.append(times @ sums / (times @ sizes))
        macro.append(times @ means / len(sums))
    names = list(per_query)
    return _estimates(names, values.mean(0), micro), _estimates(names, means.mean(0), macro)


def averaged(
    per_query: Mapping[str, Float[Tensor, " scored"]],
    queries: Int64[Tensor, " scored"],
    classes: Int64[Tensor, " scored"],
    *,
    counts: Mapping[str, int],
    settings: Mapping[str, Any],
    bootstrap: int,
    seed: int,
) -> QueryResult:
    """A result of the values of queries: their averages, with class-bootstrap intervals.

    Args:
        per_query: Value of each scored query, by the name of the measure.
        queries: Which queries these are.
        classes: Their labels.
        counts: What else was counted; `n_queries` and `n_classes` are added.
        settings: What else decides the values; `bootstrap` and `seed` are added.
        bootstrap: Resamples; 0 for no intervals.
        seed: Of the resamples.
    """
    micro, macro = average(per_query, classes, bootstrap, seed)
    different = len(torch.unique(classes))
    return QueryResult(
        values=micro.values,
        lower=micro.lower,
        upper=micro.upper,
        macro=macro,
        per_query=per_query,
        queries=queries,
        classes=classes,
        counts={"n_queries": len(queries), "n_classes": different, **counts},
        settings={**settings, "bootstrap": bootstrap, "seed": seed},
        few_classes=different < FEW_CLASSES,
    )


@dataclass(frozen=True, eq=False, kw_only=True)
class Comparison(Result):
    """First result minus second, query by query.

    Attributes:
        p_values: Two-sided p value of each difference of micro averages, by flipping signs of whole classes.
        macro: Differences of the macro averages.
    """

    p_values: Mapping[str, float]
    macro: Estimates

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values."""
        return {**super().to_dict(), "p_values": dict(self.p_values), "macro": self.macro.to_dict()}


def compare(first: QueryResult, second: QueryResult, *, bootstrap: int = DRAWS, seed: int = 0) -> Comparison:
    r"""Compare two results on the same queries: the same resamples for both, so what they share cancels.

    The p value is $(1 + \#\{|T^*| \ge |T|\}) / (1 + R)$, where T is the sum of all differences and T* the same with the
    sign of each class drawn at random.

    Args:
        first: Values that the differences are counted from.
        second: Values that are subtracted.
        bootstrap: Resamples, and sign flips R; 0 for no intervals and no p values.
        seed: Of both.

    Returns:
        Differences of all measures that both results have.

    Raises:
        DataError: If the results are not about the same queries and labels, or share no measure.
    """
    names = [name for name in first.per_query if name in second.per_query]
    drawn = [name for name in first.draws if name in second.draws]
    if not torch.equal(first.queries, second.queries) or not torch.equal(first.classes, second.classes) or not names:
        raise DataError(
            f"The two results cannot be paired: {len(first.queries)} and {len(second.queries)} queries, "
            f"{len(names)} common measures; the same queries, labels and at least one common measure are expected.",
            hint="Compute both results with the same labels, gallery labels, groups and `top`.",
            reference="unpaired-results",
        )
    differences = {name: first.per_query[name] - second.per_query[name] for name in names}
    micro, macro = average(differences, first.classes, bootstrap, seed)
    sums, _ = _class_sums(torch.stack(list(differences.values()), 1), first.classes)
    ends = [percentile_interval((first.draws[name] - second.draws[name])[:, None])[:, 0].tolist() for name in drawn]
    return Comparison(
        values={**micro.values, **{name: first.values[name] - second.values[name] for name in drawn}},
        lower={**micro.lower, **{name: low for name, (low, _) in zip(drawn, ends, strict=True)}},
        upper={**micro.upper, **{name: high for name, (_, high) in zip(drawn, ends, strict=True)}},
        counts={"n_queries": len(first.queries), "n_classes": len(sums)},
        settings={"bootstrap": bootstrap, "seed": seed},
        few_classes=len(sums) < FEW_CLASSES,
        p_values=dict(zip(names, _sign_flips(sums, bootstrap, seed), strict=True)) if bootstrap else {},
        macro=macro,
    )


def _sign_flips(sums: Float[Tensor, "classes measures"], flips: int, seed: int) -> list[float]:
    generator = derive(seed, "sign flips", len(sums))
    least = sums.sum(0).abs() * (1 - 1e-12)  # the same differences in another order are as extreme
    extreme = torch.zeros(sums.shape[1], dtype=torch.int64)
    for part in spans(flips, _AT_ONCE // len(sums)):
        signs = 2 * torch.randint(2, (part.stop - part.start, len(sums)), generator=generator).double() - 1
        extreme += ((signs @ sums).abs() >= least).sum(0)
    return ((1 + extreme) / (1 + flips)).tolist()


def _class_sums(
    values: Float[Tensor, "queries measures"], classes: Int64[Tensor, " queries"]
) -> tuple[Float[Tensor, "classes measures"], Float[Tensor, "classes 1"]]:
    distinct, codes = torch.unique(classes, return_inverse=True)
    sums = values.new_zeros(len(distinct), values.shape[1]).index_add_(0, codes, values)
    return sums, codes.bincount(minlength=len(distinct)).double()[:, None]


def _estimates(names: list[str], values: Tensor, draws: list[Tensor]) -> Estimates:
    point = dict(zip(names, values.tolist(), strict=True))
    if not draws:
        return Estimates(point, {}, {})
    low, high = percentile_interval(torch.cat(draws)).tolist()
    return Estimates(point, dict(zip(names, low, strict=True)), dict(zip(names, high, strict=True)))
