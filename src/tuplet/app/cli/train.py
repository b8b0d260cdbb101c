"""`tuplet train`."""

import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuplet.app.cli.options import (
    Device,
    Download,
    Json,
    Require,
    SkipBroken,
    Trust,
    check_required,
    parse_required,
    show_presets,
    with_skip_broken,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from tuplet.app.cli.running import Place
    from tuplet.engine import Processes
    from tuplet.results import Evaluation
    from tuplet.training import Job

EPILOG = """
\b
Examples:
  tuplet train photos/                               one folder per class
  tuplet train table.csv --name wine                 numbers, with a column `label`
  tuplet train glyphs --steps 500 --set loss.margin=0.3
  tuplet train recipe.toml --data other/ --require recall@1=0.9
  tuplet train arcface-2019 --data photos/           the settings of a paper; --list shows all presets
  tuplet train --resume runs/photos                  after Ctrl-C, a crash or a power cut
  tuplet train --resume runs/photos --steps 3000     more steps than it was to take
  tuplet train photos/ --set model.encoder=dinov2-small --download
  tuplet train --from runs/photos --data more/       a new run from the weights of another one
  torchrun --nproc-per-node 4 -m tuplet train recipe.toml
"""


Source = Annotated[
    str | None,
    typer.Argument(metavar="RECIPE|DATA", help="A recipe, a preset, or data: folder, CSV, .npy, .ts, .tar or .txt."),
]
Data = Annotated[
    Path | None,
    typer.Option(metavar="PATH", help="Data to use instead of the recipe's; with --resume, where it was moved to."),
]
Out = Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of all runs.")]
Name = Annotated[str | None, typer.Option(metavar="NAME", help="Name of this run; default: the recipe's.")]
Changes = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1,
        metavar="N",
        help="Steps to train; short for --set train.steps=N. With --resume: in all, from now on.",
    ),
]
Resume = Annotated[Path | None, typer.Option(metavar="RUN", help="Resume an interrupted run.")]
Start = Annotated[
    Path | None,
    typer.Option("--from", metavar="RUN", help="Start from the weights of a run; its recipe if none is named."),
]
List = Annotated[bool, typer.Option("--list", help="List the presets and exit.")]


def train(
    source: Source = None,
    data: Data = None,
    out: Out = Path("runs"),
    name: Name = None,
    changes: Changes = None,
    steps: Steps = None,
    resume: Resume = None,
    skip_broken: SkipBroken = False,
    exclude: Annotated[
        Path | None,
        typer.Option(metavar="TABLE", help="Leave out what a table of `tuplet audit` marks: --set data.exclude=TABLE."),
    ] = None,
    start: Start = None,
    trust: Trust = False,
    download: Download = False,
    require: Require = None,
    device: Device = "auto",
    is_list: List = False,
    as_json: Json = False,
) -> None:
    """Train an embedding, evaluate it, write a report.

    It is evaluated on classes it has not seen, beside the raw input. The run gets a folder of its own, with the model,
    an index to search and a report.
    """
    if is_list:
        show_presets(as_json=as_json)
        return
    required, changes = parse_required(require), with_skip_broken(changes, skip_broken=skip_broken)
    changes += [] if exclude is None else [f"data.exclude={json.dumps(str(exclude), ensure_ascii=False)}"]
    if resume is not None and (source or name or changes or start or download):
        raise typer.BadParameter(
            "A resumed run keeps its recipe: only --data, --steps and --device go with --resume. A new run from its "
            f"weights, with other settings: tuplet train --from {resume}"
        )
    if source is None and resume is None and start is None:
        raise typer.BadParameter("Name a recipe or data to train on, a run to --resume, or one to start --from.")
    from tuplet.app.cli.running import device_of, is_done, new_run, old_run, report_again, show_run, together

    with together() as processes:
        device = device_of(device, processes)
        if resume is not None and steps is None and is_done(resume, processes):
            evaluation, folder = report_again(resume, processes), resume
        elif resume is not None:
            begin = partial(old_run, resume, processes, data=data, steps=steps, trust=trust)
            evaluation, folder = _run(begin, processes, device, resume=True, extend=steps is not None)
        else:
            known = partial(new_run, source, processes=processes, trust=trust, download=download, start=start)
            begin = partial(known, out=out, data=data, name=name, steps=steps, changes=changes)
            evaluation, folder = _run(begin, processes, device)
    if evaluation is not None:
        show_run(folder, evaluation, as_json=as_json)
    if processes.rank == 0:
        check_required(required, evaluation)


def _run(
    begin: "Callable[[], tuple[Job, Place]]",
    processes: "Processes",
    device: str,
    *,
    resume: bool = False,
    extend: bool = False,
) -> "tuple[Evaluation | None, Path]":
    """Train what `begin` makes, and report; its evaluation, in the first process, and its folder."""
    from tuplet.app.cli.running import after_the_first, run_and_report
    from tuplet.app.cli.show import log
    from tuplet.app.described import describe_facts
    from tuplet.results import DataSummary

    with after_the_first(processes):
        job, place = begin()
        if processes.rank == 0 and job.corpus is None and "faces" not in job.facts:
            log(describe_facts(DataSummary.model_validate(job.facts)))
    place = place.agree(processes)
    evaluation = run_and_report(job, place, resume=resume, extend=extend, device=device, processes=processes)
    return evaluation, place.folder
