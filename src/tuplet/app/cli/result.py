"""The results of a run, as a table."""

import sys
from typing import TYPE_CHECKING

from tuplet.app.cli.show import log, show_rows

if TYPE_CHECKING:
    from tuplet.app.metrics import Metric
    from tuplet.results import Evaluation, Interval

_COLUMNS = {"raw": "raw input", "untrained": "untrained", "model": "model"}


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
