"""Exact search over one memory-mapped array."""

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tuplet.engine.topk import topk
from tuplet.errors import IndexFormatError, ShapeError
from tuplet.index import where as filters
from tuplet.index.base import ColumnKind, Facts, Hits, Index, Item, merged_columns, require_finite, require_queries
from tuplet.index.facts import facts_of, require_facts, wrong_facts
from tuplet.index.pages import CONTENTS, EMBEDDINGS, HEADER, ITEMS, REMOVED, Items, Pages, header, of_first_format
from tuplet.index.writing import CONFIG, LOCK, MODEL, alone, model_folder, read_config, replace_config, require_model
from tuplet.models import Embedder
from tuplet.storage import replaced_folder

_BLOCK = 65536  # rows written at once
_SPARSE = 4  # where a filter leaves at most a quarter of the rows, they are copied together
UNKNOWN = "0" * 32
"""Content of an item that was written as an embedding."""

THUMBNAILS, OUTLINES = "thumbnails.npy", "outlines.npy"
"""Small copies of images and of series, in the folder of the index, row by row."""


class FlatIndex(Index):
    """Embeddings in one `.npy`, compared with every query.

    The folder holds `index.json`, `embeddings.npy` (float32), `items.jsonl` (one item per line), `contents.bin` (16
    bytes per item), and the model, or names the folder of the model. Items are added at the ends of these files and
    count from the moment in which `index.json` says so; those that were removed are listed in `removed.bin`.

    `index.json` holds checksums of all files, one per mebibyte. Files up to 64 MiB are compared with theirs when the
    index is opened, larger ones by `check`; their sizes always. Arguments and errors are those of `Index`.
    """

    backend: ClassVar[str] = "flat"
    columns: Mapping[str, ColumnKind] = {}
    recall: Mapping[str, Any] = {"measured": 1.0, "exact": True}
    _FIELDS: ClassVar[Mapping[str, type]] = {"count": int, "removed": int, "columns": dict, "files": dict}

    def _read(self) -> dict[str, Any]:
        return read_config(self.folder, self._FIELDS, first=of_first_format)

    def _take(self, content: dict[str, Any], lines: list[bytes] | None = None) -> None:
        """See `Index`; `lines` are the items, where this process has written them itself."""
        super()._take(content)
        self.columns = content["columns"]
        self._pages = Pages(self.folder, content, lines)
        self.embeddings: NDArray[np.float32] = self._pages.embeddings
        self._lines = self._pages.items  # of all rows, removed ones too
        for name in ("_live",) if lines is not None else ("_live", "_rows", "_holders"):
            self.__dict__.pop(name, None)

    def _refresh(self) -> None:
        super()._refresh()
        if self._config["format"] == 1:  # what tuplet 0.1 wrote gets what it lacks before anything is added
            (self.folder / CONTENTS).write_bytes(bytes.fromhex(UNKNOWN) * len(self))
            (self.folder / REMOVED).write_bytes(b"")
            files = self._config["files"] | Pages.sums(self.folder, {CONTENTS: 0, REMOVED: 0})
            replace_config(self.folder, {**self._config, "files": files})
            self._take(self._read())

    @classmethod
    def create(cls, folder: Path | str, embedder: Embedder) -> "FlatIndex":
        """An index without items, with a copy of the model.

        Raises:
            IndexFormatError: If the folder holds other files or cannot be written.
        """
        return cls._write(Path(folder), embedder, (), (), None)

    @classmethod
    def build(
        cls,
        folder: Path | str,
        embedder: Embedder,
        items: Any,
        *,
        facts: Sequence[Facts] | None = None,
        model: str | None = None,
        batch_size: int = 256,
        progress: Callable[[int, int], None] | None = None,
    ) -> "FlatIndex":
        """Embed items and write an index of them, whole or not at all. Embeddings are never all in memory.

        Args:
            folder: Where to write. An index that is there is replaced.
            embedder: Makes the embeddings.
            items: What `Embedder.embed` takes.
            facts: What is known of each item, at least its `id`. By default read from a `Manifest` or `Dataset`; files
                and texts name themselves, rows are numbered.
            model: Where `embedder` has been saved, relative to `folder`. By default a copy goes into the index.
            batch_size: Items embedded at once.
            progress: Called with (items done, items in all) after each batch.

        Returns:
            The index, opened.

        Raises:
            DataError: If there are no items, or an embedding is not finite.
            IndexFormatError: If the folder holds other files or cannot be written.
        """
        facts = facts_of(items) if facts is None else facts
        batches = _counted(embedder.stream(items, batch_size=batch_size), len(facts), progress)
        return cls._write(Path(folder), embedder, batches, require_facts(facts), model)

    @classmethod
    def write(
        cls,
        folder: Path | str,
        embedder: Embedder,
        embeddings: Float[Tensor, "n dim"],
        facts: Sequence[Facts],
        *,
        model: str | None = None,
        beside: Mapping[str, NDArray[Any]] | None = None,
    ) -> "FlatIndex":
        """Write an index of embeddings that `embedder` has made already; see `build`.

        Args:
            folder: Where to write. An index that is there is replaced.
            embedder: Made the embeddings.
            embeddings: One row per item.
            facts: What is known of each item, at least its `id`.
            model: Where `embedder` has been saved, relative to `folder`. By default a copy goes into the index.
            beside: Arrays that are kept with the items, by the name of their `.npy` file; see `array`.

        Raises:
            ShapeError: If the embeddings are of another length than those of the embedder.
        """
        if embeddings.shape[1] != embedder.dim:
            raise ShapeError(
                f"The embedder makes vectors of length {embedder.dim}, not {embeddings.shape[1]}.",
                hint="Write the index with the embedder that made the embeddings.",
                reference="query-shape",
            )
        rows = embeddings.detach().float().cpu()
        batches = (rows[start : start + _BLOCK] for start in range(0, len(rows), _BLOCK))
        return cls._write(Path(folder), embedder, batches, require_facts(facts), model, beside or {})

    @classmethod
    def _write(
        cls,
        folder: Path,
        embedder: Embedder,
        batches: Iterable[Tensor],
        facts: Sequence[Facts],
        model: str | None,
        beside: Mapping[str, NDArray[Any]] | None = None,
    ) -> "FlatIndex":
        beside = beside or {}
        if model is not None:
            require_model(model_folder(folder, model), embedder.content_hash())
        owns = {CONFIG, EMBEDDINGS, ITEMS, CONTENTS, REMOVED, MODEL, LOCK, *beside}
        with replaced_folder(folder, owns=owns, error=IndexFormatError) as new:
            _write_embeddings(new / EMBEDDINGS, batches, (len(facts), embedder.dim), facts)
            (new / ITEMS).write_bytes(b"".join(map(_line, facts)))
            (new / CONTENTS).write_bytes(bytes.fromhex(UNKNOWN) * len(facts))
            (new / REMOVED).write_bytes(b"")
            for name, array in beside.items():
                np.save(new / name, array, allow_pickle=False)
            starts = {EMBEDDINGS: HEADER, ITEMS: 0, CONTENTS: 0, REMOVED: 0, **dict.fromkeys(beside, 0)}
            cls._describe(
                new,
                embedder,
                model=model,
                count=len(facts),
                removed=0,
                columns=merged_columns({}, facts),
                files=Pages.sums(new, starts),
            )
        return cls(folder)

    def __len__(self) -> int:
        return int(self._config["count"]) - int(self._config["removed"])

    @property
    def items(self) -> Sequence[Facts]:
        """See `Index`; each line is parsed when it is asked for."""
        if not self._config["removed"]:
            return self._lines
        return Items([self._lines.lines[at] for at in self._live.tolist()])

    def array(self, name: str) -> NDArray[Any] | None:
        """An array that was kept with the items, memory-mapped; None if there is none of this name."""
        return self._pages.array(name)

    def search(
        self,
        vectors: Float[Tensor, "queries dim"],
        top: int = 10,
        *,
        names: Sequence[str] | None = None,
        where: str | None = None,
        exact: bool = True,  # noqa: ARG002  nothing else is done
    ) -> Hits:
        """See `Index`; equal scores by lower position."""
        require_queries(vectors, self.dim, names)
        rows = self._looked_at(where)
        positions, scores = self._nearest(vectors, top, rows)
        found = [[at for at in row if at >= 0] for row in positions.tolist()]
        facts = tuple(tuple(self._lines[at] for at in row) for row in found)
        ids = tuple(tuple(str(fact["id"]) for fact in row) for row in facts)
        return Hits(positions, scores, ids, tuple(names or map(str, range(len(vectors)))), facts)

    def _looked_at(self, where: str | None) -> NDArray[np.int64] | None:
        """Rows that are there and that a filter leaves; None for all."""
        node = None if where is None else filters.parse(where, self.columns)
        if node is None:
            return None if not self._config["removed"] else self._live
        return np.array([at for at in self._live.tolist() if filters.holds(node, self._lines[at])], dtype=np.int64)

    def _nearest(self, vectors: Tensor, top: int, rows: NDArray[np.int64] | None) -> tuple[Tensor, Tensor]:
        count = len(self.embeddings) if rows is None else len(rows)
        if not count:
            return torch.empty(len(vectors), 0, dtype=torch.int64), torch.empty(len(vectors), 0)
        if rows is None:
            found = topk(vectors, self.embeddings, top, self.geometry)
            return found.positions, found.scores
        if count * _SPARSE <= len(self.embeddings):
            found = topk(vectors, self.embeddings[rows], top, self.geometry)
            return torch.from_numpy(rows)[found.positions], found.scores
        hidden = torch.zeros(len(self.embeddings), dtype=torch.int64)  # of the queries' group, which they do not see
        hidden[torch.from_numpy(rows)] = 1
        groups = (torch.zeros(len(vectors), dtype=torch.int64), hidden)
        found = topk(vectors, self.embeddings, min(top, count), self.geometry, groups=groups)
        return found.positions, found.scores

    @cached_property
    def _live(self) -> NDArray[np.int64]:
        """Rows of the items that were not removed, in their order."""
        is_live = np.ones(len(self.embeddings), dtype=bool)
        is_live[self._pages.removed] = False
        return np.flatnonzero(is_live)

    @cached_property
    def _rows(self) -> dict[str, int]:
        """Row of each item that is there, by its name."""
        return {str(self._lines[at]["id"]): at for at in self._live.tolist()}

    @cached_property
    def _holders(self) -> dict[bytes, int]:
        """A row for each content that was ever added; an embedding outlives its item."""
        return {content.tobytes(): row for row, content in enumerate(self._pages.contents)}

    def known(self, ids: Sequence[str]) -> dict[str, str]:
        """See `Index`."""
        contents = self._pages.contents
        return {name: contents[self._rows[name]].tobytes().hex() for name in ids if name in self._rows}

    def fetch(self, ids: Collection[str]) -> dict[str, Item]:
        """See `Index`."""
        rows = {name: self._rows[name] for name in ids if name in self._rows}
        return {name: Item(row, self._lines[row], np.array(self.embeddings[row])) for name, row in rows.items()}

    def vectors_of(self, contents: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """See `Index`."""
        rows = {content: self._holders.get(bytes.fromhex(content)) for content in contents if content != UNKNOWN}
        return {content: np.array(self.embeddings[row]) for content, row in rows.items() if row is not None}

    def insert(
        self, facts: Sequence[Facts], contents: Sequence[str], vectors: Float[Tensor, "items dim"], *, keep: bool = True
    ) -> int:
        """See `Index`."""
        with alone(self.folder):
            self._refresh()
            new = [at for at, fact in enumerate(facts) if not keep or str(fact["id"]) not in self._rows]
            if not new:
                return 0
            facts, rows = [facts[at] for at in new], vectors[new].detach().float().cpu()
            require_finite(facts, rows)
            columns, names = merged_columns(self.columns, facts), [str(fact["id"]) for fact in facts]
            gone = [self._rows[name] for name in names if name in self._rows]
            lines, digests = [_line(fact) for fact in facts], [bytes.fromhex(contents[at]) for at in new]
            files = self._pages.append(
                {
                    EMBEDDINGS: rows.numpy().astype("<f4").tobytes(),
                    ITEMS: b"".join(lines),
                    CONTENTS: b"".join(digests),
                    REMOVED: np.array(gone, dtype="<i8").tobytes(),
                }
            )
            holders, places = self._holders, range(len(self._lines), len(self._lines) + len(new))
            self._commit(lines, removed=len(gone), columns=columns, files=files)
            self._rows.update(zip(names, places, strict=True))
            holders.update(zip(digests, places, strict=True))
        return len(new)

    def remove(self, ids: Collection[str]) -> int:
        """See `Index`. The space is given back when the index is built again."""
        with alone(self.folder):
            self._refresh()
            gone = {name: self._rows[name] for name in ids if name in self._rows}
            if gone:
                files = self._pages.append({REMOVED: np.array(sorted(gone.values()), dtype="<i8").tobytes()})
                self._commit([], removed=len(gone), files=files)
            for name in gone:
                del self._rows[name]
        return len(gone)

    def _commit(self, lines: list[bytes], *, removed: int, **changed: Any) -> None:
        """What was written counts from here on."""
        count = len(self._lines) + len(lines)
        content = {**self._config, **changed, "count": count, "removed": self._config["removed"] + removed}
        self._pages.write_header(header(count, self.dim))
        replace_config(self.folder, content)
        self._take(self._read(), [*self._pages.items.lines, *lines])

    def tune(self, recall: float, *, top: int = 10, queries: int = 200, seed: int = 0) -> Mapping[str, Any]:  # noqa: ARG002
        """Nothing is to be tuned: every item is compared."""
        return self.recall

    def check(self) -> list[str]:
        """See `Index`."""
        wrong = self._pages.damages(everything=True)
        names = [str(self._lines[at]["id"]) for at in self._live.tolist()] if not wrong else []
        if len(set(names)) < len(names):
            wrong.append(f"{self.folder / ITEMS}: {len(names) - len(set(names))} names appear in it twice.")
        return wrong

    def sample(self, count: int, seed: int) -> Float[Tensor, "sample dim"]:
        """See `Index`."""
        sampled = np.random.default_rng(seed).permutation(len(self._live))[:count]
        return torch.from_numpy(np.array(self.embeddings[np.sort(self._live[sampled])]))


def _line(fact: Facts) -> bytes:
    return (json.dumps(dict(fact), ensure_ascii=False) + "\n").encode()


def _counted(batches: Iterator[Tensor], count: int, progress: Callable[[int, int], None] | None) -> Iterator[Tensor]:
    done = 0
    for rows in batches:
        yield rows
        done += len(rows)
        if progress is not None:
            progress(done, count)


def _write_embeddings(path: Path, batches: Iterable[Tensor], shape: tuple[int, int], facts: Sequence[Facts]) -> None:
    done = 0
    with path.open("wb") as file:
        file.write(header(*shape))
        for rows in batches:
            require_finite(facts[done:], rows)
            file.write(rows.numpy().astype("<f4").tobytes())
            done += len(rows)
    if done != shape[0]:
        raise wrong_facts(f"There are {done} embeddings, but {shape[0]} entries of `facts`")
