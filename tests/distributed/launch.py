"""Real processes for a test: each runs one function of a module under gloo and leaves what it returns in a file."""

import importlib
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any, NoReturn

import torch
import torch.distributed as dist

from typist import shared

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
    served = shared()(["python", __file__, work, size, place, json.dumps(given)], place)
    missing = [rank for rank in range(size) if not (place / f"{rank}.pt").exists()]
    said = [log.read_text() for rank in missing if (log := place / f"{rank}.log").exists()]
    said.sort(key=lambda text: (not text, "Connection closed by peer" in text))  # first the one that the others lost
    return "\n".join([*said[:1], served.stdout, served.stderr]) or "no process said anything" if missing else ""


def _serve(work: str, size: int, place: Path, given: dict[str, Any]) -> None:
    """Fork the processes, which spares each of them the imports, and wait until all are done or one has failed."""
    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)])  # the first optimiser makes torch import its compiler: once is enough
    module, function = work.split(":")
    working = getattr(importlib.import_module(module), function)
    children = []
    for rank in range(size):
        child = os.fork()
        if child == 0:
            _live(working, rank, size, place, given)
        children.append(child)
    end = time.monotonic() + PATIENCE
    has_failed = False
    while children and not has_failed and time.monotonic() < end:
        for child in list(children):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                children.remove(child)
                has_failed |= status != 0
        time.sleep(0.02)
    time.sleep(has_failed)  # the others may be about to say why
    for child in children:
        os.kill(child, signal.SIGKILL)


def _live(work: Callable[..., Any], rank: int, size: int, place: Path, given: dict[str, Any]) -> NoReturn:
    """One process; its result is there in full or not at all."""
    code = 1
    try:
        log = os.open(place / f"{rank}.log", os.O_WRONLY | os.O_CREAT)
        os.dup2(log, 1)
        os.dup2(log, 2)
        meeting, patience = f"file://{place / 'meeting'}", timedelta(seconds=PATIENCE)
        dist.init_process_group("gloo", meeting, timeout=patience, rank=rank, world_size=size)
        draft = place / f"{rank}.partial"
        torch.save(work(**given), draft)
        draft.rename(place / f"{rank}.pt")
        dist.barrier()
        code = 0
    except BaseException:  # noqa: BLE001  # whatever it is, it must not run on into the parent's code
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4]))
