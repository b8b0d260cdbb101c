"""The page of benchmarks says what the rows say."""

import csv
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2] / "docs"))  # scripts beside their pages, not a package
import measured

ROOT = Path(__file__).parents[2]


def load_page(folder, monkeypatch, **changed):
    with (ROOT / "benchmarks" / "load.csv").open(newline="") as file:
        row = list(csv.DictReader(file))[-1] | changed
    with (folder / "load.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerow(row)
    monkeypatch.setattr(measured, "BENCHMARKS", folder)
    return "\n".join(measured._load())


def test_whether_a_loaded_machine_had_other_work_is_what_its_row_says(tmp_path, monkeypatch):
    row = {"date": "2026-01-02", "machine": "riscv"}
    assert "2026-01-02, 19,999 items, riscv.\n" in load_page(tmp_path, monkeypatch, others="", **row)
    page = load_page(tmp_path, monkeypatch, others="0.31", **row)
    assert "riscv, 31% of the processor time taken by other processes.\n" in page
    page = load_page(tmp_path, monkeypatch, others="0.0", **row)
    assert "riscv, 0% of the processor time taken by other processes.\n" in page
