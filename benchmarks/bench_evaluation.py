"""What evaluation costs beside training: the default recipe for images, on a generated set with groups.

Run `python benchmarks/bench_evaluation.py [IMAGES] [STEPS]`. It draws 20,000 grey images of 28 x 28 pixels into a
temporary folder, some 17 of each class, each in one of four groups, trains by the recipe `own-images` and evaluates as
`tuplet train` does: raw input and model, with and without groups, all intervals, thresholds and index; then it writes
the report. With STEPS fewer steps are taken and their time is multiplied, which the row says. What counts is the time
that the processor spent, all threads together. The bound: evaluation takes at most a third of the training.
"""

import csv
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from measure import record
from PIL import Image

from tuplet.app.report import write_report
from tuplet.recipes import build, load_recipe
from tuplet.training import run

IMAGES, SIDE, PER_CLASS, GROUPS = 20_000, 28, 17, 4


def draw(folder: Path, count: int) -> Path:
    """A table of images: each class is a pattern of blobs, moved and covered with noise."""
    random = np.random.default_rng(0)
    classes = max(2, count // PER_CLASS)
    patterns = np.kron(random.random((classes, 7, 7)), np.ones((4, 4)))
    table = folder / "images.csv"
    with table.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "path", "label", "group"])
        for number in range(count):
            label = number % classes
            moved = np.roll(patterns[label], random.integers(-3, 4, 2), (0, 1))
            pixels = (200 * moved + 55 * random.random((SIDE, SIDE))).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")
            rows.writerow([number, f"{number}.png", f"class {label}", random.integers(GROUPS)])
    return table


def main() -> None:
    """Train, evaluate, report; time each, and append them to the results."""
    given = [int(word) for word in sys.argv[1:]]
    count, fewer = (*given, *(IMAGES, 0)[len(given) :])
    torch.set_num_threads(1)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sets = [f"data.source={draw(folder, count)}", "model.preprocessing.size=28", "model.preprocessing.channels=1"]
        steps = load_recipe("own-images", sets).train.steps
        sets += [f"train.steps={fewer or steps}", "train.patience=0"]
        job = build(load_recipe("own-images", sets), cache=folder / "cache")
        begin = trained = time.process_time()
        for event in run(job, folder / "run"):
            if event["kind"] == "checkpoint":
                trained = time.process_time()
        evaluated = time.process_time()
        write_report(folder / "run")
        reported = time.process_time()
    training = (trained - begin) * steps / (fewer or steps)
    seconds = {"training": training, "evaluation": evaluated - trained, "report": reported - evaluated}
    bounds = {"evaluation": "<= 0.334"}
    for name, spent in seconds.items():
        print(f"{name:<10} {spent:8.1f} s   {spent / training:6.3f} of the training")
    size = f"{count:,} images, {steps:,} steps"
    rows = [
        {
            "size": f"{size}, timed by {fewer}" if fewer else size,
            "contestant": name,
            "seconds": round(spent, 2),
            "spread": 1.0,  # of one turn
            "against": "training",
            "ratio": round(spent / training, 3),
            "bound": bounds.get(name, ""),
        }
        for name, spent in seconds.items()
    ]
    record("evaluating a run beside its training", rows)


if __name__ == "__main__":
    main()
