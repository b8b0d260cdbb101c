"""`tuplet explain`."""

import difflib
from typing import Annotated

import typer

from tuplet.app.cli.options import Json
from tuplet.app.cli.show import show_rows, to_json
from tuplet.app.explanations import explanations, first_sentence

EPILOG = """
\b
Examples:
  tuplet explain missing-column                      what it means, and what to do
  tuplet explain                                     every error that tuplet knows
"""


def explain(
    error_id: Annotated[
        str | None, typer.Argument(metavar="ERROR-ID", help="The id in the last line of an error; none lists all.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Say what an error means and what to do about it."""
    known = explanations()
    if error_id is None:
        rows = [{"error": name, "about": first_sentence(text)} for name, text in known.items()]
        show_rows(rows, ["error", "about"], as_json=as_json)
        return
    if error_id not in known:
        near = difflib.get_close_matches(error_id, known)
        hint = f"Did you mean {' or '.join(near)}?" if near else "`tuplet explain` lists all."
        raise typer.BadParameter(f"no error has the id {error_id!r}. {hint}")
    print(to_json({"error": error_id, "text": known[error_id]}) if as_json else known[error_id])
