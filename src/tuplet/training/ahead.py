"""The next batch, made ready while the encoder is at work on this one."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace

import torch
from jaxtyping import Int64
from torch import Tensor

from tuplet.data import Batch, Dataset, take_batch
from tuplet.sampling import Sampler

LEAST = 4 << 20
"""Bytes of a batch from which a thread of its own is worth what it costs."""


class Ahead:
    """Takes the batches of a sampler; large ones one step ahead, in a thread, and for an accelerator in pinned memory.

    It changes no batch, and no state of the sampler: what was made ready is used only if the sampler asks for it.

    Args:
        dataset: Examples that are trained on.
        sampler: Decides the batches. One that looks at embeddings decides them late: nothing is made ready for it.
        mine: Which rows of a global batch this process takes, by how many there are.
        pin: Whether the batch goes to a device that copies from pinned memory.
    """

    def __init__(self, dataset: Dataset, sampler: Sampler, mine: Callable[[int], slice], *, pin: bool) -> None:
        self._dataset, self._sampler, self._mine, self._pin = dataset, sampler, mine, pin
        self._ready: tuple[Tensor, Future[Batch]] | None = None
        row = dataset.inputs[0].nbytes if isinstance(dataset.inputs, Tensor) and len(dataset) else 0
        self._pool = ThreadPoolExecutor(1, "batches") if row * sampler.batch_size >= LEAST else None

    def take(self) -> tuple[Int64[Tensor, " batch"], Batch]:
        """The next global batch: its positions, and the examples of this process."""
        positions = self._sampler.next_batch()
        ready, self._ready = self._ready, None
        is_ready = ready is not None and torch.equal(ready[0], positions)
        batch = ready[1].result() if ready is not None and is_ready else self._taken(positions)
        upcoming = self._sampler.upcoming() if self._pool is not None else None
        if upcoming is not None and self._pool is not None:
            self._ready = upcoming, self._pool.submit(self._taken, upcoming)
        return positions, batch

    def _taken(self, positions: Int64[Tensor, " batch"]) -> Batch:
        batch = take_batch(self._dataset, positions[self._mine(len(positions))])
        if self._pin and isinstance(batch.inputs, Tensor):
            return replace(batch, inputs=batch.inputs.pin_memory())
        return batch
