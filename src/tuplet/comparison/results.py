"""What a comparison found: `comparison.json`, written and read through one model, whose JSON schema is published."""

import json
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from tuplet.errors import DataError
from tuplet.results import Conclusion
from tuplet.storage import read_json, write_file

FILE = "comparison.json"
FORMAT: Literal[1] = 1


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Searched(_Model):
    """One trial of the search."""

    settings: dict[str, float]
    value: float | None
    """What it reached on the validation examples; null if its loss was not finite."""


class Seeded(_Model):
    """One training with the chosen settings."""

    seed: int
    value: float | None
    """Of the measure on the test examples; null if its loss was not finite."""
    validation: float | None
    values: dict[str, float | None] = {}
    """All measures of the test examples."""
    best_step: int
    curve: list[tuple[int, float]] = []
    """Step, and what it reached on the validation examples."""


class EntryResult(_Model):
    """One of the things compared."""

    name: str
    loss: str
    settings: dict[str, float]
    """Chosen on the validation examples."""
    value: float | None
    """Mean over seeds on the test examples; null if a training was not finite, and then there is no pair with it."""
    low: float | None
    """Lower end of the 95 % interval, over classes and seeds."""
    high: float | None
    steps: int
    """Of each training."""
    batch: int
    """Examples of a step."""
    seconds: float
    """Of the processor, of one training with the chosen settings, in the middle."""
    trials: list[Searched]
    seeds: list[Seeded]


class PairResult(_Model):
    """One entry against another."""

    first: str
    second: str
    difference: float
    low: float
    high: float
    p: float
    corrected: float
    """The same by Holm's method, for all pairs."""
    conclusion: Conclusion
    """Of the first."""
    needs_units: int | None = None
    """Test classes, or examples, that would decide it with a chance of 80 %, if the difference is as large as found."""
    needs_seeds: int | None = None
    """Trainings of each entry that this would take."""
    sentence: str


class ComparisonResult(_Model):
    """What a comparison found.

    Attributes:
        format: Of the file.
        name: Of the comparison.
        source: Name of the data.
        measure: On which everything rests.
        protocol: How the test examples were evaluated.
        unit: What intervals draw again: classes, or examples where the classes are fixed.
        units: How many of them there are in the test split.
        queries: Test queries.
        trials: Settings tried for each entry.
        level: Chance of any wrong conclusion, if all entries are worth the same.
        raw: The raw input on the same test examples; null without one.
        entries: The best first.
        pairs: Every two entries, the better one first.
        machine: Threads, torch, Python.
    """

    format: Literal[1] = FORMAT
    name: str
    source: str
    measure: str
    protocol: str
    unit: Literal["classes", "examples"]
    units: int
    queries: int
    trials: int
    level: float
    raw: float | None
    entries: list[EntryResult]
    pairs: list[PairResult]
    machine: str

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What was found, in the folder of a comparison.

        Raises:
            DataError: If the file is missing or damaged, or of another format.
        """
        remedy = f"Type: tuplet compare --resume {folder}"
        content = read_json(folder / FILE, version=FORMAT, error=DataError, remedy=remedy)
        try:
            return cls.model_validate(content)
        except ValidationError as problem:
            message = f"{folder / FILE} is damaged: it does not hold what it should."
            raise DataError(message, hint=remedy, reference="damaged-file") from problem

    def write(self, folder: Path) -> None:
        """Write the file into the folder of a comparison."""
        write_file(folder / FILE, json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False) + "\n")

    @property
    def decided(self) -> int:
        """How many pairs have a conclusion."""
        return sum(pair.conclusion != "undecided" for pair in self.pairs)


def short(name: str) -> str:
    """A loss of another library without the modules between its package and its class."""
    parts = name.split(".")
    return name if len(parts) < 3 else f"{parts[-1]} ({parts[0]})"


def schema() -> dict[str, Any]:
    """The JSON schema of `comparison.json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ComparisonResult.model_json_schema()}
