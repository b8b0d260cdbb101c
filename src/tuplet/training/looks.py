"""Ways to look at examples: as a model embeds them, or as they are."""

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tuplet.data import Dataset, RawChoice, raw_choices, raw_features
from tuplet.data.dataset import Inputs, Preprocessing, take
from tuplet.data.raw import scaled
from tuplet.engine import ALONE, Processes
from tuplet.engine.gather import everyones
from tuplet.engine.tiles import spans
from tuplet.evaluation.ranking import Neighbours
from tuplet.models import Embedder
from tuplet.seeding import Draws, derive
from tuplet.training.job import Augment
from tuplet.training.together import share
from tuplet.types import GeometryName, Side

MOST_VIEWED = 5_000
"""Examples that are changed at random to see whether they are found again; of more, so many are drawn."""
_BLOCK = 250  # examples that are changed at once
_PLAIN = ("image", "vector")  # kinds whose input of the encoder is scaled like their raw features


@dataclass(frozen=True, eq=False)
class Sight:
    """What is compared.

    Attributes:
        asked: One row per example.
        given: What is searched for it; None for the other examples.
        geometry: How two rows are compared.
    """

    asked: Tensor
    given: Tensor | None
    geometry: GeometryName
    _near: list[Neighbours | None] = field(default_factory=list)

    def neighbours(self, depth: Tensor) -> Neighbours | None:
        """Lists of the neighbours of each example among the others, searched for once; see `Neighbours.of`."""
        if not self._near:
            self._near.append(Neighbours.of(self.asked, depth, self.geometry))
        return self._near[0]


@dataclass(eq=False)
class _Sights:
    """What was last seen, as long as somebody looks at it: protocols that ask for the same examples share it."""

    latest: tuple[Dataset, weakref.ref[Sight]] | None = None

    def of(self, dataset: Dataset, make: Callable[[], Sight]) -> Sight:
        """The sight of these examples, made if nobody has it."""
        known = self.latest[1]() if self.latest is not None and self.latest[0] is dataset else None
        if known is None:
            known = make()
            self.latest = dataset, weakref.ref(known)
        return known


@runtime_checkable
class Look(Protocol):
    """Rows for examples."""

    def alone(self, dataset: Dataset) -> Sight:
        """Examples among themselves."""

    def among(self, dataset: Dataset, gallery: Dataset) -> Sight:
        """Examples among others."""

    def graded(self, dataset: Dataset) -> Sight:
        """Examples among themselves, where nearness shall follow their targets."""

    def matched(self, dataset: Dataset) -> Sight | None:
        """First sides of pairs among second sides; None where they cannot be compared."""

    def viewed(self, dataset: Dataset, augment: Augment, preprocessing: Preprocessing, seed: int) -> Sight | None:
        """Examples that were changed at random among unchanged ones; None where they cannot be compared."""


@dataclass(frozen=True, eq=False)
class ModelLook:
    """As a model embeds them.

    Args:
        embedder: The model.
        batch_size: Examples embedded at once.
        processes: Each of them embeds a share of what was not embedded before.
    """

    embedder: Embedder
    batch_size: int
    processes: Processes = ALONE
    _known: list[tuple[Dataset, Side, Tensor]] = field(default_factory=list)
    _alone: _Sights = field(default_factory=_Sights)

    def remember(self, *datasets: Dataset | None) -> None:
        """Embed all sides of some data, so that one process alone can ask for them later."""
        for dataset in datasets:
            if dataset is not None:
                self.rows(dataset)
            if dataset is not None and dataset.partners is not None:
                self.rows(dataset, "partner")

    def rows(self, dataset: Dataset, side: Side = "query") -> Tensor:
        """One row per example; what was embedded once is not embedded again."""
        known = next((rows for one, which, rows in self._known if one is dataset and which == side), None)
        if known is None:
            known = self._embed(dataset, side)
            self._known.append((dataset, side, known))
        return known

    def _embed(self, dataset: Dataset, side: Side) -> Tensor:
        mine = share(len(dataset), self.processes)
        partners = None if dataset.partners is None else dataset.partners[mine]
        part = replace(dataset, inputs=dataset.inputs[mine], partners=partners)
        return everyones(self.embedder.embed(part, side=side, batch_size=self.batch_size), self.processes)

    def alone(self, dataset: Dataset) -> Sight:
        """See `Look`."""
        return self._alone.of(dataset, lambda: Sight(self.rows(dataset), None, self.embedder.geometry))

    def among(self, dataset: Dataset, gallery: Dataset) -> Sight:
        """See `Look`."""
        return Sight(self.rows(dataset), self.rows(gallery), self.embedder.geometry)

    def graded(self, dataset: Dataset) -> Sight:
        """See `Look`."""
        return self.alone(dataset)

    def matched(self, dataset: Dataset) -> Sight:
        """See `Look`."""
        return Sight(self.rows(dataset), self.rows(dataset, "partner"), self.embedder.geometry)

    def viewed(self, dataset: Dataset, augment: Augment, preprocessing: Preprocessing, seed: int) -> Sight:
        """See `Look`."""
        with _evaluating(self.embedder):
            sides = [[self._encode(side) for side in both] for both in _views(dataset, augment, preprocessing, seed)]
        changed, plain = (torch.cat(side) for side in zip(*sides, strict=True))
        return Sight(changed, plain, self.embedder.geometry)

    def _encode(self, inputs: Tensor) -> Tensor:
        parts = [inputs[part].to(self.embedder.device) for part in spans(len(inputs), self.batch_size)]
        return torch.cat([self.embedder.encoder(part).float().cpu() for part in parts])


