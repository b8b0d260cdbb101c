"""Pairs compared in several directions at once, with own negatives, and without candidates that look like positives.

Candidates of pair i = (q_i, d_i) may be documents and queries, compared with q_i or with d_i. All of it is one row of
one score matrix: an anchor is (q_i, d_i) side by side, a candidate is (c, 0) or (0, c), and their product is the score.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from tuplet.engine import SINGLE_PROCESS, gather
from tuplet.engine.gather import all_gather, first_row
from tuplet.errors import LabelError, ShapeError
from tuplet.geometry import normalise
from tuplet.keys import Compare, Keys
from tuplet.losses.inputs import Checks, check_dim, check_embeddings
from tuplet.relation import Masks
from tuplet.tensors import wide_dtype

Direction = Literal["query_to_doc", "query_to_query", "doc_to_query", "doc_to_doc"]
NOBODY = -1


@dataclass(frozen=True)
class Guide:
    """What tells candidates that are nearly positives, as sides of pairs are compared with each other.

    Args:
        anchors: (anchors, dim), constants.
        candidates: (candidates, dim), constants.
        limit: Similarity of each anchor with a candidate from which on it is left out, (anchors,).
    """

    anchors: Tensor
    candidates: Tensor
    limit: Tensor


@dataclass(frozen=True)
class Among(Masks):
    """One positive for each anchor; all other candidates are negatives, but for those that are left out.

    Args:
        partner: Position of each anchor's positive.
        number: Of each anchor, among all.
        skipped: For each candidate the number of the anchor that leaves it out; -1 for none.
        kept: For each candidate the number of the anchor that keeps it, whatever the guide says; -1 for none.
        guide: Leaves out candidates that are as near as the positive, or nearer.
    """

    partner: Tensor
    number: Tensor
    skipped: Tensor
    kept: Tensor
    guide: Guide | None = None
    first: int | None = None

    @property
    def anchors(self) -> int:
        """Number of rows."""
        return len(self.partner)

    @property
    def references(self) -> int:
        """Number of columns."""
        return len(self.skipped)

    def masks(self, rows: slice, cols: slice) -> tuple[Tensor, Tensor]:
        """As `keys` compares them."""
        mine, theirs, compare = self.keys()
        place = torch.arange(cols.start, cols.stop, device=self.skipped.device)[None]
        down = {name: x[rows, None] for name, x in mine.items()}
        positive, negative, _ = compare(down, {**{name: x[None, cols] for name, x in theirs.items()}, "place": place})
        return positive, negative

    def keys(self) -> tuple[Keys, Keys, Compare]:
        """Numbers, and the guide's embeddings."""
        rows = {"partner": self.partner, "number": self.number}
        rows["live"] = torch.ones_like(self.partner, dtype=torch.bool)
        cols = {"skipped": self.skipped, "kept": self.kept}
        if self.guide is None:
            return rows, cols, among
        rows |= {"guide": self.guide.anchors, "limit": self.guide.limit}
        return rows, cols | {"guide": self.guide.candidates}, among_guided


def among(rows: Mapping[str, Tensor], cols: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, None]:
    """Negative unless the anchor leaves the candidate out."""
    positive = rows["partner"] == cols["place"]
    return positive, ~positive & (rows["number"] != cols["skipped"]), None


def among_guided(rows: Mapping[str, Tensor], cols: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, None]:
    """And unless the guide finds it nearer than the limit."""
    positive, negative, _ = among(rows, cols)
    near = rows["guide"][:, 0] @ cols["guide"][0].T > rows["limit"]
    return positive, negative & (~near | (rows["number"] == cols["kept"])), None


@dataclass(frozen=True)
class Sides:
    """What a call brings along.

    Args:
        queries: (anchors, dim).
        docs: (references, dim); the first rows are the anchors' positives.
        negatives: (anchors, n, dim), each anchor's own; None for none.
        guides: The same three as the guide sees them; None without a guide.
    """

    queries: Tensor
    docs: Tensor
    negatives: Tensor | None
    guides: tuple[Tensor, Tensor, Tensor | None] | None

    @staticmethod
    def of(embeddings: Tensor, sides: Mapping[str, Any]) -> "Sides":
        """Checked.

        Raises:
            LabelError: If something is missing.
            ShapeError: If shapes do not fit together.
        """
        docs, negatives, own = sides.get("references"), sides.get("negatives"), sides.get("guide")
        if docs is None or len(docs) < len(embeddings) or sides.get("reference_labels") is not None:
            found = "no references" if docs is None else f"{len(docs)} references for {len(embeddings)} anchors"
            raise LabelError(
                f"Directions, own negatives and false negatives are those of pairs; there are {found}.",
                hint="Call loss(queries, references=docs) without labels: row i of both is a pair.",
                reference="labels-missing",
            )
        guides = None if own is None else _guides(own, sides, negatives)
        return Sides(embeddings, docs, negatives, guides).checked(Checks(sides.get("execution")))

    def checked(self, checks: Checks) -> "Sides":
        """The same, if all of it fits together."""
        for name, x in (("embeddings", self.queries), ("references", self.docs)):
            check_embeddings(x, name, checks)
        check_dim(self.docs, self.queries, "set of references")
        for near, far, what in ((self.queries, self.negatives, "negatives"), *self._guided()):
            if far is not None and (far.ndim != 3 or (len(far), far.shape[2]) != tuple(near.shape)):
                raise ShapeError(
                    f"{what} have shape {tuple(far.shape)} for anchors of shape {tuple(near.shape)}.",
                    hint="Pass n negatives for each anchor, (anchors, n, dim).",
                    reference="embedding-shape",
                )
        if self.negatives is not None:
            check_embeddings(self.negatives.flatten(0, 1), "negatives", checks)
        checks.done()
        return self

    def _guided(self) -> list[tuple[Tensor, Tensor | None, str]]:
        if self.guides is None:
            return []
        mine, theirs, negatives = self.guides
        if len(mine) != len(self.queries) or len(theirs) != len(self.docs) or mine.shape[1] != theirs.shape[1]:
            raise ShapeError(
                f"guide has shape {tuple(mine.shape)}, reference_guide {tuple(theirs.shape)} for {len(self.queries)} "
                f"anchors and {len(self.docs)} references.",
                hint="Pass the guide's embedding of each anchor and of each reference, of one length.",
                reference="embedding-shape",
            )
        return [(mine, negatives, "negative_guide")]


