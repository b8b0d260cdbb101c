"""What a recorded call may not do: ask an accelerator for a number. What it would have asked is held for later.

A CUDA graph repeats launches, not decisions. While one is recorded, checks of the inputs are kept as tensors, to be
read after each replay, and the most positives that an anchor has is what it was before.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass
class Recording:
    """Conditions under which a recorded call stands for another one of the same shapes.

    Args:
        most: Room for so many positives of an anchor; 0 until the call before the recorded one has counted them.
        conditions: Bools without shape; where one does not hold, the call has to be made anew.
    """

    most: int = 0
    conditions: list[Tensor] = field(default_factory=list)

    def stands(self) -> Tensor | None:
        """Whether all conditions hold, as a tensor."""
        return torch.stack(self.conditions).all() if self.conditions else None


_recording: ContextVar[Recording | None] = ContextVar("recording", default=None)


def recording() -> Recording | None:
    """The recording that is under way."""
    return _recording.get()


@contextmanager
def recorded(held: Recording) -> Iterator[None]:
    """Hold what calls would ask an accelerator."""
    token = _recording.set(held)
    try:
        yield
    finally:
        _recording.reset(token)


def most_of(counts: Tensor) -> int:
    """The largest count, at least 1: read back, or while a call is recorded the room that was found before."""
    held = recording()
    if held is not None and held.most:
        held.conditions.append((counts <= held.most).all())
        return held.most
    most = max(1, int(counts.max())) if len(counts) else 1
    if held is not None:
        held.most = most = 1 << (most - 1).bit_length()  # room, so that the next batch fits too
    return most
