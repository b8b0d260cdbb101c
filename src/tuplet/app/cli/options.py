"""Options that several commands share."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuplet.app.cli.show import log, show_rows

if TYPE_CHECKING:
    from tuplet.results import Evaluation

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SkipBroken = Annotated[
    bool, typer.Option("--skip-broken", help="Leave out images of a folder that cannot be decoded, and list them.")
]
Trust = Annotated[bool, typer.Option("--trust", help="Import the code that a recipe or a model names as `callable`.")]
Download = Annotated[
    bool,
    typer.Option("--download", help="Fetch the pretrained model that the recipe names, if the cache does not hold it."),
]
Pictures = Annotated[
    Path | None,
    typer.Option(
        metavar="FOLDER",
        help="The collection, for its pictures: files with the names of the items. A run has small ones of its own.",
    ),
]
Device = Annotated[str, typer.Option(metavar="NAME", help="cpu, cuda, or auto: an accelerator if there is one.")]
Require = Annotated[
    list[str] | None,
    typer.Option(metavar="METRIC=VALUE", help="Exit with code 6 unless the model reaches this, e.g. recall@1=0.9."),
]


def require_pictures(folder: Path | None) -> None:
    """Refuse a collection that is not there, whose pictures would be missing in silence.

    Raises:
        MissingFileError: If it is no folder.
    """
    from tuplet.errors import MissingFileError

    if folder is not None and not folder.is_dir():
        raise MissingFileError(
            f"--pictures {folder} is no folder.",
            hint="Name the folder that the index was built from.",
            reference="missing-file",
        )


def with_skip_broken(changes: Sequence[str] | None, *, skip_broken: bool) -> list[str]:
    """Changes of a recipe, with what `--skip-broken` is short for."""
    return [*(changes or ()), *(["data.skip_broken=true"] if skip_broken else [])]


def parse_required(required: Sequence[str] | None) -> dict[str, float]:
    """`["recall@1=0.9"]` as numbers by name."""
    from tuplet.app.metrics import is_metric

    found = {}
    for text in required or ():
        name, _, value = text.rpartition("=")
        key = name.strip().lower()
        try:
            bound = float(value)
        except ValueError:
            bound = math.nan
        if not key or not math.isfinite(bound):
            raise typer.BadParameter(f"{text!r} does not say METRIC=VALUE with a number, such as recall@1=0.9.")
        if key.rpartition(":")[2] == "tar@far":
            raise typer.BadParameter(f"--require {text} lacks a value, such as {text}=0.9.")
        if not is_metric(key.rpartition(":")[2]):
            raise typer.BadParameter(
                f"--require {name}: no metric has that name. Examples: recall@1, map@r, spearman, tar@far=0.01."
            )
        found[key] = bound
    return found


def check_required(required: Mapping[str, float], evaluation: "Evaluation | None") -> None:
    """Leave with exit code 6 if a required quality was not met.

    `other_groups:recall@1` names a protocol; without one the first that has the measure is asked, the main one before
    the others. Where lower is better, the value is the most that is allowed.
    """
    from tuplet.app.metrics import metrics_of
    from tuplet.results import lower_is_better

    lines = metrics_of(evaluation) if required and evaluation else []
    is_met = True
    for name, bound in required.items():
        protocol, _, metric = name.rpartition(":")
        found = [line for line in lines if line.key == metric and protocol in ("", line.protocol)]
        if not found and evaluation and _is_undefined(evaluation, protocol, metric):
            log(f"required: {name} of {bound:g}; it is undefined for this model, which may have collapsed")
            is_met = False
            continue
        if not found:
            known = ", ".join(dict.fromkeys(line.key for line in lines if protocol in ("", line.protocol))) or "nothing"
            raise typer.BadParameter(f"--require {name}: there is no such metric here. Measured: {known}.")
        value = found[0].model.value
        if value > bound if lower_is_better(metric) else value < bound:
            log(f"required: {name} of {bound:g}; the model reaches {value:.4f}")
            is_met = False
    if not is_met:
        raise typer.Exit(6)


def show_presets(*, as_json: bool) -> None:
    """What `--list` shows: the presets by kind of supervision."""
    from tuplet.app.presets import list_presets

    show_rows(list_presets(), ["kind", "preset", "loss", "about"], as_json=as_json)


def _is_undefined(evaluation: "Evaluation", protocol: str, metric: str) -> bool:
    """Whether a metric was measured without a result, as the correlation of equal numbers."""
    found = (results for name, results in evaluation.protocols.items() if protocol in ("", name))
    return any(metric in results.model.values for results in found)
