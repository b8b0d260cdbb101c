"""`tuplet runs`."""

from pathlib import Path
from typing import Annotated

import typer

from tuplet.app.cli.options import Json
from tuplet.app.cli.show import log, show_rows

EPILOG = """
\b
Examples:
  tuplet runs                                        every run in runs/, best last
  tuplet runs --json | jq 'select(.model > 0.9)'
"""


def runs(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of all runs.")] = Path("runs"),
    as_json: Json = False,
) -> None:
    """List runs, what they reached and how they differ."""
    from tuplet.app.history import read_runs

    rows = read_runs(folder)
    if not rows:
        log(f"There is no run in {folder}. Start one: tuplet demo")
        return
    show_rows(rows, ["run", "state", "measure", "raw", "model", "differs"], as_json=as_json)
