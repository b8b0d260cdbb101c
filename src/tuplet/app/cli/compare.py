"""`tuplet compare`."""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuplet.app.cli.options import Device, Json, Trust
from tuplet.app.cli.show import log, show_rows, to_json

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from tuplet.comparison import ComparisonResult, Folder, Request
    from tuplet.comparison.schedule import Record
    from tuplet.recipes import Reader, Recipe

STEPS = 300
"""Of a training, where losses are named and nobody says how many: a first answer within minutes."""
EPILOG = """
\b
Examples:
  tuplet compare --losses supcon,triplet,proxy_anchor table.csv
  tuplet compare --losses supcon,arcface photos/ --minutes 2 --trials 10 --jobs 4
  tuplet compare a.toml b.toml --steps 2000          recipes that differ in their losses
  tuplet compare --losses supcon,pytorch_metric_learning.losses.MultiSimilarityLoss table.csv --trust
  tuplet compare --resume comparisons/table          after Ctrl-C, a crash or a power cut
"""


def compare(
    sources: Annotated[
        list[str] | None,
        typer.Argument(metavar="RECIPE...|DATA", help="Two recipes or more; or, with --losses, data or one recipe."),
    ] = None,
    losses: Annotated[
        str | None,
        typer.Option(metavar="A,B,...", help="Losses to compare; a dotted name is a class of another library."),
    ] = None,
    data: Annotated[Path | None, typer.Option(metavar="PATH", help="Data to use instead of the recipes'.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help=f"Steps of each training; with --losses by default {STEPS}.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.01, metavar="N", help="Minutes of each training instead; a few steps are timed first."),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, metavar="N", help="Settings tried for each, on validation data.")] = 5,
    seeds: Annotated[int, typer.Option(min=2, metavar="N", help="Trainings of each with the best settings.")] = 3,
    jobs: Annotated[int | None, typer.Option(min=1, metavar="N", help="Processes; by default up to 4.")] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of all comparisons.")] = Path("comparisons"),
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of this one; default: the data's.")] = None,
    resume: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Go on with an interrupted one.")] = None,
    device: Device = "auto",
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Compare losses on your data: better, worse or undecided.

    All get the same encoder, data, split, budget and number of trials; settings are chosen on validation examples, and
    the test examples are evaluated once, at the end.
    """
    if resume is not None and (sources or losses or changes or name or steps or minutes or data):
        raise typer.BadParameter("A resumed comparison keeps what was asked for: only --jobs, --device and --trust go.")
    if name is not None and (Path(name).name != name or name.startswith(".")):
        raise typer.BadParameter("--name is the name of a folder, without / and not starting with a dot.")
    if steps is not None and minutes is not None:
        raise typer.BadParameter("--steps and --minutes are two budgets; name one.")
    from tuplet.app.cli.running import device_of

    where = device_of(device)
    cache = (out if resume is None else resume.parent).absolute() / ".cache"
    if resume is not None:
        folder, request = _resumed(resume, cache, trust=trust)
    else:
        recipes, by_loss, reader = _recipes(sources or [], losses, data, changes or [], cache, trust=trust)
        folder, request = _begin(
            recipes,
            reader,
            by_loss=by_loss,
            budget=(steps or (STEPS if by_loss and minutes is None else None), minutes),
            trials=trials,
            seeds=seeds,
            place=(out, name),
            device=where,
            trust=trust,
        )
    found = _carried_out(folder, request, cache, jobs=jobs, device=where, trust=trust)
    _show(found, folder.path, as_json=as_json)


def _resumed(path: Path, cache: Path, *, trust: bool) -> "tuple[Folder, Request]":
    """An earlier comparison, held from now on, whose data is what it was."""
    from tuplet.comparison import Folder, check_data
    from tuplet.errors import DataError

    if not (path / "compare.toml").is_file():
        raise DataError(
            f"{path} holds no comparison: there is no compare.toml in it.",
            hint="Name a folder that `tuplet compare` has made, such as comparisons/table.",
            reference="no-comparison",
        )
    folder = Folder(path)
    try:
        request = folder.request()
        check_data(folder, request, cache, trust=trust)
    except BaseException:
        folder.give_back()
        raise
    return folder, request


def _recipes(
    sources: Sequence[str], losses: str | None, data: Path | None, changes: Sequence[str], cache: Path, *, trust: bool
) -> "tuple[list[Recipe], bool, Reader]":
    """The recipes to compare, and whether they are one recipe with several losses."""
    from tuplet.app.cli.running import find_recipe
    from tuplet.recipes import Reader
    from tuplet.recipes.imported import import_losses

    reader = Reader(cache)
    if losses is None:
        if len(sources) < 2:
            raise typer.BadParameter("Name two recipes or more, or data and --losses A,B.")
        return [find_recipe(one, data=data, changes=changes, reader=reader) for one in sources], False, reader
    if len(sources) != 1:
        raise typer.BadParameter("With --losses, name one recipe, preset or data set.")
    names = [name.strip() for name in losses.split(",") if name.strip()]
    import_losses(names, trust=trust)
    chosen = [[*changes, f"loss={{ name = {json.dumps(name)} }}"] for name in names]
    return [find_recipe(sources[0], data=data, changes=one, reader=reader) for one in chosen], True, reader


def _begin(
    recipes: "Sequence[Recipe]",
    reader: "Reader",
    *,
    by_loss: bool,
    budget: tuple[int | None, float | None],
    trials: int,
    seeds: int,
    place: tuple[Path, str | None],
    device: str,
    trust: bool,
) -> "tuple[Folder, Request]":
    """A new folder with what was asked for, after everything was built once."""
    from tuplet.comparison import Folder, entries_of, requested

    steps, minutes = budget
    entries = entries_of(recipes, by_loss=by_loss, steps=steps if minutes is None else 1000)
    request = requested(
        entries, trials=trials, seeds=seeds, minutes=minutes or 0.0, reader=reader, device=device, trust=trust
    )
    out, name = place
    return Folder.new(out, name or Path(recipes[0].data.source).stem, request, entries), request


def _carried_out(
    folder: "Folder", request: "Request", cache: Path, *, jobs: int | None, device: str, trust: bool
) -> "ComparisonResult":
    """Train what is missing, conclude, and write the page."""
    from tuplet.app.cli import leave_undisturbed
    from tuplet.app.report.comparison import write_page
    from tuplet.comparison import compare as carry_out
    from tuplet.comparison import concluded

    count = len(request.entries) * (request.trials + request.seeds)
    log(f"{folder.path}: {len(request.entries)} losses, {count} trainings of {_range(request.steps.values())} steps.")
    processes = jobs or (1 if device != "cpu" else min(4, os.cpu_count() or 1))
    try:
        progress = _progress(time.monotonic())
        carry_out(folder, request, cache=cache, jobs=processes, device=device, trust=trust, progress=progress)
    except KeyboardInterrupt:
        leave_undisturbed()
        log(f"\nStopped; finished trainings are kept. Go on with:\n  tuplet compare --resume {folder.path}")
        raise typer.Exit(130) from None
    finally:
        folder.give_back()
    found = concluded(folder, request)
    found.write(folder.path)
    write_page(found, folder.path)
    return found


def _range(steps: "Collection[int]") -> str:
    numbers = sorted(set(steps))
    return f"{numbers[0]:,}" if len(numbers) == 1 else f"{numbers[0]:,} to {numbers[-1]:,}"


def _progress(began: float) -> "Callable[[Record, int, int], None]":
    """Words for each finished training, with the time that is left."""
    from tuplet.app.metrics import name_of
    from tuplet.comparison.folder import TrialRecord

    first: list[int] = []

    def say(record: "Record", done: int, total: int) -> None:
        first.append(done)
        what = f"trial {record.number + 1}" if isinstance(record, TrialRecord) else f"seed {record.seed}"
        value = "not finite" if record.value is None else f"validation {name_of(record.measure)} {record.value:.3f}"
        left = (time.monotonic() - began) / (done - first[0] + 1) * (total - done)
        rest = f", about {left / 60:.0f} min left" if left >= 60 else ""
        log(f"{done} of {total}: {record.entry}, {what}: {value}, {record.seconds:.1f} s{rest}")

    return say


def _show(found: "ComparisonResult", folder: Path, *, as_json: bool) -> None:
    from tuplet.app.report.comparison import headline
    from tuplet.comparison.results import short

    if as_json:
        print(
            to_json({"folder": str(folder), "page": str(folder / "comparison.html"), **found.model_dump(mode="json")})
        )
        return
    rows = [
        {
            "loss": short(one.name),
            found.measure: one.value,
            "low": one.low,
            "high": one.high,
            "steps": one.steps,
            "seconds": one.seconds,
        }
        for one in found.entries
    ]
    show_rows(rows, list(rows[0]), as_json=False)
    log(f"{headline(found)}. {found.decided} of {len(found.pairs)} pairs are decided.")
    for pair in found.pairs:
        log(pair.sentence)
    log(f"page  {folder / 'comparison.html'}")
