"""Which training comes next, and the processes that carry them out."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import wait as wait_for
from pathlib import Path

import torch

from tuplet.comparison.folder import Folder, Request, RunRecord, TrialRecord
from tuplet.comparison.space import search_space, suggest
from tuplet.comparison.work import Key, Work, carry_out
from tuplet.errors import DataError
from tuplet.recipes import load_recipe
from tuplet.recipes.imported import import_losses

Record = TrialRecord | RunRecord


def compare(
    folder: Folder,
    request: Request,
    *,
    cache: Path,
    jobs: int,
    device: str = "cpu",
    trust: bool = False,
    progress: Callable[[Record, int, int], None],
) -> None:
    """Carry out what is not finished of a comparison.

    The trials of an entry follow one another, and its runs follow them; all else may happen at the same time. Each
    finished training is a file, so whatever is interrupted goes on with the rest.

    Args:
        folder: The comparison.
        request: What was asked for.
        cache: Folder for data that is generated or decoded once.
        jobs: Processes that train.
        device: Where.
        trust: Import losses of other libraries.
        progress: Is reported each finished training, how many are finished, and how many there are.
    """
    import_losses(request.losses, trust=trust)
    schedule = _Schedule(folder, request, cache, device, trust)
    total = len(request.entries) * (request.trials + request.seeds)

    def finished(record: Record) -> None:
        folder.keep(record)
        progress(record, schedule.done, total)

    if jobs == 1:
        while (work := next(schedule.due(set()), None)) is not None:
            finished(carry_out(work))
    else:
        _together(schedule, finished, jobs)


@dataclass(frozen=True)
class _Schedule:
    """What remains to be trained; the arguments are those of `compare`."""

    folder: Folder
    request: Request
    cache: Path
    device: str
    trust: bool

    @property
    def done(self) -> int:
        """How many trainings are finished."""
        trials, seeds = self.request.trials, self.request.seeds
        return sum(
            len(self.folder.trials(entry)[:trials]) + len(self.folder.runs(entry, seeds))
            for entry in self.request.entries
        )

    def due(self, begun: set[Key]) -> Iterator[Work]:
        """What can be trained now and was not begun."""
        for entry in self.request.entries:
            yield from (work for work in self._of(entry) if work.key not in begun)

    def _of(self, entry: str) -> list[Work]:
        """The next trial, or the runs that are missing when all trials are there."""
        request, recipe = self.request, self.folder.recipe(entry)
        trials = self.folder.trials(entry)[: request.trials]
        if len(trials) < request.trials:
            space = search_space(load_recipe(recipe))
            settings = suggest(space, [one.past for one in trials], request.seed, entry)
            return [self._work(entry, settings, trial=len(trials), seed=0)]
        best = max(trials, key=lambda one: (one.value is not None, one.value or 0.0, -one.number))
        finished = self.folder.runs(entry, request.seeds)
        missing = [seed for seed in range(request.seeds) if seed not in finished]
        return [self._work(entry, best.settings, trial=None, seed=seed) for seed in missing]

    def _work(self, entry: str, settings: dict[str, float], *, trial: int | None, seed: int) -> Work:
        return Work(
            entry=entry,
            losses=tuple(self.request.losses),
            recipe=self.folder.recipe(entry),
            settings=settings,
            steps=self.request.steps[entry],
            trial=trial,
            seed=seed,
            cache=self.cache,
            device=self.device,
            trust=self.trust,
        )


def _together(schedule: _Schedule, finished: Callable[[Record], None], jobs: int) -> None:
    """The same over processes.

    Raises:
        DataError: If one of them was ended from outside.
    """
    begun: set[Key] = set()
    running: set[Future[Record]] = set()
    with _processes(jobs) as pool:
        while True:
            for work in schedule.due(begun):
                if len(running) == jobs:
                    break
                begun.add(work.key)
                running.add(pool.submit(carry_out, work))
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                running.remove(future)
                try:
                    finished(future.result())
                except BrokenProcessPool as problem:
                    raise DataError(
                        "A process that trains was ended from outside; most often the memory was full.",
                        hint="Go on with fewer processes: tuplet compare --resume FOLDER --jobs 1",
                        reference="process-ended",
                    ) from problem


@contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that share the processors, and end with this one however it ends."""
    threads = max(1, torch.get_num_threads() // jobs)
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_begin, initargs=(threads,))
    try:
        yield pool
    except BaseException:
        for process in multiprocessing.active_children():
            process.kill()  # what they have finished is kept already
        raise
    finally:
        pool.shutdown(wait=False, cancel_futures=True)


def _begin(threads: int) -> None:
    """What a process does first: Ctrl-C is the first process's to answer, and nobody outlives it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(threads)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait_for([sentinel])
    os._exit(1)
