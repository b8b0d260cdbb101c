"""One optimiser step, whatever the loss; and how a training takes the next one."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from tuplet.data import Batch
from tuplet.engine import Outcome, Processes
from tuplet.errors import DivergedError, NonFiniteError
from tuplet.losses import loss_metrics
from tuplet.models import Embedder
from tuplet.seeding import Draws, derive, derive_seed
from tuplet.training.ahead import Ahead
from tuplet.training.chunks import encode_in_chunks
from tuplet.training.distributed import average_gradients, shard_slice
from tuplet.training.job import Job
from tuplet.training.optim import Optimizers
from tuplet.types import Side

NAMED = 8
"""Examples named in the message."""
HUGE = 1e6
"""No weight of a network in good health is larger."""


class Taken(NamedTuple):
    """What a step leaves behind.

    Attributes:
        outcome: What the loss measured, if the step was watched.
        norm: Of the gradient before clipping, if it was taken.
        embeddings: Of this process's slice, from before the step, as the encoder was last called; None if the task
            called it in another way.
    """

    outcome: Outcome | None
    norm: Tensor | None
    embeddings: Tensor | None


class StepResult(NamedTuple):
    """What is known of a step; what only a log needs, where that was asked for.

    Attributes:
        rows: Examples, or words, that it learned from.
        waited: Seconds until they were there.
        loss: Before the step.
        norm: Of the gradient before clipping.
        stats: Numbers of the loss by name.
        embeddings: As in `Taken`.
        labels: Of these embeddings, where they have some.
    """

    rows: float
    waited: float = 0.0
    loss: Tensor | None = None
    norm: Tensor | None = None
    stats: Mapping[str, float] | None = None
    embeddings: Tensor | None = None
    labels: Tensor | None = None


class Stepper(Protocol):
    """Takes the steps of a training, and holds its optimiser."""

    def take(self, step: int, rate: float, *, watched: bool) -> StepResult:
        """The next step.

        Args:
            step: Steps done so far.
            rate: Learning rate.
            watched: Also take what only a reader of the log needs.
        """

    def state_dict(self) -> dict[str, Any]:
        """What the optimiser depends on beside weights and gradients."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""


class BatchStepper:
    """Steps down the gradient of batches of examples.

    Args:
        job: On its device, in training mode.
        processes: Who shares each global batch.
    """

    def __init__(self, job: Job, processes: Processes) -> None:
        self.optimizer = Optimizers(job.settings, [job.embedder, job.loss])
        self._job, self._processes = job, processes
        copies_ahead = job.embedder.device.type in ("cuda", "xpu")  # other devices have no use for pinned memory
        self._ahead = Ahead(job.train, job.sampler, self._mine, pin=copies_ahead)

    def _mine(self, count: int) -> slice:
        """The rows of a global batch of so many that this process takes."""
        return shard_slice(count, self._processes, self._job.sampler.together)

    def take(self, step: int, rate: float, *, watched: bool) -> StepResult:
        """See `Stepper`."""
        job, begun = self._job, time.monotonic()
        positions, batch = self._ahead.take()
        mine = self._mine(len(positions))
        waited = time.monotonic() - begun
        draws = Draws(derive(job.seed, "augment", step), mine.start, len(positions))
        self.optimizer.set_rate(rate)
        taken = take_step(job, batch, draws, self.optimizer, step, self._processes, watched=watched)
        if taken.embeddings is not None:
            job.sampler.observe(positions, taken.embeddings, self._processes)
        loss, stats = None, None
        if watched and taken.outcome is not None:
            loss, stats = taken.outcome.value.detach(), loss_metrics(taken.outcome.stats)
        return StepResult(len(positions), waited, loss, taken.norm, stats, taken.embeddings, batch.labels)

    def state_dict(self) -> dict[str, Any]:
        """See `Stepper`."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """See `Stepper`."""
        self.optimizer.load_state_dict(state)


def take_step(
    job: Job,
    batch: Batch,
    draws: Draws,
    optimizer: Optimizers,
    step: int,
    processes: Processes,
    *,
    watched: bool,
) -> Taken:
    """Move encoder and loss one step down the gradient of a batch.

    Args:
        job: What to train; already on its device and in training mode.
        batch: This process's slice of the global batch.
        draws: Decide its augmentation.
        optimizer: Of everything that learns.
        step: Steps done so far; decides dropout.
        processes: Who shares the global batch.
        watched: Also take what only a reader of the event log needs: the loss's statistics and the gradient's norm.

    Raises:
        DivergedError: If the embeddings or the loss are not finite.
    """
    _seed_dropout(derive_seed(job.seed, "dropout", step, processes.rank), job.embedder.device)
    optimizer.zero_grad()
    batch = _on(job.embedder.device, batch)
    embed = _Embed(job, draws)
    assert job.task.arguments is not None  # noqa: S101  running text has a stepper of its own
    arguments = job.task.arguments(embed, batch)
    try:
        if watched or processes.size > 1:
            outcome = job.loss.measure(**arguments, stats=watched, processes=processes)
            value = outcome.value
        else:  # a plain call is all that can be replayed on an accelerator
            outcome, value = None, job.loss(**arguments)
    except NonFiniteError as error:
        raise explain(job, batch, step) from error
    if not value.isfinite():
        raise explain(job, batch, step)
    value.backward()  # type: ignore[no-untyped-call]  # as torch ships it
    average_gradients(job.embedder.parameters(), processes)
    norm = None
    if watched or job.settings.clip < math.inf:
        norm = optimizer.clip(job.settings.clip)
    optimizer.step()
    job.loss.advance()
    return Taken(outcome, norm, embed.latest)


def _seed_dropout(seed: int, device: torch.device) -> None:
    """What torch.manual_seed does, without the stack trace that it takes for every kind of accelerator."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        torch.cuda.manual_seed(seed)


