"""What examples are judged by: their classes, those of the training rows, their targets, their partners, their views.

Each judge is a *protocol* of `evaluation.json`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch
from torch import Tensor

from tuplet.data import Dataset
from tuplet.data.dataset import Preprocessing
from tuplet.data.hashing import digests
from tuplet.evaluation import QueryResult, graded, knn_curve, linear_probe, matching, retrieval
from tuplet.evaluation.relevance import Junk, search_of
from tuplet.evaluation.result import Resample, joined
from tuplet.evaluation.retrieval import ranks_needed, retrieved
from tuplet.training.job import Augment
from tuplet.training.looks import Look, Sight
from tuplet.training.settings import EvaluateSettings

_MOST_RANKED = 20_000_000
"""Queries times gallery up to which the whole gallery is ranked, for the mean average precision."""
TEMPERATURE = 0.07
"""Of the neighbours' votes where rows are compared by cosine; by distance each vote counts 1."""


@runtime_checkable
class Judge(Protocol):
    """One protocol."""

    @property
    def name(self) -> str:
        """In `evaluation.json`."""

    headline: ClassVar[str]
    """The measure that stands for all."""
    choosing: ClassVar[tuple[str, ...]]
    """Measures that can choose the best step; the first does by default."""

    def see(self, look: Look) -> Sight | None:
        """What is judged; None if this look has nothing to show."""

    def judge(self, sight: Sight, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """How good it is."""


@dataclass(frozen=True, eq=False)
class ByClass:
    """Does each example find its class among the others? Without the query's own group, if groups are given."""

    headline: ClassVar[str] = "recall@1"
    choosing: ClassVar[tuple[str, ...]] = ("map@r", "recall@1", "r_precision")
    dataset: Dataset
    groups: Sequence[str] | None = None
    name: str = "all"
    junk: Junk = "group"
    resample: Resample = "classes"
    shares: bool = False
    """Whether another protocol ranks the same examples: their neighbours are searched for once."""

    def see(self, look: Look) -> Sight:
        """The examples themselves."""
        return look.alone(self.dataset)

    def judge(self, sight: Sight, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Retrieval of each example among the others."""
        labels, top = classes_of(self.dataset), _tops(settings)
        search = search_of(sight.asked, labels, None, None, self.groups, None, self.junk, None)
        known = sight.neighbours(ranks_needed(labels, top)) if self.shares else None
        return retrieved(
            search,
            sight.geometry,
            top,
            self.junk,
            known,
            resample=self.resample,
            bootstrap=bootstrap,
            seed=seed,
        )


@dataclass(frozen=True, eq=False)
class ByGallery(ByClass):
    """Does each query find its class in the gallery, where the data says who asks and who answers?

    With groups, such as cameras, rows of the query's class and group are left out: the rule of re-identification.
    """

    def judge(self, sight: Sight, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Retrieval of the gallery for each query."""
        labels, roles = classes_of(self.dataset), self.dataset.roles or ()
        asking, answering = (
            torch.tensor([at for at, role in enumerate(roles) if role == name]) for name in ("query", "gallery")
        )
        groups = [
            None if self.groups is None else [self.groups[int(at)] for at in rows] for rows in (asking, answering)
        ]
        return retrieval(
            sight.asked[asking],
            labels[asking],
            sight.asked[answering],
            labels[answering],
            geometry=sight.geometry,
            groups=groups[0],
            gallery_groups=groups[1],
            junk="group" if self.groups is None else self.junk,
            average_precision=len(asking) * len(answering) <= _MOST_RANKED,
            resample=self.resample,
            top=_tops(settings),
            bootstrap=bootstrap,
            seed=seed,
        )


@dataclass(frozen=True, eq=False)
class ByTraining:
    """Do the training examples tell the class? By the votes of the nearest, and by a linear classifier."""

    headline: ClassVar[str] = "knn@1"
    choosing: ClassVar[tuple[str, ...]] = ()
    dataset: Dataset
    train: Dataset
    name: str = "train"

    def see(self, look: Look) -> Sight:
        """The examples, and those of the training."""
        return look.among(self.dataset, self.train)

    def judge(self, sight: Sight, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Votes of the nearest training examples, and the linear probe if it is asked for."""
        assert sight.given is not None  # noqa: S101  `see` asks for it
        mine, theirs = classes_of(self.dataset), classes_of(self.train)
        fitting = [k for k in settings.neighbours if k <= int((theirs >= 0).sum())]
        found = knn_curve(
            sight.asked,
            mine,
            sight.given,
            theirs,
            neighbours=sorted({1, *fitting}),
            temperature=TEMPERATURE if sight.geometry == "cosine" else None,
            geometry=sight.geometry,
            resample="examples",
            bootstrap=bootstrap,
            seed=seed,
        )
        if not settings.probe:
            return found
        options: dict[str, Any] = {"resample": "examples", "bootstrap": bootstrap, "seed": seed}
        return joined(found, linear_probe(sight.asked, mine, sight.given, theirs, **options))


@dataclass(frozen=True, eq=False)
class ByTarget:
    """Does nearness follow the targets?"""

    headline: ClassVar[str] = "spearman"
    choosing: ClassVar[tuple[str, ...]] = ("spearman", "kendall")
    dataset: Dataset
    name: str = "targets"

    def see(self, look: Look) -> Sight:
        """The examples themselves."""
        return look.graded(self.dataset)

    def judge(self, sight: Sight, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Correlation with the distances of targets, and the targets of neighbours."""
        assert self.dataset.targets is not None  # noqa: S101  or there was no such judge
        top = [k for k in _tops(settings) if k < len(self.dataset)]
        return graded(
            sight.asked, self.dataset.targets, geometry=sight.geometry, top=top, bootstrap=bootstrap, seed=seed
        )


@dataclass(frozen=True, eq=False)
class ByPartner:
    """Does each query find its answer among the answers of all? Equal answers count as one."""

    headline: ClassVar[str] = "recall@1"
    choosing: ClassVar[tuple[str, ...]] = ("recall@1", "mrr")
    dataset: Dataset
    name: str = "pairs"

    def see(self, look: Look) -> Sight | None:
        """Both sides of the pairs."""
        return look.matched(self.dataset)

    def judge(self, sight: Sight, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Rank of the answer of each query."""
        assert sight.given is not None  # noqa: S101  `see` asks for it
        rows, wanted = different_answers(self.dataset)
        options: dict[str, Any] = {"top": _tops(settings), "bootstrap": bootstrap, "seed": seed}
        return matching(sight.asked, sight.given[rows], wanted, geometry=sight.geometry, **options)


@dataclass(frozen=True, eq=False)
class ByView:
    """Is each example found by a random change of it? All that can be asked where nothing is known of the examples."""

    headline: ClassVar[str] = "recall@1"
    choosing: ClassVar[tuple[str, ...]] = ()
    dataset: Dataset
    augment: Augment
    preprocessing: Preprocessing
    seed: int
    name: str = "views"

    def see(self, look: Look) -> Sight | None:
        """The examples, and a random change of each."""
        return look.viewed(self.dataset, self.augment, self.preprocessing, self.seed)

    def judge(self, sight: Sight, settings: EvaluateSettings, *, bootstrap: int, seed: int) -> QueryResult:
        """Rank of each example among all, asked by its change."""
        assert sight.given is not None  # noqa: S101  `see` asks for it
        options: dict[str, Any] = {"top": _tops(settings), "bootstrap": bootstrap, "seed": seed}
        return matching(sight.asked, sight.given, geometry=sight.geometry, **options)


def different_answers(dataset: Dataset) -> tuple[Tensor, Tensor]:
    """Rows of the first of equal partners, and which of these each example's own partner equals."""
    assert dataset.partners is not None  # noqa: S101  asked of pairs only
    numbers: dict[str | bytes, int] = {}
    stored: Any = tuple(one.numpy() if isinstance(one, Tensor) else one for one in dataset.partners)
    wanted = [numbers.setdefault(digest, len(numbers)) for digest in digests(stored)]
    firsts = {number: row for row, number in reversed(list(enumerate(wanted)))}
    return torch.tensor([firsts[number] for number in range(len(numbers))]), torch.tensor(wanted)


def classes_of(dataset: Dataset) -> Tensor:
    """Class of each example, for those who know that there are classes."""
    assert dataset.classes is not None  # noqa: S101  what has none is not judged by them
    return dataset.classes


def _tops(settings: EvaluateSettings) -> list[int]:
    return sorted({1, *settings.top})
