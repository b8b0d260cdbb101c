"""Exact search over one memory-mapped array."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, overload

import numpy as np
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tuplet.data import Dataset, Manifest
from tuplet.engine.topk import topk
from tuplet.errors import DataError, IndexFormatError, ShapeError
from tuplet.index.base import CONFIG, FORMAT, REMEDY, Hits
from tuplet.models import Embedder
from tuplet.models.embedder import saved_hash
from tuplet.storage import read_json, replaced_folder, write_json

_EMBEDDINGS, _ITEMS, _MODEL = "embeddings.npy", "items.jsonl", "model"
_BLOCK = 65536  # rows written at once
_FIELDS: dict[str, type] = {"model": str, "model_hash": str, "geometry": str, "dim": int, "count": int}

Facts = Sequence[Mapping[str, Any]]
"""What is known of each item: `id`, and anything else that is JSON."""


class FlatIndex:
    """Embeddings in one `.npy`, compared with every query.

    The folder holds `index.json`, `embeddings.npy` (float32), `items.jsonl` (one item per line) and the model, or names
    the folder of the model.

    Args:
        folder: Where `build` or `write` put the index.

    Raises:
        IndexFormatError: If files are missing, cut short, of an unknown format, or made by another model.
        CheckpointError: If the model that belongs to the index cannot be read.
    """

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        content = _read_config(self.folder)
        self.geometry = content["geometry"]
        self.dim = content["dim"]
        self.embeddings = _read_embeddings(self.folder / _EMBEDDINGS, (content["count"], content["dim"]))
        self.items: Sequence[Mapping[str, Any]] = _Items.read(self.folder / _ITEMS, content["count"])
        self._model = _model_folder(self.folder, content["model"])
        _require_model(self._model, content["model_hash"])

    @classmethod
    def build(
        cls,
        folder: Path | str,
        embedder: Embedder,
        items: Any,
        *,
        facts: Facts | None = None,
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
        facts = _facts(items) if facts is None else facts
        batches = _counted(embedder.stream(items, batch_size=batch_size), len(facts), progress)
        return cls._write(Path(folder), embedder, batches, facts, model)

    @classmethod
    def write(
        cls,
        folder: Path | str,
        embedder: Embedder,
        embeddings: Float[Tensor, "n dim"],
        facts: Facts,
        *,
        model: str | None = None,
    ) -> "FlatIndex":
        """Write an index of embeddings that `embedder` has made already; see `build`.

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
        return cls._write(Path(folder), embedder, batches, facts, model)

    @classmethod
    def _write(
        cls, folder: Path, embedder: Embedder, batches: Iterable[Tensor], facts: Facts, model: str | None
    ) -> "FlatIndex":
        if not facts:
            raise DataError("There is nothing to index.", hint="Name at least one item.", reference="empty-index")
        if not all("id" in fact for fact in facts):
            raise _wrong_facts("Some items have no `id`")
        model_hash = embedder.content_hash()
        if model is not None:
            _require_model(_model_folder(folder, model), model_hash)
        owns = {CONFIG, _EMBEDDINGS, _ITEMS, _MODEL}
        with replaced_folder(folder, owns=owns, error=IndexFormatError) as new:
            _write_embeddings(new / _EMBEDDINGS, batches, (len(facts), embedder.dim), facts)
            with (new / _ITEMS).open("w", encoding="utf-8") as file:
                file.writelines(json.dumps(dict(fact), ensure_ascii=False) + "\n" for fact in facts)
            if model is None:
                embedder.save(new / _MODEL)
            content = {
                "backend": "flat",
                "model": model or _MODEL,
                "model_hash": model_hash,
                "geometry": embedder.geometry,
                "dim": embedder.dim,
                "count": len(facts),
            }
            write_json(new / CONFIG, content, version=FORMAT)
        return cls(folder)

    def __len__(self) -> int:
        return len(self.embeddings)

    @cached_property
    def embedder(self) -> Embedder:
        """The model that made the embeddings, and makes those of queries."""
        return Embedder.load(self._model)

    def search(
        self, vectors: Float[Tensor, "queries dim"], top: int = 10, *, names: Sequence[str] | None = None
    ) -> Hits:
        """Find the nearest items of each query, exactly.

        Args:
            vectors: Embeddings of the queries, by this index's embedder.
            top: Hits per query, at least 1; at most the size of the index is returned.
            names: Names of the queries; by default their positions.

        Returns:
            The hits, nearest first; equal scores by lower position.

        Raises:
            ShapeError: If the vectors are of another length than those of the index, or `names` of another number.
        """
        if vectors.ndim != 2 or vectors.shape[1] != self.dim or (names is not None and len(names) != len(vectors)):
            raise ShapeError(
                f"The index holds vectors of length {self.dim}; the queries have shape {tuple(vectors.shape)}"
                + (f" and {len(names)} names." if names is not None else "."),
                hint="Embed queries with the embedder of the index: index.embedder.embed(items).",
                reference="query-shape",
            )
        found = topk(vectors, self.embeddings, top, self.geometry)
        ids = tuple(tuple(str(self.items[at]["id"]) for at in row if at >= 0) for row in found.positions.tolist())
        return Hits(found.positions, found.scores, ids, tuple(names or map(str, range(len(vectors)))))


