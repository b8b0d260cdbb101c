"""What a table costs beside the same numbers as an array: peak memory and processor time of a training.

Run `python benchmarks/bench_tables.py`; it writes 200,000 rows of 128 numbers as CSV, Parquet and NPY into a temporary
folder. Every contestant is a process of its own and takes its turn; what counts is the time that the processor spent on
it, all threads together. The bounds: 1.2 GB, and 1.5 times the array.
"""

import json
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
from measure import record

ROWS, DIM, CLASSES, TURNS = 200_000, 128, 1_000, 2
STEPS = 100
READ = "import sys; from tuplet.data import read_manifest; print(read_manifest(sys.argv[1]).items[:].mean())"


def write(folder: Path) -> list[str]:
    """The same examples in three files."""
    random = np.random.default_rng(0)
    labels = np.arange(ROWS) % CLASSES
    rows = (random.normal(size=(CLASSES, DIM))[labels] + random.normal(size=(ROWS, DIM))).round(5)
    np.save(folder / "array.npy", rows.astype(np.float32))
    np.save(folder / "array.labels.npy", labels)
    table = pa.table({f"x{at}": rows[:, at] for at in range(DIM)} | {"label": labels})
    pyarrow.csv.write_csv(table, folder / "table.csv")
    pyarrow.parquet.write_table(table, folder / "binary.parquet")
    return ["array.npy", "table.csv", "binary.parquet"]


def cost(words: list[str], folder: Path) -> tuple[float, float]:
    """Processor seconds and peak MB of a process."""
    quiet = [(os.POSIX_SPAWN_OPEN, at, os.devnull, os.O_RDWR, 0o600) for at in (0, 1, 2)]
    here = Path.cwd()
    os.chdir(folder)
    child = os.posix_spawn(sys.executable, [sys.executable, *words], os.environ, file_actions=quiet)
    os.chdir(here)
    _, status, used = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{words} failed: {os.waitstatus_to_exitcode(status)}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024


def main() -> None:
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        names = write(folder)
        train = ["--steps", str(STEPS), "--out", "runs", "--set", "evaluate.bootstrap=100"]
        commands = {
            "read": lambda name: ["-c", READ, name],
            f"train, {STEPS} steps": lambda name: ["-m", "tuplet", "train", name, *train],
        }
        rows: list[dict[str, object]] = []
        for what, command in commands.items():
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
            for _ in range(TURNS):
                for name in names:
                    found[name].append(cost(command(name), folder))
            least = {name: min(seconds for seconds, _ in costs) for name, costs in found.items()}
            for name, costs in found.items():
                seconds = [second for second, _ in costs]
                size, is_training = f"{ROWS:,} x {DIM}", what.startswith("train")
                rows += [
                    {
                        "size": size,
                        "contestant": f"{what}: {name}",
                        "seconds": round(least[name], 2),
                        "spread": round(max(seconds) / least[name], 2),
                        "against": names[0],
                        "ratio": round(least[name] / least[names[0]], 2),
                        "bound": "<= 1.5" if is_training and name != names[0] else "",
                    },
                    {
                        "size": size,
                        "contestant": f"{what}: {name}",
                        "ratio": round(max(peak for _, peak in costs)),
                        "against": "MB at the peak",
                        "bound": "<= 1200" if is_training else "",
                    },
                ]
        print(json.dumps({"csv_mb": round((folder / "table.csv").stat().st_size / 1e6)}))
        record("tables beside arrays", rows)


if __name__ == "__main__":
    main()
