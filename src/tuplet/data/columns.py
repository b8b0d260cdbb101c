"""Which column of a table is what: by its name, by what was asked for, and never by chance."""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tuplet.data.audio import has_sound_name
from tuplet.data.cells import Table
from tuplet.data.labels import MISSING, says_who_asks
from tuplet.data.manifest import Columns, Kind
from tuplet.data.source_errors import SourceErrors
from tuplet.registry import did_you_mean

Role = Literal["id", "path", "text", "label", "pair", "split", "group", "role"]
ROLES: tuple[Role, ...] = ("id", "path", "text", "label", "pair", "split", "group", "role")
_USUAL = Columns()
_ASKS, _ANSWERS = "query", "positive"
"""Names that pairs of texts have too."""
_COUNTS_ROWS = r"|index|unnamed: \d+"
"""Names of the column of row numbers that pandas writes."""
_IDENTIFIES = r"(?i:(.*[\W_])?(id|ids|idx|index|uuid|guid)|row([\W_]?(id|no|nr|num|number))?)|.*[a-z]I[dD]"
"""Names of columns that tell rows apart; as an input they would give sorted classes away."""
_LABEL_LIKE = r"(?i:y|(.*[\W_])?(class|classes|category|labels?|species|class[\W_]?(id|name)))"
_IMAGES = (".png", ".jpg", ".jpeg", ".gif", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm")
_NUMBERED = r"(?i:x_?\d+)"
_SHOWN = 3
_WORDS = 3
"""Words of a cell that is running text and no name."""


@dataclass(frozen=True)
class Roles:
    """Positions of the columns that are read.

    Args:
        of: By role.
        targets: Graded labels.
        inputs: Numbers that make up a vector.
        kind: What an item is.
    """

    of: dict[Role, int]
    targets: tuple[int, ...]
    inputs: tuple[int, ...]
    kind: Kind

    @property
    def read(self) -> set[int]:
        """All of them."""
        return {*self.of.values(), *self.targets, *self.inputs}

    def columns(self, table: Table, asked: Columns) -> Columns:
        """The same by name."""
        named: dict[str, Any] = {role: table.names[self.of[role]] if role in self.of else None for role in ROLES}
        has_inputs = self.kind in ("vector", "series") and "path" not in self.of
        inputs = tuple(table.names[place] for place in self.inputs) if has_inputs else None
        targets = tuple(table.names[place] for place in self.targets)
        return replace(asked, **named, inputs=inputs, targets=targets)


def settle_annotations(table: Table, columns: Columns, problems: SourceErrors) -> Roles:
    """The same for a table beside an array, which holds no inputs."""
    of = _named(table, columns, (), problems, as_trained=False)
    targets = _targets(table, columns, of, (), problems, as_trained=False)
    if "label" not in of and not targets:
        problems.add("missing-column", "there is no column 'label'", hint=columns_hint("label", table))
    return Roles(of, targets, (), "vector")


def settle_columns(
    table: Table,
    columns: Columns,
    *,
    kind: Kind | None,
    needs: Collection[str],
    keep: Collection[str] = (),
    as_trained: bool,
    problems: SourceErrors,
) -> Roles:
    """Decide what each column is; what is ambiguous is a problem that names the choices.

    Args:
        table: Its cells.
        columns: Names that were asked for.
        kind: What an item is, if that was asked for.
        needs: Roles that have to be there.
        keep: Columns that a relation asks: no inputs, unless `columns` names them.
        as_trained: The names are those of a table that a model was trained on: inputs must be there, the rest may be,
            and nothing is asked.
        problems: Of names that are missing or unclear.
    """
    columns = _of_pairs(table, columns)
    of = _named(table, columns, needs, problems, as_trained=as_trained)
    targets = _targets(table, columns, of, needs, problems, as_trained=as_trained)
    are_sounds = "path" in of and _name_sounds(table, of["path"])
    kind = kind or ("series" if are_sounds else "image" if "path" in of else "text" if "text" in of else "vector")
    taken = {*of.values(), *targets, *(table.find(name) for name in keep)}
    free = [place for place in range(len(table.names)) if place not in taken]
    inputs: tuple[int, ...] = ()
    if kind in ("vector", "series") and not are_sounds:
        inputs = _inputs(table, columns, free, problems)
    is_open = not as_trained and not len(problems)
    if is_open and "label" not in of and columns.label is not None and not (targets or keep) and "pair" not in of:
        _ask_for_label(table, [place for place in free if columns.inputs is None or place not in inputs], problems)
    if is_open and inputs and columns.inputs is None:
        _ask_for_texts(table, [place for place in free if place not in inputs], columns, problems)
    if "id" not in of and columns.id is not None and kind != "image" and not are_sounds:
        names = [place for place in free if _identifies(table, place) and place not in inputs]
        unique = next((place for place in names if _is_unique(table.texts(place))), None)
        of |= {} if unique is None else {"id": unique}
    return Roles(of, targets, inputs, kind)


def _name_sounds(table: Table, place: int) -> bool:
    """Whether most cells of a column name files of sound."""
    cells = table.filled(place)
    return 2 * sum(has_sound_name(Path(cell)) for cell in cells) > len(cells)


def columns_hint(role: str, table: Table) -> str:
    """How to say which column has a role."""
    option = "targets" if role == "target" else role
    value = "['NAME']" if role == "target" else "NAME"
    close = did_you_mean(role, [*table.names])
    return f"Rename a column to {role!r}, or use --set data.columns.{option}={value}. {close}"


def counts_rows(name: str) -> bool:
    """Whether a column is called like the row numbers of pandas."""
    return re.fullmatch(_COUNTS_ROWS, name, re.IGNORECASE) is not None


def _of_pairs(table: Table, columns: Columns) -> Columns:
    """The columns `query` and `positive` are pairs of texts, unless another column says what an example is."""
    mine, theirs = (columns.path, columns.text, columns.pair), (_USUAL.path, _USUAL.text, _USUAL.pair)
    is_plain = mine == theirs and all(table.find(name) is None for name in theirs)
    if is_plain and None not in (table.find(_ASKS), table.find(_ANSWERS)):
        return replace(columns, text=_ASKS, pair=_ANSWERS)
    return columns


def _named(
    table: Table, columns: Columns, needs: Collection[str], problems: SourceErrors, *, as_trained: bool
) -> dict[Role, int]:
    of: dict[Role, int] = {}
    for role in ROLES:
        name = getattr(columns, role)
        place = table.find(name)
        if role == "role" and place is not None and name == _USUAL.role and not _says_who_asks(table, place):
            continue  # the role of a person in a film, say
        if place is not None:
            of[role] = place
        elif role in needs or (name not in (None, getattr(_USUAL, role)) and not as_trained):
            problems.add("missing-column", f"there is no column {name or role!r}", hint=columns_hint(role, table))
    return of


def _says_who_asks(table: Table, place: int) -> bool:
    """Whether the cells of a column are query and gallery."""
    return not table.is_numeric(place) and says_who_asks(table.texts(place))


def _targets(
    table: Table,
    columns: Columns,
    of: dict[Role, int],
    needs: Collection[str],
    problems: SourceErrors,
    *,
    as_trained: bool,
) -> tuple[int, ...]:
    """Positions of the graded labels."""
    if columns.targets is None:
        named = [place for place, name in enumerate(table.names) if name.lower().startswith("target")]
        found = [place for place in named if place not in of.values() and table.is_numeric(place)]
    else:
        found = [place for name in columns.targets if (place := table.find(name)) is not None]
        missing = [name for name in columns.targets if table.find(name) is None]
        if as_trained and missing:
            found = []  # some of them would be another distance
        for name in () if as_trained else missing:
            problems.add("missing-column", f"there is no column {name!r}", hint=columns_hint("target", table))
    if "target" in needs and not found:
        problems.add("missing-column", "there is no column 'target'", hint=columns_hint("target", table))
    return tuple(found)


def _inputs(table: Table, columns: Columns, free: list[int], problems: SourceErrors) -> tuple[int, ...]:
    """Positions of the columns that make up a vector."""
    if columns.inputs is not None:
        for name in columns.inputs:
            if table.find(name) is None:
                problems.add("missing-column", f"there is no column {name!r}", hint=did_you_mean(name, [*table.names]))
        return tuple(place for name in columns.inputs if (place := table.find(name)) is not None)
    if numbered := [place for place in free if re.fullmatch(_NUMBERED, table.names[place])]:
        return tuple(numbered)
    found = [place for place in free if not _identifies(table, place) and table.is_numeric(place)]
    if not found:
        problems.add(
            "missing-column",
            f"there is no column 'path', no column 'text' and no column of numbers, only {', '.join(table.names)}",
            hint="Say which column holds texts: --set data.columns.text=NAME; or paths of images: "
            "--set data.columns.path=NAME; and of pairs, which holds the positives: --set data.columns.pair=NAME",
        )
    return tuple(found)


def _identifies(table: Table, place: int) -> bool:
    """Whether a column tells rows apart and nothing else: by its name, or because it counts them."""
    name = table.names[place]
    if counts_rows(name) or re.fullmatch(_IDENTIFIES, name):
        return True
    if len(table) < 5 or not table.is_numeric(place):
        return False
    values = table.narrow(place)
    return bool(values[0] in {0, 1} and (np.diff(values) == 1).all())


def _ask_for_label(table: Table, free: list[int], problems: SourceErrors) -> None:
    """A column that repeats its values may be the class; training without it has to be asked for."""
    found = sorted(_candidates(table, free))
    if not found:
        return
    shown = [f"{name!r} ({count:,} values)" for _, count, name in found[:_SHOWN]]
    first = found[0][2]
    problems.add(
        "unclear-columns",
        f"there is no column 'label', and {' or '.join(shown)}{', ...' * (len(found) > _SHOWN)} may hold the classes",
        hint=f"Use --set data.columns.label={first!r}, or the name of another column; to train without labels: --set "
        f"data.columns.label=none; if it is a measurement: --set \"data.columns.targets=['{first}']\"",
    )


def _candidates(table: Table, free: list[int]) -> Iterator[tuple[int, int, str]]:
    """How doubtful, how many values, and name."""
    for place in free:
        name = table.names[place]
        if re.fullmatch(_NUMBERED, name) or counts_rows(name):
            continue
        is_numeric = table.is_numeric(place)
        values = [*filter(np.isfinite, table.narrow(place).tolist())] if is_numeric else table.filled(place)
        distinct = len({*values})
        repeats = 1 < distinct <= len(values) * (0.5 if is_numeric else 0.75)
        if re.fullmatch(_LABEL_LIKE, name) and distinct:
            yield 0, distinct, name
        elif repeats and all(isinstance(value, str) or value % 1 == 0 for value in values):
            yield 1 + is_numeric, distinct, name


def _ask_for_texts(table: Table, free: list[int], columns: Columns, problems: SourceErrors) -> None:
    """Numbers beside texts or images: which of them are the examples has to be said."""
    texts, images = [], []
    for place in free if (columns.text, columns.path) == (_USUAL.text, _USUAL.path) else ():
        cells = [] if table.is_numeric(place) else table.filled(place)
        words = [len(cell.split()) for cell in cells]
        if cells and float(np.median(words)) >= _WORDS:
            texts.append(table.names[place])
        elif cells and all(cell.lower().endswith(_IMAGES) for cell in cells[:100]):
            images.append(table.names[place])
    for option, what, names in (("text", "texts", texts), ("path", "files of images", images)):
        if names:
            pair = "".join(f" --set data.columns.pair={name!r}" for name in names[1:2])
            problems.add(
                "unclear-columns",
                f"{' and '.join(map(repr, names[:2]))} {'hold' if pair else 'holds'} {what}, beside columns of numbers",
                hint=f"To read them: --set data.columns.{option}={names[0]!r}{pair}; to read numbers: "
                "--set data.columns.inputs=['A','B']",
            )


def _is_unique(cells: list[str]) -> bool:
    return not MISSING & {*cells} and len({*cells}) == len(cells)
