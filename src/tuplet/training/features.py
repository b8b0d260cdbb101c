"""Feature extraction: the rows that a protocol ranks, as a model embeds the examples or as the raw input has them."""

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tuplet.data import Dataset, RawChoice, raw_choices, raw_features
from tuplet.data.dataset import Inputs, Preprocessing, take
from tuplet.data.raw import scaled
from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.engine.gather import all_gather
from tuplet.engine.tiles import spans
from tuplet.evaluation.ranking import Neighbours
from tuplet.evaluation.retrieval import neighbours_of
from tuplet.models import Embedder
from tuplet.seeding import Draws, derive
from tuplet.training.distributed import shard_slice
from tuplet.training.job import Augment
from tuplet.types import GeometryName, Side

MAX_VIEWS = 5_000
"""Examples whose augmented views are searched for; of more, so many are sampled."""
_BLOCK = 250  # examples that are augmented at once
_PLAIN = ("image", "vector")  # kinds whose input of the encoder is scaled like their raw features


@dataclass(frozen=True, eq=False)
class Features:
    """Rows of the examples of one protocol.

    Attributes:
        queries: One row per example.
        gallery: Rows that are ranked for each query; None ranks the other queries.
        geometry: How two rows are compared.
    """

    queries: Tensor
    gallery: Tensor | None
    geometry: GeometryName
    _neighbours: list[Neighbours | None] = field(default_factory=list)

    def neighbours(self, labels: Tensor, top: Sequence[int]) -> Neighbours | None:
        """Nearest neighbours of each query among the others, searched for once; see `neighbours_of`."""
        if not self._neighbours:
            self._neighbours.append(neighbours_of(self.queries, labels, top, self.geometry))
        return self._neighbours[0]


@dataclass(eq=False)
class _FeatureCache:
    """The latest features, as long as a protocol holds them: protocols of the same examples share them."""

    latest: tuple[Dataset, weakref.ref[Features]] | None = None

    def get(self, dataset: Dataset, make: Callable[[], Features]) -> Features:
        """The features of these examples, made unless a protocol still holds them."""
        known = self.latest[1]() if self.latest is not None and self.latest[0] is dataset else None
        if known is None:
            known = make()
            self.latest = dataset, weakref.ref(known)
        return known


@runtime_checkable
class FeatureExtractor(Protocol):
    """Turns examples into rows."""

    def extract(self, dataset: Dataset, gallery: Dataset | None = None) -> Features:
        """Examples as queries, with other examples as the gallery or without one."""

    def extract_graded(self, dataset: Dataset) -> Features:
        """Examples whose distances shall follow those of their targets."""

    def extract_pairs(self, dataset: Dataset) -> Features | None:
        """First sides of pairs as queries, second sides as the gallery; None where they cannot be compared."""

    def extract_views(
        self, dataset: Dataset, augment: Augment, preprocessing: Preprocessing, seed: int
    ) -> Features | None:
        """Augmented views as queries, the unchanged examples as the gallery; None where they cannot be compared."""


@dataclass(frozen=True, eq=False)
class ModelExtractor:
    """Features of a model: its embeddings.

    Args:
        embedder: The model.
        batch_size: Examples embedded at once.
        processes: Each of them embeds a share of what was not embedded before.
    """

    embedder: Embedder
    batch_size: int
    processes: Processes = SINGLE_PROCESS
    _known: list[tuple[Dataset, Side, Tensor]] = field(default_factory=list)
    _cache: _FeatureCache = field(default_factory=_FeatureCache)

    def precompute(self, *datasets: Dataset | None) -> None:
        """Embed both sides of some data, so that one process alone can ask for them later."""
        for dataset in datasets:
            if dataset is not None:
                self.embed(dataset)
            if dataset is not None and dataset.partners is not None:
                self.embed(dataset, "partner")

    def embed(self, dataset: Dataset, side: Side = "query") -> Tensor:
        """One row per example; what was embedded once is not embedded again."""
        known = next((rows for one, which, rows in self._known if one is dataset and which == side), None)
        if known is None:
            mine = shard_slice(len(dataset), self.processes)
            partners = None if dataset.partners is None else dataset.partners[mine]
            part = replace(dataset, inputs=dataset.inputs[mine], partners=partners)
            known = all_gather(self.embedder.embed(part, side=side, batch_size=self.batch_size), self.processes)
            self._known.append((dataset, side, known))
        return known

    def extract(self, dataset: Dataset, gallery: Dataset | None = None) -> Features:
        """See `FeatureExtractor`."""
        geometry = self.embedder.geometry
        if gallery is not None:
            return Features(self.embed(dataset), self.embed(gallery), geometry)
        return self._cache.get(dataset, lambda: Features(self.embed(dataset), None, geometry))

    def extract_graded(self, dataset: Dataset) -> Features:
        """See `FeatureExtractor`."""
        return self.extract(dataset)

    def extract_pairs(self, dataset: Dataset) -> Features:
        """See `FeatureExtractor`."""
        return Features(self.embed(dataset), self.embed(dataset, "partner"), self.embedder.geometry)

    def extract_views(self, dataset: Dataset, augment: Augment, preprocessing: Preprocessing, seed: int) -> Features:
        """See `FeatureExtractor`."""
        with _evaluating(self.embedder):
            sides = [[self._encode(side) for side in both] for both in _views(dataset, augment, preprocessing, seed)]
        views, plain = (torch.cat(side) for side in zip(*sides, strict=True))
        return Features(views, plain, self.embedder.geometry)

    def _encode(self, inputs: Tensor) -> Tensor:
        parts = [inputs[part].to(self.embedder.device) for part in spans(len(inputs), self.batch_size)]
        return torch.cat([self.embedder.encoder(part).float().cpu() for part in parts])


