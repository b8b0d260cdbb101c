"""Which training comes next, and the processes that carry them out."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from pathlib import Path

import torch

from tuplet.comparison.folder import Folder, Request, RunRecord, TrialRecord
from tuplet.comparison.space import search_space, suggest
from tuplet.comparison.work import Work, carry_out
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
    losses = tuple(request.losses)
    import_losses(losses, trust=trust)
    total = len(request.entries) * (request.trials + request.seeds)
    spaces = {entry: search_space(load_recipe(folder.recipe(entry))) for entry in request.entries}

    def due(begun: set[tuple[str, int | None, int]]) -> Iterator[Work]:
        for entry in request.entries:
            trials = folder.trials(entry)[: request.trials]
            common = {
                "entry": entry,
                "losses": losses,
                "recipe": folder.recipe(entry),
                "cache": cache,
                "steps": request.steps[entry],
                "device": device,
                "trust": trust,
            }
            if len(trials) < request.trials:
                settings = suggest(spaces[entry], [one.past for one in trials], request.seed, entry)
                wanted = [Work(**common, settings=settings, trial=len(trials), seed=0)]
            else:
                best = max(trials, key=lambda one: (one.value is not None, one.value or 0.0, -one.number))
                finished = folder.runs(entry, request.seeds)
                seeds = [seed for seed in range(request.seeds) if seed not in finished]
                wanted = [Work(**common, settings=best.settings, trial=None, seed=seed) for seed in seeds]
            yield from (one for one in wanted if (one.entry, one.trial, one.seed) not in begun)

    def done() -> int:
        return sum(
            min(request.trials, len(folder.trials(entry))) + len(folder.runs(entry, request.seeds))
            for entry in request.entries
        )

    def finished(record: Record) -> None:
        folder.keep(record)
        progress(record, done(), total)

    if jobs == 1:
        begun: set[tuple[str, int | None, int]] = set()
        while (work := next(due(begun), None)) is not None:
            finished(carry_out(work))
    else:
        _together(due, finished, jobs)


def _together(
    due: Callable[[set[tuple[str, int | None, int]]], Iterator[Work]], finished: Callable[[Record], None], jobs: int
) -> None:
    """The same over processes."""
    begun: set[tuple[str, int | None, int]] = set()
    running: dict[Future[Record], Work] = {}
    with _processes(jobs) as pool:
        while True:
            for work in due(begun):
                if len(running) == jobs:
                    break
                begun.add((work.entry, work.trial, work.seed))
                running[pool.submit(carry_out, work)] = work
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                del running[future]
                finished(future.result())


@contextmanager
def _processes(jobs: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that share the processors, and end with this one however it ends."""
    threads = max(1, (os.cpu_count() or 1) // jobs)
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
