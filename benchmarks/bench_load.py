"""A server under load: 64 clients that search without a pause, with pictures, items and vectors.

Run `make bench BENCH=benchmarks/bench_load.py`, or with the number of searches behind it. It trains a small run on
glyphs, starts `tuplet serve` on it, and appends a row to `load.csv`: latencies as the clients see them, searches a
second, answers that were no 200 and their statuses, and the memory of the server before, and after each quarter of the
searches: what it keeps per search would show there. Clients and server share the machine; the share of its processor
time that other processes took meanwhile is noted.
"""

import csv
import http.client
import json
import platform
import subprocess
import sys
import tempfile
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import psutil
from PIL import Image

from tuplet import index as indexes

RESULTS = Path(__file__).with_name("load.csv")
CLIENTS, SEARCHES, ROUNDS = 64, 10_000, 4


@dataclass(frozen=True)
class Load:
    """What clients saw: seconds of each answer, statuses that were not 200, and seconds from the first to the last."""

    seconds: Sequence[float]
    errors: Sequence[int]
    took: float

    def percentile(self, share: float) -> float:
        """Seconds below which a share of the answers came."""
        return float(np.quantile(self.seconds, share))


def under_load(address: str, bodies: Sequence[bytes], clients: int, searches: int) -> Load:
    """Search again and again, each client over a connection of its own, all beginning with another of the bodies."""
    place, numbers = urlsplit(address), count()

    def client(_: int) -> tuple[list[float], list[int]]:
        seconds, errors = [], []
        line = http.client.HTTPConnection(place.hostname or "", place.port, timeout=120)
        while (number := next(numbers)) < searches:
            begin = time.perf_counter()
            line.request("POST", "/api/search", bodies[number % len(bodies)], {"Content-Type": "application/json"})
            answer = line.getresponse()
            found = json.loads(answer.read())
            seconds.append(time.perf_counter() - begin)
            if answer.status != 200 or not found["results"][0]["hits"]:
                errors.append(answer.status)
        line.close()
        return seconds, errors

    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        found = list(pool.map(client, range(clients)))
    took = time.perf_counter() - begin
    return Load([one for seconds, _ in found for one in seconds], [one for _, errors in found for one in errors], took)


def bodies_of(pictures: Sequence[Path], items: Sequence[str], vectors: Sequence[Sequence[float]]) -> list[bytes]:
    """Searches of each kind in turn."""
    queries: list[dict[str, object]] = []
    for picture, item, vector in zip(pictures, items, vectors, strict=True):
        queries += [{"picture": b64encode(picture.read_bytes()).decode()}, {"item": item}, {"vector": list(vector)}]
    return [json.dumps({"queries": [query], "top": 10}).encode() for query in queries]


def main() -> None:
    """Train, serve, search, and append a row."""
    searches = int(sys.argv[1]) if len(sys.argv) > 1 else SEARCHES
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sets = ["--set", "data.source=glyphs", "--set", "evaluate.bootstrap=100"]
        type_in = [sys.executable, "-m", "tuplet"]
        subprocess.run(
            [*type_in, "train", "glyphs", "--steps", "30", *sets], cwd=folder, check=True, capture_output=True
        )
        run = next((folder / "runs").glob("glyphs*"))
        server = subprocess.Popen(
            [*type_in, "serve", str(run), "--port", "0"], cwd=folder, stdout=subprocess.PIPE, text=True
        )
        try:
            assert server.stdout is not None
            row = _measured(server.stdout.readline().strip(), run, psutil.Process(server.pid), searches, folder)
        finally:
            server.terminate()
            server.wait()
    fresh = not RESULTS.exists()
    with RESULTS.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        if fresh:
            writer.writeheader()
        writer.writerow(row)
    print(*(f"{name}: {value}" for name, value in row.items()), sep="\n")


def _measured(address: str, run: Path, server: psutil.Process, searches: int, folder: Path) -> dict[str, object]:
    index = indexes.open(run)
    names = [str(fact["id"]) for fact in list(index.items)[:: max(1, len(index) // 40)]][:40]
    random = np.random.default_rng(0)
    pictures = []
    for number in range(len(names)):
        pictures.append(folder / f"{number}.png")
        Image.fromarray(random.integers(0, 256, (64, 64), np.uint8)).save(pictures[-1])
    vectors = [item.vector.tolist() for item in index.fetch(names).values()]
    bodies = bodies_of(pictures, names, vectors)
    under_load(address, bodies, CLIENTS, 4 * CLIENTS)  # threads, buffers and caches are there from here on
    memory, rounds, before = [_megabytes(server)], [], spent(server)
    for _ in range(ROUNDS):
        rounds.append(under_load(address, bodies, CLIENTS, searches // ROUNDS))
        memory.append(_megabytes(server))
    found = Load(
        [one for part in rounds for one in part.seconds],
        [one for part in rounds for one in part.errors],
        sum(part.took for part in rounds),
    )
    busy, own = (after - earlier for after, earlier in zip(spent(server), before, strict=True))
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "items": len(index),
        "clients": CLIENTS,
        "searches": searches,
        "per_second": round(searches / found.took, 1),
        **{f"p{share:g}_ms": round(found.percentile(share / 100) * 1e3, 1) for share in (50, 90, 99, 99.9)},
        "errors": len(found.errors),
        "statuses": "; ".join(f"{status} x {times}" for status, times in sorted(Counter(found.errors).items())),
        "mb_before": memory[0],
        "mb_after_quarters": "; ".join(map(str, memory[1:])),
        "others": round(max(0.0, busy - own) / (psutil.cpu_count() * found.took), 3),
        "machine": platform.machine(),
    }


def spent(server: psutil.Process) -> tuple[float, float]:
    """Seconds that all processors of the machine have worked, and those of them for this process and the server."""
    whole, own = psutil.cpu_times(), [one.cpu_times() for one in (psutil.Process(), server)]
    return whole.user + whole.nice + whole.system, sum(one.user + one.system for one in own)


def _megabytes(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 2**20, 1)


if __name__ == "__main__":
    main()
