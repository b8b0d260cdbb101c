"""The diary of a run: one JSON object per line in `events.jsonl`.

| kind | fields beside `kind`, `time` (seconds since 1970) and `seconds` (since this process began the run) |
| --- | --- |
| start | name, seed, steps, examples, classes, batches_per_epoch, batch, parameters |
| step | step, loss, learning_rate, gradient_norm, examples_per_second, waited, \
stats (`tuplet.losses.readings`), spread, is_collapsed |
| evaluation | step, split (train, validation, test), of (raw, model, untrained), by (the measure that counts), best, \
values (by name: value, low, high) |
| checkpoint | step, path (relative to the run) |
| collapsed | step, since (of the first step that was seen collapsed), best_step, text; the training ends there |
| diverged | step (whose loss was not finite), text; the last event until the run is resumed |
| note | text; shown, but no part of the diary |
| end | step, best_step, stopped_early |

`stats` are the loss's numbers by name, `spread` says how embeddings lie (`watch.Spread`). `CLOCKS` are the fields in
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


def note(text: str) -> Event:
    """A remark for whoever watches; two runs of one recipe may differ in their remarks, so it is not written."""
    return {"kind": "note", "text": text}


def read_events(path: Path) -> list[Event]:
    """The events of a diary; a last line that was cut short is left out."""
    lines = path.read_bytes().split(b"\n")
    return [json.loads(line) for line in lines[:-1]]


class Diary:
    """Appends events to a file.

    Args:
        path: The file, made if missing; None writes nowhere.
        keep: Events of an earlier process that stay; what it wrote after them is cut off.
    """

    def __init__(self, path: Path | None, keep: int = 0) -> None:
        self._began = time.monotonic()
        self._events = keep
        self._file = None if path is None else path.open("a+b", buffering=0)
        if self._file is not None:
            self._file.seek(0)
            kept = self._file.read().split(b"\n")[:keep]
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
        line = memoryview(json.dumps(event, allow_nan=False).encode() + b"\n")
        while self._file is not None and line:  # a full disk takes a part first and complains after that
            line = line[self._file.write(line) :]
        self._events += 1
        return event

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
