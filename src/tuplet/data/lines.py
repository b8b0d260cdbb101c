"""Plain text files as data sets: an example on each line."""

from pathlib import Path

from tuplet.data.manifest import Manifest
from tuplet.data.source_errors import SourceErrors


def read_lines(path: Path) -> Manifest:
    """Reads a plain text file: every line that is not blank is an example.

    Raises:
        DataError: The file cannot be read, or all of it is blank.
    """
    problems = SourceErrors(str(path))
    lines = {
        number: line.strip() for number, line in enumerate(_text(path, problems).splitlines(), start=1) if line.strip()
    }
    if not lines:
        problems.add("empty-source", "there is no text in it")
    problems.raise_if_any()
    return Manifest(
        kind="text",
        ids=tuple(str(number) for number in lines),
        items=tuple(lines.values()),
        source=str(path),
        lines=tuple(lines),
    )


def _text(path: Path, problems: SourceErrors) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        problems.add("unreadable-source", f"byte {error.start} is not UTF-8 text", hint="Save the text as UTF-8.")
    except OSError as error:
        problems.add("unreadable-source", f"{error.strerror}")
    problems.raise_if_any()
    return ""
