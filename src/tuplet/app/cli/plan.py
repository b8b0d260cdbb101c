"""`tuplet plan`."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuplet.app.cli.options import Device, Download, Json, SkipBroken, Trust, with_skip_broken
from tuplet.app.cli.show import log, show_rows, to_json

if TYPE_CHECKING:
    from tuplet.recipes import Plan

EPILOG = """
\b
Examples:
  tuplet plan recipe.toml                            time, memory, and problems in the data
  tuplet plan arcface-2019 --data photos/
  tuplet plan photos/ --set batch.per_class=4 --json
"""


def plan(
    source: Annotated[str, typer.Argument(metavar="RECIPE|DATA", help="A recipe, a preset, or data.")],
    data: Annotated[Path | None, typer.Option(metavar="PATH", help="Data to use instead of the recipe's.")] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")] = None,
    skip_broken: SkipBroken = False,
    device: Device = "auto",
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of all runs.")] = Path("runs"),
    trust: Trust = False,
    download: Download = False,
    as_json: Json = False,
) -> None:
    """Say what a training will take, and what may be wrong.

    A few steps are taken for it and thrown away; nothing is written.
    """
    from dataclasses import asdict

    from tuplet.app.cli.running import cache_beside, device_of, find_recipe
    from tuplet.app.described import describe_facts
    from tuplet.recipes import Reader, fetch_models
    from tuplet.recipes import plan as make_plan
    from tuplet.results import DataSummary

    with TemporaryDirectory() as scratch:
        known = cache_beside(out / "run")
        reader = Reader(known if known.is_dir() else Path(scratch))
        overrides = with_skip_broken(changes, skip_broken=skip_broken)
        recipe = find_recipe(source, data=data, changes=overrides, reader=reader)
        if download:
            fetch_models(recipe, log)
        made = make_plan(recipe, cache=reader.cache, reader=reader, trust=trust, device=device_of(device))
    if recipe.data.kind != "words" and recipe.data.source != "glyphs":
        log(describe_facts(DataSummary.model_validate(made.source)))
    if as_json:
        print(to_json(asdict(made)))
        return
    show_rows([*_rows(made)], ["of", "what", "value"], as_json=False, right=("value",))
    for warning in made.warnings:
        log(f"warning: {warning}")


def _rows(made: "Plan") -> Iterator[Mapping[str, Any]]:
    """The plan in the words of a table."""
    for split in ("train", "validation", "test"):
        counts = made.data.get(split)
        if counts is None:
            continue
        classes = f" of {counts['classes']:,} classes" if counts["classes"] else ""
        yield _row("data", split, f"{counts['examples']:,} examples{classes}")
        if "median" in counts:
            sizes = f"{counts['smallest']:,} / {counts['median']:,} / {counts['largest']:,}"
            yield _row("data", f"{split}, smallest / median / largest class", sizes)
    steps = made.steps
    yield _row("steps", "batch", f"{steps['batch']:,.0f} examples")
    yield _row("steps", "batches per epoch", f"{steps['batches_per_epoch']:,}")
    yield _row("steps", "in all", f"{steps['steps']:,} steps, {steps['epochs']:.1f} epochs")
    yield _row("steps", "validations", f"{steps['validations']:,}")
    for part, size in made.memory.items():
        if size:
            yield _row("memory", _MEMORY.get(part, part), _bytes(size))
    seconds = made.seconds
    spread = f"{_clock(seconds['step'])} ({_clock(seconds['step_low'])} to {_clock(seconds['step_high'])})"
    yield _row("time", "step, median (fastest to slowest)", spread)
    if seconds["loading"]:
        yield _row("time", "of which waiting for data", _clock(seconds["loading"]))
    for part in ("epoch", *(["validation"] if steps["validations"] else []), "in_all"):
        yield _row("time", part.replace("_", " "), _clock(seconds[part]))


_MEMORY = {
    "data": "examples, decoded",
    "weights": "weights of the encoder",
    "optimizer": "optimiser",
    "averaged": "averaged weights",
    "head": "parameters of the loss",
    "bank": "memory bank or queue",
    "activations": "activations saved for backward",
    "step": "peak of a step",
    "checkpoint": "one checkpoint on disk",
}


def _row(of: str, what: str, value: str) -> dict[str, str]:
    return {"of": of, "what": what, "value": value}


def _clock(seconds: float) -> str:
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:,.1f} {unit}"
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def _bytes(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:,.{0 if unit == 'B' else 1}f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