class _Embed:
    """How inputs of this step become embeddings, in float32 at least whatever the precision of the encoder.

    All calls draw from one generator, one after the other: two views of the same inputs differ, and each row gets what
    it gets on one process.
    """

    def __init__(self, job: Job, draws: Draws) -> None:
        self._job, self._draws = job, draws
        self._low = job.settings.precision == "bfloat16"
        self.latest: Tensor | None = None

    def __call__(self, inputs: Any, side: Side = "query") -> Tensor:
        embedder = self._job.embedder.side(side)
        embeddings = self._encoded(lambda seen: (embedder.encoder(seen),), self._seen(embedder, inputs))[0]
        self.latest = embeddings.detach()
        return embeddings

    def unroll(self, inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
        encoder: Any = self._job.embedder.encoder
        latents, contexts, lengths = self._encoded(encoder.unroll, self._seen(self._job.embedder, inputs))
        return latents, contexts, lengths

    @torch.no_grad()
    def _seen(self, embedder: Embedder, inputs: Any) -> Any:
        """What the encoder reads: preprocessed and changed at random."""
        seen = embedder.preprocessing(inputs)
        is_of_kind = embedder.preprocessing.kind == self._job.embedder.preprocessing.kind
        if self._job.augment is not None and is_of_kind:  # partners may be of another kind
            seen = self._job.augment(seen, self._draws)
        is_image = isinstance(seen, Tensor) and seen.ndim == 4
        return seen.contiguous(memory_format=torch.channels_last) if is_image else seen

    def _encoded(self, encode: Callable[[Any], tuple[Tensor, ...]], seen: Any) -> tuple[Tensor, ...]:
        """What an encoder says of all rows, in chunks if the recipe wants them."""
        kind, low = self._job.embedder.device.type, self._low

        def encoded(part: Any) -> tuple[Tensor, ...]:
            with torch.autocast(kind, torch.bfloat16, enabled=low):
                found = encode(part)
            return tuple(one.float() if low and one.is_floating_point() else one for one in found)

        return encode_in_chunks(encoded, seen, self._job.settings.chunk)


def _on(device: torch.device, batch: Batch) -> Batch:
    if device.type == "cpu":
        return batch
    moved = {field.name: _moved(getattr(batch, field.name), device) for field in fields(batch)}
    return replace(batch, **moved)


def _moved(value: Any, device: torch.device) -> Any:
    if isinstance(value, list):
        return [_moved(entry, device) for entry in value]
    return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value


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
