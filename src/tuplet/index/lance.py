"""An embedded store that grows, deletes and filters: LanceDB."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tuplet.errors import IndexFormatError, MissingExtraError
from tuplet.index import where as filters
from tuplet.index.base import (
    CONFIG,
    FORMAT,
    ColumnKind,
    Facts,
    Hits,
    damaged,
    hits_of,
    merged_columns,
    require_finite,
    require_queries,
)
from tuplet.index.rows import INDEXED_FROM, SPARE, facts_text, least_effort, measured_recall, ranked, row_sum
from tuplet.index.writing import LOCK, MODEL, alone, model_folder, read_config, replace_config, require_model
from tuplet.models import Embedder
from tuplet.storage import replaced_folder, write_json
from tuplet.types import GeometryName

_STORE, _TABLE = "items.lance", "items"
_FIELDS: dict[str, type] = {"columns": dict, "recall": dict}
_METRICS = {"cosine": "cosine", "dot": "dot", "euclidean": "l2", "squared_euclidean": "l2"}
_MOST_NAMES = 1000  # in one condition
_READ = ["number", "id", "facts", "vector", "content", "checksum"]


class LanceIndex:
    """Items in a LanceDB table, one version for each change: a process that dies leaves the version before.

    From 10,000 items on, a search looks at those partitions that are nearest to the query (IVF, embeddings unchanged),
    as many as `tune` found to reach the recall that was asked for, 0.95 unless said otherwise. Items added since the
    partitions were made are compared one by one. Each item has a checksum, compared when the item is found, and by
    `check` for all.

    Args:
        folder: Where `create` put the index.
        trust: Import the class that the model names, if its encoder is of the kind `callable`.

    Raises:
        IndexFormatError: If it cannot be read, is damaged, or was made by another model.
        MissingExtraError: If LanceDB is not installed.
    """

    backend: ClassVar[str] = "lance"

    def __init__(self, folder: Path | str, *, trust: bool = False) -> None:
        self.folder = Path(folder)
        self._trust = trust
        self._config = content = read_config(self.folder, _FIELDS)
        self.geometry: GeometryName = content["geometry"]
        self.dim: int = content["dim"]
        self.model_hash: str = content["model_hash"]
        self._next = (-1, 0)  # version of the table, and the number of the next item in it
        self._model = model_folder(self.folder, content["model"])
        require_model(self._model, self.model_hash)
        try:
            self._table = _lancedb().connect(self.folder / _STORE).open_table(_TABLE)
        except (OSError, ValueError, RuntimeError) as problem:
            raise damaged(self.folder / _STORE, str(problem).partition("\n")[0]) from problem

    @classmethod
    def create(cls, folder: Path | str, embedder: Embedder) -> "LanceIndex":
        """An index without items, with a copy of the model.

        Raises:
            IndexFormatError: If the folder holds other files or cannot be written.
            MissingExtraError: If LanceDB is not installed.
        """
        owns, lancedb = {CONFIG, _STORE, MODEL, LOCK}, _lancedb()
        with replaced_folder(folder, owns=owns, error=IndexFormatError) as new:
            embedder.save(new / MODEL)
            lancedb.connect(new / _STORE).create_table(_TABLE, schema=_schema(embedder.dim))
            content = {
                "backend": cls.backend,
                "model": MODEL,
                "model_hash": embedder.content_hash(),
                "geometry": embedder.geometry,
                "dim": embedder.dim,
                "columns": {},
                "recall": {},
            }
            write_json(new / CONFIG, content, version=FORMAT, seal=True)
        return cls(folder)

    def __len__(self) -> int:
        return int(self._table.count_rows())

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        """See `Index`."""
        return self._config["columns"]

    @property
    def recall(self) -> Mapping[str, Any]:
        """See `Index`."""
        return self._config["recall"] or {"measured": 1.0, "exact": True}

    @property
    def items(self) -> Iterator[Facts]:
        """See `Index`."""
        for batch in self._batches(["number", "facts"]):
            yield from map(json.loads, batch["facts"].to_pylist())

    @cached_property
    def embedder(self) -> Embedder:
        """The model that made the embeddings, and makes those of queries."""
        return Embedder.load(self._model, trust=self._trust)

    def search(
        self,
        vectors: Float[Tensor, "queries dim"],
        top: int = 10,
        *,
        names: Sequence[str] | None = None,
        where: str | None = None,
        exact: bool = False,
    ) -> Hits:
        """See `Index`."""
        require_queries(vectors, self.dim, names)
        condition = None if where is None else self._sql(where)
        rows = vectors.detach().float().cpu()
        found = [self._nearest(row, top, condition, exact) for row in rows]
        return hits_of(found, top, len(rows), names)

    def _nearest(self, query: Tensor, top: int, condition: str | None, exact: bool) -> list[tuple[int, float, Facts]]:
        asked = self._table.search(query.numpy(), vector_column_name="vector").distance_type(_METRICS[self.geometry])
        partitions = self._config["recall"].get("partitions")
        asked = asked.bypass_vector_index() if exact or not partitions else asked.nprobes(partitions)
        if condition is not None:
            asked = asked.where(condition, prefilter=True)
        rows = asked.select([*_READ, "_distance"]).limit(top + SPARE).to_arrow()
        return ranked(
            query, [(row["number"], row["vector"], row["facts"]) for row in self._sound(rows)], self.geometry, top
        )

    def _sound(self, rows: Any) -> list[dict[str, Any]]:
        """Rows of a table, compared with their checksums."""
        found = _as_rows(rows, self.dim)
        for row in found:
            if row["checksum"] != row_sum(row["id"], row["content"], row["facts"], row["vector"]):
                raise damaged(self.folder / _STORE, f"the item {row['id']!r} is not what was written")
        return found

    def _sql(self, where: str) -> str:
        places = {name: f"c{at}" for at, name in enumerate(self.columns)}
        return filters.to_sql(filters.parse(where, self.columns), places.__getitem__, _literal)

    def known(self, ids: Sequence[str]) -> dict[str, str]:
        """See `Index`."""
        return {row["id"]: row["content"] for row in self._having("id", ids, ["id", "content"])}

    def vectors_of(self, contents: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """See `Index`."""
        return {row["content"]: row["vector"] for row in self._having("content", contents, ["content", "vector"])}

    def _having(self, column: str, values: Collection[str], read: list[str]) -> list[dict[str, Any]]:
        """Rows in whose column one of some values stands."""
        wanted, found = list(values), []
        for start in range(0, len(wanted), _MOST_NAMES):
            among = ", ".join(map(_literal, wanted[start : start + _MOST_NAMES]))
            rows = self._table.search().where(f"{column} IN ({among})").select(read).limit(len(self) + 1).to_arrow()
            found += _as_rows(rows, self.dim)
        return found

    def insert(
        self, facts: Sequence[Facts], contents: Sequence[str], vectors: Float[Tensor, "items dim"], *, keep: bool = True
    ) -> int:
        """See `Index`."""
        with alone(self.folder):
            self._refresh()
            there = self.known([str(fact["id"]) for fact in facts])
            new = [at for at, fact in enumerate(facts) if not keep or str(fact["id"]) not in there]
            if not new:
                return 0
            facts, rows = [facts[at] for at in new], vectors[new].detach().float().cpu()
            require_finite(facts, rows)
            self._widen(merged_columns(self.columns, facts))
            batch = self._batch(facts, [contents[at] for at in new], rows.numpy())
            if there.keys() & {str(fact["id"]) for fact in facts}:  # rows whose name is there give way to the new ones
                self._table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(batch)
            else:
                self._table.add(batch)  # one version for all of it
            self._next = (self._table.version, self._next[1] + len(new))
        return len(new)

    def remove(self, ids: Collection[str]) -> int:
        """See `Index`."""
        with alone(self.folder):
            self._refresh()
            there = list(self.known(list(ids)))
            for start in range(0, len(there), _MOST_NAMES):
                self._table.delete(f"id IN ({', '.join(map(_literal, there[start : start + _MOST_NAMES]))})")
        return len(there)

    def _refresh(self) -> None:
        """Another process may have written."""
        self._table.checkout_latest()
        self._config = read_config(self.folder, _FIELDS)

    def _widen(self, columns: Mapping[str, ColumnKind]) -> None:
        """Add the columns that are new; a process that died may have left one behind, empty."""
        import pyarrow as pa

        added = list(columns.items())[len(self.columns) :]
        for at, (_, kind) in enumerate(added, start=len(self.columns)):
            if f"c{at}" in self._table.schema.names:
                self._table.drop_columns([f"c{at}"])
            self._table.add_columns(pa.field(f"c{at}", pa.string() if kind == "text" else pa.float64()))
        if added:
            replace_config(self.folder, {**self._config, "columns": dict(columns)})
            self._config = read_config(self.folder, _FIELDS)

    def _batch(self, facts: Sequence[Facts], contents: Sequence[str], vectors: NDArray[np.float32]) -> Any:
        import pyarrow as pa

        names, texts = [str(fact["id"]) for fact in facts], [facts_text(fact) for fact in facts]
        if self._next[0] != self._table.version:  # another process may have written
            numbers = self._table.search().select(["number"]).limit(len(self) + 1).to_arrow()["number"].to_numpy()
            self._next = (self._table.version, int(numbers.max()) + 1 if len(numbers) else 0)
        first = self._next[1]
        columns: dict[str, Any] = {
            "number": np.arange(first, first + len(facts)),
            "id": names,
            "content": list(contents),
            "facts": texts,
            "checksum": [row_sum(*row) for row in zip(names, contents, texts, vectors, strict=True)],
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), self.dim),
        }
        for at, name in enumerate(self.columns):
            columns[f"c{at}"] = [fact.get(name) for fact in facts]
        return pa.table({name: columns[name] for name in self._table.schema.names}, schema=self._table.schema)

    def _batches(self, columns: list[str]) -> Iterator[Any]:
        """All rows, in the order of their numbers where `number` is read."""
        rows = self._table.search().select(columns).limit(len(self) + 1).to_arrow()
        yield from (rows.sort_by("number") if "number" in columns else rows).to_batches()

    def tune(self, recall: float, *, top: int = 10, queries: int = 200, seed: int = 0) -> Mapping[str, Any]:
        """See `Index`; makes the partitions anew."""
        with alone(self.folder):
            self._refresh()
            reached: dict[str, Any] = {"asked": recall, "measured": 1.0, "exact": True}
            if len(self) >= INDEXED_FROM:
                from lancedb.index import IvfFlat

                count = max(1, round(2 * len(self) ** 0.5))
                kind = IvfFlat(distance_type=_METRICS[self.geometry], num_partitions=count)
                self._table.create_index("vector", config=kind, replace=True)
                efforts = sorted({min(count, round(1.3**step)) for step in range(40)})
                partitions, found = least_effort(efforts, recall, lambda n: self._measured(n, top, queries, seed))
                reached = {"asked": recall, **found, "partitions": partitions, "of": count, "exact": False}
            self._table.optimize(cleanup_older_than=timedelta(days=1))
            replace_config(self.folder, {**self._config, "recall": reached})
            self._config = read_config(self.folder, _FIELDS)
        return self.recall

    def _measured(self, partitions: int, top: int, queries: int, seed: int) -> Mapping[str, Any]:
        self._config = {**self._config, "recall": {"partitions": partitions}}
        return measured_recall(self, top=top, queries=queries, seed=seed)

    def check(self) -> list[str]:
        """See `Index`."""
        wrong, seen = [], set()
        try:
            for batch in self._batches(_READ):
                for row in _as_rows(batch, self.dim):
                    if row["id"] in seen:
                        wrong.append(f"{self.folder / _STORE}: {row['id']!r} stands in it twice.")
                    seen.add(row["id"])
                    if row["checksum"] != row_sum(row["id"], row["content"], row["facts"], row["vector"]):
                        wrong.append(f"{self.folder / _STORE}: the item {row['id']!r} is not what was written.")
        except (OSError, RuntimeError, ValueError) as problem:
            wrong.append(f"{self.folder / _STORE} cannot be read: {str(problem).partition(chr(10))[0]}.")
        return wrong

    def sample(self, count: int, seed: int) -> Float[Tensor, "sample dim"]:
        """See `Index`."""
        drawn = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        found = self._table.take_offsets(drawn.tolist()).select(["vector"]).to_arrow()
        return torch.from_numpy(_vectors(found, self.dim))


def _lancedb() -> Any:
    try:
        import lancedb
    except ModuleNotFoundError as problem:
        raise MissingExtraError(
            "An index of the kind lance needs the package lancedb, which is not installed.",
            hint='Type: pip install "tuplet[search]"',
            reference="missing-extra",
        ) from problem
    return lancedb


def _schema(dim: int) -> Any:
    import pyarrow as pa

    texts = [pa.field(name, pa.string()) for name in ("id", "content", "facts", "checksum")]
    return pa.schema([pa.field("number", pa.int64()), *texts, pa.field("vector", pa.list_(pa.float32(), dim))])


def _as_rows(rows: Any, dim: int) -> list[dict[str, Any]]:
    names = [name for name in rows.schema.names if name != "vector"]
    found = rows.select(names).to_pylist() if names else [{} for _ in range(rows.num_rows)]
    if "vector" in rows.schema.names:
        for row, vector in zip(found, _vectors(rows, dim), strict=True):
            row["vector"] = vector
    return found


def _vectors(rows: Any, dim: int) -> NDArray[np.float32]:
    column = rows["vector"]
    column = column.combine_chunks() if hasattr(column, "combine_chunks") else column
    return column.flatten().to_numpy(zero_copy_only=False).reshape(-1, dim).copy()  # arrow's memory is read-only


def _literal(value: str | float) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(float(value))
