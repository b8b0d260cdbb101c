"""The verdict of a run, as a table."""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tuplet.app.cli.show import remark, show_rows

if TYPE_CHECKING:
    from tuplet.app.verdict import Interval, Measure


def show_evaluation(evaluation: Mapping[str, Any], *, everything: bool = False) -> None:
    """Raw input against the model, with 95 % intervals; a remark if training did not help."""
    from tuplet.app.verdict import is_better, measures, state_data

    lines = measures(evaluation)
    shown = [line for line in lines if everything or line.is_main]
    remark(state_data(evaluation))
    if not lines:
        return
    if sys.stdout.isatty():
        words = [{"": line.name, "raw input": _text(line.raw), "model": _text(line.model)} for line in shown]
        show_rows(words, ["", "raw input", "model"], as_json=False, right=("raw input", "model"))
    else:
        rows = [_numbers(line) for line in shown]
        show_rows(rows, list(rows[0]), as_json=False)
    if not is_better(evaluation):
        remark(
            "The model is not clearly better than the raw input. What helps most often: more classes to train on, "
            "fewer steps (--steps), another loss (--set loss.name=supcon)."
        )


def _text(entry: "Interval | None") -> str:
    return f"{entry.value:.3f}  [{entry.low:.3f}, {entry.high:.3f}]" if entry else "–"


def _numbers(line: "Measure") -> dict[str, str | float | None]:
    row: dict[str, str | float | None] = {"measure": line.key, "protocol": line.protocol}
    for of, entry in (("raw", line.raw), ("model", line.model)):
        low, high = (entry.low, entry.high) if entry else (None, None)
        row |= {of: entry.value if entry else None, f"{of}_low": low, f"{of}_high": high}
    return row
