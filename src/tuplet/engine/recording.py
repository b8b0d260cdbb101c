"""When an accelerator is asked for a number: once per call, after everything was launched, or not at all.

Each answer makes the host wait for all launches before it. So the checks of a call wait for each other, and the largest
number of positives, which decides a shape, is read together with them. While a CUDA graph is recorded nothing may be
asked: a graph repeats launches, not decisions. Checks are kept as tensors then, to be read after each replay, and the
most positives that an anchor has is what it was before.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

import torch
from torch import Tensor

Question = tuple[Tensor, Callable[[], None]]
"""A bool without shape, and what raises if it does not hold."""


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
_waiting: ContextVar[list[Question] | None] = ContextVar("waiting", default=None)


@contextmanager
def recorded(held: Recording) -> Iterator[None]:
    """Hold what calls would ask an accelerator."""
    token = _recording.set(held)
    try:
        yield
    finally:
        _recording.reset(token)


@contextmanager
def asked_together() -> Iterator[None]:
    """Ask at the end, or with the number of positives, what is asked of an accelerator in between."""
    token = _waiting.set([])
    try:
        yield
        ask(_taken(), wait=False)
    finally:
        _waiting.reset(token)


def ask(questions: list[Question], *, wait: bool) -> None:
    """Read conditions at once, or later, and explain the first that does not hold."""
    held, waiting = _recording.get(), _waiting.get()
    if held is not None:
        held.conditions += [condition for condition, _ in questions]
    elif wait and waiting is not None:
        waiting += questions
    elif questions:
        _answer(torch.stack([condition for condition, _ in questions]).tolist(), questions)


def most_of(counts: Tensor) -> int:
    """The largest count, at least 1: read back, or while a call is recorded the room that was found before."""
    held = _recording.get()
    if held is not None and held.most:
        held.conditions.append((counts <= held.most).all())
        return held.most
    if not len(counts):
        return 1
    questions = _taken()
    *answers, most = torch.stack([*(condition.long() for condition, _ in questions), counts.max()]).tolist()
    _answer(answers, questions)
    if held is not None:
        held.most = most = 1 << (max(1, most) - 1).bit_length()  # room, so that the next batch fits too
    return max(1, int(most))


def _taken() -> list[Question]:
    waiting = _waiting.get()
    found = list(waiting or ())
    if waiting is not None:
        waiting.clear()
    return found


def _answer(holds: list[int], questions: list[Question]) -> None:
    for each, (_, explain) in zip(holds, questions, strict=True):
        if not each:
            explain()
