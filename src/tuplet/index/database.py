"""The way to a PostgreSQL server."""

import re
from importlib.util import find_spec
from typing import Any
from urllib.parse import urlsplit

from tuplet.errors import DataError, IndexFormatError, MissingExtraError


def psycopg() -> Any:
    """The driver.

    Raises:
        MissingExtraError: If it is not installed.
    """
    missing = next((name for name in ("psycopg", "pgvector") if find_spec(name) is None), None)
    if missing is not None:
        raise MissingExtraError(
            f"An index of the kind postgres needs the package {missing}, which is not installed.",
            extra="postgres",
        )
    import psycopg as driver

    return driver


def connected(database: str) -> Any:
    """A connection that knows vectors, each command a transaction unless said otherwise."""
    driver = psycopg()
    from pgvector.psycopg import register_vector

    try:
        connection = driver.connect(database, autocommit=True, connect_timeout=10)
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        register_vector(connection)
    except driver.Error as problem:
        raise unreachable(database, problem) from problem
    return connection


def unreachable(database: str, problem: Exception) -> IndexFormatError:
    """What to raise when the server refuses."""
    said = str(problem).strip().partition("\n")[0]
    return IndexFormatError(
        f"The database {database} cannot be used: {said}.",
        hint="See that the server runs, that it has the extension vector, and that you may log in: psql ADDRESS",
        reference="database-unreachable",
    )


def checked_address(database: str) -> str:
    """An address without a password."""
    parts = urlsplit(database)
    if parts.scheme not in ("postgresql", "postgres"):
        what, hint = f"{database!r} is not a PostgreSQL address", "Write it so: postgresql://USER@HOST:5432/NAME"
    elif parts.password or "password=" in parts.query:
        what = "The address of the database holds a password, and would stand in the index for all to read"
        hint = "Leave it out, and put the password into ~/.pgpass or PGPASSWORD."
    else:
        return database
    raise DataError(f"{what}.", hint=hint, reference="database-address")


def checked_name(table: str) -> str:
    """A name that needs no quotes."""
    if re.fullmatch(r"[a-z_][a-z0-9_]{0,40}", table):
        return table
    raise DataError(
        f"A table cannot be called {table!r}.",
        hint="Use small letters, digits and underscores, 41 at most, a letter first.",
        reference="database-address",
    )
