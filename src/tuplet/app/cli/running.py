"""From what was typed to a run: finding the recipe and the folder, training, evaluation, reporting."""

import json
import logging
from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tuplet.app.cli import is_one_of_several
from tuplet.app.cli.show import log, show_evaluation, to_json
from tuplet.errors import DataError, MissingFileError
from tuplet.storage import numbered

_PROCESS_ENDED = ("Connection closed by peer", "Connection reset by peer")
"""What gloo says when another process has ended."""
_DATA = (".csv", ".tsv", ".parquet", ".jsonl", ".npy", ".npz", ".ts", ".tar", ".txt")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuplet.engine import Processes
    from tuplet.recipes import Reader, Recipe
    from tuplet.results import Evaluation
    from tuplet.training import Job
    from tuplet.training.claim import Claim


@dataclass(frozen=True)
class Place:
    """The folder of a run: held by the first process, known to all.

    Args:
        out: Folder of all runs.
        name: Of the run.
        number: Added to the name from 2 on.
        claim: What the first process holds.
    """

    out: Path
    name: str
    number: int = 1
    claim: "Claim | None" = None

    @property
    def folder(self) -> Path:
        """The run."""
        return self.out / numbered(self.name, self.number)

    def agree(self, processes: "Processes") -> "Place":
        """With the number that the first process found free."""
        from tuplet.training.distributed import broadcast

        return replace(self, number=int(broadcast(self.number, processes)))


def new_run(
    source: str | None,
    *,
    out: Path,
    data: Path | None,
    name: str | None,
    steps: int | None,
    changes: Sequence[str],
    processes: "Processes | None" = None,
    start: Path | None = None,
    trust: bool = False,
    download: bool = False,
) -> "tuple[Job, Place]":
    """A job and its folder, new to `out` and held from now on.

    Args:
        source: Recipe, preset or data; with `start`, None takes the recipe of that run.
        out: Folder of all runs.
        data: Takes the place of the recipe's data.
        name: Name of the run; without one, the recipe's name and, if that is taken, a number.
        steps: Steps to train; None leaves that to the recipe.
        changes: `section.key=value`.
        processes: Who trains together.
        start: Run from whose weights this one starts.
        trust: Import what an encoder `callable` names.
        download: Fetch pretrained models that are not there.
    """
    from tuplet.recipes import Reader, fetch_models
    from tuplet.training.claim import claim_new

    reader = Reader(cache_beside(out / "run"))
    if start is not None:
        source, data = _from_run(start, source, data)
    recipe = find_recipe(str(source), data=data, name=name, steps=steps, changes=changes, reader=reader)
    if download and (processes is None or processes.rank == 0):
        fetch_models(recipe, log)
    place = Place(out, recipe.name)
    if processes is None or processes.rank == 0:
        claim = claim_new(out, recipe.name, may_number=name is None)
        place = replace(place, number=claim.number, claim=claim)
    return _build(recipe, place, processes, reader=reader, start=start, trust=trust), place


def _from_run(start: Path, source: str | None, data: Path | None) -> tuple[str, Path | None]:
    """The recipe of a run that starts from another: that of the other, unless one is named."""
    from tuplet.app.history import recipe_of

    recipe = recipe_of(start)
    if source is None or source == str(recipe):
        return str(recipe), data
    if data is None and Path(source).exists() and not source.endswith(".toml"):
        return str(recipe), Path(source)
    return source, data


def find_recipe(
    source: str,
    *,
    data: Path | None,
    name: str | None = None,
    steps: int | None = None,
    changes: Sequence[str],
    reader: "Reader",
) -> "Recipe":
    """The recipe that was named, or the one proposed for the data that was named; arguments as for `new_run`."""
    from tuplet.recipes import load_recipe, preset_names, recipe_for
    from tuplet.recipes.load import beside
    from tuplet.registry import did_you_mean

    overrides = [*changes]
    if data is not None:
        overrides.append(f"data.source={_quoted(str(data.resolve()))}")
    if steps is not None:
        overrides += [f"train.steps={steps}", "train.epochs=0"]
    if name is not None:
        overrides.append(f"name={_quoted(name)}")
    if source in preset_names() or source.endswith(".toml") or not Path(source).exists():
        if _names_data(source):
            raise DataError(
                f"{source}: no such file or folder.",
                hint=did_you_mean(source, beside(Path(source)), otherwise="Check the path and run the command again."),
                reference="missing-file",
            )
        return load_recipe(source, overrides)
    return recipe_for(Path(source), overrides, reader)


