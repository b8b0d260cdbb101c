"""Many writers on many machines: a table of PostgreSQL with pgvector."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar
from weakref import finalize

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from tuplet.errors import IndexFormatError
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
from tuplet.index.database import checked_address, checked_name, connected, psycopg, unreachable
from tuplet.index.rows import INDEXED_FROM, SPARE, facts_text, least_effort, measured_recall, ranked, row_sum
from tuplet.index.writing import LOCK, MODEL, model_folder, read_config, require_model
from tuplet.models import Embedder
from tuplet.storage import replaced_folder, write_json
from tuplet.types import GeometryName

_FIELDS: dict[str, type] = {"database": str, "table": str}
_OPERATORS = {"cosine": "<=>", "dot": "<#>", "euclidean": "<->", "squared_euclidean": "<->"}
_CLASSES = {"<=>": "vector_cosine_ops", "<#>": "vector_ip_ops", "<->": "vector_l2_ops"}
_LONGEST_INDEXED = 2000
"""Longest vector that pgvector's graph takes; longer ones are compared with all."""
_EFFORTS = (10, 14, 20, 28, 40, 56, 80, 113, 160, 226, 320, 452, 640, 1000)
_READ = "number, id, content, facts, checksum, vector"
_AT_ONCE = 10_000  # rows read from the server


