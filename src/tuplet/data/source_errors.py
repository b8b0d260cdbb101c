"""Everything that is wrong with a source, collected and reported in one error."""

from typing import Literal

from tuplet.errors import DataError

SHOWN = 20

HINTS = {
    "broken-image": "Replace or remove these files; images are PNG, JPEG, GIF, BMP, TIFF, WebP or PNM.",
    "broken-sound": "Replace or remove these files; sounds are WAV, or FLAC, OGG, MP3 and AIFF with the extra `audio`.",
    "damaged-archive": "Copy these files again from where they came.",
    "image-depth": "Save them with 8 bits a channel, or as grey images, which are scaled by their range.",
    "missing-file": "Correct the paths; they are relative to the table that names them.",
    "missing-value": "Fill in these cells, or remove the lines.",
    "not-a-number": "Every cell must hold a finite number. Correct these cells, remove the lines, or name the "
    "columns to read: --set data.columns.inputs=['A','B']",
    "missing-column": "Rename a column, or say which one it is: --set data.columns.NAME=...",
    "no-header": "Write a line of column names above the table, or use --set data.columns.header=false: the "
    "columns are then called column1, column2, ...",
    "unclear-columns": "Say which column is what: --set data.columns.label=NAME",
    "unclear-arrays": "Call them x, labels, targets, ids, splits and groups, or say which holds the examples: --set "
    "\"data.columns.inputs=['NAME']\"",
    "bad-json": 'Write one JSON object per line, such as {"label": "a", "x0": 1.5}.',
    "wrong-cell-count": "Put cells that contain the separator in double quotes; give every line all columns.",
    "duplicate-id": "Give every example its own id; list every example once.",
    "unknown-role": "Write query for query examples, gallery for gallery examples, and nothing for the others.",
    "unknown-split": 'Write "train", "validation" or "test" in the split column, or leave the cell empty.',
    "empty-source": "A folder needs images or sounds at CLASS/FILE; a table needs a header and one line per example.",
    "label-count": "Labels must be in the order of the rows, one for each.",
    "bad-labels": "Save class ids as integers (int64) or as text, one per row; graded values belong in the targets.",
    "ambiguous-array": "Say what an example is: --set data.kind=image, or series.",
    "bad-array": 'Save numbers (n, d) for vectors; (n, t) or (n, channels, t) for series, and say kind = "series".',
    "bad-series": "A line after @data is DIM1:DIM2:...:LABEL with comma-separated values and no missing ones.",
    "unreadable-source": "Give a folder, or a .csv, .tsv, .parquet, .jsonl, .npy, .npz, .ts or .txt file that can be "
    "read.",
}
"""What to do about each kind of problem; the key is its heading in docs/errors.md."""


class SourceErrors:
    """Problems of one source, in the order of its lines.

    Args:
        source: What is being read, as it is called in the message; "" if each problem names its own.

    Attributes:
        unit: What is counted to tell a place.
    """

    def __init__(self, source: str = "") -> None:
        self.source = source
        self.unit: Literal["line", "row"] = "line"
        self._found: list[tuple[int, str, str, str]] = []  # line (0: the whole source), text, reference, hint

    def __len__(self) -> int:
        return len(self._found)

    def add(self, reference: str, text: str, *, line: int = 0, hint: str = "") -> None:
        """Adds a problem.

        Args:
            reference: Kind of problem, a key of `HINTS`.
            text: What was found.
            line: Where, counted from 1; 0 means the source as a whole.
            hint: What to do, if there is more to say than `HINTS` does.
        """
        self._found.append((line, text, reference, hint or HINTS[reference]))

    def raise_if_any(self) -> None:
        """Raises one error with all problems found so far.

        Raises:
            DataError: There are problems.
        """
        if not self._found:
            return
        found = sorted(self._found, key=lambda problem: problem[0])
        lines = [f"{self.unit} {line}: {text}" if line else text for line, text, _, _ in found]
        if len(found) == 1:
            separator = ", " if found[0][0] else ": "
            message = f"{self.source}{separator * bool(self.source)}{lines[0]}"
        else:
            more = [f"... and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
            head = f"{self.source} has {len(found)} problems:" if self.source else f"There are {len(found)} problems:"
            message = "\n  ".join([head, *lines[:SHOWN], *more])
        references = dict.fromkeys(reference for _, _, reference, _ in found)
        hints = dict.fromkeys(hint for _, _, _, hint in found)
        raise DataError(
            message,
            hint="\n".join(hints),
            reference=next(iter(references)) if len(references) == 1 else "bad-data",
        )
