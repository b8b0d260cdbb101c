"""Trains a recipe: `trainer.py RECIPE RUN [--resume] [--extend] [largest file in bytes]`; prints its events."""

import resource
import sys
from pathlib import Path

import tiny
from tuplet.errors import TupletError
from tuplet.training import run

recipe, folder, *more = sys.argv[1:]
job = tiny.job(Path(recipe))
if more and more[-1].isdigit():  # from now on, no file can become larger: a full disk without the disk
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(more[-1]), resource.RLIM_INFINITY))
try:
    for event in run(job, Path(folder), resume="--resume" in more, extend="--extend" in more):
        sys.stdout.write(f"{event['kind']} {event.get('step', event.get('text'))}\n")
        sys.stdout.flush()
except TupletError as error:
    sys.stderr.write(f"{type(error).__name__}: {error}\n")
    sys.exit(error.exit_code)
except KeyboardInterrupt:
    sys.exit(130)
