"""Large batches in chunks: peak memory and time of one step over 8,192 glyph images.

Run `python benchmarks/bench_cache.py`; the glyphs are drawn once, into a folder beside the results of trainings.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import torch
from measure import record

from tuplet.data import take_batch
from tuplet.engine import SINGLE_PROCESS
from tuplet.recipes import build, load_recipe
from tuplet.seeding import Draws, derive
from tuplet.training.state import State
from tuplet.training.step import take_step

ROWS, CHUNKS, TURNS = 8192, (0, 256, 1024), 3
CACHE = Path("runs/.cache")
SETTINGS = ("model.encoder.norm=group", "loss={name='supcon'}", "data.split.validation=0.0", "train.ema=0.0")


def case(chunk: int) -> dict[str, float]:
    """Seconds of a step, the fastest of several, and MB beyond what is there before it."""
    torch.set_num_threads(2)
    job = build(load_recipe("glyphs", [*SETTINGS, f"train.chunk={chunk}"]), cache=CACHE)
    state = State(job, torch.device("cpu"))
    positions = torch.randperm(len(job.train), generator=derive(0, "bench"))[:ROWS]
    assert len(positions) == ROWS, f"only {len(positions)} images to train on"

    def step(rows: int) -> None:
        batch = take_batch(job.train, positions[:rows])
        take_step(job, batch, Draws(derive(0, "augment")), state.stepper.optimizer, 0, SINGLE_PROCESS, watched=False)

    step(64)  # whatever torch makes once
    Path("/proc/self/clear_refs").write_text("5")
    before, seconds = _high(), []
    for _ in range(TURNS):
        begin = time.perf_counter()
        step(ROWS)
        seconds.append(time.perf_counter() - begin)
    return {"mb": _high() - before, "seconds": min(seconds), "spread": sorted(seconds)[TURNS // 2] / min(seconds)}


def _high() -> float:
    status = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024


def main() -> None:
    found = {}
    for chunk in CHUNKS:
        done = subprocess.run([sys.executable, __file__, str(chunk)], capture_output=True, text=True, check=True)
        found[chunk] = json.loads(done.stdout)
    rows: list[dict[str, object]] = []
    for chunk, one in found.items():
        size, name = f"B={ROWS:,}", f"chunk {chunk}" if chunk else "whole batch"
        seconds, spread = round(one["seconds"], 3), round(one["spread"], 2)
        ratio = round(one["seconds"] / found[0]["seconds"], 2)
        rows += [
            {"size": size, "contestant": name, "ratio": round(one["mb"]), "against": "MB at the peak"},
            {
                "size": size,
                "contestant": name,
                "seconds": seconds,
                "spread": spread,
                "ratio": ratio,
                "against": "whole batch",
            },
        ]
    record("one step over glyph images, encoded in chunks", rows)


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(case(int(sys.argv[1]))))
    else:
        main()
