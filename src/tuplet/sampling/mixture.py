"""Batches of several sources, each batch of one of them, in the proportion of their weights."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from tuplet.engine import SINGLE_PROCESS, Processes
from tuplet.errors import CheckpointError
from tuplet.sampling.epoch import Sampler


class MixtureSampler(Sampler):
    """Asks one sampler after the other, each as often as its weight says.

    The next batch comes from the sampler that is furthest behind its share: after any number of batches each has given
    its share of them, up to less than one batch for two samplers. Ties go to the first.

    Args:
        parts: A sampler for each source, over its own examples.
        positions: Of each source, where its examples are in the data set.
        weights: Of each source, above 0; they need not add up to 1.
    """

    def __init__(
        self, parts: Sequence[Sampler], positions: Sequence[Int64[Tensor, " _own"]], weights: Sequence[float]
    ) -> None:
        first = parts[0]
        super().__init__(sum(part.batches_per_epoch for part in parts), first.seed, together=first.together)
        self.keeps_classes_together = first.keeps_classes_together  # type: ignore[misc]  # that of all parts
        self._parts, self._positions = [*parts], [*positions]
        self._shares = [weight / sum(weights) for weight in weights]
        self._latest = 0
        self._local = {
            place: at for own in positions for at, place in enumerate(own.tolist())
        }  # sources share no example

    @property
    def batch_size(self) -> int:
        """Positions in the largest batch."""
        return max(part.batch_size for part in self._parts)

    def draw(self, epoch: int, batch: int) -> Int64[Tensor, " batch"]:
        """The next batch of the source that is furthest behind."""
        del epoch, batch
        taken = [part._epoch * part.batches_per_epoch + part._batch for part in self._parts]  # noqa: SLF001  of its kind
        behind = [share * (sum(taken) + 1) - count for share, count in zip(self._shares, taken, strict=True)]
        self._latest = max(range(len(behind)), key=lambda at: (round(behind[at], 9), -at))
        return self._positions[self._latest][self._parts[self._latest].next_batch()]

    def observe(
        self,
        positions: Int64[Tensor, " batch"] | list[int],
        embeddings: Float[Tensor, "rows dim"],
        processes: Processes = SINGLE_PROCESS,
    ) -> None:
        """The sampler that gave the batch looks at what became of it."""
        own = [self._local[place] for place in (positions.tolist() if isinstance(positions, Tensor) else positions)]
        self._parts[self._latest].observe(torch.tensor(own), embeddings, processes)

    def memory(self) -> dict[str, Tensor]:
        """That of all samplers."""
        return {f"{at}.{name}": kept for at, part in enumerate(self._parts) for name, kept in part.memory().items()}

    def state_dict(self) -> dict[str, int]:
        """Where each sampler stands."""
        own = super().state_dict()
        for at, part in enumerate(self._parts):
            own |= {f"{at}.{key}": value for key, value in part.state_dict().items()}
        return own

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where another mixture of the same sources stood.

        Raises:
            CheckpointError: The state is of another sampler.
        """
        if state.keys() != self.state_dict().keys():
            raise CheckpointError(
                f"The saved sampler state {dict(state)} is not that of {len(self._parts)} sources.",
                hint="Resume with the data, the batch section and the seed of the saved run.",
                reference="sampler-state",
            )
        for at, part in enumerate(self._parts):
            start = f"{at}."
            part.load_state_dict({key.removeprefix(start): one for key, one in state.items() if key.startswith(start)})
        self._epoch, self._batch = state["epoch"], state["batch"]
