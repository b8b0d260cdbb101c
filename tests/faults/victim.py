"""Trainings that are killed again and again, until nobody kills them any more.

Reads a line of JSON: a recipe, and the deaths of each run by its folder. A death is a number of seconds, or a pattern
of names of which one must be there first. Writes how each life ended. Every life is a process of its own, forked before
torch has started any thread.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

import tiny
from tuplet.training import run


def live(recipe: Path, folder: Path) -> int:
    """One life: train from wherever the life before came to."""
    try:
        for _ in run(tiny.job(recipe), folder, resume=True):
            pass
    except BaseException as error:  # noqa: BLE001  # whatever it is, it must not run on into the parent's code
        sys.stderr.write(f"{error!r}\n")
        return 1
    return 0


def life(recipe: Path, folder: Path, death: float | str | None) -> int:
    """A life until its death; its exit code."""
    child = os.fork()
    if child == 0:
        os._exit(live(recipe, folder))
    ended = (0, 0)
    if isinstance(death, str):
        while not any(folder.glob(death)) and not ended[0]:
            time.sleep(0.0002)
            ended = os.waitpid(child, os.WNOHANG)
    elif death is not None:
        time.sleep(death)
    if not ended[0]:
        if death is not None:
            os.kill(child, signal.SIGKILL)
        ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended[1])


torch.optim.SGD([torch.zeros(1)])  # the first optimiser makes torch import its compiler: once is enough
orders = json.loads(sys.stdin.readline())
recipe = Path(orders["recipe"])
ends = {run: [life(recipe, Path(run), death) for death in deaths] for run, deaths in orders["deaths"].items()}
json.dump(ends, sys.stdout)
