"""Rules about pairs, and what becomes of one as the relation of a loss; `tuplet.relations` makes and explains them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from tuplet.errors import LabelError
from tuplet.keys import Compare, Keys
from tuplet.relation import Masks

Values = Mapping[str, Tensor]
Answer = tuple[Tensor, Tensor]
"""Where a rule says yes and where it says no, both bool (rows, cols)."""

Form = Callable[[Values, Values], Answer]
"""Values of rows (rows, 1, ...) and of columns (1, cols, ...) -> answers. Forms are compared by value."""


@dataclass(frozen=True)
class Of:
    """The answers of one question, whose values have a number before their names."""

    number: int
    question: Form

    def __call__(self, rows: Values, cols: Values) -> Answer:
        """Ask with those values."""
        mine, theirs = (_of_number(self.number, side) for side in (rows, cols))
        return self.question(mine | {"at": rows["at"]}, theirs | {"place": cols["place"]})


def _of_number(number: int, values: Values) -> Keys:
    mark = f"{number}."
    return {name.removeprefix(mark): x for name, x in values.items() if name.startswith(mark)}


@dataclass(frozen=True)
class _Joined:
    """Two rules as one."""

    kind: str
    first: Form
    second: Form

    def __call__(self, rows: Values, cols: Values) -> Answer:
        yes, no = self.first(rows, cols)
        other_yes, other_no = self.second(rows, cols)
        if self.kind == "and":
            return yes & other_yes, no | other_no
        if self.kind == "or":
            return yes | other_yes, no & other_no
        return yes & ~other_yes, no & ~other_yes


@dataclass(frozen=True)
class _Opposite:
    inner: Form

    def __call__(self, rows: Values, cols: Values) -> Answer:
        yes, no = self.inner(rows, cols)
        return no, yes


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked of pairs, with the values that tell.

    Args:
        form: Says yes and no.
        anchors: Values of the anchors, by name.
        references: The same of a second set; None if there is none, empty where only positions of references count.
        is_known: Which anchors, and which references, it says something of; None for all.
        is_symmetric: Whether the answer of a pair does not depend on the order.
    """

    form: Form
    anchors: Keys
    references: Keys | None = None
    is_known: tuple[Tensor | None, Tensor | None] = (None, None)
    is_symmetric: bool = True

    def swapped(self) -> "Question":
        """With the values of references as those of anchors."""
        theirs = self.of_references(one_set=False)
        return replace(self, anchors=theirs, references=self.anchors, is_known=self.is_known[::-1])

    def of_references(self, *, one_set: bool) -> Keys:
        """Values of the references, which are the anchors' own in one set.

        Raises:
            LabelError: If the question knows two sets and meets one, or the reverse.
        """
        if self.references is not None and not self.references:
            return {}
        if (self.references is None) != one_set:
            found = "no references" if one_set else "references"
            raise LabelError(
                f"A loss was called with {found}, and its relation has values of {'two sets' if one_set else 'one'}.",
                hint="Give both a second set, or neither: loss(x, references=y, relation=same_class(labels, theirs)).",
                reference="relation-size",
            )
        return self.anchors if self.references is None else self.references


@dataclass(frozen=True, eq=False)
class Rule:
    """What is said of pairs; made by the functions of this module, and joined by `&`, `|`, `~` and `ignoring`."""

    asked: tuple[Question, ...]
    form: Callable[[int], Form] = field(repr=False)
    """The answers of all, from the number of the first question on."""

    def __and__(self, other: "Rule") -> "Rule":
        return self._joined("and", other)

    def __or__(self, other: "Rule") -> "Rule":
        return self._joined("or", other)

    def __invert__(self) -> "Rule":
        return replace(self, form=lambda begin: _Opposite(self.form(begin)))

    def ignoring(self, other: "Rule") -> "Rule":
        """Nothing is said of pairs of which the other rule says yes.

        Args:
            other: Such as `same_class(cameras)`, or `similar(guide, 0.9) & ~same_class(labels)`.
        """
        return self._joined("ignoring", other)

    def _joined(self, kind: str, other: "Rule") -> "Rule":
        count = len(self.asked)
        return Rule(self.asked + other.asked, lambda begin: _Joined(kind, self.form(begin), other.form(begin + count)))

    @property
    def is_symmetric(self) -> bool:
        """Whether the answer of a pair does not depend on the order."""
        return all(asked.is_symmetric for asked in self.asked)

    def swapped(self) -> "Rule":
        """The same with references as anchors.

        Raises:
            LabelError: If the rule tells anchors from references by their positions.
        """
        if not self.is_symmetric:
            raise LabelError(
                "A rule of positions has one direction; the other was asked for too.",
                hint="Use symmetric=False, or call the loss twice.",
                reference="relation-direction",
            )
        return replace(self, asked=tuple(asked.swapped() for asked in self.asked))


