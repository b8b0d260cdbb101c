"""Endless batches, one epoch after the other, with a position that can be saved."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tuplet.bounds import Count, Number
from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.errors import CheckpointError, DataError
from tuplet.registry import Registry
from tuplet.seeding import derive


class Sampler(ABC):
    """Gives the global batches of a training as positions in the data set, without end.

    `next_batch` gives one after the other; a `for` loop, or a DataLoader with `batch_sampler=`, gets those of an epoch.

    The position is the epoch and the batch within it. What a sampler knows beyond it, because it looks at the
    embeddings of each step, is its memory. A sampler that loads both from another one yields exactly what the other
    would have yielded next.

    Attributes:
        together: So many neighbouring rows of a batch belong together and go to the same process.
    """

    keeps_classes_together: ClassVar[bool] = False
    """Whether the examples that a batch takes of a class stand side by side and go to the same process."""

    def __init__(self, batches_per_epoch: int, seed: int, *, together: int = 1) -> None:
        self.batches_per_epoch = batches_per_epoch
        self.seed = seed
        self.together = together
        self._epoch = 0
        self._batch = 0

    @property
    @abstractmethod
    def batch_size(self) -> int:
        """Positions in a batch."""

    @abstractmethod
    def draw(self, epoch: int, batch: int) -> Int64[Tensor, " batch"]:
        """One batch of an epoch; `next_batch` asks for them in their order."""

    def __len__(self) -> int:
        """Batches of an epoch."""
        return self.batches_per_epoch

    def __iter__(self) -> Iterator[list[int]]:
        """What is left of the epoch, batch by batch as lists of positions: a `batch_sampler` of torch's DataLoader.

        The next iteration goes on with the next epoch, and one that was broken off goes on where it stopped.
        """
        is_over = False
        while not is_over:
            batch = self.next_batch().tolist()
            is_over = self._batch == 0
            yield batch

    def next_batch(self) -> Int64[Tensor, " batch"]:
        """The next batch, epoch after epoch without end."""
        batch = self.draw(self._epoch, self._batch)
        self._batch += 1
        if self._batch == self.batches_per_epoch:
            self._epoch, self._batch = self._epoch + 1, 0
        return batch

    def upcoming(self) -> Int64[Tensor, " batch"] | None:
        """What `next_batch` will give, without giving it; None where embeddings may still decide about it."""
        return None

    def observe(  # noqa: B027  # nothing to look at is the rule, not a gap
        self,
        positions: Int64[Tensor, " batch"] | list[int],
        embeddings: Float[Tensor, "rows dim"],
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        """Look at what became of the batch that `next_batch` gave; most samplers do not.

        Args:
            positions: The whole batch.
            embeddings: Of this process's rows of it; of all rows, if there is one process.
            processes: Who shares the batch, in the order of their rows.
        """

    def memory(self) -> dict[str, Tensor]:
        """What was learned from embeddings and decides later batches; nothing for most samplers."""
        return {}

    def load_memory(self, memory: Mapping[str, Tensor]) -> None:
        """Goes on with the memory of another sampler of the same data, options and seed.

        Raises:
            CheckpointError: The memory is of another sampler.
        """
        mine = self.memory()
        shapes = [{name: tuple(kept.shape) for name, kept in known.items()} for known in (memory, mine)]
        if shapes[0] != shapes[1]:
            raise CheckpointError(
                f"The saved memory of the sampler holds {shapes[0] or 'nothing'}; this sampler keeps {shapes[1]}.",
                hint="Resume with the data, the batch section and the seed of the saved run.",
                reference="sampler-state",
            )
        for name, kept in mine.items():
            kept.copy_(memory[name])

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


class EpochSampler(Sampler):
    """A sampler whose epochs are decided by the seed and their number alone, and planned as a whole."""

    _planned: tuple[int, Tensor] | None = None

    @abstractmethod
    def plan(self, epoch: int) -> Int64[Tensor, "batches batch"]:
        """All batches of an epoch."""

    @property
    def batch_size(self) -> int:
        """Positions in a batch."""
        return self.plan(0).shape[1]

    def upcoming(self) -> Int64[Tensor, " batch"]:
        """What `next_batch` will give: an epoch is planned as a whole."""
        return self.draw(self._epoch, self._batch)

    def draw(self, epoch: int, batch: int) -> Int64[Tensor, " batch"]:
        """One batch of an epoch."""
        if self._planned is None or self._planned[0] != epoch:
            self._planned = epoch, self.plan(epoch)
        return self._planned[1][batch]


registry: Registry[Callable[..., Sampler]] = Registry("sampler")


@registry.register("uniform")
class UniformSampler(EpochSampler):
    """Every example once per epoch, in random order; no batch holds an example twice.

    If the last batch is not full, examples from the start of the epoch fill it.

    Args:
        count: Number of examples.
        batch_size: Examples of a global batch, at most `count`.
        seed: Seed of the run.
    """

    def __init__(self, count: Number, batch_size: Count, *, seed: int) -> None:
        if not 1 <= batch_size <= count:
            raise DataError(
                f"A batch of {batch_size} examples cannot be sampled from {count}.",
                hint=f"Set the batch size to a number from 1 to {count}." if count else "Add examples.",
                reference="batch-too-large",
            )
        super().__init__(-(-count // batch_size), seed)
        self._count = count
        self._batch_size = batch_size

    def plan(self, epoch: int) -> Int64[Tensor, "batches batch"]:
        """All batches of an epoch."""
        order = torch.randperm(self._count, generator=derive(self.seed, "sampler", epoch))
        missing = self.batches_per_epoch * self._batch_size - self._count
        return torch.cat([order, order[:missing]]).view(self.batches_per_epoch, self._batch_size)
