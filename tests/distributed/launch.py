"""Real processes for a test: each runs one function of a module under gloo and leaves what it returns in a file."""

import importlib
import json
import os
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

PHANTOM = "terminate called without an active exception"  # gloo at times aborts at exit, before or after all is done
ATTEMPTS = 3
PATIENCE = 240.0
"""Seconds until processes that wait for each other are given up."""


def launch(work: str, size: int, folder: Path, /, **given: Any) -> list[Any]:
    """What each of `size` processes returned from `module:function`, by rank.

    Args:
        work: A function of a module below `tests`; takes `given`, returns dicts and lists of tensors, numbers, strings.
        size: How many processes; they find each other through a file.
        folder: Takes the results.
        given: Arguments that JSON can hold.
    """
    for attempt in range(ATTEMPTS):
        place = folder / f"{work.replace(':', '.')}-{size}-{attempt}"
        place.mkdir(parents=True)
        complaint = _run(work, size, place, given)
        if not complaint:
            return [torch.load(place / f"{rank}.pt", weights_only=True) for rank in range(size)]
        if PHANTOM not in complaint:
            break
    raise AssertionError(complaint)


def _run(work: str, size: int, place: Path, given: dict[str, Any]) -> str:
    """Start the processes and wait; what the first that failed complained about."""
    paths = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, sys.path)])
    logs = [place / f"{rank}.log" for rank in range(size)]
    processes = []
    for rank, log in enumerate(logs):
        command = [sys.executable, __file__, work, str(rank), str(size), str(place), json.dumps(given)]
        with log.open("w") as output:
            processes.append(
                subprocess.Popen(command, stderr=output, stdout=output, env={**os.environ, "PYTHONPATH": paths})
            )
    end = time.monotonic() + PATIENCE
    try:
        while any(process.poll() is None for process in processes) and time.monotonic() < end:
            if any(process.poll() for process in processes):
                time.sleep(1.0)  # the others may be about to say why
                break
            time.sleep(0.02)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    said = [log.read_text() for rank, log in enumerate(logs) if not (place / f"{rank}.pt").exists()]
    said.sort(key=lambda text: (not text, "Connection closed by peer" in text))  # first the one that the others lost
    return said[0] or "no process said anything" if said else ""


def _serve(work: str, rank: int, size: int, place: Path, given: dict[str, Any]) -> None:
    """The life of one process; its result is there in full or not at all."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", f"file://{place / 'meeting'}", timeout=timedelta(seconds=PATIENCE), rank=rank, world_size=size
    )
    module, function = work.split(":")
    result = getattr(importlib.import_module(module), function)(**given)
    draft = place / f"{rank}.partial"
    torch.save(result, draft)
    draft.rename(place / f"{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]), json.loads(sys.argv[5]))
