"""The event log of a run: one JSON object per line in `events.jsonl`.

| kind | fields beside `kind`, `time` (seconds since 1970) and `seconds` (since this process began the run) |
| --- | --- |
| start | name, seed, steps, examples, classes, batches_per_epoch, batch, parameters |
| step | step, loss, learning_rate, gradient_norm, examples_per_second, waited, \
stats (`tuplet.losses.metrics`), spread, is_collapsed |
| evaluation | step, split (train, validation, test), of (raw, model, untrained), by (the measure that counts), best, \
values (by name: value, low, high) |
| checkpoint | step, path (relative to the run) |
| collapsed | step, since (of the first step that was seen collapsed), best_step, text; the training ends there |
| diverged | step (whose loss was not finite), text; the last event until the run is resumed |
| interrupted | step (whose checkpoint was saved); the last event until the run is resumed |
| extended | step (at which it was done before), steps |
| note | text; shown, but not in the event log |
| end | step, best_step, stopped_early |

`stats` are the loss's numbers by name, `spread` says how embeddings lie (`collapse.Spread`). `CLOCKS` are the fields in
which two runs of one recipe differ; `waited` is the share of the time in which the model waited for its batches.
"""

import json
import math
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

Event = dict[str, Any]
CLOCKS = ("time", "seconds", "examples_per_second", "waited")
_FORMER = {"lonely_share": "without_positives_share"}  # keys of `stats` in event logs of 0.1


def log_message(text: str) -> Event:
    """A message for the terminal; two runs of one recipe may differ in their messages, so it is not logged."""
    return {"kind": "note", "text": text}


def read_events(path: Path) -> list[Event]:
    """The events of a log; lines that were cut short or changed are left out, and a missing log has none."""
    return [event for line in _lines(path) if (event := _event(line)) is not None]


def _lines(path: Path) -> list[bytes]:
    """The complete lines of an event log."""
    return path.read_bytes().split(b"\n")[:-1] if path.is_file() else []


def _event(line: bytes) -> Event | None:
    try:
        event = json.loads(line)
    except (ValueError, RecursionError):  # bad JSON and bad UTF-8
        return None
    if not (isinstance(event, dict) and isinstance(event.get("kind"), str)):
        return None
    if isinstance(stats := event.get("stats"), dict):
        event["stats"] = {_FORMER.get(name, name): value for name, value in stats.items()}
    return event


class EventLog:
    """Appends events to a file.

    Args:
        path: The file, made if missing; None writes nowhere.
        keep: Events of an earlier process that stay; what it wrote after them is cut off.

    Attributes:
        lost: How many of these events are not there, or no longer events: a event log can be lost without the training.
    """

    def __init__(self, path: Path | None, keep: int = 0) -> None:
        self._began = time.monotonic()
        self._events, self.lost = keep, 0
        self._file = None
        if path is None:
            return
        lines = _lines(path)[:keep]
        kept = [line for line in lines if _event(line) is not None]
        self._events, self.lost = len(kept), keep - len(kept)
        self._file = path.open("a+b", buffering=0)
        if len(kept) < len(lines):
            self._file.truncate(0)
            self._put(b"".join(line + b"\n" for line in kept))
        else:
            self._file.truncate(sum(len(line) + 1 for line in kept))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()

    def write(self, kind: str, **fields: Any) -> Event:
        """Append an event and return it; the operating system has it when this returns, the disk after `settle`."""
        clock = {"time": round(time.time(), 3), "seconds": round(time.monotonic() - self._began, 3)}
        event: Event = {"kind": kind, **_finite(fields), **clock}
        self._put(json.dumps(event, allow_nan=False).encode() + b"\n")
        self._events += 1
        return event

    def _put(self, content: bytes) -> None:
        left = memoryview(content)
        while self._file is not None and left:  # a full disk takes a part first and complains after that
            left = left[self._file.write(left) :]

    def settle(self) -> int:
        """Force everything to the disk; how many events that is."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        return self._events


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN: they become null."""
    if isinstance(value, dict):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