class _Items(Sequence[Mapping[str, Any]]):
    """Lines of JSON, each parsed when it is asked for."""

    def __init__(self, lines: list[bytes]) -> None:
        self._lines = lines

    @classmethod
    def read(cls, path: Path, count: int) -> "_Items":
        lines = _read(path).splitlines()
        if len(lines) != count:
            raise _damaged(path, f"{len(lines)} lines instead of {count}")
        try:
            json.loads(lines[-1])["id"]  # a torn write shows at the end
        except (ValueError, KeyError, TypeError) as problem:
            raise _damaged(path, f"the last line is no item ({problem})") from problem
        return cls(lines)

    @overload
    def __getitem__(self, at: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, at: slice) -> "_Items": ...
    def __getitem__(self, at: int | slice) -> "Mapping[str, Any] | _Items":
        return _Items(self._lines[at]) if isinstance(at, slice) else json.loads(self._lines[at])

    def __len__(self) -> int:
        return len(self._lines)


def _facts(items: Any) -> Facts:
    """What a collection of items says of each of them."""
    if isinstance(items, Dataset | Manifest):
        labels = items.classes if isinstance(items, Dataset) else items.labels
        columns: dict[str, Sequence[str | None]] = {"id": items.ids}
        if labels is not None and items.class_names:
            columns["label"] = [items.class_names[label] if label >= 0 else None for label in labels.tolist()]
        if items.groups is not None:
            columns["group"] = items.groups
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return [{"id": str(item if isinstance(item, str | Path) else row)} for row, item in enumerate(items)]


def _counted(batches: Iterator[Tensor], count: int, progress: Callable[[int, int], None] | None) -> Iterator[Tensor]:
    done = 0
    for rows in batches:
        yield rows
        done += len(rows)
        if progress is not None:
            progress(done, count)


def _model_folder(folder: Path, model: str) -> Path:
    return Path(os.path.normpath(folder / model))  # gallery/../model, also while there is no gallery yet


def _require_model(model: Path, expected: str) -> None:
    if (found := saved_hash(model)) != expected:
        raise IndexFormatError(
            f"The index was made by another model than the one in {model}: "
            f"hash {expected[:8]}, but this model has {found[:8]}.",
            hint=f"Put the right model back. Or: {REMEDY}",
            reference="wrong-model",
        )


def _write_embeddings(path: Path, batches: Iterable[Tensor], shape: tuple[int, int], facts: Facts) -> None:
    header = {"descr": "<f4", "fortran_order": False, "shape": shape}
    done = 0
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for rows in batches:
            broken = (~rows.isfinite().all(1)).nonzero()[:, 0].tolist()
            if broken:
                raise DataError(
                    f"The embedding of {facts[done + broken[0]]['id']!r} holds NaN or infinity.",
                    hint="Look at this item; if it is sound, the model has diverged.",
                    reference="non-finite-embeddings",
                )
            file.write(rows.numpy().astype("<f4").tobytes())
            done += len(rows)
    if done != shape[0]:
        raise _wrong_facts(f"There are {done} embeddings, but {shape[0]} entries of `facts`")


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / CONFIG
    content = read_json(path, version=FORMAT, error=IndexFormatError, remedy=REMEDY)
    wrong = [name for name, kind in _FIELDS.items() if not isinstance(content.get(name), kind)]
    if wrong:
        raise _damaged(path, f"{', '.join(map(repr, wrong))} missing or of the wrong kind")
    return content


def _read_embeddings(path: Path, shape: tuple[int, int]) -> NDArray[np.float32]:
    expected = 4 * shape[0] * shape[1]
    try:
        with path.open("rb") as file:
            np.lib.format.read_magic(file)
            found, fortran, dtype = np.lib.format.read_array_header_1_0(file)
            size = path.stat().st_size - file.tell()
        if size != expected:
            raise _damaged(path, f"{size} bytes of numbers instead of {expected}")
        if (found, fortran, dtype.str) != (shape, False, "<f4"):
            raise _damaged(path, f"{found} numbers of type {dtype} instead of {shape} of type float32")
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except OSError as problem:
        raise _unreadable(path, problem) from problem
    except ValueError as problem:
        raise _damaged(path, str(problem)) from problem


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as problem:
        raise _unreadable(path, problem) from problem


def _wrong_facts(what: str) -> DataError:
    hint = "Give one entry of `facts` for each item, with an `id`."
    return DataError(f"{what}.", hint=hint, reference="facts-per-item")


def _unreadable(path: Path, problem: OSError) -> IndexFormatError:
    message = f"{path} could not be read: {problem.strerror or problem}."
    return IndexFormatError(message, hint=REMEDY, reference="missing-file")


def _damaged(path: Path, what: str) -> IndexFormatError:
    return IndexFormatError(f"{path} is damaged: {what}.", hint=REMEDY, reference="damaged-file")
