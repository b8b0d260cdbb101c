"""Ways to look at examples: as a model embeds them, or as they are."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from tuplet.data import Dataset, raw_features, raw_geometry
from tuplet.data.dataset import Inputs, Preprocessing, take
from tuplet.engine import ALONE, Processes
from tuplet.engine.gather import everyones
from tuplet.engine.tiles import spans
from tuplet.models import Embedder
from tuplet.seeding import Draws, derive
from tuplet.training.job import Augment
from tuplet.training.together import share
from tuplet.types import GeometryName, Side

MOST_VIEWED = 5_000
"""Examples that are changed at random to see whether they are found again; of more, so many are drawn."""


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


@runtime_checkable
class Look(Protocol):
    """Rows for examples."""

    def alone(self, dataset: Dataset) -> Sight:
        """Examples among themselves."""

    def among(self, dataset: Dataset, gallery: Dataset) -> Sight:
        """Examples among others."""

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
        return Sight(self.rows(dataset), None, self.embedder.geometry)

    def among(self, dataset: Dataset, gallery: Dataset) -> Sight:
        """See `Look`."""
        return Sight(self.rows(dataset), self.rows(gallery), self.embedder.geometry)

    def matched(self, dataset: Dataset) -> Sight:
        """See `Look`."""
        return Sight(self.rows(dataset), self.rows(dataset, "partner"), self.embedder.geometry)

    def viewed(self, dataset: Dataset, augment: Augment, preprocessing: Preprocessing, seed: int) -> Sight:
        """See `Look`."""
        with _evaluating(self.embedder):
            device = self.embedder.device
            sides = [
                tuple(self.embedder.encoder(side.to(device)).float().cpu() for side in both)
                for both in _views(dataset, augment, preprocessing, seed, self.batch_size)
            ]
        changed, plain = (torch.cat(side) for side in zip(*sides, strict=True))
        return Sight(changed, plain, self.embedder.geometry)


@dataclass(frozen=True)
class RawLook:
    """As they are: see `raw_features`."""

    def alone(self, dataset: Dataset) -> Sight:
        """See `Look`."""
        return Sight(raw_features(dataset), None, raw_geometry(dataset))

    def among(self, dataset: Dataset, gallery: Dataset) -> Sight:
        """See `Look`."""
        return Sight(raw_features(dataset, gallery), raw_features(gallery), raw_geometry(dataset))

    def matched(self, dataset: Dataset) -> Sight | None:
        """See `Look`."""
        assert dataset.partners is not None  # noqa: S101  nothing else is matched
        if _shape(dataset.inputs) != _shape(dataset.partners):
            return None
        return self.among(dataset, replace(dataset, inputs=dataset.partners))

    def viewed(self, dataset: Dataset, augment: Augment, preprocessing: Preprocessing, seed: int) -> Sight | None:
        """See `Look`."""
        sides = zip(*_views(dataset, augment, preprocessing, seed, MOST_VIEWED), strict=True)
        changed, plain = (torch.cat(side).flatten(1).float() for side in sides)
        if changed.shape != plain.shape:  # a window of each series: there is no telling which numbers meet
            return None
        return Sight(changed - plain.mean(0), plain - plain.mean(0), "cosine")


def viewed_rows(dataset: Dataset, seed: int) -> Tensor:
    """Positions of the examples whose views are searched for."""
    drawn = torch.randperm(len(dataset), generator=derive(seed, "views", "examples"))[:MOST_VIEWED]
    return drawn.sort().values


def _views(
    dataset: Dataset, augment: Augment, preprocessing: Preprocessing, seed: int, batch_size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Inputs of the encoder, changed at random and unchanged; the same changes for every look and batch size."""
    rows = viewed_rows(dataset, seed)
    for part in spans(len(rows), batch_size):
        plain: Tensor = preprocessing(take(dataset.inputs, rows[part]))
        generator = derive(seed, "views")
        yield augment(plain.clone(), Draws(generator, part.start, len(rows))), plain


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
