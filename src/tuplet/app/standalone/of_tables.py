"""Embed rows without tuplet: `python embed.py rows.csv more.npy` prints one row of numbers for each."""

import csv
import json
import sys
from pathlib import Path

import numpy as np

from tuplet.app.standalone.with_torch import embed


def read(path, facts):
    """Rows of an array, or of a table by the names of its columns, (n, columns)."""
    if path.endswith(".npy"):
        return np.load(path).astype(facts["dtype"])
    with Path(path).open(newline="", encoding="utf-8-sig") as file:
        return np.array([[row[name] for name in facts["columns"]] for row in csv.DictReader(file)], facts["dtype"])


if __name__ == "__main__":
    here = Path(__file__).parent
    facts = json.loads((here / "model.json").read_text(encoding="utf-8"))
    for path in sys.argv[1:]:
        for row in embed(here, read(path, facts)):
            print(json.dumps(row.tolist()))
