"""What a loss was called with since it last advanced: bounded, and each batch once however often it is looked at."""

import logging
import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_post_hook

from tuplet.engine import Processes

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Call:
    """One call in training mode.

    Args:
        embeddings: Those that the loss keeps, without gradient.
        labels: As the call had them.
        processes: Who called together.
        notes: A number of each row, as it was in the call.
    """

    embeddings: Tensor
    labels: Tensor | None
    processes: Processes
    notes: Tensor | None = None

    def is_again(self, other: "Call") -> bool:
        """Whether this is another look at the batch of `other`.

        A second look at the same tensor is one; so is what activation checkpointing recomputes in the backward pass,
        which has equal numbers in another tensor.
        """
        mine, theirs = self.embeddings, other.embeddings
        if mine.shape != theirs.shape:
            return False
        if mine.data_ptr() == theirs.data_ptr() and mine._version == theirs._version:  # noqa: SLF001  # torch has no other name
            return True
        return _is_on_the_way_back() and torch.equal(mine, theirs)


class PendingCalls:
    """The calls that `advance` has yet to take in.

    Args:
        owner: Name of the loss, for the message to a loop that forgets to advance.
        rows: How many rows the loss can remember; older ones are forgotten, as the memory itself would.
    """

    def __init__(self, owner: str, rows: int) -> None:
        self.owner, self.rows = owner, rows
        self.is_late = False
        self._calls: list[Call] = []
        self._hook: Any = None
        self._is_trusted = False

    def __getstate__(self) -> dict[str, Any]:
        """A copy begins to watch anew."""
        return {**vars(self), "_hook": None, "is_late": False}

    @property
    def is_waiting(self) -> bool:
        """Whether there is anything to take in."""
        return bool(self._calls)

    def record(self, call: Call) -> None:
        """Take down a call, unless it is another look at one that stands there."""
        if any(call.is_again(earlier) for earlier in self._calls):
            return
        if self.is_late:
            self._complain()
        if not self._is_trusted and self._hook is None:
            self._watch()
        self._calls.append(call)
        while len(self._calls) > 1 and sum(len(each.embeddings) for each in self._calls[1:]) >= self.rows:
            del self._calls[0]

    def take(self) -> list[Call]:
        """The calls since the last time; whoever asks once is not watched any more."""
        calls, self._calls = self._calls, []
        self._trust()
        return calls

    def _watch(self) -> None:
        """Learn whether an optimiser steps before anybody advances: then micro-batches are not what calls are."""
        me = weakref.ref(self)

        def stepped(*_: Any) -> None:
            this = me()
            if this is not None:
                this.is_late = this.is_waiting

        self._hook = register_optimizer_step_post_hook(stepped)
        weakref.finalize(self, self._hook.remove)

    def _complain(self) -> None:
        logger.warning(
            "%s was called again after an optimiser's step, but advance() was not called: its queue or bank was not "
            "updated. Call loss.advance() after each optimiser.step(), once however many calls the step had.",
            self.owner,
        )
        self._trust()

    def _trust(self) -> None:
        self.is_late, self._is_trusted = False, True
        if self._hook is not None:
            self._hook.remove()
            self._hook = None


def _is_on_the_way_back() -> bool:
    """Whether autograd is running a backward pass, which is where checkpointed parts are computed again."""
    return int(torch._C._current_graph_task_id()) != -1  # noqa: SLF001  # as torch.utils.checkpoint asks
