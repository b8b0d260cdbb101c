"""An index of each kind."""

import pytest

from tuplet import index as indexes


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
