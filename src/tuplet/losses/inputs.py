"""Inputs of the losses: what a call may hold, checked once, and which pairs are compared."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypedDict

import torch
from torch import Tensor

from tuplet.bounds import Count
from tuplet.engine import SINGLE_PROCESS, Execution, Processes, gather
from tuplet.engine.execution import DEFAULT, uses_tiles
from tuplet.engine.gather import all_gather, first_row
from tuplet.engine.once import refuse_transforms
from tuplet.engine.recording import Question, ask
from tuplet.engine.ring import Ring
from tuplet.errors import LabelError, NonFiniteError, ShapeError
from tuplet.relation import Paired, Relation, SameLabel, SharedLabel
from tuplet.rule import Levels, Rule, RuleRelation
from tuplet.tensors import wide_dtype


class RowOptions(TypedDict, total=False):
    """Options of every loss.

    weights: One number >= 0 per row; multiplies its loss and its share of the mean.
    tile_size: Most entries of a tile; changes memory, not the result.
    processes: Who computes the loss together; all hold the same parameters.
    execution: How it is carried out, see `tuplet.engine.Execution`.
    """

    weights: Tensor | None
    tile_size: Count | None
    processes: Processes
    execution: Execution | None


class Options(RowOptions, total=False):
    """Options of every loss over pairs.

    queue: Further references that are constants, (rows, dim), behind the batch.
    queue_labels: Labels of the queue; -1 for an unfilled slot.
    stats: True to add statistics to an outcome.
    """

    queue: Tensor | None
    queue_labels: Tensor | None
    stats: bool


class PairOptions(Options, total=False):
    """Options of a loss whose references may be a second set.

    references: A second set (references, dim); the anchors' own set is then no reference.
    reference_labels: Labels of the second set.
    relation: Which pairs are positive, negative or ignored, in the place of labels; see `tuplet.relations`.
    """

    references: Tensor | None
    reference_labels: Tensor | None
    relation: Rule | Levels | None


PAIRS = frozenset(PairOptions.__annotations__)
"""What pair, triplet and row losses take by keyword when they are called."""

ROWS = frozenset({*RowOptions.__annotations__, "stats"})
"""What losses take whose references are their own parameters or memory."""


@dataclass(frozen=True)
class PairBatch:
    """Anchors and references of a loss, checked and without unknown labels."""

    anchors: Tensor
    references: Tensor
    relation: Relation
    weights: Tensor | None
    num_in_batch: int
    """So many leading references are the anchors' own set."""
    stream_options: dict[str, Any]
    """What `stream` takes besides: weights, tile size, processes, stats, execution."""


class Checks:
    """What the numbers of a call must be like; on an accelerator all of it is read back at once, at the end.

    Args:
        execution: When to ask an accelerator.
    """

    def __init__(self, execution: Execution | None = None) -> None:
        self.execution = execution or DEFAULT
        self._queued: list[Question] = []

    def require(self, condition: Tensor, explain: Callable[[], None]) -> None:
        """Call `explain`, which raises, if the condition, a bool without shape, does not hold."""
        if not uses_tiles(self.execution, condition.device):
            if not bool(condition):
                explain()
        elif self.execution.check == "now":
            self._queued.append((condition, explain))

    def done(self, *, wait: bool = False) -> None:
        """Read what was asked.

        Args:
            wait: True where nothing goes wrong meanwhile: a module then asks at the end of the call.
        """
        ask(self._queued, wait=wait)


