"""Many writers on many machines: a table of PostgreSQL with pgvector."""

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
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
from tuplet.index.base import ColumnKind, Facts, merged_columns, require_finite
from tuplet.index.database import checked_address, checked_name, connected, psycopg, unreachable
from tuplet.index.rows import Row, RowIndex, rows_of
from tuplet.index.writing import CONFIG, LOCK, MODEL
from tuplet.models import Embedder
from tuplet.storage import replaced_folder

_OPERATORS = {"cosine": "<=>", "dot": "<#>", "euclidean": "<->", "squared_euclidean": "<->"}
_CLASSES = {"<=>": "vector_cosine_ops", "<#>": "vector_ip_ops", "<->": "vector_l2_ops"}
_LONGEST_INDEXED = 2000
"""Longest vector that pgvector's graph takes; longer ones are compared with all."""
_EFFORTS = (10, 14, 20, 28, 40, 56, 80, 113, 160, 226, 320, 452, 640, 1000)
_READ = ("number", "id", "content", "facts", "checksum", "vector")
_AT_ONCE = 10_000  # rows read from the server


class PostgresIndex(RowIndex):
    """Items in a table of PostgreSQL, with pgvector; any number of processes may write at once.

    The folder names the database and the table and holds a copy of the model; folders on other machines may name the
    same table. A transaction for each call: what `insert` has returned of is there, `id` is unique in the table. A
    search looks at the candidates of a graph (HNSW). Passwords are left to PostgreSQL's own means (`~/.pgpass`,
    PGPASSWORD) and stand in no file here. Arguments and errors are those of `Index`; it is an error too if the table
    cannot be reached.
    """

    backend: ClassVar[str] = "postgres"
    _FIELDS: ClassVar[Mapping[str, type]] = {"database": str, "table": str}
    _EFFORT = "candidates"

    def __init__(self, folder: Path | str, *, trust: bool = False) -> None:
        super().__init__(folder, trust=trust)
        self._database, self._table = str(self._config["database"]), checked_name(self._config["table"])
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
            cls._describe(new, embedder, database=database, table=table)
        return cls(folder)

    def beside(self, embedder: Embedder) -> dict[str, Any]:
        """See `Index`; folders on other machines go on with the table that is there."""
        table = f"{re.sub(r'_[0-9a-f]{8}$', '', self._table)[:32]}_{embedder.content_hash()[:8]}"
        return {"database": self._database, "table": table}

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
    def _place(self) -> str:
        return f"{self._table} of {self._database}"

    def _rows(self, columns: Sequence[str]) -> Iterator[Row]:
        """See `RowIndex`; some at a time."""
        command = f"SELECT {', '.join(columns)} FROM {self._table} WHERE number > %s ORDER BY number LIMIT {_AT_ONCE}"
        last = 0
        while found := [_as_row(columns, row) for row in self._connection.execute(command, (last,)).fetchall()]:
            yield from found
            last = found[-1]["number"] + 1

    def _nearest(self, queries: NDArray[np.float32], count: int, condition: Any, effort: int | None) -> list[list[Row]]:
        where, values = condition
        command = (
            f"SELECT {', '.join(_READ)} FROM {self._table} WHERE {where} "
            f"ORDER BY vector {_OPERATORS[self.geometry]} %s LIMIT %s"
        )
        with self._connection.transaction():
            if effort is None:
                self._connection.execute("SET LOCAL enable_indexscan = off")
            else:
                self._connection.execute(f"SET LOCAL hnsw.ef_search = {min(1000, max(int(effort), count))}")
                self._connection.execute("SET LOCAL hnsw.iterative_scan = strict_order")  # filters leave enough
            found = [self._connection.execute(command, (*values, query, count)).fetchall() for query in queries]
        return [[_as_row(_READ, row) for row in rows] for rows in found]

    def _condition(self, where: str | None) -> tuple[str, list[Any]]:
        """A condition, and the values that stand in it."""
        values: list[Any] = []
        if where is None:
            return "TRUE", values
        columns = self.columns

        def column(name: str) -> str:
            values.append(name)
            return "(known->>%s)::float8" if columns[name] == "number" else '((known->>%s) COLLATE "C")'

        def value(one: filters.Value) -> str:
            values.append(one)
            return "%s"

        return filters.to_sql(filters.parse(where, columns), column, value), values

    def known(self, ids: Sequence[str]) -> dict[str, str]:
        """See `Index`."""
        query = f"SELECT id, content FROM {self._table} WHERE id = ANY(%s)"
        return dict(self._connection.execute(query, (list(ids),)).fetchall())

    def _named(self, ids: Sequence[str]) -> list[Row]:
        query = f"SELECT {', '.join(_READ)} FROM {self._table} WHERE id = ANY(%s)"
        return [_as_row(_READ, row) for row in self._connection.execute(query, (list(ids),)).fetchall()]

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
        given = rows_of(facts, contents, rows.numpy())
        given.sort(key=lambda row: row["id"])  # writers that lock names in one order never wait in a circle
        others = "SET content = excluded.content, facts = excluded.facts, known = excluded.known, checksum = "
        otherwise = "NOTHING" if keep else f"UPDATE {others} excluded.checksum, vector = excluded.vector"
        command = (
            f"INSERT INTO {self._table} (id, content, facts, known, checksum, vector) "
            "VALUES (%(id)s, %(content)s, %(facts)s::text, %(facts)s::text::jsonb, %(checksum)s, %(vector)s) "
            f"ON CONFLICT (id) DO {otherwise}"
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

    def _tuning(self) -> AbstractContextManager[None]:
        return nullcontext()

    def _structured(self) -> tuple[Sequence[int], dict[str, Any]]:
        if self.dim > _LONGEST_INDEXED:
            return (), {}
        kind = _CLASSES[_OPERATORS[self.geometry]]
        self._connection.execute(
            f"CREATE INDEX IF NOT EXISTS {self._table}_vector ON {self._table} USING hnsw (vector {kind}) "
            "WITH (m = 16, ef_construction = 128)"
        )
        self._connection.execute(f"ANALYZE {self._table}")
        return _EFFORTS, {}

    def _reached(self, recall: dict[str, Any]) -> None:
        command = "UPDATE tuplet_indexes SET recall = %s WHERE name = %s"
        self._connection.execute(command, (json.dumps(recall), self._table))

    def sample(self, count: int, seed: int) -> Float[Tensor, "sample dim"]:
        """See `Index`."""
        command = f"SELECT vector FROM {self._table} ORDER BY md5(number::text || %s) LIMIT %s"
        found = self._connection.execute(command, (str(seed), count)).fetchall()
        rows = np.stack([_floats(row[0]) for row in found]) if found else np.empty((0, self.dim), dtype=np.float32)
        return torch.from_numpy(rows)


_ABOUT = """CREATE TABLE IF NOT EXISTS tuplet_indexes (name text PRIMARY KEY, model_hash text NOT NULL,
geometry text NOT NULL, dim integer NOT NULL,
columns jsonb NOT NULL DEFAULT '[]', recall jsonb NOT NULL DEFAULT '{}')"""


def _as_row(columns: Sequence[str], row: Sequence[Any]) -> Row:
    found = dict(zip(columns, row, strict=True))
    found["number"] -= 1  # the server counts from 1
    return found if "vector" not in found else {**found, "vector": _floats(found["vector"])}


def _floats(vector: Any) -> NDArray[np.float32]:
    return np.asarray(vector.to_numpy() if hasattr(vector, "to_numpy") else vector, dtype=np.float32)
