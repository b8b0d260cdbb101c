"""Trains what docs/results.md reports and writes that page: `make results`, or `make results ROW=NAME` for one row.

Every row is a preset trained once per seed, judged on classes it has never seen, beside the raw input.
"""

import csv
import json
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import fmean

import torch

DOCS = Path(__file__).parent
TABLE = DOCS / "results.csv"
ROWS = {"glyphs": "Characters across typefaces; half of the characters are judged and never trained on."}
SEEDS = (0, 1, 2)
PROTOCOLS = {"all": "among all others", "other_groups": "among other type families"}
COLUMNS = ("row", "seed", "protocol", "measure", "raw", "model", "low", "high", "minutes", "machine")


def train(row: str, seed: int) -> list[dict[str, object]]:
    """One training and what it is worth, a line for each protocol and measure."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as out:
        program = Path(sys.executable).with_name("tuplet")
        subprocess.run([program, "train", row, "--out", out, "--name", row, "--set", f"seed={seed}"], check=True)  # noqa: S603  our own command
        verdict = json.loads((Path(out) / row / "evaluation.json").read_text())
    minutes = round((time.monotonic() - started) / 60, 1)
    machine = f"{torch.get_num_threads()} threads, torch {torch.__version__}, Python {platform.python_version()}"
    lines: list[dict[str, object]] = []
    for protocol, judged in verdict["protocols"].items():
        for measure, value in judged["model"]["values"].items():
            low, high = (judged["model"][edge][measure] for edge in ("lower", "upper"))
            told = (row, seed, protocol, measure, judged["raw"]["values"][measure], value, low, high, minutes, machine)
            lines.append(dict(zip(COLUMNS, told, strict=True)))
    return lines


def page(lines: list[dict[str, str]]) -> str:
    """The table of all rows, over their seeds."""
    parts = [
        "# Results\n",
        "Written by `make results` from `docs/results.csv`; the intervals are over classes, 95 %.\n",
    ]
    for row, meaning in ROWS.items():
        mine = [line for line in lines if line["row"] == row and line["measure"] == "recall@1"]
        if not mine:
            continue
        parts += [f"## {row}\n", f"{meaning}\n", f"{mine[0]['machine']}, {mine[0]['minutes']} minutes for one seed.\n"]
        parts += [
            "| Recall@1 | raw input | mean of seeds | each seed, with its interval |",
            "| --- | --- | --- | --- |",
        ]
        for protocol, words in PROTOCOLS.items():
            seeds = [line for line in mine if line["protocol"] == protocol]
            each = ", ".join(f"{float(s['model']):.3f} [{float(s['low']):.3f}, {float(s['high']):.3f}]" for s in seeds)
            mean = fmean(float(seed["model"]) for seed in seeds)
            parts.append(f"| {words} | {float(seeds[0]['raw']):.3f} | **{mean:.3f}** | {each} |")
        parts.append("")
    return "\n".join(parts)


def read() -> list[dict[str, str]]:
    """What was measured before."""
    with TABLE.open(newline="") as file:
        return list(csv.DictReader(file))


def main(wanted: list[str]) -> None:
    """Train the wanted rows again and write the page."""
    unknown = set(wanted) - set(ROWS)
    if unknown:
        raise SystemExit(f"There is no row {', '.join(sorted(unknown))}. Known: {', '.join(ROWS)}.")
    for row in wanted or ROWS:
        fresh = [line for seed in SEEDS for line in train(row, seed)]
        kept = [line for line in (read() if TABLE.exists() else []) if line["row"] != row]
        with TABLE.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows([*kept, *fresh])
    (DOCS / "results.md").write_text(page(read()))


if __name__ == "__main__":
    main(sys.argv[1:])