def prepare_inputs(embeddings: Tensor, labels: Tensor | None, sides: Mapping[str, Any]) -> PairBatch:
    """Check the inputs of a pair, triplet or row loss and say which pairs are compared.

    Without labels, row i of the references is the positive of anchor i. Examples with label -1 are left out.

    Raises:
        ShapeError: If embeddings are not (rows, dim), or hold NaN or infinity; the message names the rows.
        LabelError: If labels do not fit the embeddings.
    """
    processes = sides.get("processes", SINGLE_PROCESS)
    references, weights = sides.get("references"), sides.get("weights")
    checks = Checks(sides.get("execution"))
    check_embeddings(embeddings, "embeddings", checks)
    check_weights(weights, embeddings, checks)
    if references is not None:
        check_embeddings(references, "references", checks)
    if labels is not None and sides.get("queue") is not None:
        check_embeddings(sides["queue"], "queue", checks)
    checks.done(wait=True)
    stream_options = options_of(sides)
    if sides.get("relation") is not None:
        return _prepare_rule(embeddings, labels, references, sides, stream_options)
    if labels is None:
        return _prepare_pairs(embeddings, references, sides, stream_options)
    labels = class_labels(labels, embeddings, "labels")
    embeddings, labels, weights = known(embeddings, labels, weights, sides.get("execution"))
    if references is not None:
        theirs = sides.get("reference_labels")
        if theirs is None:
            raise LabelError(
                "labels and references were given without reference_labels.",
                hint="Pass reference_labels=, or leave labels out if row i of the references belongs to row i.",
                reference="label-shape",
            )
        theirs = class_labels(theirs, references, "reference_labels")
        references, theirs, _ = known(references, theirs, None, sides.get("execution"))
        gathered, all_labels = _all_references(references, sides, stream_options), all_gather(theirs, processes)
        first, num_in_batch = None, 0
    else:
        gathered, all_labels = _all_references(embeddings, sides, stream_options), all_gather(labels, processes)
        first, num_in_batch = first_row(len(labels), processes, labels.device), len(all_labels)
    if sides.get("queue") is not None:
        gathered, all_labels = _with_queue(gathered, all_labels, sides)
    relate = SameLabel if labels.ndim == 1 else SharedLabel
    if references is None and gathered is embeddings and "ring" not in stream_options:
        relation: Relation = relate(labels)
    else:
        relation = relate(labels, all_labels, first=first)
    return PairBatch(embeddings, gathered, relation, weights, num_in_batch, {"weights": weights, **stream_options})


def _all_references(x: Tensor, sides: Mapping[str, Any], stream_options: dict[str, Any]) -> Tensor:
    """References of all processes; those of this one, if they are to travel round a ring."""
    processes = sides.get("processes", SINGLE_PROCESS)
    if processes.size == 1:
        return x
    ring = Ring.of(x, processes)
    execution = sides.get("execution") or DEFAULT
    if sides.get("queue") is None and execution.takes_ring(max(ring.rows), x.shape[1], processes.size, x.device):
        stream_options["ring"] = ring
        return x
    return gather(x, processes)


def options_of(sides: Mapping[str, Any]) -> dict[str, Any]:
    """What `stream` takes of the options of a call, but for weights."""
    return {
        "tile_size": sides.get("tile_size"),
        "processes": sides.get("processes", SINGLE_PROCESS),
        "stats": sides.get("stats", False),
        "execution": sides.get("execution"),
    }