def _names_data(source: str) -> bool:
    """Whether a path that leads nowhere was meant to lead to data: by its ending, or as a folder."""
    return Path(source).suffix.lower() in _DATA or ("/" in source and not source.endswith(".toml"))


def old_run(
    folder: Path,
    processes: "Processes | None" = None,
    *,
    data: Path | None = None,
    steps: int | None = None,
    trust: bool = False,
) -> "tuple[Job, Place]":
    """The job of an earlier run, whose folder is held from now on.

    Args:
        folder: The run.
        processes: Who trains together.
        data: Where its data is now, if that was moved.
        steps: Steps that it shall take in all, if it is to take others.
        trust: Import what an encoder `callable` names.
    """
    from tuplet.app.history import recipe_of
    from tuplet.recipes import load_recipe
    from tuplet.training.claim import Claim

    found = recipe_of(folder)
    overrides = [] if data is None else [f"data.source={_quoted(str(data.resolve()))}"]
    if steps is not None:
        overrides += [f"train.steps={steps}", "train.epochs=0"]
    recipe = load_recipe(found, overrides)
    place = Place(folder.parent, folder.name)
    if processes is None or processes.rank == 0:
        place = replace(place, claim=Claim(folder))
    try:
        return _build(recipe, place, processes, begun=folder, trust=trust), place
    except MissingFileError as error:
        if data is not None or Path(recipe.data.source).exists():
            raise
        hint = f"If the run or its data was moved, say where the data is: tuplet train --resume {folder} --data PATH"
        raise MissingFileError(error.message, hint=hint, reference="missing-file") from error


def _build(
    recipe: "Recipe",
    place: Place,
    processes: "Processes | None",
    *,
    reader: "Reader | None" = None,
    begun: Path | None = None,
    start: Path | None = None,
    trust: bool = False,
) -> "Job":
    """What a recipe describes; the folder is let go of if it cannot be trained."""
    from tuplet.engine import SINGLE_PROCESS
    from tuplet.recipes import build
    from tuplet.training.run import refuse_unfit

    cache, processes = cache_beside(place.folder), processes or SINGLE_PROCESS
    try:
        job = build(recipe, cache=cache, processes=processes, reader=reader, begun=begun, start=start, trust=trust)
        refuse_unfit(job, processes)  # `run` would too, but in every process
    except BaseException:
        if place.claim is not None:
            place.claim.give_back()
        raise
    return job


def is_done(folder: Path, processes: "Processes") -> bool:
    """Whether a run has come to its end, so that there is nothing to go on with."""
    from tuplet.training.claim import is_finished
    from tuplet.training.distributed import broadcast

    return bool(broadcast(is_finished(folder), processes))


def report_again(folder: Path, processes: "Processes") -> "Evaluation | None":
    """What a finished run measured; its report is written if it has none."""
    from tuplet.app.report import write_report
    from tuplet.app.summary import read_evaluation

    if processes.rank > 0:
        return None
    log(f"{folder} is finished. For more steps: tuplet train --resume {folder} --steps N")
    if not (folder / "report.html").exists():
        write_report(folder)
    return read_evaluation(folder)


def cache_beside(run: Path) -> Path:
    """Where generated data is kept: beside the runs."""
    return run.absolute().parent / ".cache"


