"""Names of examples that a table leaves out."""

import csv
from pathlib import Path

from tuplet.errors import DataError


def read_excluded(path: Path) -> set[str]:
    """Names of the rows of a table of findings whose column `exclude` says yes.

    Raises:
        DataError: If there is no such table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as problem:
        raise DataError(
            f"{path} cannot be read: {problem}.",
            hint="Give the table that `tuplet audit` wrote, or that its page exported.",
            reference="exclude-table",
        ) from problem
    if rows and not {"id", "exclude"} <= rows[0].keys():
        raise DataError(
            f"{path} has no columns id and exclude.",
            hint="Give the table that `tuplet audit` wrote, or that its page exported.",
            reference="exclude-table",
        )
    return {str(row["id"]) for row in rows if str(row["exclude"]).strip().lower() in {"yes", "true", "1", "x"}}
