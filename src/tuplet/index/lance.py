"""An embedded store that grows, deletes and filters: LanceDB."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tuplet.errors import IndexFormatError, MissingExtraError
from tuplet.index import where as filters
from tuplet.index.base import ColumnKind, Facts, merged_columns, require_finite
from tuplet.index.rows import INDEXED_FROM, Row, RowIndex, rows_of
from tuplet.index.writing import CONFIG, LOCK, MODEL, alone, damaged
from tuplet.models import Embedder
from tuplet.storage import Lock, replaced_folder

_STORE, _TABLE = "items.lance", "items"
_METRICS = {"cosine": "cosine", "dot": "dot", "euclidean": "l2", "squared_euclidean": "l2"}
_MOST_NAMES = 1000  # in one condition
_AT_ONCE = 64  # queries
_FOUND = ["number", "facts", "vector", "content", "checksum"]  # of each hit: every column is read by itself
_READ = ["number", "id", "facts", "vector", "content", "checksum"]


class LanceIndex(RowIndex):
    """Items in a LanceDB table, one version for each change: a process that dies leaves the version before.

    A search looks at those partitions that are nearest to the query (IVF, embeddings unchanged). Items added since the
    partitions were made are compared one by one. Arguments and errors are those of `Index`.
    """

    backend: ClassVar[str] = "lance"
    _FIELDS: ClassVar[Mapping[str, type]] = {"columns": dict, "recall": dict}
    _EFFORT = "partitions"
    _PROBLEMS = (OSError, RuntimeError, ValueError)

    def __init__(self, folder: Path | str, *, trust: bool = False) -> None:
        super().__init__(folder, trust=trust)
        self._next = (-1, 0)  # version of the table, and the number of the next item in it
        try:
            self._table = _lancedb().connect(self.folder / _STORE).open_table(_TABLE)
        except self._PROBLEMS as problem:
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
            lancedb.connect(new / _STORE).create_table(_TABLE, schema=_schema(embedder.dim))
            cls._describe(new, embedder, columns={}, recall={})
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
    def _place(self) -> str:
        return str(self.folder / _STORE)

    def _rows(self, columns: Sequence[str]) -> Iterator[Row]:
        rows = self._table.search().select(list(columns)).limit(len(self) + 1).to_arrow()
        for batch in rows.sort_by("number").to_batches():
            yield from _as_rows(batch, self.dim)

    def _nearest(
        self, queries: NDArray[np.float32], count: int, condition: Any, effort: int | None
    ) -> Iterator[list[Row]]:
        for start in range(0, len(queries), _AT_ONCE):  # planning a search costs more than the search of one
            part = queries[start : start + _AT_ONCE]
            asked = self._table.search(part, vector_column_name="vector")
            asked = asked.distance_type(_METRICS[self.geometry])
            asked = asked.nprobes(effort) if effort else asked.bypass_vector_index()
            if condition is not None:
                asked = asked.where(condition, prefilter=True)
            rows = asked.select([*_FOUND, "_distance"]).limit(count).to_arrow()
            found: list[list[Row]] = [[] for _ in part]
            for row in _as_rows(rows, self.dim):
                row["id"] = _name_in(row["facts"])
                found[row.get("query_index", 0)].append(row)  # a query alone has no number
            yield from found

    def _condition(self, where: str | None) -> str | None:
        if where is None:
            return None
        places = {name: f"c{at}" for at, name in enumerate(self.columns)}
        return filters.to_sql(filters.parse(where, self.columns), places.__getitem__, _literal)

    def known(self, ids: Sequence[str]) -> dict[str, str]:
        """See `Index`."""
        return {row["id"]: row["content"] for row in self._having("id", ids, ["id", "content"])}

    def _named(self, ids: Sequence[str]) -> list[Row]:
        return self._having("id", ids, list(_READ))

    def vectors_of(self, contents: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """See `Index`."""
        return {row["content"]: row["vector"] for row in self._having("content", contents, ["content", "vector"])}

    def _having(self, column: str, values: Collection[str], read: list[str]) -> list[Row]:
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
        self._table.checkout_latest()
        super()._refresh()

    def _widen(self, columns: Mapping[str, ColumnKind]) -> None:
        """Add the columns that are new; a process that died may have left one behind, empty."""
        import pyarrow as pa

        added = list(columns.items())[len(self.columns) :]
        for at, (_, kind) in enumerate(added, start=len(self.columns)):
            if f"c{at}" in self._table.schema.names:
                self._table.drop_columns([f"c{at}"])
            self._table.add_columns(pa.field(f"c{at}", pa.string() if kind == "text" else pa.float64()))
        if added:
            self._change(columns=dict(columns))

    def _batch(self, facts: Sequence[Facts], contents: Sequence[str], vectors: NDArray[np.float32]) -> Any:
        import pyarrow as pa

        if self._next[0] != self._table.version:  # another process may have written
            numbers = self._table.search().select(["number"]).limit(len(self) + 1).to_arrow()["number"].to_numpy()
            self._next = (self._table.version, int(numbers.max()) + 1 if len(numbers) else 0)
        first, rows = self._next[1], rows_of(facts, contents, vectors)
        columns: dict[str, Any] = {
            "number": np.arange(first, first + len(facts)),
            **{name: [row[name] for row in rows] for name in ("id", "content", "facts", "checksum")},
            "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), self.dim),
        }
        for at, name in enumerate(self.columns):
            columns[f"c{at}"] = [fact.get(name) for fact in facts]
        return pa.table({name: columns[name] for name in self._table.schema.names}, schema=self._table.schema)

    @contextmanager
    def _tuning(self) -> Iterator[None]:
        with alone(self.folder):
            self._refresh()
            yield

    def _structured(self) -> tuple[Sequence[int], dict[str, Any]]:
        from lancedb.index import IvfFlat

        self._optimize()  # before, as it moves rows
        count = max(1, round(2 * len(self) ** 0.5))
        # a number of partitions in the place of their size would be forgotten: `_optimize` joined them to large ones
        kind = IvfFlat(distance_type=_METRICS[self.geometry], target_partition_size=-(-len(self) // count))
        self._table.create_index("vector", config=kind, replace=True)
        return sorted({min(count, round(1.3**step)) for step in range(40)}), {"of": count}

    def _reached(self, recall: dict[str, Any]) -> None:
        self._change(recall=recall)

    def settle(self) -> None:
        """See `Index`. Where another process adds at this moment it is left to that one, whose rows it would move."""
        lock = Lock(self.folder / LOCK)
        if not lock.take():
            return
        try:
            self._refresh()
            found = [self._table.index_stats(one.name) for one in self._table.list_indices()]
            if any(one is not None and one.num_unindexed_rows >= INDEXED_FROM for one in found):
                self._optimize()
        finally:
            lock.give_back()

    def _optimize(self) -> None:
        """Put rows together in few files, and new ones into the partitions; yesterday's versions go."""
        self._table.optimize(cleanup_older_than=timedelta(days=1))

    def sample(self, count: int, seed: int) -> Float[Tensor, "sample dim"]:
        """See `Index`."""
        sampled = np.sort(np.random.default_rng(seed).permutation(len(self))[:count])
        found = self._table.take_offsets(sampled.tolist()).select(["vector"]).to_arrow()
        return torch.from_numpy(_vectors(found, self.dim))


def _lancedb() -> Any:
    try:
        import lancedb
    except ModuleNotFoundError as problem:
        raise MissingExtraError(
            "An index of the kind lance needs the package lancedb, which is not installed.",
            extra="search",
        ) from problem
    return lancedb


def _schema(dim: int) -> Any:
    import pyarrow as pa

    texts = [pa.field(name, pa.string()) for name in ("id", "content", "facts", "checksum")]
    return pa.schema([pa.field("number", pa.int64()), *texts, pa.field("vector", pa.list_(pa.float32(), dim))])


def _as_rows(rows: Any, dim: int) -> list[Row]:
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


def _name_in(facts: str) -> str:
    """The `id` among facts; nothing, which no checksum fits, if they are damaged."""
    try:
        return str(json.loads(facts)["id"])
    except (ValueError, LookupError, TypeError):
        return ""


def _literal(value: str | float) -> str:
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(float(value))
