"""`tuplet explain`."""

import difflib
import re
from pathlib import Path
from typing import Annotated

import typer

from tuplet.app.cli.options import Json
from tuplet.app.cli.show import show_rows, to_json

EPILOG = """
\b
Examples:
  tuplet explain missing-column                      what it means, and what to do
  tuplet explain                                     every error that tuplet knows
"""


_CHECKOUT = Path(__file__).parents[4] / "docs" / "errors.md"
_INSTALLED = Path(__file__).parents[2] / "errors.md"


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


def explanations() -> dict[str, str]:
    """The text of each section by its id, in the order of the page.

    A wheel holds the page beside the package's modules; in a checkout it is where it is written.
    """
    page = _INSTALLED if _INSTALLED.exists() else _CHECKOUT
    parts = re.split(r"^(#{2,3}) (\S.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    sections = zip(parts[::3], parts[1::3], parts[2::3], strict=True)
    return {title: text.strip() for level, title, text in sections if level == "###"}


def first_sentence(text: str) -> str:
    """What stands before the first full stop that ends a sentence, on one line."""
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]
