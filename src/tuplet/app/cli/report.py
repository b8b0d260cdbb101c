"""`tuplet report`."""

from pathlib import Path
from typing import Annotated

import typer

from tuplet.app.cli.options import Device, Json
from tuplet.app.cli.show import to_json

EPILOG = """
\b
Examples:
  tuplet report runs/photos                          writes runs/photos/report.html
  xdg-open "$(tuplet report runs/photos)"
"""


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run.")],
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Write the report of a run: one HTML file that opens offline."""
    from tuplet.app.cli.running import device_of
    from tuplet.app.report import write_report

    path = write_report(run, device_of(device))
    print(to_json({"report": str(path)}) if as_json else path)
