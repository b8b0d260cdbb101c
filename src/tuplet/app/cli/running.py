"""From what was typed to a run: finding the recipe and the folder, training, judging, reporting."""

import json
import logging
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tuplet.app.cli import is_one_of_several
from tuplet.app.cli.follow import follow
from tuplet.app.cli.result import show_evaluation
from tuplet.app.cli.show import remark, to_json
from tuplet.errors import DataError

_LEFT_ALONE = ("Connection closed by peer", "Connection reset by peer")
"""What gloo says when another process has ended."""
_DATA = (".csv", ".tsv", ".parquet", ".jsonl", ".npy", ".npz", ".ts", ".txt")

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tuplet.engine import Processes
    from tuplet.recipes import Reader, Recipe
    from tuplet.training import Job, WordJob


def new_run(
    source: str,
    *,
    out: Path,
    data: Path | None,
    name: str | None,
    steps: int | None,
    changes: Sequence[str],
    processes: "Processes | None" = None,
) -> "tuple[Job | WordJob, Path]":
    """A job and its folder, new to `out`.

    Args:
        source: Recipe, preset or data.
        out: Folder of all runs.
        data: Takes the place of the recipe's data.
        name: Name of the run; without one, the recipe's name and, if that is taken, a number.
        steps: Steps to train; None leaves that to the recipe.
        changes: `section.key=value`.
        processes: Who trains together.
    """
    from tuplet.recipes import Reader

    reader = Reader(cache_beside(out / "run"))
    recipe = find_recipe(source, data=data, name=name, steps=steps, changes=changes, reader=reader)
    folder = out / recipe.name
    number = 2
    while name is None and folder.exists():
        folder = out / f"{recipe.name}-{number}"
        number += 1
    return _build(recipe, folder, processes, reader), folder


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
                hint=did_you_mean(source, beside(Path(source)), otherwise="Check the path and type the command again."),
                reference="missing-file",
            )
        return load_recipe(source, overrides)
    return recipe_for(Path(source), overrides, reader)


def _names_data(source: str) -> bool:
    """Whether a path that leads nowhere was meant to lead to data: by its ending, or as a folder."""
    return Path(source).suffix.lower() in _DATA or ("/" in source and not source.endswith(".toml"))


def old_run(
    folder: Path, processes: "Processes | None" = None, *, data: Path | None = None
) -> "tuple[Job | WordJob, Path]":
    """The job of an earlier run; `data` says where its data is now, if that was moved."""
    from tuplet.recipes import load_recipe

    if not (folder / "recipe.toml").is_file():
        raise DataError(
            f"{folder} is not the folder of a run: it has no recipe.toml.",
            hint="Type `tuplet runs` to see the runs there are.",
            reference="no-run",
        )
    overrides = [] if data is None else [f"data.source={_quoted(str(data.resolve()))}"]
    recipe = load_recipe(folder / "recipe.toml", overrides)
    try:
        return _build(recipe, folder, processes), folder
    except DataError as error:
        if error.reference != "missing-file" or data is not None or Path(recipe.data.source).exists():
            raise
        hint = f"If the run or its data was moved, say where the data is: tuplet train --resume {folder} --data PATH"
        raise DataError(error.message, hint=hint, reference="missing-file") from error


def _build(
    recipe: "Recipe", folder: Path, processes: "Processes | None", reader: "Reader | None" = None
) -> "Job | WordJob":
    from tuplet.engine import ALONE
    from tuplet.recipes import build, build_words

    if recipe.data.kind == "words":
        return build_words(recipe, cache=cache_beside(folder))
    return build(recipe, cache=cache_beside(folder), processes=processes or ALONE, reader=reader)


def cache_beside(run: Path) -> Path:
    """Where data that is drawn once is kept: beside the runs."""
    return run.absolute().parent / ".cache"


def run_and_report(
    job: "Job | WordJob", folder: Path, *, resume: bool, device: str = "auto", processes: "Processes | None" = None
) -> dict[str, Any] | None:
    """Train and write the report; returns what `evaluation.json` says.

    Of several processes the first alone shows and writes; the others return None.
    """
    from tuplet.app.report import write_report
    from tuplet.engine import ALONE
    from tuplet.training import run

    processes = processes or ALONE
    try:
        follow(
            run(job, folder, resume=resume, processes=processes, device=device_of(device, processes)),
            steps=job.settings.steps,
            quiet=processes.rank > 0,
        )
    except KeyboardInterrupt:
        if processes.rank == 0:
            remark(f"\nStopped; all steps so far are saved. Go on with:\n  tuplet train --resume {folder}")
        raise typer.Exit(130) from None
    if processes.rank > 0:
        return None
    remark("Writing the report ...")
    write_report(folder)
    return json.loads((folder / "evaluation.json").read_text(encoding="utf-8"))


def show_run(folder: Path, evaluation: dict[str, Any], *, as_json: bool) -> None:
    """The verdict of a run, and where to find it."""
    report = folder / "report.html"
    if as_json:
        from tuplet.app.measures import verdict_of

        found = {"run": str(folder), "report": str(report), **evaluation, "verdict": verdict_of(evaluation)}
        print(to_json(found))
        return
    show_evaluation(evaluation)
    remark(f"run     {folder}\nreport  {report}")


@contextmanager
def together() -> "Iterator[Processes]":
    """The processes that `torchrun` started, or this one alone."""
    import torch.distributed as dist

    from tuplet.engine import ALONE, Processes

    if not is_one_of_several():
        yield ALONE
        return
    dist.init_process_group()  # NCCL between accelerators, gloo between the rest
    try:
        yield Processes.default()
    except RuntimeError as error:
        if not any(sign in str(error) for sign in _LEFT_ALONE):
            raise
        raise typer.Exit(1) from None  # the process that ended first has said why
    finally:
        dist.destroy_process_group()


@contextmanager
def after_the_first(processes: "Processes") -> "Iterator[None]":
    """The first process goes ahead: what is drawn once is there for the others, and a mistake or a remark is told once.

    It waits at the end, so that all choose the same folder before one of them makes it.
    """
    from tuplet.training.together import agreed

    if processes.rank > 0:
        logging.getLogger("tuplet").setLevel(logging.ERROR)
        agreed(0.0, processes)
    yield
    if processes.rank == 0:
        agreed(0.0, processes)
    agreed(0.0, processes)


def device_of(name: str, processes: "Processes | None" = None) -> str:
    """Where this process computes: with several on one machine, each has an accelerator of its own."""
    import torch

    from tuplet.training.together import anyone

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name).tolist()  # `meta` holds no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:  # AssertionError: torch without CUDA
        raise typer.BadParameter(f"--device {name} is not available. Try --device cpu.") from error
    if name != "cuda" or processes is None or processes.size == 1:
        return name
    own, there = torch.distributed.get_node_local_rank(), torch.cuda.device_count()
    if anyone(own >= there, processes):
        raise typer.BadParameter(f"Each process needs an accelerator of its own; there are {there}. Try --device cpu.")
    return f"cuda:{own}"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
