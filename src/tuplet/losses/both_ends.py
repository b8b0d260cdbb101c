"""What the two ends of a pair have found: of the anchor in its row, of the reference in its column."""

from collections.abc import Callable

import torch
from torch import Tensor

from tuplet.engine import Execution, Processes, gather
from tuplet.engine.execution import DEFAULT
from tuplet.engine.gather import all_gather
from tuplet.engine.program import Pair, Term, reduce_term
from tuplet.engine.rowwise import rowwise
from tuplet.errors import LabelError
from tuplet.losses.inputs import PairBatch
from tuplet.relation import Paired, Relation, SameLabel, SharedLabel
from tuplet.rule import RuleRelation
from tuplet.tensors import wide_dtype
from tuplet.types import GeometryName


def at_both_ends(
    term: Callable[[Tensor, Pair], Term], problem: PairBatch, geometry: GeometryName, processes: Processes
) -> tuple[Tensor, Tensor]:
    """What a term is reduced to in each row, and in each column of all processes; both differentiable.

    For one set they are the same numbers. The columns of a second set or a queue are rows of the matrix turned round.

    Raises:
        LabelError: If the pairs come from a rule that is not symmetric, or from one about a second set.
    """

    def function(distance: Tensor, pair: Pair) -> tuple[Tensor]:
        found = term(distance, pair)
        if distance.shape[1]:
            return (reduce_term(found)[0],)
        return (found.masked().sum(1) + (torch.inf if found.monoid == "smallest" else -torch.inf),)

    a, r, relation = problem.anchors, problem.references, problem.relation
    entries = entries_of(problem)
    (rows,) = rowwise(function, a, r, relation, geometry, entries=entries, summed=False)
    is_one = relation.first is not None and problem.num_in_batch == len(r)
    if isinstance(relation, RuleRelation) and not (is_one and relation.rule.is_symmetric):
        raise LabelError(
            "A loss that looks at both ends of a pair was given a relation that is not symmetric, or has a second set.",
            hint="Give it a symmetric relation of one set, such as same_class(labels), or labels.",
            reference="relation-of-both-ends",
        )
    if is_one:
        return rows, gather(rows, processes)
    others = gather(a, processes)
    (cols,) = rowwise(function, r, others, _turned(relation, processes), geometry, entries=entries, summed=False)
    return rows, cols


def entries_of(problem: PairBatch) -> int:
    """How many scores a call may hold at once."""
    execution: Execution = problem.stream_options.get("execution") or DEFAULT
    wide = wide_dtype(problem.anchors)
    return problem.stream_options.get("tile_size") or execution.entries(problem.anchors.new_empty(0, dtype=wide))


def _turned(relation: Relation, processes: Processes) -> Relation:
    """The references against the anchors of all processes."""
    first = None if relation.first is None else 0
    if isinstance(relation, Paired):
        return Paired(all_gather(relation.partner, processes), relation.references, relation.live).transposed()
    if isinstance(relation, SharedLabel):
        mine = all_gather(relation.labels.long(), processes)
        return SharedLabel(relation.reference_labels.long(), mine, first=first)
    if isinstance(relation, SameLabel):
        return SameLabel(relation.reference_labels, all_gather(relation.labels, processes), first=first)
    raise AssertionError("pairs have class ids, several labels or a partner")
