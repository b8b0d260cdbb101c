"""The folder of a comparison: what was asked for, and one file for each training that is finished.

comparisons/<name>/  compare.toml · recipes/<entry>.toml · trials/<entry>-<number>.json · runs/<entry>-<seed>.json
                     comparison.json · comparison.html
"""

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from tuplet.comparison.entries import Entry
from tuplet.comparison.space import Past
from tuplet.errors import DataError, FolderTakenError
from tuplet.recipes import dump_recipe
from tuplet.recipes.dump import written
from tuplet.storage import Lock, numbered, read_bytes, read_json, write_file

REQUEST = "compare.toml"
FORMAT: Literal[1] = 1
_REMEDY = "Remove the file; tuplet compare --resume trains again what is missing."
Kept = TypeVar("Kept", bound="_Kept")


class Request(BaseModel):
    """What was asked for; `compare.toml`.

    Attributes:
        format: Of the file.
        entries: Names, in the order of the tables.
        trials: Settings tried for each.
        seeds: Trainings of each with the best of them.
        seed: Of the search and of all resamples.
        steps: Of each training, by entry: the same for all, or as many as fit into `minutes`.
        minutes: Of each training, if that is the budget.
        losses: Names of their losses, which may be of other libraries.
        data: Digest of the examples and their splits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    format: Literal[1] = FORMAT
    entries: list[str]
    losses: list[str]
    trials: int
    seeds: int
    seed: int
    minutes: float = 0.0
    data: str
    steps: dict[str, int]


class _Kept(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = FORMAT
    entry: str
    settings: dict[str, float]
    measure: str = ""
    """By which the best step was chosen, on the validation examples."""
    value: float | None
    """What the best step reached on the validation examples; None if the loss was not finite."""
    best_step: int = 0
    steps: int
    seconds: float
    """Wall-clock time of the training."""
    cpu_seconds: float
    """Time of the processor, which other work on the machine changes less."""


class TrialRecord(_Kept):
    """One training of the search."""

    number: int

    @property
    def past(self) -> Past:
        """What the search has to know of it."""
        return Past(self.settings, self.value)


class RunRecord(_Kept):
    """One training with the best settings, evaluated on the test examples."""

    seed: int
    batch: int = 0
    """Examples of a step."""
    curve: list[tuple[int, float]] = []
    """Step, and the measure on the validation examples."""
    protocol: str = ""
    tested_by: str = ""
    """The measure of the test examples; another one where that of the validation examples is no mean over them."""
    unit: Literal["classes", "examples"] = "classes"
    sums: list[float] = []
    """Sum of the measure over the test queries of each class, or of each example where the classes are fixed."""
    sizes: list[int] = []
    """How many queries these are."""
    units: str = ""
    """Digest of which they are."""
    raw_sums: list[float] = []
    """The same of the raw input; empty without one."""
    values: dict[str, float | None] = {}
    """All measures of the test examples."""


class Folder:
    """A comparison on disk, held by this process.

    Args:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self._lock = Lock(path / ".lock")
        if not self._lock.take():
            raise FolderTakenError(
                f"{path} is in use: another process compares there.",
                hint="Wait for it, or stop it with Ctrl-C; what it has finished stays.",
                reference="run-in-use",
            )

    @classmethod
    def new(cls, out: Path, name: str, request: Request, entries: Sequence[Entry]) -> Self:
        """A folder of that name, or with the next number, with what was asked for in it."""
        number = 1
        while (out / numbered(name, number)).exists():
            number += 1
        folder = cls(out / numbered(name, number))
        for part in ("recipes", "trials", "runs"):
            (folder.path / part).mkdir(exist_ok=True)
        for entry in entries:
            recipe = entry.recipe.model_copy(update={"name": entry.name})
            write_file(folder.recipe(entry.name), dump_recipe(recipe, folder.path / "recipes"))
        write_file(folder.path / REQUEST, written((), request.model_dump()))
        return folder

    def give_back(self) -> None:
        """Let go of it."""
        self._lock.give_back()

    def request(self) -> Request:
        """What was asked for.

        Raises:
            DataError: If it is no comparison, or its file is damaged.
        """
        path = self.path / REQUEST
        hint = "Name the folder of a comparison, such as comparisons/table."
        try:
            return Request.model_validate(tomllib.loads(read_bytes(path, error=DataError, remedy=hint).decode()))
        except (ValueError, ValidationError) as problem:
            raise DataError(f"{path} is damaged: {problem}.", hint=hint, reference="damaged-file") from problem

    def recipe(self, entry: str) -> Path:
        """The recipe of an entry."""
        return self.path / "recipes" / f"{entry}.toml"

    def trials(self, entry: str) -> list[TrialRecord]:
        """Finished trials of an entry, in order; those after a gap do not count."""
        found: list[TrialRecord] = []
        while (path := self.path / "trials" / f"{entry}-{len(found)}.json").exists():
            found.append(_read(path, TrialRecord))
        return found

    def runs(self, entry: str, seeds: int) -> dict[int, RunRecord]:
        """Finished runs of an entry by seed."""
        places = {seed: self.path / "runs" / f"{entry}-{seed}.json" for seed in range(seeds)}
        return {seed: _read(path, RunRecord) for seed, path in places.items() if path.exists()}

    def keep(self, record: TrialRecord | RunRecord) -> None:
        """Write a finished training."""
        kind, number = ("trials", record.number) if isinstance(record, TrialRecord) else ("runs", record.seed)
        text = json.dumps(record.model_dump(mode="json"), allow_nan=False) + "\n"
        write_file(self.path / kind / f"{record.entry}-{number}.json", text)


def _read(path: Path, kind: type[Kept]) -> Kept:
    content: Mapping[str, object] = read_json(path, version=FORMAT, error=DataError, remedy=_REMEDY)
    try:
        return kind.model_validate(content)
    except ValidationError as problem:
        message = f"{path} is damaged: it does not hold what it should."
        raise DataError(message, hint=_REMEDY, reference="damaged-file") from problem
