"""What the API does, apart from HTTP."""

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuplet.app.pictures import Picture, Pictures
from tuplet.app.queries import require_known_words, text_side
from tuplet.app.thresholds import Threshold, threshold_for, threshold_of
from tuplet.app.web.batching import Batcher
from tuplet.app.web.metrics import Metrics
from tuplet.app.web.refusals import RefusedError
from tuplet.app.web.schemas import Query
from tuplet.app.web.settings import Settings
from tuplet.data.image_files import UNREADABLE, opened, quiet
from tuplet.data.words import WordPreprocessing
from tuplet.engine.topk import pair_scores
from tuplet.errors import DataError
from tuplet.index import Hits, Index
from tuplet.index import where as filters
from tuplet.index.base import Facts, Item
from tuplet.types import Side

Found = TypeVar("Found")
_SIDES: tuple[Side, ...] = ("query", "partner")
_MOST_COUNTED = 200_000
"""Items whose values are counted for the filters of the page."""
_MOST_VALUES = 1_000
_AT_ONCE = 1_000


class Service:
    """An index, its model and its pictures, for many requests at once.

    The encoder and the index are used by one thread: torch spreads one pass over all cores, and a connection to a
    store is not shared. Pictures are decoded by others.

    Args:
        index: What is searched.
        name: What it is called.
        pictures: Folder of the collection, for its pictures.
        settings: Limits.
        metrics: Counts passes and queries.
    """

    def __init__(self, index: Index, name: str, pictures: Path | None, settings: Settings, metrics: Metrics) -> None:
        self.index, self.name, self.metrics, self.token = index, name, metrics, settings.token
        self._settings = settings
        self._embedder = index.query_embedder.eval()
        self.pictures = Pictures(index, pictures, settings.max_pixels)
        self.threshold: Threshold | None = None
        with suppress(DataError):  # a model that was trained without validation classes has none
            self.threshold = threshold_of(self._embedder, "auto")
        self._thread = ThreadPoolExecutor(1, "encoder")
        self._decoders = ThreadPoolExecutor(os.cpu_count(), "decoder")
        self._batcher = Batcher(self._pass, settings.max_batch)
        self._counted: tuple[int, dict[str, Counter[str]]] = (-1, {})
        metrics.items.labels(name).set(len(index))

    async def run(self) -> None:
        """Embed what requests ask for, until cancelled."""
        try:
            await self._batcher.run()
        finally:
            self._thread.shutdown(wait=False, cancel_futures=True)
            self._decoders.shutdown(wait=False, cancel_futures=True)

    async def _alone(self, function: Callable[..., Found], *args: Any) -> Found:
        """Call something that uses the encoder or the index."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *args)

    async def _pass(self, side: Side, items: Sequence[Any]) -> Tensor:
        self.metrics.passes.inc()
        self.metrics.embedded.inc(len(items))
        kind = self._embedder.side(side).preprocessing.kind
        together: Any = list(items)
        if kind == "image":
            together = torch.cat(together)
        elif kind == "vector":
            together = np.stack(together)
        return await self._alone(lambda: self._embedder.embed(together, side=side))

    async def embed(self, queries: Sequence[Query]) -> Tensor:
        """Embeddings of queries (queries, dim).

        Raises:
            DataError: If one cannot be read, or is of another kind than the model takes.
            RefusedError: If an item is not there, or a picture has too many pixels.
        """
        return torch.stack(await asyncio.gather(*map(self._embedded, queries)))

    async def _embedded(self, query: Query) -> Tensor:
        if query.item is not None:
            return torch.from_numpy((await self.item(query.item)).vector)
        if query.vector is not None:
            return self._checked_vector(query.vector)
        if query.text is not None:
            side = text_side(self._embedder)
            preprocessing = self._embedder.side(side).preprocessing
            if isinstance(preprocessing, WordPreprocessing):
                require_known_words([query.text], preprocessing)
            return await self._batcher.embed(side, query.text)
        kind = "image" if query.picture is not None else "vector" if query.row is not None else "series"
        side = self._side(kind)
        stored = await asyncio.get_running_loop().run_in_executor(self._decoders, self._stored, query, side)
        return await self._batcher.embed(side, stored)

    def _stored(self, query: Query, side: Side) -> Any:
        """An input as the encoder's batches hold it."""
        load = self._embedder.side(side).preprocessing.load
        if query.picture is not None:
            return load([self._checked_picture(query.picture)])  # (1, channels, size, size)
        if query.row is not None:
            row = np.array(query.row)
            load(row[None])
            return row
        series = query.series or []
        if len({len(channel) for channel in series}) != 1 or not series[0]:
            raise DataError(
                "The channels of a series are lists of one length, with at least one number.",
                hint='Send {"series": [[0.1, 0.2, 0.3]]}, a list for each channel.',
                reference="bad-array",
            )
        load([np.array(series)])
        return np.array(series)

    def _checked_picture(self, content: bytes) -> Any:
        from io import BytesIO

        file = BytesIO(content)
        try:
            with quiet(), opened(file) as image:
                pixels = image.width * image.height
        except UNREADABLE:
            return file  # whoever decodes it says what is wrong
        if pixels > self._settings.max_pixels:
            raise RefusedError(
                f"The picture has {pixels:,} pixels; this server decodes at most {self._settings.max_pixels:,}.",
                status=413,
                hint="Make it smaller, or start the server with a larger --max-pixels.",
                reference="too-many-pixels",
            )
        return file

    def _checked_vector(self, numbers: Sequence[float]) -> Tensor:
        if len(numbers) != self.index.dim:
            raise DataError(
                f"A vector of {len(numbers)} numbers; an embedding of this model has {self.index.dim}.",
                hint="/api/embed makes such embeddings.",
                reference="query-vector",
            )
        return torch.tensor(numbers, dtype=torch.float32)

    @property
    def inputs(self) -> list[str]:
        """Which fields of a query the model takes."""
        names = {"image": "picture", "text": "text", "words": "text", "vector": "row", "series": "series"}
        found = [names[self._embedder.side(side).preprocessing.kind] for side in _SIDES]
        return [*dict.fromkeys(found), "item", "vector"]

    def _side(self, kind: str) -> Side:
        side = next((side for side in _SIDES if self._embedder.side(side).preprocessing.kind == kind), None)
        if side is None:
            raise DataError(
                f"The model embeds items of the kind {self._embedder.preprocessing.kind}, not of the kind {kind}.",
                hint=f"A query of this model has one of {', '.join(self.inputs)}.",
                reference="query-kind",
            )
        return side

    async def search(self, vectors: Tensor, top: int, where: str | None, names: Sequence[str]) -> Hits:
        """The nearest items of each query; see `Index.search`."""
        return await self._alone(lambda: self.index.search(vectors, top, names=names, where=where))

    async def verify(self, a: Query, b: Query, far: float, threshold: float | None) -> tuple[float, Threshold]:
        """Score of a pair, and the threshold that decides.

        Raises:
            DataError: If an item cannot be read, or the model has no threshold as strict as `far`.
        """
        limit = (
            threshold_for(self._embedder, far) if threshold is None else threshold_of(self._embedder, str(threshold))
        )
        rows = (await self.embed([a, b])).double()
        return float(pair_scores(rows[:1], rows[1:], self.index.geometry)), limit

    def limit(self, threshold: str | float) -> Threshold:
        """The threshold that a request names; see `threshold_of`."""
        return threshold_of(self._embedder, str(threshold))

    async def item(self, name: str) -> Item:
        """An item by its id.

        Raises:
            RefusedError: If there is none.
        """
        found = await self._alone(self.index.fetch, [name])
        if name not in found:
            raise RefusedError(
                f"The index holds no item {name[:200]!r}.",
                status=404,
                hint="/api/items lists the items; /api/items?name=PART those whose id has a part.",
                reference="unknown-item",
            )
        return found[name]

    async def picture(self, name: str, size: int) -> Picture:
        """The picture of an item.

        Raises:
            RefusedError: If there is no such item, or it has no picture.
        """
        item = await self.item(name)
        loop = asyncio.get_running_loop()
        sampled = await loop.run_in_executor(self._decoders, self.pictures.draw, item.position, name, size)
        if sampled is None:
            raise RefusedError(
                f"There is no picture of the item {name[:200]!r}.",
                status=404,
                hint="Start the server with --pictures FOLDER, the folder in which files have the names of the items.",
                reference="no-picture",
            )
        return sampled

    async def size(self) -> int:
        """How many items there are."""
        count = await self._alone(len, self.index)
        self.metrics.items.labels(self.name).set(count)
        return count

    async def embeddings(self, most: int) -> tuple[list[Facts], NDArray[np.float32]]:
        """The first items and their embeddings (items, dim)."""
        facts = await self._alone(lambda: list(islice(self.index.items, most)))
        rows = np.empty((len(facts), self.index.dim), dtype=np.float32)
        for start in range(0, len(facts), _AT_ONCE):
            names = [str(fact["id"]) for fact in facts[start : start + _AT_ONCE]]
            found = await self._alone(self.index.fetch, names)  # requests come between two of them
            for at, name in enumerate(names, start=start):
                rows[at] = found[name].vector if name in found else 0
        return facts, rows

    async def items(self, where: str | None, name: str | None, offset: int, limit: int) -> tuple[list[Facts], int]:
        """Some items, and how many match."""
        return await self._alone(_listed, self.index, where, name, offset, limit)

    async def columns(self) -> Mapping[str, Counter[str]]:
        """How many items have each value of the columns of texts, where there are few values."""
        return await self._alone(self._counts)

    def _counts(self) -> Mapping[str, Counter[str]]:
        if self._counted[0] != len(self.index):
            names = [name for name, kind in self.index.columns.items() if kind == "text" and name not in ("id", "text")]
            counts = {name: Counter[str]() for name in names}
            for fact in islice(self.index.items, _MOST_COUNTED):
                for name in names:
                    if (value := fact.get(name)) is not None:
                        counts[name][value] += 1
            few = {name: found for name, found in counts.items() if len(found) <= _MOST_VALUES}
            self._counted = (len(self.index), few)
        return self._counted[1]


def _listed(index: Index, where: str | None, name: str | None, offset: int, limit: int) -> tuple[list[Facts], int]:
    node = None if where is None else filters.parse(where, index.columns)
    part, total, found = (name or "").casefold(), 0, []
    if node is None and not part:
        return list(islice(index.items, offset, offset + limit)), len(index)
    for fact in index.items:
        if part in str(fact["id"]).casefold() and (node is None or filters.holds(node, fact)):
            if offset <= total < offset + limit:
                found.append(fact)
            total += 1
    return found, total
