"""Why a loss stopped being finite."""

from collections.abc import Sequence

from torch import Tensor

from tuplet.data import Batch
from tuplet.errors import DivergedError
from tuplet.training.job import Job

NAMED = 8
"""Examples named in the message."""
HUGE = 1e6
"""No weight of a network in good health is larger."""


def explain(job: Job, batch: Batch, step: int) -> DivergedError:
    """The error that says at which step, on which examples, and most likely why.

    Args:
        job: As it stands before the step that failed: its weights are those that gave the loss.
        batch: The examples of that step.
        step: Steps done before it.
    """
    settings = job.settings
    bad = [row for row, entry in enumerate(batch.inputs) if isinstance(entry, Tensor) and not entry.isfinite().all()]
    weights = [p.detach() for module in (job.embedder, job.loss) for p in module.parameters()]
    if bad:
        cause = f"the inputs of {_names(job, batch, bad)} hold NaN or infinity"
        hint = "Correct these examples in the data, or leave them out."
    elif not all(bool(weight.abs().max() < HUGE) for weight in weights):  # NaN is not less either
        cause = (
            f"the weights overflowed, most likely because train.learning_rate = {settings.learning_rate} is too large"
        )
        hint = f"Try --set train.learning_rate={settings.learning_rate / 10:g}, or --set train.clip=1.0."
    elif settings.precision == "bfloat16":
        cause = "an activation overflowed, perhaps for lack of precision"
        hint = "Try --set train.precision=float32."
    else:
        cause = "an activation or the loss itself overflowed"
        hint = f"Try --set train.learning_rate={settings.learning_rate / 10:g}, and look at the options of the loss."
    everything = _names(job, batch, range(len(batch.positions)))
    return DivergedError(
        f"The loss is not finite at step {step + 1}: {cause}. The batch was {everything}.",
        hint=hint,
        reference="loss-not-finite",
    )


def _names(job: Job, batch: Batch, rows: Sequence[int]) -> str:
    ids = [job.train.ids[int(batch.positions[row])] for row in rows[:NAMED]]
    return ", ".join(ids) + (f" and {len(rows) - NAMED} more" if len(rows) > NAMED else "")