def _with_queue(gathered: Tensor, labels: Tensor, sides: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """References and their labels with those of the queue behind them, which are constants."""
    queue, queue_labels = sides["queue"], sides.get("queue_labels")
    if queue_labels is None:
        raise LabelError(
            "labels and a queue were given without queue_labels.",
            hint="Pass queue_labels=, one for each row of the queue; -1 for one that does not count.",
            reference="label-shape",
        )
    check_dim(queue, gathered, "queue")
    queue_labels = class_labels(queue_labels, queue, "queue_labels")
    if labels.ndim != queue_labels.ndim:
        raise LabelError(
            f"labels have shape {tuple(labels.shape)} and queue_labels {tuple(queue_labels.shape)}; a queue of "
            "latest batches holds one class id per row.",
            hint="Leave the queue out where an example has several labels, or pass queue_labels of the same form.",
            reference="label-shape",
        )
    queue, queue_labels, _ = known(queue, queue_labels, None, sides.get("execution"))
    return torch.cat([gathered, queue.detach().to(gathered.dtype)]), torch.cat([labels, queue_labels])


def _prepare_pairs(
    embeddings: Tensor, references: Tensor | None, sides: Mapping[str, Any], stream_options: dict[str, Any]
) -> PairBatch:
    processes = stream_options["processes"]
    if references is None or len(references) < len(embeddings):
        found = "no references" if references is None else f"{len(references)} references for {len(embeddings)} anchors"
        raise LabelError(
            f"Without labels, row i of the references is the positive of row i; there are {found}.",
            hint="Pass labels, or references with at least as many rows as embeddings.",
            reference="labels-missing",
        )
    gathered = _all_references(references, sides, stream_options)
    begin = first_row(len(references), processes, references.device)
    partner = torch.arange(len(embeddings), device=embeddings.device) + begin
    queue, live = sides.get("queue"), None
    if queue is not None:
        check_dim(queue, embeddings, "queue")
        if sides.get("queue_labels") is not None:
            there = sides["queue_labels"] != -1
            if uses_tiles(sides.get("execution") or DEFAULT, queue.device):  # tile code leaves empty slots out
                live = torch.cat([there.new_ones(len(gathered)), there])
            else:
                queue = queue[there]
        gathered = torch.cat([gathered, queue.detach().to(gathered.dtype)])
    weights = sides.get("weights")
    count = sum(stream_options["ring"].rows) if "ring" in stream_options else len(gathered)
    relation = Paired(partner, count, live)
    return PairBatch(embeddings, gathered, relation, weights, 0, {"weights": weights, **stream_options})


def _prepare_rule(
    embeddings: Tensor,
    labels: Tensor | None,
    references: Tensor | None,
    sides: Mapping[str, Any],
    stream_options: dict[str, Any],
) -> PairBatch:
    """Pairs by a rule, which has the place of labels."""
    processes, rule = stream_options["processes"], sides["relation"]
    if labels is not None or sides.get("reference_labels") is not None or sides.get("queue") is not None:
        raise LabelError(
            "A relation was given with labels or with a queue; it has labels of its own, and a queue has no others.",
            hint="Say relation=same_class(labels) & ..., without labels, and build the loss without a queue.",
            reference="relation-and-labels",
        )
    own = embeddings if references is None else references
    gathered, begin = _all_references(own, sides, stream_options), first_row(len(embeddings), processes, own.device)
    count = sum(stream_options["ring"].rows) if "ring" in stream_options else len(gathered)
    first = begin if references is None else None
    of_all = partial(all_gather, processes=processes)
    relation = RuleRelation(
        rule, len(embeddings), len(own), count, first=first, begin=begin, gathered=of_all, device=own.device
    )
    if gathered is embeddings and not rule.is_symmetric:  # another tensor: no half of the pairs stands for the other
        gathered = embeddings.view_as(embeddings)
    weights, own_rows = sides.get("weights"), count if references is None else 0
    return PairBatch(embeddings, gathered, relation, weights, own_rows, {"weights": weights, **stream_options})


def check_embeddings(x: Tensor, name: str, checks: Checks | None = None) -> None:
    """Refuse embeddings of the wrong shape, and name the rows that are not finite.

    Raises:
        ShapeError: See above; where `checks` are given, at their end.
    """
    check_shape(x, name)
    whole = x.detach().sum(dtype=wide_dtype(x))  # finite only if every number is

    def explain() -> None:
        rows = (~torch.isfinite(x.detach()).all(1)).nonzero()[:, 0].tolist()
        shown = ", ".join(map(str, rows[:10])) + (f" and {len(rows) - 10} more" if len(rows) > 10 else "")
        if not rows:  # the sum alone is beyond the largest number
            return
        raise NonFiniteError(
            f"{name} hold NaN or infinity in {len(rows)} of {len(x)} rows: {shown}.",
            hint="Look at the inputs of these rows; lower the learning rate or clip gradients if they are clean.",
            reference="non-finite-embeddings",
        )

    _queued(checks, whole.abs() < torch.inf, explain)


def check_shape(x: Tensor, name: str) -> None:
    """Refuse what is not floating point (rows, dim).

    Raises:
        ShapeError: See above.
    """
    refuse_transforms()
    if x.ndim != 2 or not x.is_floating_point():
        raise ShapeError(
            f"{name} have shape {tuple(x.shape)} and type {x.dtype}; floating point (rows, dim) is expected.",
            hint="Flatten or pool the encoder's output to one row per example.",
            reference="embedding-shape",
        )


def _queued(checks: Checks | None, condition: Tensor, explain: Callable[[], None]) -> None:
    """Ask together with other conditions, or at once."""
    own = checks or Checks()
    own.require(condition, explain)
    if checks is None:
        own.done()


def class_labels(labels: Tensor, x: Tensor, name: str) -> Tensor:
    """Class ids as int64, whatever whole type they came in, or multi-hot rows as they are; one per row.

    Unsigned ids have no -1: in uint8 it would be class 255.

    Raises:
        LabelError: See above.
    """
    if len(labels) != len(x) or labels.ndim not in (1, 2) or labels.is_floating_point():
        raise LabelError(
            f"{name} have shape {tuple(labels.shape)} and type {labels.dtype} for {len(x)} embeddings.",
            hint="Pass int64 class ids of shape (rows,), or multi-hot integers of shape (rows, classes); a second set "
            "of embeddings is references=.",
            reference="label-shape",
        )
    if labels.ndim == 2 and labels.shape[1] == 1:
        raise LabelError(
            f"{name} have shape {tuple(labels.shape)}: one column, as if there were a single class to belong to.",
            hint="Pass class ids of shape (rows,): labels.squeeze(1).",
            reference="label-shape",
        )
    return labels.long() if labels.ndim == 1 else labels


def row_ids(labels: Tensor, x: Tensor, name: str) -> Tensor:
    """One whole number per row, as int64.

    Raises:
        LabelError: See above.
    """
    if labels.shape != x.shape[:1] or labels.is_floating_point() or labels.is_complex():
        raise LabelError(
            f"{name} have shape {tuple(labels.shape)} and type {labels.dtype} for {len(x)} embeddings.",
            hint="Pass one int64 id per row.",
            reference="label-shape",
        )
    return labels.long()


def check_dim(other: Tensor, x: Tensor, name: str) -> None:
    """Refuse what embeddings cannot be compared with.

    Raises:
        ShapeError: See above.
    """
    if other.shape[1] != x.shape[1]:
        raise ShapeError(
            f"Embeddings of length {x.shape[1]} cannot be compared with a {name} of length {other.shape[1]}.",
            hint="Build it with dim = the length of an embedding.",
            reference="embedding-shape",
        )


def check_weights(weights: Tensor | None, x: Tensor, checks: Checks | None = None) -> None:
    """Refuse weights that are not one finite number >= 0 per row.

    Raises:
        ShapeError: See above; where `checks` are given, at their end.
    """
    if weights is None:
        return

    def explain() -> None:
        raise ShapeError(
            f"weights have shape {tuple(weights.shape)} for {len(x)} anchors, "
            "or hold numbers that are negative or not finite.",
            hint="Pass one finite number >= 0 per anchor.",
            reference="weight-shape",
        )

    if weights.shape != (len(x),):
        explain()
    _queued(checks, (torch.isfinite(weights) & (weights >= 0)).all(), explain)


def known(
    x: Tensor, labels: Tensor, weights: Tensor | None, execution: Execution | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Without the examples that are not in this batch; on an accelerator they stay, and tile code leaves them out."""
    if uses_tiles(execution or DEFAULT, x.device):
        return x, labels, weights
    there = labels != -1 if labels.ndim == 1 else (labels != 0).any(1)
    if bool(there.all()):
        return x, labels, weights
    return x[there], labels[there], None if weights is None else weights[there]
