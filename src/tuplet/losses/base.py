"""What all losses share: the module around a function."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, TypeVar, get_args

import torch
from torch import Tensor, nn

from tuplet.bounds import Count, check
from tuplet.engine import SINGLE_PROCESS, Execution, Outcome, Processes
from tuplet.engine.execution import DEFAULT, uses_tiles
from tuplet.engine.gather import all_reduce_sum
from tuplet.engine.recording import asked_together
from tuplet.errors import NonFiniteError
from tuplet.losses import operator, replay
from tuplet.losses.inputs import PAIRS
from tuplet.losses.pending import Call, PendingCalls
from tuplet.losses.replay import Replays
from tuplet.memory import FeatureQueue
from tuplet.registry import Registry, check_choice, did_you_mean
from tuplet.rule import Levels
from tuplet.tensors import as_tensor
from tuplet.types import Family, GeometryName, Supervision

logger = logging.getLogger(__name__)

Loss = TypeVar("Loss", bound="type[MetricLoss]")

registry: Registry[Any] = Registry("loss", plugins="tuplet.losses")
"""Modules by recipe key."""


def register(name: str) -> Callable[[Loss], Loss]:
    """Decorator that makes a module known to recipes, the command line and the docs under `name`."""
    return registry.register(name)


class MetricLoss(nn.Module):
    """Base of all losses: `loss(embeddings, labels)` is a number; `loss.measure(...)` has counts and statistics too.

    A call never changes what a loss keeps (queue, bank, annealing step, noise counter). `loss.advance()` does,
    after the optimiser's step: it takes in what the calls in training mode since the last time were about.

    Args:
        geometry: How the loss compares two embeddings; validation, search and thresholds then do the same.
        queue: Latest batches as further references, or None.
        processes: Who computes the loss together.

    Attributes:
        execution: How calls are carried out where they do not say it themselves; see `tuplet.engine.Execution`.
    """

    supervision: ClassVar[Supervision] = "class"
    family: ClassVar[Family] = "pair-wise"
    suits: ClassVar[str] = ""
    """What it is chosen for among others of its kind, in a few words."""
    takes: ClassVar[frozenset[str]] = PAIRS
    """Keyword arguments of a call."""
    prefers_pairs: ClassVar[bool] = False
    """Whether a batch of two examples of each class reaches it as pairs rather than with class ids."""

    reads_classes: ClassVar[bool] = False
    """Whether it needs a class id of each example, where others take a rule about pairs."""
    of_both_ends: ClassVar[bool] = False
    """Whether it looks at the negatives of both ends of a pair: a rule must then not depend on the order."""
    stops_gradient: ClassVar[bool] = False
    """Whether some factors are constants in the gradient by definition: it is not the derivative of the value then."""

    def __init__(
        self, geometry: GeometryName, *, queue: FeatureQueue | None = None, processes: Processes = SINGLE_PROCESS
    ) -> None:
        super().__init__()
        check_choice(geometry, get_args(GeometryName), "geometry")
        self.geometry: GeometryName = geometry
        self.queue = queue
        self.processes = processes
        self.execution: Execution | None = None
        self._is_finite: Tensor | None = None
        self._number = operator.enlist(self)
        self._has_counted = False
        self._replays = Replays()
        self._pending = PendingCalls(type(self).__name__, 0 if queue is None else queue.size)

    def forward(self, embeddings: Tensor, labels: Tensor | None = None, **sides: Any) -> Tensor:
        """Mean over what the loss says it divides by; 0 if there is nothing to divide by."""
        if torch.compiler.is_compiling():
            given = {"labels": labels, **sides}
            return operator.call(
                self._number,
                list(self.parameters()),
                embeddings,
                {name: side for name, side in given.items() if side is not None},
            )
        if isinstance(embeddings, Tensor) and embeddings.device.type in replay.DEVICES:
            value = self._replays.call(self, embeddings, {"labels": labels, **sides})
            if value is not None:
                return value
        return self._called(embeddings, labels, sides).value

    def recorded_value(self, embeddings: Tensor, sides: dict[str, Any]) -> Tensor:
        """Value of a call with tensors that are fine as they are; see `tuplet.losses.replay`."""
        own = self._with_own({name: side for name, side in sides.items() if name != "labels"})
        return self._outcome(embeddings, sides.get("labels"), **own).value

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy is a module of its own."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._number = operator.enlist(self)
        self._replays = Replays()

    def measure(self, embeddings: Tensor, labels: Tensor | None = None, *, stats: bool = True, **sides: Any) -> Outcome:
        """Like calling the module; returns sum, count and statistics.

        Args:
            embeddings: Anchors, (rows, dim).
            labels: As `supervision` says.
            stats: False to leave out statistics that cost a pass over the tiles.
            sides: See `PairOptions`.

        Returns:
            `value` is what calling the module returns. The statistics are sums; `loss_metrics` makes numbers of them
            that can be read.
        """
        embeddings = as_tensor(embeddings, "embeddings")
        outcome = self._called(embeddings, labels, {**sides, "stats": stats})
        if not stats:
            return outcome
        norms = embeddings.detach().norm(dim=-1).double()
        processes = sides.get("processes", self.processes)
        sums = {"norm": norms.sum(), "embeddings": norms.new_tensor(norms.numel())}
        found = {name: all_reduce_sum(value, processes) for name, value in sums.items()}
        return replace(outcome, stats={**outcome.stats, **found})

    def advance(self) -> None:
        """Update the state of the loss (queue, bank, annealing); call it once after each step of the optimiser.

        Queue and bank take in the embeddings of all calls since the last time that were made in training mode and with
        gradients: the micro-batches of a step, each once, also where activation checkpointing computes it twice.
        Annealing and counters of draws move by one. Without such a call, or in a loss without state, nothing
        moves. Processes that compute the loss together advance together.
        """
        calls = self._pending.take()
        if calls:
            self._take_in(calls)

    @property
    def has_state(self) -> bool:
        """Whether `advance` moves anything."""
        return self.queue is not None

    def _of_levels(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Outcome:
        """The outcome; where a relation has several levels, their weighted mean, with what the last one counts."""
        relation = sides.get("relation")
        if not isinstance(relation, Levels):
            return self._outcome(embeddings, labels, **sides)
        found = [self._outcome(embeddings, labels, **{**sides, "relation": rule}) for rule in relation.rules]
        weights = [weight / sum(relation.weights) for weight in relation.weights]
        value = torch.stack([weight * each.value for weight, each in zip(weights, found, strict=True)]).sum()
        count = found[-1].count.clamp_min(1)
        return Outcome(value * count.to(value.dtype), count, found[-1].stats)

    @property
    def ranks_by(self) -> GeometryName:
        """How embeddings are compared after training, as they are: distances on the unit sphere rank as the cosine."""
        return "cosine" if vars(self).get("normalise") else self.geometry

    def _outcome(self, embeddings: Tensor, labels: Tensor | None, **sides: Any) -> Outcome:
        raise NotImplementedError

    def _called(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Outcome:
        embeddings = as_tensor(embeddings, "embeddings")
        labels = None if labels is None else as_tensor(labels, "labels", embeddings.device)
        sides = self._with_own({name: self._as_input(name, side, embeddings.device) for name, side in sides.items()})
        execution = sides["execution"] or DEFAULT
        deferred = execution.check == "deferred" and uses_tiles(execution, embeddings.device)
        self._refuse_earlier()
        with asked_together():
            outcome = self._of_levels(embeddings, labels, sides)
        self._is_finite = embeddings.detach().isfinite().all() & outcome.total.detach().isfinite() if deferred else None
        if not self._has_counted and not deferred:
            self._notice(outcome, labels, len(embeddings))
        if self.has_state and self.training and torch.is_grad_enabled():
            self._pending.record(self._call(embeddings, labels, sides))
        return outcome

    def _refuse_earlier(self) -> None:
        """Say of the call before this one what a deferred check found."""
        found, self._is_finite = self._is_finite, None
        if found is not None and not bool(found):
            raise NonFiniteError(
                "The embeddings or the loss of the call before this one held NaN or infinity.",
                hint='Set execution=Execution(check="now") to learn which rows of the embeddings were not finite.',
                reference="non-finite-embeddings",
            )

    def _notice(self, outcome: Outcome, labels: Tensor | None, rows: int) -> None:
        """Say once that a batch has nothing to divide by: its loss is 0 whatever the embeddings are."""
        self._has_counted = bool(outcome.count > 0)
        if self._has_counted or rows < 2:
            return
        self._has_counted = True
        logger.warning("%s is 0: %s. Its gradient is 0 too.", type(self).__name__, _why_nothing(labels, rows))

    def _with_own(self, sides: dict[str, Any]) -> dict[str, Any]:
        if unknown := sorted(sides.keys() - self.takes):
            hint = did_you_mean(unknown[0], sorted(self.takes))
            raise TypeError(f"{type(self).__name__} was called with an unknown argument {unknown[0]!r}. {hint}")
        own: dict[str, Any] = {"processes": self.processes, "execution": self.execution}
        if self.queue is not None:
            own |= self._of_queue(self.queue, sides)
        return own | sides

    def _of_queue(self, queue: FeatureQueue, sides: Mapping[str, Any]) -> dict[str, Tensor]:
        """Rows of a queue; on an accelerator also empty slots, which a label of -1 leaves out without being read."""
        execution = sides.get("execution") or self.execution or DEFAULT
        whole = queue.embeddings, queue.labels
        rows, labels = whole if uses_tiles(execution, queue.labels.device) else queue.filled()
        return {"queue": rows, "queue_labels": labels}

    @staticmethod
    def _as_input(name: str, side: Any, device: torch.device) -> Any:
        """An argument of a call: tensors, of which arrays and lists are made, and options."""
        if name == "tile_size":
            check(name, side, Count | None)
        if side is None or name in {"tile_size", "processes", "stats", "execution", "relation"}:
            return side
        return as_tensor(side, name, device)

    def _call(self, embeddings: Tensor, labels: Tensor | None, sides: dict[str, Any]) -> Call:
        """What is worth remembering of a call."""
        references = sides.get("references")
        kept = embeddings if labels is not None or references is None else references
        return Call(kept.detach(), labels, sides["processes"])

    def _take_in(self, calls: list[Call]) -> None:
        """Remember the calls of a step."""
        for call in calls if self.queue is not None else ():
            self.queue.push(call.embeddings, call.labels, call.processes)  # type: ignore[union-attr]  # just asked


def _why_nothing(labels: Tensor | None, rows: int) -> str:
    """What is missing in a batch in which nothing counts."""
    if labels is not None and labels.ndim == 1 and not labels.is_floating_point():
        known = labels[labels != -1]
        classes = len(known.unique())  # type: ignore[no-untyped-call]
        if not classes:
            return f"none of the {rows} examples has a label"
        if classes == len(known):
            return (
                f"no two of the {classes} labels are equal, so no example has a positive; draw two or more of a class"
            )
        if classes == 1:
            return "all labels are equal, so no example has a negative"
    return f"none of the {rows} examples has what the loss needs"
