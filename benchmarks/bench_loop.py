"""The training loop beside a bare torch loop with the same encoder, loss and loader, on glyph images.

Run `python benchmarks/bench_loop.py`. Both take turns of ten steps, with logging as it is by default; validation and
checkpoints are left out. Bound: the bare loop is at most 1 / 0.97 times as fast.
"""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from measure import compare, record

from tuplet.data import take_batch
from tuplet.engine import SINGLE_PROCESS
from tuplet.recipes import build, load_recipe
from tuplet.seeding import Draws, derive
from tuplet.training import Job
from tuplet.training.events import EventLog
from tuplet.training.loop import train
from tuplet.training.optim import Optimizers
from tuplet.training.state import State

CACHE = Path("runs/.cache")
TURNS, STEPS = 40, 10
SETTINGS = (f"train.steps={100 * TURNS * STEPS}", "train.validate_every=1000000", "train.ema=0.0")


def job(classes: int) -> Job:
    return build(load_recipe("glyphs", [*SETTINGS, f"batch.classes_per_batch={classes}"]), cache=CACHE)


def ours(classes: int, folder: Path) -> Callable[[], object]:
    """Ten steps of `tuplet train`: its generator comes back with each logged step."""
    events = train(
        State(job(classes), torch.device("cpu")), EventLog(folder / f"{classes}.jsonl"), folder, SINGLE_PROCESS
    )

    def run() -> None:
        assert next(events)["kind"] == "step"

    return run


def bare(classes: int) -> Callable[[], object]:
    """Ten steps of the loop that one would write: no logging, no statistics, no look at anything."""
    built = job(classes)
    encoder = built.embedder.encoder.to(memory_format=torch.channels_last).train()
    preprocessing, augment, loss = built.embedder.preprocessing, built.augment, built.loss.train()
    optimizer = Optimizers(built.settings, [built.embedder, loss]).dense
    draws = Draws(derive(0, "augment"))

    def steps() -> Iterator[None]:
        for count in itertools.count(1):
            batch = take_batch(built.train, built.sampler.next_batch())
            with torch.no_grad():
                seen = augment(preprocessing(batch.inputs), draws).contiguous(memory_format=torch.channels_last)
            optimizer.zero_grad()
            loss(encoder(seen), batch.labels).backward()
            optimizer.step()
            loss.advance()
            if count % STEPS == 0:
                yield

    taken = steps()
    return lambda: next(taken)


def main() -> None:
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for classes in (24, 96):
            contestants = {"bare loop": bare(classes), "tuplet train": ours(classes, Path(scratch))}
            against = [("tuplet train", "bare loop", "<= 1.031")]
            rows += compare(f"B={4 * classes}", contestants, against, turns=TURNS)
    record("ten steps of training beside a bare loop", rows)


if __name__ == "__main__":
    main()
