"""Evaluation protocols: class retrieval, kNN, graded retrieval, pairs, views. Each is a key of `evaluation.json`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from tuplet.data import Dataset
from tuplet.data.blocks import blocks_of
from tuplet.data.dataset import Preprocessing
from tuplet.data.hashing import digests
from tuplet.data.labels import UNKNOWN
from tuplet.data.related import Related
from tuplet.evaluation import QueryResult, graded, knn_curve, linear_probe, matching, retrieval, scored_pairs
from tuplet.evaluation.relevance import Junk
from tuplet.evaluation.result import Resample, joined
from tuplet.training.features import FeatureExtractor, Features
from tuplet.training.job import Augment
from tuplet.training.settings import EvaluateSettings

_MOST_RANKED = 20_000_000
"""Queries times gallery up to which the whole gallery is ranked, for the mean average precision."""
TEMPERATURE = 0.07
"""Of the neighbours' votes where rows are compared by cosine; by distance each vote counts 1."""


@runtime_checkable
class EvaluationProtocol(Protocol):
    """What is extracted from the examples, and how it is evaluated."""

    @property
    def name(self) -> str:
        """In `evaluation.json`."""

    primary_metric: ClassVar[str]
    """The metric that stands for the protocol."""
    selection_metrics: ClassVar[tuple[str, ...]]
    """Metrics that can select the best step; the first does by default."""

    def extract(self, extractor: FeatureExtractor) -> Features | None:
        """The features to evaluate; None if the extractor has none for these examples."""

    def evaluate(self, features: Features, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Metrics of the features."""


@dataclass(frozen=True, eq=False)
class ClassRetrieval:
    """Class retrieval among the other examples; without the query's own group, if groups are given."""

    primary_metric: ClassVar[str] = "recall@1"
    selection_metrics: ClassVar[tuple[str, ...]] = ("map@r", "recall@1", "r_precision")
    dataset: Dataset
    groups: Sequence[str] | None = None
    name: str = "all"
    junk: Junk = "group"
    resample: Resample = "classes"
    shares: bool = False
    """Whether another protocol ranks the same examples: their neighbours are searched for once."""

    def extract(self, extractor: FeatureExtractor) -> Features:
        """The examples themselves."""
        return extractor.extract(self.dataset)

    def evaluate(self, features: Features, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Retrieval of each example among the others."""
        labels, top = classes_of(self.dataset), _ks(settings)
        return retrieval(
            features.queries,
            labels,
            geometry=features.geometry,
            groups=self.groups,
            junk=self.junk,
            top=top,
            neighbours=features.neighbours(labels, top) if self.shares else None,
            resample=self.resample,
            bootstrap=bootstrap,
            seed=seed,
        )


@dataclass(frozen=True, eq=False)
class RelationRetrieval:
    """Retrieval of the positives of each example among the others.

    Pairs of which the relation says nothing are left out. Of a hierarchy each level is a protocol of its own.
    """

    primary_metric: ClassVar[str] = "recall@1"
    selection_metrics: ClassVar[tuple[str, ...]] = ("map@r", "recall@1", "r_precision")
    dataset: Dataset
    level: int = 0
    """From the coarsest on."""
    name: str = "relation"
    resample: Resample = "classes"

    @classmethod
    def of_levels(cls, dataset: Dataset) -> "list[EvaluationProtocol]":
        """The finest level first; none where no pair of these examples is positive."""
        related = dataset.related
        if related is None or related.distance is not None or dataset.partners is not None:
            return []
        names = related.statement.levels
        levels = enumerate([f"relation.{name}" for name in names] or ["relation"])
        return [cls(dataset, level, name) for level, name in reversed([*levels])] if related.has_positive() else []

    def extract(self, extractor: FeatureExtractor) -> Features:
        """The examples themselves."""
        return extractor.extract(self.dataset)

    def evaluate(self, features: Features, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Retrieval under the relation; what it holds together is what is resampled."""
        assert self.dataset.related is not None  # noqa: S101  or there was no such protocol
        return retrieval(
            features.queries,
            self._units(self.dataset.related),
            relation=self.dataset.related.rules()[self.level],
            geometry=features.geometry,
            top=_ks(settings),
            resample=self.resample,
            bootstrap=bootstrap,
            seed=seed,
        )

    def _units(self, related: Related) -> Int64[Tensor, " n"] | None:
        """Numbers of what is resampled; an example that belongs to nothing is one of its own."""
        blocks = blocks_of(related)
        if blocks is None:
            return self.dataset.classes
        alone = np.arange(len(blocks)) + blocks.max(initial=0) + 1
        return torch.from_numpy(np.where(blocks == UNKNOWN, alone, blocks))


@dataclass(frozen=True, eq=False)
class QueryGalleryRetrieval(ClassRetrieval):
    """Class retrieval in a gallery, where the data says which examples are queries and which are gallery.

    With groups, such as cameras, rows of the query's class and group are left out: the rule of re-identification.
    """

    def evaluate(self, features: Features, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Retrieval of the gallery for each query."""
        labels, roles = classes_of(self.dataset), self.dataset.roles or ()
        queries, gallery = (
            torch.tensor([at for at, role in enumerate(roles) if role == name]) for name in ("query", "gallery")
        )
        groups = [None if self.groups is None else [self.groups[int(at)] for at in rows] for rows in (queries, gallery)]
        return retrieval(
            features.queries[queries],
            labels[queries],
            features.queries[gallery],
            labels[gallery],
            geometry=features.geometry,
            groups=groups[0],
            gallery_groups=groups[1],
            junk="group" if self.groups is None else self.junk,
            average_precision=len(queries) * len(gallery) <= _MOST_RANKED,
            resample=self.resample,
            top=_ks(settings),
            bootstrap=bootstrap,
            seed=seed,
        )


@dataclass(frozen=True, eq=False)
class KnnClassification:
    """Classification by the training examples: kNN, and a linear probe if it is asked for."""

    primary_metric: ClassVar[str] = "knn@1"
    selection_metrics: ClassVar[tuple[str, ...]] = ()
    dataset: Dataset
    train: Dataset
    name: str = "train"

    def extract(self, extractor: FeatureExtractor) -> Features:
        """The examples, and those of the training."""
        return extractor.extract(self.dataset, self.train)

    def evaluate(self, features: Features, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Votes of the nearest training examples, and the linear probe if it is asked for."""
        assert features.gallery is not None  # noqa: S101  `extract` asks for it
        mine, theirs = classes_of(self.dataset), classes_of(self.train)
        fitting = [k for k in settings.neighbours if k <= int((theirs >= 0).sum())]
        found = knn_curve(
            features.queries,
            mine,
            features.gallery,
            theirs,
            neighbours=sorted({1, *fitting}),
            temperature=TEMPERATURE if features.geometry == "cosine" else None,
            geometry=features.geometry,
            resample="examples",
            bootstrap=bootstrap,
            seed=seed,
        )
        if not settings.probe:
            return found
        options: dict[str, Any] = {"resample": "examples", "bootstrap": bootstrap, "seed": seed}
        return joined(found, linear_probe(features.queries, mine, features.gallery, theirs, **options))


@dataclass(frozen=True, eq=False)
class GradedRetrieval:
    """Graded retrieval: distances of features against distances of targets."""

    primary_metric: ClassVar[str] = "spearman"
    selection_metrics: ClassVar[tuple[str, ...]] = ("spearman", "kendall")
    dataset: Dataset
    name: str = "targets"

    def extract(self, extractor: FeatureExtractor) -> Features:
        """The examples themselves."""
        return extractor.extract_graded(self.dataset)

    def evaluate(self, features: Features, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Correlation with the distances of targets, NDCG, and the targets of neighbours."""
        assert self.dataset.targets is not None  # noqa: S101  or there was no such protocol
        top = [k for k in _ks(settings) if k < len(self.dataset)]
        distance = None if self.dataset.related is None else self.dataset.related.distance
        options: dict[str, Any] = {"label_distance": distance, "top": top, "bootstrap": bootstrap, "seed": seed}
        return graded(features.queries, self.dataset.targets, geometry=features.geometry, **options)


@dataclass(frozen=True, eq=False)
class PairRetrieval:
    """Retrieval of the partner of each query among the partners of all; equal partners count as one."""

    primary_metric: ClassVar[str] = "recall@1"
    selection_metrics: ClassVar[tuple[str, ...]] = ("recall@1", "mrr")
    dataset: Dataset
    name: str = "pairs"

    def extract(self, extractor: FeatureExtractor) -> Features | None:
        """Both sides of the pairs."""
        return extractor.extract_pairs(self.dataset)

    def evaluate(self, features: Features, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Rank of the partner of each query."""
        assert features.gallery is not None  # noqa: S101  `extract` asks for it
        rows, wanted = distinct_partners(self.dataset)
        options: dict[str, Any] = {"top": _ks(settings), "bootstrap": bootstrap, "seed": seed}
        return matching(features.queries, features.gallery[rows], wanted, geometry=features.geometry, **options)


@dataclass(frozen=True, eq=False)
class ScoredPairs(PairRetrieval):
    """Similarities of the sides of pairs against a score of each pair."""

    primary_metric: ClassVar[str] = "spearman"
    selection_metrics: ClassVar[tuple[str, ...]] = ("spearman", "kendall")
    name: str = "scored"

    def evaluate(self, features: Features, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Rank correlation over the pairs."""
        del settings
        assert features.gallery is not None  # noqa: S101  `extract` asks for it
        assert self.dataset.targets is not None  # noqa: S101  or there was no such protocol
        options: dict[str, Any] = {"geometry": features.geometry, "bootstrap": bootstrap, "seed": seed}
        return scored_pairs(features.queries, features.gallery, self.dataset.targets, **options)


@dataclass(frozen=True, eq=False)
class ViewRetrieval:
    """Retrieval of each example by an augmented view of it: the protocol for data without labels, targets or pairs."""

    primary_metric: ClassVar[str] = "recall@1"
    selection_metrics: ClassVar[tuple[str, ...]] = ()
    dataset: Dataset
    augment: Augment
    preprocessing: Preprocessing
    seed: int
    name: str = "views"

    def extract(self, extractor: FeatureExtractor) -> Features | None:
        """The examples, and an augmented view of each."""
        return extractor.extract_views(self.dataset, self.augment, self.preprocessing, self.seed)

    def evaluate(self, features: Features, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Rank of each example among all, with its view as the query."""
        assert features.gallery is not None  # noqa: S101  `extract` asks for it
        options: dict[str, Any] = {"top": _ks(settings), "bootstrap": bootstrap, "seed": seed}
        return matching(features.queries, features.gallery, geometry=features.geometry, **options)


def distinct_partners(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Rows of the first of equal partners, and which of these each example's own partner equals."""
    assert dataset.partners is not None  # noqa: S101  asked of pairs only
    numbers: dict[str | bytes, int] = {}
    stored: Any = tuple(one.numpy() if isinstance(one, Tensor) else one for one in dataset.partners)
    wanted = [numbers.setdefault(digest, len(numbers)) for digest in digests(stored)]
    firsts = {number: row for row, number in reversed(list(enumerate(wanted)))}
    return torch.tensor([firsts[number] for number in range(len(numbers))]), torch.tensor(wanted)


def classes_of(dataset: Dataset) -> Tensor:
    """Class of each example, for those who know that there are classes."""
    assert dataset.classes is not None  # noqa: S101  asked of data with classes only
    return dataset.classes


def _ks(settings: EvaluateSettings) -> list[int]:
    return sorted({1, *settings.top})