def asking(question: Question) -> Rule:
    """The rule that asks one question."""
    return Rule((question,), lambda begin: Of(begin, question.form))


@dataclass(frozen=True)
class Levels:
    """Several rules with weights: the loss is the weighted mean of the losses under each.

    Args:
        rules: One for each level.
        weights: Above 0 in sum.
    """

    rules: tuple[Rule, ...]
    weights: tuple[float, ...]


class RuleRelation(Masks):
    """A rule about the examples of a call, as tiles ask for it.

    Args:
        rule: What is said.
        anchors: Number of anchors of this process.
        own: Number of references of this process.
        references: Number of references of all processes.
        first: Position of anchor 0 among the references; None for two sets.
        begin: Position of anchor 0 among the anchors of all processes.
        gathered: Values of the references of this process -> of all processes.
        device: Of the embeddings.
    """

    def __init__(
        self,
        rule: Rule,
        anchors: int,
        own: int,
        references: int,
        *,
        first: int | None,
        begin: int,
        gathered: Callable[[Tensor], Tensor],
        device: torch.device,
    ) -> None:
        self.rule, self.anchors, self.references, self.first = rule, anchors, references, first
        self.form = rule.form(0)
        self.rows: Keys = {"at": torch.arange(anchors, device=device) + begin}
        self.cols: Keys = {}
        live, theirs_live = (torch.zeros(count, dtype=torch.bool, device=device) for count in (anchors, own))
        for number, asked in enumerate(rule.asked):
            theirs = asked.of_references(one_set=first is not None)
            self.rows |= {f"{number}.{name}": _sized(x, anchors, device) for name, x in asked.anchors.items()}
            self.cols |= {f"{number}.{name}": gathered(_sized(x, own, device)) for name, x in theirs.items()}
            mine, other = asked.is_known
            live |= True if mine is None else mine.to(device)
            known = mine if first is not None else other
            theirs_live |= True if known is None else known.to(device)
        self.live, self.their_live = live, gathered(theirs_live)

    def masks(self, rows: slice | Tensor, cols: slice) -> tuple[Tensor, Tensor]:
        """The answers of a tile; of any anchors, by their positions."""
        place = torch.arange(cols.start, cols.stop, device=self.live.device)
        down = {name: x[rows][:, None] for name, x in self.rows.items()}
        across = {name: x[cols][None] for name, x in self.cols.items()} | {"place": place[None]}
        positive, negative = self.form(down, across)
        live = self.live[rows, None] & self.their_live[None, cols]
        if self.first is not None:
            live = live & (torch.arange(self.anchors, device=place.device)[rows, None] + self.first != place)
        return positive & live, negative & live

    def keys(self) -> tuple[Keys, Keys, Compare]:
        """The values of all questions."""
        return {**self.rows, "live": self.live}, {**self.cols, "live": self.their_live}, _Compared(self.form)


@dataclass(frozen=True)
class _Compared:
    form: Form

    def __call__(self, rows: Values, cols: Values) -> tuple[Tensor, Tensor, None]:
        return (*self.form(rows, cols), None)


def _sized(values: Tensor, count: int, device: torch.device) -> Tensor:
    if len(values) != count:
        raise LabelError(
            f"A relation has values of {len(values)} examples, and meets {count}.",
            hint="Give it one for each row of the embeddings, and of the references if there are any.",
            reference="relation-size",
        )
    return values.to(device)