class PostgresIndex:
    """Items in a table of PostgreSQL, with pgvector; any number of processes may write at once.

    The folder names the database and the table and holds a copy of the model; folders on other machines may name the
    same table. A transaction for each call: what `insert` has returned of is there, `id` is unique in the table. From
    10,000 items on, `tune` makes a graph (HNSW), and a search looks at as many candidates as reach the recall that was
    asked for. Each item has a checksum, compared when the item is found, and by `check` for all. Passwords are left to
    PostgreSQL's own means (`~/.pgpass`, PGPASSWORD) and stand in no file here.

    Args:
        folder: Where `create` put the index.
        trust: Import the class that the model names, if its encoder is of the kind `callable`.

    Raises:
        IndexFormatError: If the table cannot be reached, or was made by another model.
        MissingExtraError: If psycopg or pgvector is not installed.
    """

    backend: ClassVar[str] = "postgres"

    def __init__(self, folder: Path | str, *, trust: bool = False) -> None:
        self.folder = Path(folder)
        self._trust = trust
        content = read_config(self.folder, _FIELDS)
        self.geometry: GeometryName = content["geometry"]
        self.dim: int = content["dim"]
        self.model_hash: str = content["model_hash"]
        self._database, self._table = str(content["database"]), checked_name(content["table"])
        self._model = model_folder(self.folder, content["model"])
        require_model(self._model, self.model_hash)
        self._connection = connected(self._database)
        finalize(self, self._connection.close)
        self._require_own_table()

    @classmethod
    def create(cls, folder: Path | str, embedder: Embedder, *, database: str, table: str = "items") -> "PostgresIndex":
        """An index in a table that is made, or is there and was made by the same model.

        Args:
            folder: Where the description and a copy of the model go.
            embedder: The model.
            database: `postgresql://USER@HOST:PORT/NAME`, without a password.
            table: Name of the table: letters, digits and underscores.

        Raises:
            IndexFormatError: If the database cannot be reached, or the table was made by another model.
            DataError: If the address holds a password, or the table has no plain name.
        """
        database, table = checked_address(database), checked_name(table)
        connection = connected(database)
        facts = (embedder.content_hash(), embedder.geometry, embedder.dim)
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('tuplet'))")  # others may do the same now
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            connection.execute(_ABOUT)
            connection.execute(
                f"CREATE TABLE IF NOT EXISTS {table} (number bigserial PRIMARY KEY, id text UNIQUE NOT NULL, "
                f"content text NOT NULL, facts text NOT NULL, known jsonb NOT NULL, checksum text NOT NULL, "
                f"vector vector({int(embedder.dim)}) NOT NULL)"
            )
            connection.execute(f"CREATE INDEX IF NOT EXISTS {table}_content ON {table} (content)")
            connection.execute(
                "INSERT INTO tuplet_indexes VALUES (%s, %s, %s, %s) ON CONFLICT (name) DO NOTHING", (table, *facts)
            )
        connection.close()
        with replaced_folder(folder, owns={CONFIG, MODEL, LOCK}, error=IndexFormatError) as new:
            embedder.save(new / MODEL)
            content = {
                "backend": cls.backend,
                "model": MODEL,
                "model_hash": embedder.content_hash(),
                "geometry": embedder.geometry,
                "dim": embedder.dim,
                "database": database,
                "table": table,
            }
            write_json(new / CONFIG, content, version=FORMAT, seal=True)
        return cls(folder)

    def _require_own_table(self) -> None:
        try:
            row = self._about("model_hash, dim")
        except psycopg().Error as problem:
            raise unreachable(self._database, problem) from problem
        if row is None or (row[0], row[1]) != (self.model_hash, self.dim):
            made = "is not there" if row is None else f"was made by another model (hash {row[0][:8]})"
            raise IndexFormatError(
                f"The table {self._table} of {self._database} {made}; this index has the model {self.model_hash[:8]}.",
                hint="Name another table (--table NAME), or the model that made this one.",
                reference="wrong-model",
            )

    def _about(self, columns: str) -> Any:
        query = f"SELECT {columns} FROM tuplet_indexes WHERE name = %s"
        return self._connection.execute(query, (self._table,)).fetchone()

    def __len__(self) -> int:
        return int(self._connection.execute(f"SELECT count(*) FROM {self._table}").fetchone()[0])

    @property
    def columns(self) -> Mapping[str, ColumnKind]:
        """See `Index`."""
        return dict(map(tuple, self._about("columns")[0]))

    @property
    def recall(self) -> Mapping[str, Any]:
        """See `Index`."""
        return self._about("recall")[0] or {"measured": 1.0, "exact": True}

    @property
    def items(self) -> Iterator[Facts]:
        """See `Index`."""
        return (json.loads(row["facts"]) for row in self._rows())

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
        values: list[Any] = []
        condition = "TRUE" if where is None else self._sql(where, values)
        rows, effort = vectors.detach().float().cpu(), self.recall.get("candidates")
        return hits_of(
            [self._nearest(row, top, condition, values, None if exact else effort) for row in rows],
            top,
            len(rows),
            names,
        )

    def _nearest(
        self, query: Tensor, top: int, condition: str, values: Sequence[Any], effort: int | None
    ) -> list[tuple[int, float, Facts]]:
        operator, count = _OPERATORS[self.geometry], top + SPARE
        command = f"SELECT {_READ} FROM {self._table} WHERE {condition} ORDER BY vector {operator} %s LIMIT %s"
        with self._connection.transaction():
            if effort is None:
                self._connection.execute("SET LOCAL enable_indexscan = off")
            else:
                self._connection.execute(f"SET LOCAL hnsw.ef_search = {min(1000, max(int(effort), count))}")
                self._connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")  # filters leave enough
            found = self._connection.execute(command, (*values, query.numpy(), count)).fetchall()
        rows = [self._sound(row) for row in found]
        return ranked(query, [(row["number"] - 1, row["vector"], row["facts"]) for row in rows], self.geometry, top)

    def _sound(self, row: Sequence[Any]) -> dict[str, Any]:
        found = _as_row(row)
        if not _is_sound(found):
            raise damaged(f"{self._table} of {self._database}", f"the item {found['id']!r} is not what was written")
        return found

    def _sql(self, where: str, values: list[Any]) -> str:
        columns, names = self.columns, []

        def column(name: str) -> str:
            names.append(name)
            values.append(name)
            return "(known->>%s)::float8" if columns[name] == "number" else '((known->>%s) COLLATE "C")'

        def value(one: filters.Value) -> str:
            values.append(one)
            return "%s"

        return filters.to_sql(filters.parse(where, columns), column, value)

    def known(self, ids: Sequence[str]) -> dict[str, str]:
        """See `Index`."""
        query = f"SELECT id, content FROM {self._table} WHERE id = ANY(%s)"
        return dict(self._connection.execute(query, (list(ids),)).fetchall())

    def vectors_of(self, contents: Collection[str]) -> dict[str, NDArray[np.float32]]:
        """See `Index`."""
        query = f"SELECT DISTINCT ON (content) content, vector FROM {self._table} WHERE content = ANY(%s)"
        found = self._connection.execute(query, (list(contents),)).fetchall()
        return {content: _floats(vector) for content, vector in found}

    def insert(
        self, facts: Sequence[Facts], contents: Sequence[str], vectors: Float[Tensor, "items dim"], *, keep: bool = True
    ) -> int:
        """See `Index`."""
        rows = vectors.detach().float().cpu()
        require_finite(facts, rows)
        given = []
        for fact, content, row in zip(facts, contents, rows.numpy(), strict=True):
            name, text = str(fact["id"]), facts_text(fact)
            given.append((name, content, text, text, row_sum(name, content, text, row), row))
        given.sort(key=lambda row: row[0])  # writers that lock names in one order never wait for each other in a circle
        others = "SET content = excluded.content, facts = excluded.facts, known = excluded.known, checksum = "
        otherwise = "NOTHING" if keep else f"UPDATE {others} excluded.checksum, vector = excluded.vector"
        command = (
            f"INSERT INTO {self._table} (id, content, facts, known, checksum, vector) "
            f"VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (id) DO {otherwise}"
        )
        try:
            with self._connection.transaction(), self._connection.cursor() as cursor:
                self._widen(facts)
                cursor.executemany(command, given)
                return int(cursor.rowcount)
        except psycopg().OperationalError as problem:
            raise unreachable(self._database, problem) from problem

    def _widen(self, facts: Sequence[Facts]) -> None:
        """Note the columns that are new; two writers that bring one wait for each other."""
        columns = self.columns
        if merged_columns(columns, facts) != columns:
            self._about_locked()
            merged = merged_columns(self.columns, facts)
            command = "UPDATE tuplet_indexes SET columns = %s WHERE name = %s"
            self._connection.execute(command, (json.dumps(list(merged.items())), self._table))

    def _about_locked(self) -> None:
        self._connection.execute("SELECT 1 FROM tuplet_indexes WHERE name = %s FOR UPDATE", (self._table,))

    def remove(self, ids: Collection[str]) -> int:
        """See `Index`."""
        return int(self._connection.execute(f"DELETE FROM {self._table} WHERE id = ANY(%s)", (list(ids),)).rowcount)

    def tune(self, recall: float, *, top: int = 10, queries: int = 200, seed: int = 0) -> Mapping[str, Any]:
        """See `Index`; makes the graph where there is none."""
        reached: dict[str, Any] = {"asked": recall, "measured": 1.0, "exact": True}
        if len(self) >= INDEXED_FROM and self.dim <= _LONGEST_INDEXED:
            kind = _CLASSES[_OPERATORS[self.geometry]]
            self._connection.execute(
                f"CREATE INDEX IF NOT EXISTS {self._table}_vector ON {self._table} USING hnsw (vector {kind}) "
                "WITH (m = 16, ef_construction = 128)"
            )
            self._connection.execute(f"ANALYZE {self._table}")
            candidates, found = least_effort(
                _EFFORTS, recall, lambda effort: self._measured(effort, top, queries, seed)
            )
            reached = {"asked": recall, **found, "candidates": candidates, "exact": False}
        self._set_recall(reached)
        return self.recall

    def _measured(self, candidates: int, top: int, queries: int, seed: int) -> Mapping[str, Any]:
        self._set_recall({"candidates": candidates})
        return measured_recall(self, top=top, queries=queries, seed=seed)

    def _set_recall(self, reached: Mapping[str, Any]) -> None:
        command = "UPDATE tuplet_indexes SET recall = %s WHERE name = %s"
        self._connection.execute(command, (json.dumps(reached), self._table))

    def check(self) -> list[str]:
        """See `Index`."""
        return [
            f"{self._table} of {self._database}: the item {row['id']!r} is not what was written."
            for row in self._rows()
            if not _is_sound(row)
        ]

    def _rows(self) -> Iterator[dict[str, Any]]:
        """All rows by their numbers, some at a time."""
        last = -1
        while True:
            command = f"SELECT {_READ} FROM {self._table} WHERE number > %s ORDER BY number LIMIT {_AT_ONCE}"
            found = [_as_row(row) for row in self._connection.execute(command, (last,)).fetchall()]
            if not found:
                return
            yield from found
            last = found[-1]["number"]

    def sample(self, count: int, seed: int) -> Float[Tensor, "sample dim"]:
        """See `Index`."""
        command = f"SELECT vector FROM {self._table} ORDER BY md5(number::text || %s) LIMIT %s"
        found = self._connection.execute(command, (str(seed), count)).fetchall()
        rows = np.stack([_floats(row[0]) for row in found]) if found else np.empty((0, self.dim), dtype=np.float32)
        return torch.from_numpy(rows)


_ABOUT = """CREATE TABLE IF NOT EXISTS tuplet_indexes (name text PRIMARY KEY, model_hash text NOT NULL,
geometry text NOT NULL, dim integer NOT NULL,
columns jsonb NOT NULL DEFAULT '[]', recall jsonb NOT NULL DEFAULT '{}')"""


def _as_row(row: Sequence[Any]) -> dict[str, Any]:
    found = dict(zip(_READ.split(", "), row, strict=True))
    found["vector"] = _floats(found["vector"])
    return found


def _is_sound(row: Mapping[str, Any]) -> bool:
    return bool(row["checksum"] == row_sum(row["id"], row["content"], row["facts"], row["vector"]))


def _floats(vector: Any) -> NDArray[np.float32]:
    return np.asarray(vector.to_numpy() if hasattr(vector, "to_numpy") else vector, dtype=np.float32)