def _guides(own: Tensor, sides: Mapping[str, Any], negatives: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
    theirs, further = sides.get("reference_guide"), sides.get("negative_guide")
    if theirs is None or (further is None) != (negatives is None) or sides.get("queue") is not None:
        raise LabelError(
            "A guide was given for the anchors and not for all that they are compared with.",
            hint="Pass guide=, reference_guide= and, with negatives=, negative_guide= together, and no queue.",
            reference="guide-parts",
        )
    return own, theirs, further


def joint(
    given: Sides, directions: Sequence[Direction], margin: float | None, geometry: str, sides: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Among]:
    """Anchors, candidates, and who is whose positive, negative or neither, over all processes.

    Args:
        given: Of this process.
        directions: What each side is compared with.
        margin: A candidate is left out if its similarity is above that of the positive less this; None leaves out
            nothing where there is no guide, and is 0 where there is one.
        geometry: "cosine" or "dot".
        sides: Of the call.
    """
    processes, queue = sides.get("processes", SINGLE_PROCESS), sides.get("queue")
    wide = wide_dtype(given.queries, given.docs)
    prepare = normalise if geometry == "cosine" else torch.clone
    parts = [None if x is None else prepare(x.to(wide)) for x in (given.queries, given.docs, given.negatives)]
    partner = first_row(len(given.docs), processes, given.docs.device) + torch.arange(
        len(given.queries), device=given.docs.device
    )
    layout = _Layout(all_gather(partner, processes), tuple(directions))
    further = _of_queue(queue, sides.get("queue_labels"), wide, prepare)
    gathered = [None if x is None else gather(x.flatten(0, -2), processes) for x in parts]
    anchors, candidates, skipped, kept = layout.arranged(parts, gathered, further)
    guide = None
    guides = given.guides or ((given.queries, given.docs, given.negatives) if margin is not None else None)
    if guides is not None:
        seen = [None if x is None else normalise(x.detach().to(wide)) for x in guides]
        everyone = [None if x is None else all_gather(x.flatten(0, -2), processes) for x in seen]
        mine, theirs, _, _ = layout.arranged(seen, everyone, None if further is None else normalise(further))
        own = (seen[0] * seen[1][: len(partner)]).sum(1)  # type: ignore[operator,index]  # both are there
        guide = Guide(mine, theirs, own - (margin or 0.0))
    return anchors, candidates, Among(partner, partner, skipped, kept, guide)


@dataclass(frozen=True)
class _Layout:
    """In which order candidates stand, and to which pair each belongs.

    Args:
        numbers: Of all pairs, of all processes: the position of their document.
        directions: See `joint`.
    """

    numbers: Tensor
    directions: tuple[Direction, ...]

    def arranged(
        self, mine: Sequence[Tensor | None], everyone: Sequence[Tensor | None], further: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Anchors and candidates, and for each candidate who leaves it out and who keeps it.

        Args:
            mine: Queries, documents and negatives of this process.
            everyone: The same of all, negatives one below the other.
            further: Candidates of no pair, behind all others.
        """
        queries, docs, negatives = everyone
        own, theirs, _ = mine
        assert queries is not None and docs is not None and own is not None and theirs is not None  # noqa: S101, PT018
        nobody = self.numbers.new_full((len(docs),), NOBODY)
        of_docs = torch.arange(len(docs), device=docs.device)
        if negatives is not None:
            each = len(negatives) // max(1, len(self.numbers))
            docs, nobody = torch.cat([docs, negatives]), self.numbers.new_full((len(docs) + len(negatives),), NOBODY)
            of_docs = torch.cat([of_docs, self.numbers.repeat_interleave(each)])
        if further is not None:
            docs = torch.cat([docs, further])
            nobody, of_docs = (torch.cat([x, x.new_full((len(further),), NOBODY)]) for x in (nobody, of_docs))
        none = torch.full_like(self.numbers, NOBODY)
        blocks = {  # candidates, whether the document is compared with them, who leaves them out, who keeps them
            "query_to_doc": (docs, False, nobody, nobody),
            "query_to_query": (queries, False, self.numbers, none),
            "doc_to_query": (queries, True, none, self.numbers),
            "doc_to_doc": (docs, True, of_docs, nobody),
        }
        used = [blocks[name] for name in blocks if name in self.directions]
        skipped, kept = torch.cat([block[2] for block in used]), torch.cat([block[3] for block in used])
        if not any(block[1] for block in used):
            return own, torch.cat([block[0] for block in used]), skipped, kept
        sides = [torch.cat([x * 0, x] if second else [x, x * 0], 1) for x, second, _, _ in used]
        return torch.cat([own, theirs[: len(own)]], 1), torch.cat(sides), skipped, kept


def _of_queue(queue: Tensor | None, labels: Tensor | None, wide: torch.dtype, prepare: Any) -> Tensor | None:
    if queue is None:
        return None
    filled: Tensor = prepare((queue if labels is None else queue[labels != -1]).detach().to(wide))
    return filled
