"""What each error means and what to do about it: the sections of docs/errors.md, which the wheel carries."""

import re
from pathlib import Path

_CHECKOUT = Path(__file__).parents[3] / "docs" / "errors.md"
_INSTALLED = Path(__file__).parents[1] / "errors.md"


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
