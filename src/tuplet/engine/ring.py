"""References that travel round a ring of processes, a neighbour's block at a time.

Each process holds its own rows and one block of somebody else's, O(B/n) of them in place of all B. The next block is
sent while the present one is worked on. A block's gradient travels with it and is at home after as many steps as there
are processes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from tuplet.engine.gather import Processes, all_reduce_sum, counts, place_of
from tuplet.geometry import Geometry, SquaredEuclidean


@dataclass(frozen=True)
class Ring:
    """Who holds which rows.

    Args:
        processes: In the order of their ranks.
        rows: How many references each of them owns.
    """

    processes: Processes
    rows: tuple[int, ...]

    @staticmethod
    def of(references: Tensor, processes: Processes) -> "Ring":
        """The ring of processes with these references here."""
        return Ring(processes, tuple(counts(len(references), processes, references.device)))

    def begin(self, owner: int) -> int:
        """Position of a process's first row among those of all."""
        return sum(self.rows[:owner])

    def blocks(self, mine: Tensor, grad: Tensor | None) -> Iterator[tuple[int, Tensor, Tensor | None]]:
        """Every process's rows in turn, beginning with one's own: position of the first, rows, where to add gradients.

        Args:
            mine: References of this process.
            grad: Where the gradient of `mine` is to be, or None if none is asked for.
        """
        rank, size = self.processes.rank, self.processes.size
        block, travelling = self._padded(mine), None if grad is None else self._padded(torch.zeros_like(grad))
        for step in range(size):
            owner = (rank - step) % size
            held, under_way = block, self._pass_on(block) if step + 1 < size else None
            part = None if travelling is None else travelling[: self.rows[owner]]
            yield self.begin(owner), held[: self.rows[owner]], part
            if travelling is not None:
                travelling = self._arrived(*self._pass_on(travelling))
            if under_way is not None:
                block = self._arrived(*under_way)
        if grad is not None and travelling is not None:
            grad.copy_(travelling[: len(grad)])

    def _padded(self, rows: Tensor) -> Tensor:
        """As long as the longest block."""
        padded = rows.new_zeros(max(self.rows), *rows.shape[1:])
        padded[: len(rows)] = rows
        return padded

    def _pass_on(self, block: Tensor) -> tuple[Tensor, list[Any], torch.device]:
        """Begin to send a block to the next process and to take one from the one before."""
        group, (rank, size) = self.processes.group, (self.processes.rank, self.processes.size)
        sent = block.to(place_of(block, self.processes)).contiguous()
        taken = torch.empty_like(sent)
        peers = [dist.get_global_rank(group, (rank + step) % size) for step in (1, -1)]
        both = [dist.P2POp(dist.isend, sent, peers[0], group), dist.P2POp(dist.irecv, taken, peers[1], group)]
        return taken, [sent, *dist.batch_isend_irecv(both)], block.device

    @staticmethod
    def _arrived(taken: Tensor, works: list[Any], device: torch.device) -> Tensor:
        for work in works[1:]:
            work.wait()
        return taken.to(device)


def prepare(geometry: Geometry, anchors: Tensor, references: Tensor, ring: Ring) -> tuple[Tensor, Tensor]:
    """What `geometry.prepare` does, with one origin for the embeddings of all processes."""
    if not isinstance(geometry, SquaredEuclidean):
        return geometry.prepare(anchors, references)
    whole = references.detach().sum(0, dtype=torch.float64)
    centre = (all_reduce_sum(whole, ring.processes) / max(1, sum(ring.rows))).to(references.dtype)
    return anchors - centre, references - centre