@runtime_checkable
class Regressor(Protocol):
    """Predicts targets from the raw input."""

    def predict(self, dataset: Dataset) -> Tensor:
        """One row of predictions for each example."""


@dataclass(frozen=True)
class RawExtractor:
    """Features without a model: the raw input; see `raw_features`.

    Args:
        choice: How the input is scaled and compared; by default the first of `raw_choices`.
        regressor: Whose predictions are the features where distances shall follow targets.
    """

    choice: RawChoice | None = None
    regressor: Regressor | None = None
    _cache: _FeatureCache = field(default_factory=_FeatureCache, compare=False)

    def extract(self, dataset: Dataset, gallery: Dataset | None = None) -> Features:
        """See `FeatureExtractor`."""
        choice = raw_choices(dataset)[0] if self.choice is None else self.choice
        if gallery is not None:
            queries, rows = (raw_features(part, gallery, choice.scaling) for part in (dataset, gallery))
            return Features(queries, rows, choice.geometry)
        return self._cache.get(
            dataset, lambda: Features(raw_features(dataset, scaling=choice.scaling), None, choice.geometry)
        )

    def extract_graded(self, dataset: Dataset) -> Features:
        """See `FeatureExtractor`."""
        if self.regressor is None:
            return self.extract(dataset)
        return Features(self.regressor.predict(dataset), None, "euclidean")

    def extract_pairs(self, dataset: Dataset) -> Features | None:
        """See `FeatureExtractor`."""
        assert dataset.partners is not None  # noqa: S101  asked of pairs only
        if _shape(dataset.inputs) != _shape(dataset.partners):
            return None
        return self.extract(dataset, replace(dataset, inputs=dataset.partners))

    def extract_views(
        self, dataset: Dataset, augment: Augment, preprocessing: Preprocessing, seed: int
    ) -> Features | None:
        """See `FeatureExtractor`."""
        sides = zip(*_views(dataset, augment, preprocessing, seed), strict=True)
        views, plain = (torch.cat(side).flatten(1).float() for side in sides)
        if views.shape != plain.shape:  # a window of each series: there is no telling which numbers meet
            return None
        choice = self.choice if self.choice is not None and dataset.kind in _PLAIN else RawChoice("centred", "cosine")
        views, plain = (scaled(side, plain, choice.scaling) for side in (views, plain))
        return Features(views, plain, choice.geometry)


def view_rows(dataset: Dataset, seed: int) -> Tensor:
    """Positions of the examples whose views are searched for."""
    chosen = torch.randperm(len(dataset), generator=derive(seed, "views", "examples"))[:MAX_VIEWS]
    return chosen.sort().values


def _views(
    dataset: Dataset, augment: Augment, preprocessing: Preprocessing, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs of the encoder, augmented and unchanged, some examples at a time.

    Each block has a generator of its own: the views are the same for every extractor and batch size.
    """
    rows = view_rows(dataset, seed)
    for number, part in enumerate(spans(len(rows), _BLOCK)):
        plain: Tensor = preprocessing(take(dataset.inputs, rows[part]))
        yield augment(plain.clone(), Draws(derive(seed, "views", number))), plain


def _shape(inputs: Inputs) -> tuple[object, ...]:
    """Equal for inputs whose raw features can be compared."""
    if isinstance(inputs, Tensor):
        return tuple(inputs.shape[1:])
    first = inputs[0]
    return (first.ndim, first.is_floating_point()) if isinstance(first, Tensor) else (str,)


@contextmanager
def _evaluating(embedder: Embedder) -> Iterator[None]:
    was_training = embedder.training
    embedder.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        embedder.train(was_training)
