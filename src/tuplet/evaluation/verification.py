"""Same or different? ROC, AUC, equal error rate, TAR@FAR, and thresholds that carry over to new classes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int, Int64, Integer, Shaped
from torch import Tensor

from tuplet.bounds import Chance, Count, Number, bounded
from tuplet.engine.tiles import spans
from tuplet.engine.topk import nearness
from tuplet.errors import DataError, ShapeError
from tuplet.evaluation.bootstrap import FEW_CLASSES, class_draws, percentile_interval
from tuplet.evaluation.inputs import UNKNOWN, Arrays, as_tensor, class_labels, finite_rows
from tuplet.evaluation.pairs import sample_pairs, scores_of
from tuplet.evaluation.result import Result
from tuplet.evaluation.roc import Accepted, midway, tie_ends
from tuplet.geometry import geometry_of
from tuplet.seeding import derive
from tuplet.types import GeometryName

FAR = (0.001, 0.01, 0.1)
_POINTS = 200  # of the curve in JSON
_BLOCK = 1 << 19  # weights of pairs at once; a dozen numbers in float64 are made of each


@dataclass(frozen=True, eq=False)
class Curve:
    """Shares of accepted pairs at every distinct score, from the strictest threshold on.

    Attributes:
        thresholds: In the unit of the score; a pair that reaches it is accepted.
        tar: Accepted among the pairs of one class.
        far: Accepted among the pairs of two classes.
    """

    thresholds: Float[Tensor, " points"]
    tar: Float[Tensor, " points"]
    far: Float[Tensor, " points"]


@dataclass(frozen=True, eq=False, kw_only=True)
class VerificationResult(Result):
    """What verification found: `auc`, `eer`, `tar@far=X`, `average_precision`, `accuracy`, `accuracy_std`.

    `accuracy` is the mean over folds of (TAR + 1 - FAR) / 2 at the threshold that is best on the other folds,
    `accuracy_std` its standard deviation; NaN if there are too few classes for two folds. The best threshold lies in
    the middle between the last accepted score and the first refused one.

    Attributes:
        thresholds: `far=X`, the least observed score within the rate, and `best`, in the unit of the score; None where
            every observed score is too low.
        not_measurable: Values that rest on fewer pairs than they need, such as a FAR below one pair.
        curve: The ROC.
        scores: Of the evaluated pairs, in the unit of the score.
        same: Which of them are of one class.
    """

    thresholds: Mapping[str, float | None]
    not_measurable: tuple[str, ...]
    curve: Curve
    scores: Float[Tensor, " pairs"]
    same: Bool[Tensor, " pairs"]

    def to_dict(self) -> dict[str, Any]:
        """The same as plain JSON values; the curve at no more than 200 points, the pairs left out."""
        points = torch.linspace(0, len(self.curve.tar) - 1, min(_POINTS, len(self.curve.tar))).round().long()
        return {
            **super().to_dict(),
            "thresholds": dict(self.thresholds),
            "not_measurable": list(self.not_measurable),
            "curve": {
                "thresholds": self.curve.thresholds[points].tolist(),
                "tar": self.curve.tar[points].tolist(),
                "far": self.curve.far[points].tolist(),
            },
        }


@bounded
def verification(
    embeddings: Float[Tensor, "rows dim"] | Arrays,
    labels: Integer[Tensor, " rows"] | Arrays,
    *,
    geometry: GeometryName = "cosine",
    far: Sequence[Chance] = FAR,
    folds: Count = 10,
    max_pairs: Count = 500_000,
    bootstrap: Number = 200,
    seed: int = 0,
) -> VerificationResult:
    """Evaluate whether scores tell pairs of one class from pairs of two.

    Args:
        embeddings: One row per example.
        labels: Their class ids; rows with -1 are left out.
        geometry: How two embeddings are compared.
        far: False accept rates at which the true accept rate is wanted.
        folds: Folds of classes for `accuracy`: pairs of a fold are accepted by the threshold of classes outside it.
        max_pairs: If there are more pairs, so many are drawn, half of them of one class if there are enough; the
            counts and `sampled` in the settings say so.
        bootstrap: Resamples of classes behind the 95 % intervals, each of which takes a pass over all pairs; 0 for
            none.
        seed: Of pairs, folds and resamples.

    Returns:
        Values over the pairs, each once.

    Raises:
        LabelError: If labels are not one integer per row.
        ShapeError: If a row holds NaN or infinity.
        DataError: If all pairs are of one kind.
    """
    finite = finite_rows(embeddings)
    known = class_labels(labels, len(finite))
    rows = (known != UNKNOWN).nonzero()[:, 0]
    first, second, same, found = sample_pairs(known[rows], max_pairs, seed)
    scores = scores_of(finite, rows[first], finite, rows[second], geometry)
    classes, codes = torch.unique(known[rows], return_inverse=True)
    codes = torch.stack([codes[first], codes[second]], 1)
    pairs = _Pairs(nearness(scores, geometry), same, codes, len(classes), _odds(same, *found.values()))
    verifier = _Verifier(pairs.sorted(), geometry_of(geometry).kind == "similarity", tuple(far), folds, bootstrap, seed)
    counts = {"n_examples": len(rows), "n_unlabelled": len(known) - len(rows), **found}
    return verifier.result(counts, {"geometry": geometry, "sampled": len(same) < sum(found.values())})


@bounded
def verification_from_scores(
    scores: Float[Tensor, " pairs"] | Arrays,
    same: Shaped[Tensor, " pairs"] | Arrays,
    *,
    classes: Int[Tensor, "pairs 2"] | Arrays | None = None,
    larger_is_same: bool = True,
    far: Sequence[Chance] = FAR,
    folds: Count | Int[Tensor, " pairs"] | Arrays = 10,
    bootstrap: Number = 200,
    seed: int = 0,
) -> VerificationResult:
    """The same for pairs that come with their scores.

    Args:
        scores: One per pair.
        same: True or 1 for pairs of one class.
        classes: Class ids of both sides; without them there are no intervals, and folds are drawn from pairs.
        larger_is_same: False for distances.
        far: False accept rates at which the true accept rate is wanted.
        folds: How many, or the fold of each pair; `n_leaking_classes` counts classes in more than one given fold.
        bootstrap: Resamples of classes behind the 95 % intervals; 0 for none.
        seed: Of folds and resamples.

    Returns:
        Values over the pairs.

    Raises:
        DataError: If all pairs are of one kind, or a score is not finite.
        ShapeError: If there is not one number for each pair.
    """
    found = as_tensor(scores, "scores").detach().cpu().double()
    kinds = as_tensor(same, "same").detach().cpu().bool()
    given = None if isinstance(folds, int) else as_tensor(folds, "folds").detach().cpu().long()
    sides = None if classes is None else as_tensor(classes, "classes").detach().cpu().long()
    _check_pairs(found, kinds, given, sides)
    if not found.isfinite().all():
        raise DataError(
            f"{int((~found.isfinite()).sum())} of {len(found)} scores are NaN or infinite.",
            hint="Leave such pairs out, or give them the worst score on purpose.",
            reference="non-finite-scores",
        )
    codes, count = None, 0
    if sides is not None:
        distinct, codes = torch.unique(sides, return_inverse=True)
        count = len(distinct)
    keys = found * (1 if larger_is_same else -1)
    pairs = _Pairs(keys, kinds, codes, count, folds=given).sorted()
    number = folds if isinstance(folds, int) else 0
    return _Verifier(pairs, larger_is_same, tuple(far), number, bootstrap, seed).result({}, {})


@dataclass(frozen=True, eq=False)
class _Pairs:
    keys: Float[Tensor, " pairs"]  # larger is more alike
    same: Bool[Tensor, " pairs"]
    classes: Int64[Tensor, "pairs 2"] | None
    n_classes: int
    odds: float = 1.0  # how many pairs one of two classes stands for, relative to one of one class
    folds: Int64[Tensor, " pairs"] | None = None

    def sorted(self) -> "_Pairs":
        if not self.same.any() or self.same.all():
            raise DataError(
                f"All of {len(self.same)} pairs are of {'one class' if self.same.any() else 'two classes'}; "
                "both kinds are needed.",
                hint="Give two classes or more, one of them with two examples or more.",
                reference="pairs-of-one-kind",
            )
        order = self.keys.argsort(descending=True, stable=True)
        classes = None if self.classes is None else self.classes[order]
        folds = None if self.folds is None else self.folds[order]
        return _Pairs(self.keys[order], self.same[order], classes, self.n_classes, self.odds, folds)


@dataclass(frozen=True, eq=False)
class _Verifier:
    pairs: _Pairs
    larger_is_same: bool
    far: tuple[float, ...]
    folds: int
    bootstrap: Number
    seed: int

    def result(self, counts: dict[str, int], settings: dict[str, Any]) -> VerificationResult:
        pairs, ends = self.pairs, tie_ends(self.pairs.keys)
        whole = Accepted.of(torch.ones_like(pairs.keys)[None], pairs.same, ends, pairs.odds)
        values = {name: float(value) for name, value in whole.measures(self.far).items()}
        lower, upper = self._intervals(ends, list(values))
        accuracies, kind, leaking = self._accuracies()
        values["accuracy"] = float(accuracies.mean()) if len(accuracies) else math.nan
        values["accuracy_std"] = float(accuracies.std(correction=0)) if len(accuracies) else math.nan
        units = 1 if self.larger_is_same else -1
        points = units * pairs.keys[ends]
        different = int((~pairs.same).sum())
        rough = [f"tar@far={limit:g}" for limit in self.far if limit < 1 / different]
        strictest = {f"far={limit:g}": int(whole.last_within(limit)) for limit in self.far}
        thresholds = {name: float(points[at]) if at >= 0 else None for name, at in strictest.items()}
        return VerificationResult(
            values=values,
            lower=lower,
            upper=upper,
            counts={
                "n_pairs": len(pairs.same),
                "n_same": len(pairs.same) - different,
                "n_different": different,
                "n_classes": pairs.n_classes,
                "n_folds": len(accuracies),
                "n_leaking_classes": leaking,
                **counts,
            },
            settings={**settings, "folds_of": kind, "bootstrap": self.bootstrap if lower else 0, "seed": self.seed},
            few_classes=pairs.classes is not None and pairs.n_classes < FEW_CLASSES,
            thresholds={**thresholds, "best": units * midway(pairs.keys[ends], int(whole.best()))},
            not_measurable=(*rough, *(("accuracy",) if not len(accuracies) else ())),
            curve=Curve(points, whole.tar[0], whole.far[0]),
            scores=units * pairs.keys,
            same=pairs.same,
        )

    def _intervals(self, ends: Tensor, names: list[str]) -> tuple[dict[str, float], dict[str, float]]:
        """Pairs weigh as often as their classes are drawn: once per class for one class, the product for two."""
        if self.pairs.classes is None or not self.bootstrap:
            return {}, {}
        first, second = self.pairs.classes.T
        found = []
        for times in class_draws(self.pairs.n_classes, self.bootstrap, self.seed):
            for part in spans(len(times), _BLOCK // len(first)):
                weights = times[part][:, second].masked_fill_(self.pairs.same, 1.0)
                weights.mul_(times[part][:, first])
                accepted = Accepted.of(weights, self.pairs.same, ends, self.pairs.odds)
                found.append(torch.stack(list(accepted.measures(self.far).values()), 1))
        low, high = percentile_interval(torch.cat(found)).tolist()
        return dict(zip(names, low, strict=True)), dict(zip(names, high, strict=True))

    def _accuracies(self) -> tuple[Float[Tensor, " folds"], str, int]:
        """Balanced accuracy of each fold; what the folds are of; classes that are in more than one fold."""
        pairs, leaking = self.pairs, 0
        if pairs.folds is not None:
            kind, first = "given", torch.unique(pairs.folds, return_inverse=True)[1]
            second, count = first, int(first.max()) + 1
            if pairs.classes is not None:
                homes = torch.unique(torch.stack([pairs.classes.flatten(), first.repeat_interleave(2)], 1), dim=0)
                leaking = int((homes[:, 0].bincount() > 1).sum())
        elif pairs.classes is not None:
            kind, count = "classes", min(self.folds, pairs.n_classes // 2)
            home = torch.randperm(pairs.n_classes, generator=derive(self.seed, "folds")) % max(1, count)
            first, second = home[pairs.classes].T
        else:
            kind, count = "pairs", self.folds
            first = torch.empty_like(pairs.same, dtype=torch.int64)
            for side in (pairs.same, ~pairs.same):  # a share of both kinds in each fold
                first[side] = torch.randperm(int(side.sum()), generator=derive(self.seed, "folds")) % count
            second = first
        found = [
            self._accuracy((first != fold) & (second != fold), (first == fold) & (second == fold))
            for fold in range(count)
        ]
        found = [accuracy for accuracy in found if accuracy is not None] if count > 1 else []
        return torch.tensor(found, dtype=torch.float64), kind, leaking

    def _accuracy(self, train: Tensor, test: Tensor) -> float | None:
        keys, same = self.pairs.keys, self.pairs.same
        if any(len(torch.unique(same[part])) < 2 for part in (train, test)):
            return None
        known = keys[train]
        ends = tie_ends(known)
        seen = Accepted.of(torch.ones_like(known)[None], same[train], ends)
        accepted = keys[test] >= midway(known[ends], int(seen.best()))
        return float((accepted[same[test]].double().mean() + (~accepted[~same[test]]).double().mean()) / 2)


def _check_pairs(scores: Tensor, same: Tensor, folds: Tensor | None, classes: Tensor | None) -> None:
    pairs = same.numel()
    parts: list[tuple[str, Tensor, tuple[int, ...]]] = [("same", same, (pairs,)), ("scores", scores, (pairs,))]
    parts += [("folds", folds, (pairs,))] if folds is not None else []
    parts += [("classes", classes, (pairs, 2))] if classes is not None else []
    for name, part, shape in parts:
        if part.shape != shape:
            raise ShapeError(
                f"{name} have shape {tuple(part.shape)}; {shape} is expected.",
                hint="Give one score and one 0 or 1 for each pair, one fold, and the two class ids as a row.",
                reference="verification-pairs",
            )


def _odds(same: Tensor, same_available: int, different_available: int) -> float:
    """How many pairs one of two classes stands for, relative to one of one class."""
    sampled = int(same.sum())
    return different_available * max(1, sampled) / (max(1, len(same) - sampled) * max(1, same_available))