@runtime_checkable
class Regressor(Protocol):
    """Predicts targets from inputs as they are."""

    def predict(self, dataset: Dataset) -> Tensor:
        """One row of predictions for each example."""


@dataclass(frozen=True)
class RawLook:
    """As they are: see `raw_features`.

    Args:
        choice: How they are scaled and compared; by default the first of `raw_choices`.
        regressor: Whose predictions stand for the examples where nearness shall follow their targets.
    """

    choice: RawChoice | None = None
    regressor: Regressor | None = None
    _alone: _Sights = field(default_factory=_Sights, compare=False)

    def alone(self, dataset: Dataset) -> Sight:
        """See `Look`."""
        choice = self._choice(dataset)
        return self._alone.of(
            dataset, lambda: Sight(raw_features(dataset, scaling=choice.scaling), None, choice.geometry)
        )

    def among(self, dataset: Dataset, gallery: Dataset) -> Sight:
        """See `Look`."""
        choice = self._choice(dataset)
        mine, theirs = (raw_features(part, gallery, choice.scaling) for part in (dataset, gallery))
        return Sight(mine, theirs, choice.geometry)

    def graded(self, dataset: Dataset) -> Sight:
        """See `Look`."""
        return (
            self.alone(dataset) if self.regressor is None else Sight(self.regressor.predict(dataset), None, "euclidean")
        )

    def _choice(self, dataset: Dataset) -> RawChoice:
        return raw_choices(dataset)[0] if self.choice is None else self.choice

    def matched(self, dataset: Dataset) -> Sight | None:
        """See `Look`."""
        assert dataset.partners is not None  # noqa: S101  nothing else is matched
        if _shape(dataset.inputs) != _shape(dataset.partners):
            return None
        return self.among(dataset, replace(dataset, inputs=dataset.partners))

    def viewed(self, dataset: Dataset, augment: Augment, preprocessing: Preprocessing, seed: int) -> Sight | None:
        """See `Look`."""
        sides = zip(*_views(dataset, augment, preprocessing, seed), strict=True)
        changed, plain = (torch.cat(side).flatten(1).float() for side in sides)
        if changed.shape != plain.shape:  # a window of each series: there is no telling which numbers meet
            return None
        choice = self.choice if self.choice is not None and dataset.kind in _PLAIN else RawChoice("centred", "cosine")
        changed, plain = (scaled(side, plain, choice.scaling) for side in (changed, plain))
        return Sight(changed, plain, choice.geometry)


def viewed_rows(dataset: Dataset, seed: int) -> Tensor:
    """Positions of the examples whose views are searched for."""
    drawn = torch.randperm(len(dataset), generator=derive(seed, "views", "examples"))[:MOST_VIEWED]
    return drawn.sort().values


def _views(
    dataset: Dataset, augment: Augment, preprocessing: Preprocessing, seed: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs of the encoder, changed at random and unchanged, some examples at a time.

    The changes of each block come from a generator of its own: they are the same for every look and batch size, and
    each is drawn once.
    """
    rows = viewed_rows(dataset, seed)
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