def run_and_report(
    job: "Job",
    place: Place,
    *,
    resume: bool,
    extend: bool = False,
    device: str = "cpu",
    processes: "Processes | None" = None,
) -> "Evaluation | None":
    """Train and write the report; returns what `evaluation.json` says.

    Of several processes the first alone shows and writes; the others return None.
    """
    from tuplet.app.cli import leave_undisturbed
    from tuplet.app.cli.follow import follow
    from tuplet.app.report import write_report
    from tuplet.app.summary import read_evaluation
    from tuplet.engine import SINGLE_PROCESS
    from tuplet.training import run

    processes, folder = processes or SINGLE_PROCESS, place.folder
    options: dict[str, Any] = {"resume": resume, "extend": extend, "processes": processes, "device": device}
    try:
        follow(
            run(job, folder, claim=place.claim, **options),
            steps=job.settings.steps,
            quiet=processes.rank > 0,
        )
    except KeyboardInterrupt:
        leave_undisturbed()
        if processes.rank == 0:
            log(f"\n{_stopped(folder)}")
        raise typer.Exit(130) from None
    if processes.rank > 0:
        return None
    log("Writing the report ...")
    try:
        write_report(folder, device)
    except OSError as problem:
        raise DataError(
            f"The run is complete; only its report could not be written: {problem.strerror} ({problem.filename}).",
            hint=f"Free some disk space, then run: tuplet report {folder}",
            reference="no-report",
        ) from problem
    return read_evaluation(folder)


def _stopped(folder: Path) -> str:
    """What is saved of a run that was stopped, as its folder has it."""
    from tuplet.training.checkpoint import steps_in

    saved = steps_in(folder / "checkpoints")
    if not saved:
        return "Stopped before the first checkpoint. Start again with the same command."
    return f"Stopped; saved up to step {saved[-1]}. Resume with:\n  tuplet train --resume {folder}"


def show_run(folder: Path, evaluation: "Evaluation", *, as_json: bool) -> None:
    """The results of a run, and where to find them."""
    report = folder / "report.html"
    if as_json:
        found = {"run": str(folder), "report": str(report), **evaluation.to_json(), "conclusion": evaluation.conclusion}
        print(to_json(found))
        return
    show_evaluation(evaluation)
    log(f"run     {folder}\nreport  {report}")


@contextmanager
def together() -> "Iterator[Processes]":
    """The processes that `torchrun` started, or this one alone."""
    import torch.distributed as dist

    from tuplet.engine import SINGLE_PROCESS, Processes

    if not is_one_of_several():
        yield SINGLE_PROCESS
        return
    dist.init_process_group()  # NCCL between accelerators, gloo between the rest
    try:
        yield Processes.default()
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _PROCESS_ENDED):
            raise
        raise typer.Exit(1) from None  # the process that ended first has said why
    finally:
        dist.destroy_process_group()


@contextmanager
def after_the_first(processes: "Processes") -> "Iterator[None]":
    """The first process goes ahead: the others find generated data, and an error or a note is printed once.

    It waits at the end, so that all choose the same folder before one of them makes it.
    """
    if processes.size == 1:
        yield
        return
    from tuplet.training.distributed import broadcast

    if processes.rank > 0:
        logging.getLogger("tuplet").setLevel(logging.ERROR)
        broadcast(0.0, processes)
    yield
    if processes.rank == 0:
        broadcast(0.0, processes)
    broadcast(0.0, processes)


def device_of(name: str, processes: "Processes | None" = None) -> str:
    """Where this process computes: with several on one machine, each has an accelerator of its own."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name).tolist()  # `meta` holds no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: torch without CUDA
        raise typer.BadParameter(f"--device {name} is not available. Try --device cpu.") from error
    if name != "cuda" or processes is None or processes.size == 1:
        return name
    from tuplet.training.distributed import any_rank  # what search does without

    own, there = torch.distributed.get_node_local_rank(), torch.cuda.device_count()
    if any_rank(own >= there, processes):
        raise typer.BadParameter(f"Each process needs an accelerator of its own; there are {there}. Try --device cpu.")
    return f"cuda:{own}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
