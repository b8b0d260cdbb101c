"""Intervals and comparisons by resampling classes, or examples where the classes are fixed.

Queries of one class share their fate, so the class is what is drawn, with replacement. The gallery stays as it is: an
interval says how much the value moves with the classes that happen to be asked about. Where there will be no other
classes (a closed set, split by row) examples are drawn instead.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypedDict, get_args

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tuplet.bounds import Number, bounded
from tuplet.engine.tiles import spans
from tuplet.errors import DataError
from tuplet.evaluation.result import Estimates, QueryResult, Resample, Result
from tuplet.seeding import derive

DRAWS = 2000
FEW_CLASSES = 20
_AT_ONCE = 1 << 20  # numbers drawn at a time


class Resampling(TypedDict, total=False):
    """What the 95 % intervals draw again.

    resample: `classes` (the default), as if other classes had been met, or `examples` where the classes are fixed.
    bootstrap: Resamples, 2000 unless said otherwise; 0 for no intervals.
    seed: Of the resamples.
    """

    resample: Resample
    bootstrap: Number
    seed: int


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
    per_query: Mapping[str, Float[Tensor, " queries"]],
    classes: Int64[Tensor, " queries"],
    draws: int,
    seed: int,
    resample: Resample = "classes",
) -> tuple[Estimates, Estimates]:
    """Micro and macro averages with bootstrap intervals.

    Args:
        per_query: Value of each query, by the name of the measure.
        classes: Label of each query.
        draws: Resamples; 0 for no intervals.
        seed: Of the resamples.
        resample: Whether classes or examples are drawn.

    Returns:
        The mean over queries, and the mean over classes of the mean within each.
    """
    values = torch.stack(list(per_query.values()), 1)
    sums, sizes = _class_sums(values, classes)
    resampled = _example_averages if resample == "examples" else _class_averages
    micro, macro = resampled(values, classes, draws, seed)
    names = list(per_query)
    return _estimates(names, values.mean(0), micro), _estimates(names, (sums / sizes).mean(0), macro)


def _class_averages(values: Tensor, classes: Tensor, draws: int, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """Micro and macro averages of resampled classes."""
    sums, sizes = _class_sums(values, classes)
    micro, macro = [], []
    for times in class_draws(len(sums), draws, seed):
        micro.append(times @ sums / (times @ sizes))
        macro.append(times @ (sums / sizes) / len(sums))
    return micro, macro


def _example_averages(values: Tensor, classes: Tensor, draws: int, seed: int) -> tuple[list[Tensor], list[Tensor]]:
    """The same of resampled examples; a class that was not drawn does not count in its macro average."""
    codes = torch.unique(classes, return_inverse=True)[1]
    count, micro, macro = int(codes.max()) + 1, [], []
    for times in class_draws(len(values), draws, seed):
        micro.append(times @ values / len(values))
        sizes = times.new_zeros(len(times), count).index_add_(1, codes, times)
        averages = []
        for column in values.T:
            sums = torch.zeros_like(sizes).index_add_(1, codes, times * column)
            averages.append((sums / sizes.clamp_min(1)).sum(1) / (sizes > 0).sum(1))
        macro.append(torch.stack(averages, 1))
    return micro, macro


def averaged(
    per_query: Mapping[str, Float[Tensor, " scored"]],
    queries: Int64[Tensor, " scored"],
    classes: Int64[Tensor, " scored"],
    *,
    counts: Mapping[str, int],
    settings: Mapping[str, Any],
    resample: Resample = "classes",
    bootstrap: int = DRAWS,
    seed: int = 0,
) -> QueryResult:
    """A result of the values of queries: their averages, with bootstrap intervals.

    Args:
        per_query: Value of each scored query, by the name of the measure.
        queries: Which queries these are.
        classes: Their labels.
        counts: What else was counted; `n_queries` and `n_classes` are added.
        settings: What else decides the values; `resample`, `bootstrap` and `seed` are added.
        resample: Whether classes or examples are drawn.
        bootstrap: Resamples; 0 for no intervals.
        seed: Of the resamples.

    Raises:
        DataError: If neither shall be drawn.
    """
    if resample not in get_args(Resample):
        raise DataError(
            f"resample is {resample!r}; one of {', '.join(get_args(Resample))} is expected.",
            hint="Draw classes where others could have been met, examples where the classes are fixed.",
            reference="resample",
        )
    micro, macro = average(per_query, classes, bootstrap, seed, resample)
    different = len(torch.unique(classes))
    units = classes if resample == "classes" else torch.arange(len(classes))
    return QueryResult(
        values=micro.values,
        lower=micro.lower,
        upper=micro.upper,
        macro=macro,
        per_query=per_query,
        queries=queries,
        classes=classes,
        units=units,
        counts={"n_queries": len(queries), "n_classes": different, **counts},
        settings={**settings, "resample": resample, "bootstrap": bootstrap, "seed": seed},
        few_classes=(different if resample == "classes" else len(classes)) < FEW_CLASSES,
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


@bounded
def compare(first: QueryResult, second: QueryResult, *, bootstrap: Number = DRAWS, seed: int = 0) -> Comparison:
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
    sampled = [name for name in first.draws if name in second.draws]
    pairs = ((first.queries, second.queries), (first.classes, second.classes), (first.units, second.units))
    if not all(torch.equal(one, other) for one, other in pairs) or not names:
        raise DataError(
            f"The two results cannot be paired: {len(first.queries)} and {len(second.queries)} queries, "
            f"{len(names)} common measures; the same queries, labels and at least one common measure are expected.",
            hint="Compute both results with the same labels, gallery labels, groups and `top`.",
            reference="unpaired-results",
        )
    differences = {name: first.per_query[name] - second.per_query[name] for name in names}
    resample: Resample = first.settings.get("resample", "classes")
    micro, macro = average(differences, first.classes, bootstrap, seed, resample)
    sums, _ = _class_sums(torch.stack(list(differences.values()), 1), first.units)
    ends = [percentile_interval((first.draws[name] - second.draws[name])[:, None])[:, 0].tolist() for name in sampled]
    return Comparison(
        values={**micro.values, **{name: first.values[name] - second.values[name] for name in sampled}},
        lower={**micro.lower, **{name: low for name, (low, _) in zip(sampled, ends, strict=True)}},
        upper={**micro.upper, **{name: high for name, (_, high) in zip(sampled, ends, strict=True)}},
        counts={"n_queries": len(first.queries), "n_classes": len(torch.unique(first.classes))},
        settings={"resample": resample, "bootstrap": bootstrap, "seed": seed},
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
