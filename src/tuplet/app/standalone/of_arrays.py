"""Embed rows without tuplet: `python embed.py rows.npy` prints one row of numbers for each."""

import json
import sys
from pathlib import Path

import numpy as np

from tuplet.app.standalone.with_torch import embed

if __name__ == "__main__":
    here = Path(__file__).parent
    facts = json.loads((here / "model.json").read_text(encoding="utf-8"))
    for path in sys.argv[1:]:
        for row in embed(here, np.load(path).astype(facts["dtype"])):
            print(json.dumps(row.tolist()))
