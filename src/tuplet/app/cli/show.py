"""Output of commands: results to stdout, notes to stderr.

A result is a table on a terminal, tab-separated lines in a pipe, and one JSON object per line with `--json`.
"""

import json
import math
import re
import shutil
import sys
import textwrap
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tuplet.app.metrics import Metric
    from tuplet.results import Evaluation, Interval

Row = Mapping[str, Any]
_COLUMNS = {"raw": "raw input", "untrained": "untrained", "model": "model"}
_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but tab and line break, those that turn the direction of writing, and bytes that are no text."""


def visible(text: str) -> str:
    """Text in which nothing steers the terminal: names in data are anybody's, and such characters are written out."""
    return _STEERING.sub(_written_out, text)


def _written_out(found: re.Match[str]) -> str:
    return f"\\u{ord(found[0]):04x}"  # as JSON writes it, which holds such text too


def log(text: str) -> None:
    """Words for the person who waits, never part of the result; wrapped where a terminal ends."""
    text = visible(text)
    if sys.stderr.isatty():
        text = "\n".join(_wrapped(line) for line in text.split("\n"))
    print(text, file=sys.stderr, flush=True)


def _wrapped(line: str) -> str:
    width = shutil.get_terminal_size().columns
    if len(line) <= width or line.startswith(" "):  # what is indented is there to be copied
        return line
    return textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)


def show_rows(rows: Sequence[Row], columns: Sequence[str], *, as_json: bool, right: Sequence[str] = ()) -> None:
    """The rows of a result.

    Args:
        rows: One mapping per line.
        columns: Keys to show, in this order; JSON shows all.
        as_json: One JSON object per row.
        right: Columns of text that stand to the right, as numbers always do.
    """
    if as_json:
        for row in rows:
            print(to_json(row))
    elif sys.stdout.isatty():
        _print_table(rows, columns, right)
    else:
        print("\t".join(columns))
        for row in rows:
            print("\t".join(_one_line(row.get(column)) for column in columns))


def to_json(value: Any) -> str:
    """One line of strict JSON: what is not finite becomes null."""
    return visible(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _print_table(rows: Sequence[Row], columns: Sequence[str], right: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        is_right = column in right or any(isinstance(row.get(column), int | float) for row in rows)
        table.add_column(Text(column), justify="right" if is_right else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(_one_line(row.get(column))) for column in columns))
    Console().print(table)


def _one_line(value: Any) -> str:
    if value is None:
        return ""
    text = f"{value:.4f}" if isinstance(value, float) else str(value)
    return visible(" ".join(text.split()))


def show_evaluation(evaluation: "Evaluation", *, everything: bool = False) -> None:
    """Raw input against the model, with 95 % intervals; a note if training did not help."""
    from tuplet.app.metrics import metrics_of
    from tuplet.app.summary import advice, state_data, state_finding

    lines = metrics_of(evaluation)
    shown = [line for line in lines if everything or line.is_main]
    log(state_data(evaluation))
    if not shown:
        return
    columns = [of for of in _COLUMNS if of != "untrained" or any(line.untrained for line in lines)]
    if sys.stdout.isatty():
        titles = [_COLUMNS[of] for of in columns]
        words = [{"": line.name, **{_COLUMNS[of]: _text(getattr(line, of)) for of in columns}} for line in shown]
        show_rows(words, ["", *titles], as_json=False, right=titles)
    else:
        rows = [_numbers(line, columns) for line in shown]
        show_rows(rows, list(rows[0]), as_json=False)
    log(advice(evaluation) or f"{state_finding(evaluation)}.")


def _text(entry: "Interval | None") -> str:
    return f"{entry.value:.3f}  [{entry.low:.3f}, {entry.high:.3f}]" if entry else "–"


def _numbers(line: "Metric", columns: list[str]) -> dict[str, str | float | None]:
    row: dict[str, str | float | None] = {"measure": line.key, "protocol": line.protocol}
    for of in columns:
        entry = getattr(line, of)
        low, high = (entry.low, entry.high) if entry else (None, None)
        row |= {of: entry.value if entry else None, f"{of}_low": low, f"{of}_high": high}
    return row
