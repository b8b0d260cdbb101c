"""Endless batches, one epoch after the other, with a position that can be saved."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from jaxtyping import Int64
from torch import Tensor

from tuplet.errors import CheckpointError
from tuplet.registry import Registry


class EpochSampler(ABC):
    """Yields the global batches of a training as positions in the data set, without end.

    An epoch is decided by the seed and its number alone; the position is the epoch and the batch within it,
    so a sampler that loads the state of another one yields exactly what the other would have yielded next.
    """

    def __init__(self, batches_per_epoch: int, seed: int) -> None:
        self.batches_per_epoch = batches_per_epoch
        self.seed = seed
        self._epoch = 0
        self._batch = 0
        self._planned: tuple[int, Tensor] | None = None

    @abstractmethod
    def plan(self, epoch: int) -> Int64[Tensor, "batches batch"]:
        """All batches of an epoch."""

    def __iter__(self) -> Iterator[Int64[Tensor, " batch"]]:
        return self

    def __next__(self) -> Int64[Tensor, " batch"]:
        if self._planned is None or self._planned[0] != self._epoch:
            self._planned = self._epoch, self.plan(self._epoch)
        batch = self._planned[1][self._batch]
        self._batch += 1
        if self._batch == self.batches_per_epoch:
            self._epoch, self._batch = self._epoch + 1, 0
        return batch

    def state_dict(self) -> dict[str, int]:
        """Where the next batch stands; plain numbers, fit for JSON."""
        return {
            "epoch": self._epoch,
            "batch": self._batch,
            "batches_per_epoch": self.batches_per_epoch,
            "seed": self.seed,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where another sampler of the same data, options and seed stood.

        Raises:
            CheckpointError: The state is of another sampler.
        """
        mine = self.state_dict()
        if state.keys() != mine.keys() or any(state[key] != mine[key] for key in ("batches_per_epoch", "seed")):
            raise CheckpointError(
                f"The saved sampler state {state} does not belong to this sampler, which has "
                f"{self.batches_per_epoch} batches per epoch and seed {self.seed}.",
                hint="Resume with the data, the batch section and the seed of the saved run.",
                reference="sampler-state",
            )
        self._epoch, self._batch = state["epoch"], state["batch"]


registry: Registry[Callable[..., EpochSampler]] = Registry("sampler")
