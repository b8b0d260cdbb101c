"""Times a few training steps and measures their memory; the result is discarded."""

import statistics
import time
import weakref
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tuplet.engine import SINGLE_PROCESS
from tuplet.training.checkpoint import Checkpoint
from tuplet.training.evaluator import selection_of, validate
from tuplet.training.job import Job
from tuplet.training.state import State

WARMUP = 2
"""Steps before the first that is timed: allocators and caches are filled."""
TIMED = 8
"""Steps that are timed, if there is time for them."""
ENOUGH = 10.0
"""Seconds after which three timed steps are enough."""


@dataclass(frozen=True)
class StepProfile:
    """What a few steps took.

    Args:
        seconds: Of each timed step, data and augmentation included.
        loading: Seconds of a step, in the middle, in which the model waits for its batch; 0 of word vectors.
        validation: Seconds of one validation; None without one.
        saved: Bytes that one step saves for backward at its fullest: activations, and what the loss holds.
        checkpoint: What a checkpoint would hold after these steps.
    """

    seconds: tuple[float, ...]
    loading: float
    validation: float | None
    saved: int
    checkpoint: Checkpoint


def profile_steps(job: Job, device: torch.device | str = "cpu") -> StepProfile:
    """Take a few steps. The job has moved a little afterwards; nothing is written.

    Args:
        job: What shall be trained.
        device: Where it will be; word vectors are trained on the CPU.

    Raises:
        DivergedError: If the embeddings or the loss are not finite.
    """
    state = State(job, torch.device(device))
    held = SavedTensorBytes(p for module in (job.embedder, job.loss) for p in module.parameters())
    with torch.autograd.graph.saved_tensors_hooks(held.pack, held.unpack):
        state.take_step(watched=False)
    loading: list[float] = []
    seconds = _timed(lambda: loading.append(state.take_step(watched=False).waited), state.device)
    waited = statistics.median(loading[-len(seconds) :])
    return StepProfile(seconds, waited, _validation(state), held.peak, state.capture(0))


def _timed(take: Callable[[], Any], device: torch.device | None = None) -> tuple[float, ...]:
    waits = torch.cuda.synchronize if device is not None and device.type == "cuda" else None  # kernels run on behind
    for _ in range(WARMUP):
        take()
    seconds: list[float] = []
    while len(seconds) < TIMED and (len(seconds) < 3 or sum(seconds) < ENOUGH):
        began = time.perf_counter()
        take()
        if waits is not None:
            waits()
        seconds.append(time.perf_counter() - began)
    return tuple(seconds)


def _validation(state: State) -> float | None:
    selection = selection_of(state.job)
    if selection is None:
        return None
    seconds: list[float] = []
    while len(seconds) < 2 and sum(seconds) < ENOUGH:  # the first one may load what evaluates
        began = time.perf_counter()
        validate(state.job, selection.protocol, state.evaluated, SINGLE_PROCESS)
        seconds.append(time.perf_counter() - began)
    return min(seconds)


class SavedTensorBytes:
    """Counts the bytes that autograd saves for backward; each piece of memory once.

    Args:
        known: Tensors that are there anyway.

    Attributes:
        peak: The most that was kept at one time.
    """

    def __init__(self, known: Any) -> None:
        self.peak = 0
        self._now = 0
        self._known = {tensor.untyped_storage().data_ptr() for tensor in known}
        self._holders: Counter[int] = Counter()

    def pack(self, tensor: Tensor) -> "_Saved":
        """Note a tensor that is kept."""
        saved, memory = _Saved(tensor), tensor.untyped_storage()
        address, size = memory.data_ptr(), memory.nbytes()
        if address not in self._known:
            self._now += 0 if self._holders[address] else size
            self._holders[address] += 1
            self.peak = max(self.peak, self._now)
            weakref.finalize(saved, self._free, address, size)
        return saved

    def unpack(self, saved: "_Saved") -> Tensor:
        """Give it back."""
        return saved.tensor

    def _free(self, address: int, size: int) -> None:
        self._holders[address] -= 1
        if not self._holders[address]:
            self._now -= size


@dataclass(eq=False)
class _Saved:
    tensor: Tensor


def size_of(value: Any) -> int:
    """Bytes of all tensors within dictionaries, lists and tuples."""
    if isinstance(value, Tensor):
        return value.nbytes
    parts = value.values() if isinstance(value, Mapping) else value if isinstance(value, list | tuple) else ()
    return sum(map(size_of, parts))
