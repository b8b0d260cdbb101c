"""A whole run: its folder, its training, its verdict."""

from collections.abc import Iterator
from pathlib import Path

import torch

from tuplet.engine import ALONE, Processes
from tuplet.training.events import Event
from tuplet.training.job import Job


def run(
    job: Job,
    folder: Path,
    *,
    resume: bool = False,
    processes: Processes = ALONE,
    device: torch.device | str = "cpu",
) -> Iterator[Event]:
    """Train, judge and save; a folder that is complete and movable.

    `recipe.toml`, `environment.json`, `events.jsonl`, `checkpoints/`, `model/`, `gallery/`, `evaluation.json`; the
    report is the command line's.

    Args:
        job: What to train, from `tuplet.recipes.build`.
        folder: New or empty; with `resume`, the folder of an earlier run of the same job.
        resume: Continue from the last good checkpoint, bit for bit.
        processes: Who trains together.
        device: Where the encoder and the loss live.

    Yields:
        One `Event` at a time, as written to `events.jsonl`.

    Raises:
        DataError: If the folder holds another run, or cannot be written.
        CheckpointError: If no checkpoint of the folder can be read.
        DivergedError: If the loss is no longer finite.
        KeyboardInterrupt: On Ctrl-C, after a checkpoint was saved.
    """
    raise NotImplementedError
