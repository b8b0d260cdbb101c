"""`tuplet demo`."""

from pathlib import Path
from typing import Annotated

import typer

from tuplet.app.cli.options import Json
from tuplet.app.cli.show import remark

EPILOG = """
\b
Examples:
  tuplet demo                                        about two minutes on two cores
  tuplet demo --steps 200                            a glance
"""


def demo(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder of all runs.")] = Path("runs"),
    steps: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Steps to train; by default those of the recipe.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Train on drawn letters and write a report.

    It learns from half of the characters of 16 typefaces and has to recognise the other half. Nothing is downloaded:
    the letters are drawn from the fonts that come with matplotlib.
    """
    from tuplet.app.cli.running import new_run, run_and_report

    remark("Drawing letters and numbers of 16 typefaces ...")
    job, folder = new_run("glyphs", out=out, data=None, name=None, steps=steps, changes=["name=demo"])
    run_and_report(job, folder, resume=False, device="auto", as_json=as_json)
    remark(
        f"\nNext:\n"
        f"  tuplet evaluate {folder}\n"
        f"  tuplet runs {out}\n"
        f"  tuplet train photos/            your own images, one folder per class"
    )
