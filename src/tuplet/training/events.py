"""The diary of a run: one JSON object per line in `events.jsonl`.

| kind | fields beside `kind` and `time` |
| --- | --- |
| start | name, seed, steps, examples, classes, batch, parameters, batches_per_epoch |
| step | step, loss, learning_rate, gradient_norm, seconds, examples_per_second, stats (the loss's own, numbers) |
| evaluation | step, split (validation, test), of (raw, model), best, values: {name: {value, low, high}}, seconds |
| checkpoint | step, path (relative to the run) |
| note | text; yielded, never written |
| end | step, best_step, stopped_early, seconds |

`seconds` counts from the start of the process. `CLOCKS` are the fields that differ between two runs of one recipe.
"""

from typing import Any

Event = dict[str, Any]
CLOCKS = ("time", "seconds", "examples_per_second")
