"""`tuplet train`."""

from pathlib import Path
from typing import Annotated

import typer

from tuplet.app.cli.options import (
    Device,
    Json,
    Require,
    SkipBroken,
    Trust,
    check_required,
    parse_required,
    show_presets,
    with_skip_broken,
)

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
  tuplet train --from runs/photos --data more/       a new run from the weights of another one
  torchrun --nproc-per-node 4 -m tuplet train recipe.toml
"""


def train(
    source: Annotated[
        str | None,
        typer.Argument(metavar="RECIPE|DATA", help="A recipe, a preset, or data: folder, CSV, .npy, .ts or .txt."),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="PATH", help="Data that takes the place of the recipe's; with --resume, where it was moved to."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of all runs.")] = Path("runs"),
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of this run; by default that of the recipe.")
    ] = None,
    changes: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change one setting.")] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Steps to train; short for --set train.steps=N. With --resume: in all, from now on.",
        ),
    ] = None,
    resume: Annotated[Path | None, typer.Option(metavar="RUN", help="Go on with an interrupted run.")] = None,
    skip_broken: SkipBroken = False,
    start: Annotated[
        Path | None,
        typer.Option("--from", metavar="RUN", help="Start from the weights of a run; its recipe if none is named."),
    ] = None,
    trust: Trust = False,
    require: Require = None,
    device: Device = "auto",
    is_list: Annotated[bool, typer.Option("--list", help="Show the presets and leave.")] = False,
    as_json: Json = False,
) -> None:
    """Train an embedding, judge it, write a report.

    It is judged on classes it has not seen, beside the raw input. The run gets a folder of its own, with the model, an
    index to search and a report.
    """
    if is_list:
        show_presets(as_json=as_json)
        return
    required, changes = parse_required(require), with_skip_broken(changes, skip_broken=skip_broken)
    if resume is not None and (source or name or changes or start):
        raise typer.BadParameter(
            "A resumed run keeps its recipe: only --data, --steps and --device go with --resume. A new run from its "
            f"weights, with other settings: tuplet train --from {resume}"
        )
    if source is None and resume is None and start is None:
        raise typer.BadParameter("Name a recipe or data to train on, a run to --resume, or one to start --from.")
    from tuplet.app.cli.running import (
        after_the_first,
        device_of,
        is_done,
        new_run,
        old_run,
        report_again,
        run_and_report,
        show_run,
        together,
    )
    from tuplet.app.cli.show import remark
    from tuplet.app.reading import told_of

    with together() as processes:
        device = device_of(device, processes)
        if resume is not None and steps is None and is_done(resume, processes):
            evaluation, folder = report_again(resume, processes), resume
        else:
            with after_the_first(processes):
                if resume is not None:
                    job, place = old_run(resume, processes, data=data, steps=steps, trust=trust)
                else:
                    job, place = new_run(
                        source,
                        out=out,
                        data=data,
                        name=name,
                        steps=steps,
                        changes=changes,
                        processes=processes,
                        start=start,
                        trust=trust,
                    )
                if processes.rank == 0 and "kind" in job.facts and "faces" not in job.facts:
                    remark(told_of(job.facts))
            place = place.agree(processes)
            folder, is_old = place.folder, resume is not None
            evaluation = run_and_report(
                job, place, resume=is_old, extend=steps is not None, device=device, processes=processes
            )
    if evaluation is not None:
        show_run(folder, evaluation, as_json=as_json)
    if processes.rank == 0:
        check_required(required, evaluation)
