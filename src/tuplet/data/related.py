"""Which pairs of some examples are positive, by their columns: a statement of a recipe with the values it names."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tuplet import relations
from tuplet.data.labels import UNKNOWN, encode_names, encode_sets, plain_name
from tuplet.data.manifest import Manifest
from tuplet.data.statement import Asked, Expression, Joined, Opposite, Statement
from tuplet.errors import DataError
from tuplet.keys import LabelDistance
from tuplet.rule import Answer, Levels, Question, Rule, RuleRelation, Values, asking

Column = tuple[str, ...] | NDArray[Any]
_TILE = 1 << 22
_USUAL_BETWEEN = "|"


@dataclass(frozen=True, eq=False)
class Related:
    """A relation about some examples.

    Args:
        statement: What the recipe says.
        values: Of each question an entry per example, (n,) or (n, k).
        digests: One per example, of everything that is asked about it.
        tables: Matrices by the number of the question that asks them, whole: its values are places in them.
    """

    statement: Statement
    values: tuple[Tensor, ...]
    digests: tuple[str, ...]
    tables: "Mapping[int, Listed]" = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.digests)

    def take(self, rows: Sequence[int] | NDArray[np.int64] | Tensor) -> "Related":
        """About the examples at these positions."""
        chosen = torch.as_tensor(np.asarray(rows, dtype=np.int64))
        digests = tuple(self.digests[row] for row in chosen.tolist())
        return replace(self, values=tuple(one[chosen] for one in self.values), digests=digests)

    def rule(self, rows: Tensor | None = None, *, is_second: bool = False) -> Rule | Levels:
        """What is said of pairs of the examples at these positions, by default of all.

        Args:
            rows: Positions.
            is_second: Whether the references are a second set, that of the partners of the same examples: an example
                and its own partner are then a positive pair whatever is said.
        """
        values = [one if rows is None else one[rows] for one in self.values]
        numbered = iter(enumerate(values))
        said = self._made(self.statement.said, numbered, is_second=is_second)
        if not is_second:
            return said
        own = torch.arange(len(values[0])) if rows is None else rows
        mate = relations.same_class(own, own)
        return mate | said if isinstance(said, Rule) else Levels(tuple(mate | one for one in said.rules), said.weights)

    def rules(self) -> tuple[Rule, ...]:
        """The rule of each level, from the coarsest to the finest; one if it is no hierarchy."""
        said = self.rule()
        return said.rules if isinstance(said, Levels) else (said,)

    def about_all(self) -> tuple[RuleRelation, ...]:
        """The same as tiles of the examples ask for it, each with every other."""
        count = len(self)
        how: dict[str, Any] = {"first": 0, "begin": 0, "gathered": lambda x: x, "device": torch.device("cpu")}
        return tuple(RuleRelation(rule, count, count, count, **how) for rule in self.rules())

    def has_positive(self) -> bool:
        """Whether any two of the examples are a positive pair."""
        size = max(1, _TILE // max(1, len(self)))
        starts = range(0, len(self), size)
        everyone = slice(0, len(self))
        return any(
            bool(one.masks(slice(at, min(at + size, len(self))), everyone)[0].any())
            for one in self.about_all()
            for at in starts
        )

    @property
    def is_symmetric(self) -> bool:
        """Whether no answer depends on the order of a pair."""
        return all(rule.is_symmetric for rule in self.rules())

    @property
    def targets(self) -> NDArray[np.float64]:
        """Graded labels of the examples, of which `distance` is asked."""
        found = self.values[0].double().numpy()
        return found[:, None] if found.ndim == 1 else found

    @property
    def distance(self) -> LabelDistance | None:
        """How far apart two labels are; None of a rule."""
        if not self.statement.is_distance:
            return None
        asked = self.statement.asked[0]
        if asked.kind == "distances":
            return self.tables[0].distance
        return relations.tree_distance(asked.weights or (1.0,) * len(asked.names))

    def _made(
        self, said: Expression, numbered: Iterator[tuple[int, Tensor]], *, is_second: bool
    ) -> Any:  # a rule; levels if they are all that is said
        match said:
            case Joined(kind, first, second):
                one, other = (self._made(part, numbered, is_second=is_second) for part in (first, second))
                return one & other if kind == "and" else one | other if kind == "or" else one.ignoring(other)
            case Opposite(inner):
                return ~self._made(inner, numbered, is_second=is_second)
            case Asked():
                number, mine = next(numbered)
                return _MADE[said.kind](said, mine, mine if is_second else None, self.tables.get(number))


def relate(manifest: Manifest, statement: Statement, arrays: Mapping[str, str]) -> Manifest:
    """The examples with what a relation says of them.

    Args:
        manifest: Read so that its metadata hold the columns that the relation names.
        statement: The relation.
        arrays: `.npy` files by the names under which the relation asks for them, with a row for each example.

    Raises:
        DataError: If a column or an array is missing, or does not hold what is asked of it.
    """
    found = {name: _column(manifest, name, arrays) for name in statement.names}
    values, tables = [], {}
    for number, asked in enumerate(statement.asked):
        columns = [found[name] for name in asked.names]
        if asked.kind in ("matrix", "distances"):
            tables[number] = Listed.of(_table(asked, columns[0], len(manifest)))
            values.append(torch.arange(len(manifest)))
        else:
            values.append(_READ[asked.kind](asked, columns, manifest))
    related = Related(statement, tuple(values), _digests(found, len(manifest)), tables)
    notes = manifest.notes + tuple(_strangers(statement, found, values))
    if not statement.is_distance:
        return replace(manifest, related=related, notes=notes)
    return replace(manifest, related=related, notes=notes, targets=related.targets)


def _strangers(statement: Statement, found: Mapping[str, Column], values: Sequence[Tensor]) -> Iterator[str]:
    """A sentence for each column that names partners which are no examples: such a pair would be missing in silence."""
    for asked, value in zip(statement.asked, values, strict=True):
        if asked.kind != "paired":
            continue
        cells = found[asked.names[0]]
        nothing = "" if isinstance(cells, tuple) else str(UNKNOWN)
        missing = [str(cells[row]) for row in (value[:, 1] == UNKNOWN).nonzero()[:, 0].tolist()]
        missing = [cell for cell in missing if plain_name(cell) != nothing]
        if missing:
            count = f"{len(missing)} of {len(cells)} cells"
            yield f"data.relation: {count} of {asked.names[0]!r} name no example, such as {missing[0]!r}."


def _column(manifest: Manifest, name: str, arrays: Mapping[str, str]) -> Column:
    """What an array, a column of the table, or a role of the data says of each example."""
    if name in arrays:
        return _array(name, Path(arrays[name]), len(manifest))
    if name in manifest.metadata:
        return manifest.metadata[name]
    labels = None if manifest.labels is None else manifest.labels.tolist()
    known: dict[str, tuple[str, ...] | None] = {
        "label": None if labels is None else tuple(manifest.class_names[one] if one >= 0 else "" for one in labels),
        "group": manifest.groups,
        "id": manifest.ids,
    }
    column = known.get(name)
    if column is None:
        there = sorted({*arrays, *manifest.unread, *(key for key, one in known.items() if one is not None)})
        raise DataError(
            f"data.relation names {name!r}, and {manifest.source} has no such column; it has {', '.join(there)}.",
            hint=f"Name a column of the table, or give the values: --set data.arrays.{name}=FILE.npy",
            reference="relation-column",
        )
    return column


def _array(name: str, path: Path, count: int) -> NDArray[Any]:
    """A file of numbers, read where it is asked."""
    try:
        found: NDArray[Any] = np.load(path, mmap_mode="c", allow_pickle=False)
    except (OSError, ValueError, EOFError) as problem:
        raise DataError(
            f"data.arrays.{name} = {path} cannot be read: {problem}.",
            hint="Write it by numpy.save.",
            reference="relation-column",
        ) from problem
    if not isinstance(found, np.ndarray) or found.ndim not in (1, 2) or len(found) != count:
        shape = getattr(found, "shape", "of several arrays")
        raise _wrong(name, f"{path.name} has shape {shape} for {count} examples", "Give it a row for each example.")
    return found


def _table(asked: Asked, column: Column, count: int) -> Tensor:
    name = asked.names[0]
    if isinstance(column, tuple) or column.shape != (count, count):
        what = "is a column" if isinstance(column, tuple) else f"has shape {column.shape}"
        raise _wrong(name, f"it {what}, and {asked.kind} asks for {count} x {count} numbers", "See data.arrays.")
    if asked.kind == "distances" and column.dtype.kind not in "fiu":
        raise _wrong(name, f"it holds {column.dtype}, and distances are numbers", "See data.arrays.")
    return torch.from_numpy(column)


def _ids(name: str, column: Column) -> Tensor:
    """Whole numbers, -1 where nothing is known."""
    if isinstance(column, tuple):
        return torch.from_numpy(encode_names(column)[0])
    if column.ndim == 1 and column.dtype.kind in "iub":
        return torch.from_numpy(np.asarray(column, dtype=np.int64))
    raise _wrong(name, f"it holds {column.dtype} of shape {column.shape}, and ids are whole numbers", "")


def _classes(asked: Asked, columns: Sequence[Column], _: Manifest) -> Tensor:
    return _ids(asked.names[0], columns[0])


def _levels(asked: Asked, columns: Sequence[Column], _: Manifest) -> Tensor:
    found = torch.stack([_ids(name, column) for name, column in zip(asked.names, columns, strict=True)], 1)
    if asked.kind == "tree_distance" and bool((found == UNKNOWN).any()):
        row = int((found == UNKNOWN).any(1).nonzero()[0, 0])
        name = asked.names[int((found[row] == UNKNOWN).nonzero()[0, 0])]
        raise _wrong(name, f"it says nothing of example {row + 1}, and a distance needs every level", "")
    return found


def _tags(asked: Asked, columns: Sequence[Column], manifest: Manifest) -> Tensor:
    """Multi-hot rows."""
    column = columns[0]
    if isinstance(column, tuple):
        usual = "" if manifest.columns is None else manifest.columns.several
        return torch.from_numpy(encode_sets(column, asked.between or usual or _USUAL_BETWEEN)[2])
    if column.ndim == 2:
        return torch.from_numpy(np.asarray(column) != 0)
    raise _wrong(asked.names[0], "it has one number for each example, and labels are a column each", "")


def _mates(asked: Asked, columns: Sequence[Column], manifest: Manifest) -> Tensor:
    """The number of each example, and that of the one it names."""
    column = columns[0]
    place = {plain_name(name): at for at, name in enumerate(manifest.ids)}
    cells = column if isinstance(column, tuple) else tuple(str(one) for one in column.tolist())
    named = torch.tensor([place.get(plain_name(cell), UNKNOWN) for cell in cells])
    if bool((named == UNKNOWN).all()):
        raise _wrong(asked.names[0], f"none of its cells is the id of an example, such as {manifest.ids[0]!r}", "")
    return torch.stack([torch.arange(len(cells)), named], 1)


def _places(asked: Asked, columns: Sequence[Column], _: Manifest) -> Tensor:
    """Times or places: whole numbers as such, others in float64 with NaN where nothing is known."""
    parts = [_numbers(name, column) for name, column in zip(asked.names, columns, strict=True)]
    if len(parts) == 1:
        return parts[0]
    return torch.cat([one.double().reshape(len(one), -1) for one in parts], 1)


def _numbers(name: str, column: Column) -> Tensor:
    if not isinstance(column, tuple):
        if column.dtype.kind not in "fiu":
            raise _wrong(name, f"it holds {column.dtype}, and within asks for numbers", "")
        whole = column.dtype.kind != "f" and column.ndim == 1
        return torch.from_numpy(np.asarray(column, dtype=np.int64 if whole else np.float64))
    plain = [plain_name(cell) for cell in column]
    if all(_is_whole(cell) for cell in plain):
        return torch.tensor([int(cell) for cell in plain])
    return torch.tensor([_number(name, cell) for cell in plain], dtype=torch.float64)


def _is_whole(cell: str) -> bool:
    return cell.removeprefix("-").isdecimal() and abs(int(cell)) < 1 << 63  # as many as int64 holds


def _number(name: str, cell: str) -> float:
    """A number, or a date in seconds; NaN for an empty cell."""
    try:
        return float(cell) if cell else np.nan
    except ValueError:
        pass
    try:
        date = datetime.fromisoformat(cell)
    except ValueError as problem:
        raise _wrong(name, f"{cell!r} is neither a number nor a date like 2024-05-01T12:00", "") from problem
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


def _guide(asked: Asked, columns: Sequence[Column], _: Manifest) -> Tensor:
    column = columns[0]
    if isinstance(column, tuple) or column.ndim != 2 or column.dtype.kind != "f":
        raise _wrong(
            asked.names[0], "similar asks for embeddings, a row of numbers for each example", "See data.arrays."
        )
    return torch.from_numpy(np.asarray(column, dtype=np.float32))


_READ: Mapping[str, Callable[[Asked, Sequence[Column], Manifest], Tensor]] = {
    "same_class": _classes,
    "shared_label": _tags,
    "paired": _mates,
    "within": _places,
    "similar": _guide,
    "hierarchy": _levels,
    "tree_distance": _levels,
}


@dataclass(frozen=True)
class _Named:
    """Yes if one example names the other."""

    def __call__(self, rows: Values, cols: Values) -> Answer:
        mine, theirs = rows["mate"], cols["mate"]
        yes = (mine[..., 1] == theirs[..., 0]) | (mine[..., 0] == theirs[..., 1])
        return yes, ~yes


@dataclass(frozen=True, eq=False)
class Listed:
    """Entries of a matrix over all examples, which stays where it is: in memory of the host, or in a file.

    Args:
        table: (examples, examples).
        is_symmetric: Whether no entry depends on the order of its pair.
    """

    table: Tensor
    is_symmetric: bool

    @staticmethod
    def of(table: Tensor) -> "Listed":
        """After a look at all entries, some rows at a time."""
        size = max(1, _TILE // max(1, len(table)))
        blocks = (slice(at, at + size) for at in range(0, len(table), size))
        return Listed(table, all(torch.equal(table[rows], table[:, rows].T) for rows in blocks))

    def __call__(self, rows: Values, cols: Values) -> Answer:
        """Entries as answers."""
        said, device = self._at(rows["row"], cols["row"]), rows["row"].device
        yes, no = (said, ~said) if said.dtype == torch.bool else (said > 0, said == 0)
        return yes.to(device), no.to(device)

    def distance(self, mine: Tensor, theirs: Tensor) -> Tensor:
        """As a `LabelDistance`."""
        return self._at(mine[:, :1].long(), theirs[:, 0].long()[None]).double().to(mine.device)

    def _at(self, rows: Tensor, cols: Tensor) -> Tensor:
        """On the host, where the matrix lies: the places go there, and what is found comes back."""
        return self.table[rows.cpu(), cols.cpu()]


def _asking(form: Any, name: str, mine: Tensor, theirs: Tensor | None, *, is_symmetric: bool = True) -> Rule:
    second = None if theirs is None else {name: theirs}
    return asking(Question(form, {name: mine}, second, is_symmetric=is_symmetric))


_MADE: Mapping[str, Callable[[Asked, Tensor, Tensor | None, Any], Rule | Levels]] = {
    "same_class": lambda _, mine, theirs, __: relations.same_class(mine, theirs),
    "shared_label": lambda _, mine, theirs, __: relations.shared_label(mine, theirs),
    "paired": lambda _, mine, theirs, __: _asking(_Named(), "mate", mine, theirs),
    "within": lambda asked, mine, theirs, __: relations.within(mine, asked.number or 0.0, theirs),
    "similar": lambda asked, mine, theirs, __: relations.similar(mine, asked.number or 0.0, theirs),
    "matrix": lambda _, mine, theirs, listed: _asking(listed, "row", mine, theirs, is_symmetric=listed.is_symmetric),
    "hierarchy": lambda asked, mine, theirs, _: relations.hierarchy(mine, asked.weights, theirs),
}


def _digests(columns: Mapping[str, Column], count: int) -> tuple[str, ...]:
    """Of each example, of everything that is asked about it."""
    found = []
    for row in range(count):
        content = hashlib.blake2b(digest_size=8)
        for column in columns.values():
            said = column[row]
            content.update(said.encode() if isinstance(said, str) else np.ascontiguousarray(said).tobytes())
            content.update(b"\0")
        found.append(content.hexdigest())
    return tuple(found)


def _wrong(name: str, why: str, hint: str) -> DataError:
    return DataError(
        f"data.relation cannot ask {name!r}: {why}.",
        hint=hint or "Name another column, or correct this one.",
        reference="relation-column",
    )
