"""The results of a run: `evaluation.json`, written and read through one model, whose JSON schema is published.

Whatever tells results (the report, `tuplet runs`, `--require`, `--json`) reads `Evaluation`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from tuplet.errors import DataError
from tuplet.storage import read_json, write_file
from tuplet.types import GeometryName

FILE = "evaluation.json"
"""Name of the file in the folder of a run."""
FORMAT: Literal[1] = 1
Conclusion = Literal["better", "worse", "undecided"]
Baseline = Literal["raw", "untrained"]
"""What a model is compared with: the raw input, or the encoder before training."""
_LOWER = (
    "label_distance",
    "label_gap",
    "rank_gap",
    "uniformity",
    "alignment",
    "duplicate_share",
    "norm_std",
    "eer",
    "accuracy_std",
)
Numbers = dict[str, float | None]


class Interval(NamedTuple):
    """A number and its 95 % interval, whose ends are the number itself where none was taken."""

    value: float
    low: float
    high: float


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Estimates(_Model):
    """Metrics by name, with the ends of their 95 % intervals; null where one is not defined."""

    values: Numbers
    lower: Numbers = {}
    upper: Numbers = {}

    def interval(self, metric: str) -> Interval | None:
        """A metric with its interval; None where it was not measured or is not defined."""
        value, low, high = (ends.get(metric) for ends in (self.values, self.lower, self.upper))
        return (
            None if value is None else Interval(value, value if low is None else low, value if high is None else high)
        )


class Curve(_Model):
    """A ROC: shares of accepted pairs by threshold, from the strictest on."""

    thresholds: list[float]
    tar: list[float]
    far: list[float]


class Scores(Estimates):
    """What one protocol measured of one embedding, or of the difference of two."""

    counts: dict[str, int] = {}
    """How many examples, classes and pairs took part or were left out (`n_...`)."""
    settings: dict[str, Any] = {}
    """The arguments that decide the values."""
    few_classes: bool = False
    """The intervals rest on fewer than 20 classes, or other units of resampling, and are rough."""
    macro: Estimates | None = None
    """Every class counts once, as the mean of its queries."""
    p_values: dict[str, float] = {}
    """Of a difference: two-sided, by flipping the signs of whole classes."""
    thresholds: Numbers = {}
    """Of a verification: scores from which on two examples count as the same."""
    not_measurable: list[str] = []
    """Of a verification: values that rest on fewer pairs than they need."""
    curve: Curve | None = None
    """Of a verification."""


class ProtocolResults(_Model):
    """The results of one protocol: of the model, of what it is compared with, and the paired differences."""

    model: Scores
    raw: Scores | None = None
    untrained: Scores | None = None
    comparison: Scores | None = None
    """Model minus raw input, with the same resamples for both."""
    comparison_untrained: Scores | None = None
    """Model minus the encoder before training."""

    def difference(self, baseline: Baseline) -> Scores | None:
        """Model minus a baseline; None where they were not paired."""
        return self.comparison if baseline == "raw" else self.comparison_untrained

    def conclusion(self, baseline: Baseline, metric: str) -> Conclusion | None:
        """Whether the model is better than a baseline, by the paired 95 % interval.

        Undecided where the interval holds 0, or where none was taken. None where there is nothing to compare with.
        """
        if getattr(self, baseline) is None:
            return None
        paired = self.difference(baseline)
        low, high = (None, None) if paired is None else (paired.lower.get(metric), paired.upper.get(metric))
        if low is None or high is None:
            return "undecided"
        if lower_is_better(metric):
            low, high = -high, -low
        return "better" if low > 0 else "worse" if high < 0 else "undecided"


class Split(_Model):
    """How large a split is."""

    examples: int
    classes: int
    unseen: int = 0
    """Classes of which no example is trained on, where the split is by row."""


class Seen(_Model):
    """How much of other data the model was trained on."""

    examples: int
    classes: int
    examples_of_classes: int


class LeftOut(_Model):
    """A file that could not be used."""

    file: str
    reason: str


class DataSummary(_Model):
    """What was trained and evaluated on."""

    source: str = ""
    kind: str = ""
    by: str = ""
    """What the splits share: `class` holds whole classes out, `row` examples."""
    splits: dict[str, Split] = {}
    columns: dict[str, list[str]] = {}
    """Of a table: names of columns by role."""
    unlabelled: int = 0
    relation: str = ""
    """Which pairs are positive, where the recipe says it."""
    together: bool = False
    """Whether no positive pair of the relation lies in two splits."""
    left_out: list[LeftOut] = []
    seen: Seen | None = None
    lookalikes: int = 0
    """Characters that are drawn exactly like another one."""
    copies: int = 0
    """Exact copies within a class, which are left out."""
    faces: int = 0
    """Typefaces of drawn characters."""
    files: int = 0
    """Of a running text."""
    read: int = 0
    """Words of a running text, with those that are too rare for the vocabulary."""


class RawInput(_Model):
    """The form of the raw input that the model is compared with, and what selected it."""

    scaling: str | None
    geometry: GeometryName | None
    regressor: str | None
    chosen_on: str
    by: str | None
    scores: dict[str, float]


class Primary(_Model):
    """The protocol and the metric that stand for the whole result."""

    protocol: str
    measure: str


class Evaluation(_Model):
    """What a run is worth.

    Attributes:
        format: Of the file.
        name: Of the run.
        seed: Of everything that was sampled.
        step: Of the model; None where other data was evaluated.
        split: Evaluated.
        geometry: How embeddings are compared.
        supervision: What the loss was reported.
        data: What was trained and evaluated on.
        raw: Form of the raw input; None where there is none.
        main: What stands for the whole result; None if nothing could be evaluated.
        protocols: Results by protocol.
        left_out: A sentence for each protocol that had nothing to measure.
    """

    format: Literal[1] = FORMAT
    name: str
    seed: int
    step: int | None = None
    split: str
    geometry: GeometryName
    supervision: str = "class"
    data: DataSummary
    raw: RawInput | None = None
    main: Primary | None = None
    protocols: dict[str, ProtocolResults]
    left_out: list[str] = []

    @classmethod
    def read(cls, run: Path, *, remedy: str) -> Self:
        """The results in the folder of a run.

        Args:
            run: The folder.
            remedy: How to write the file again, for hints.

        Raises:
            DataError: If the file is missing or damaged, or of another format.
        """
        content = read_json(run / FILE, version=FORMAT, error=DataError, remedy=remedy)
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            places = ", ".join(".".join(map(str, one["loc"])) or "the whole" for one in error.errors()[:5])
            raise DataError(
                f"{run / FILE} is damaged: it does not hold what it should at {places}.",
                hint=remedy,
                reference="damaged-file",
            ) from error

    def write(self, run: Path) -> None:
        """Write the file into the folder of a run."""
        write_file(run / FILE, json.dumps(self.to_json(), indent=2, allow_nan=False) + "\n")

    def to_json(self) -> dict[str, Any]:
        """The same as plain JSON values, in the order of the fields."""
        return {"format": self.format, **self.model_dump(mode="json", exclude_unset=True)}

    @model_validator(mode="before")
    @classmethod
    def _name_primary(cls, content: Any) -> Any:
        """The first release wrote no `main` for word vectors, nor where class retrieval stood for all."""
        if isinstance(content, Mapping) and "main" not in content and isinstance(content.get("protocols"), Mapping):
            names = content["protocols"]
            metrics = {"all": "recall@1"} if "all" in names else dict.fromkeys(names, "spearman")
            main = next(({"protocol": name, "measure": metric} for name, metric in metrics.items()), None)
            return {**content, "main": main}
        return content

    def primary(self, of: Literal["model", "raw", "untrained"] = "model") -> Interval | None:
        """The primary metric of the model or a baseline."""
        results = None if self.main is None else self.protocols.get(self.main.protocol)
        scores = None if results is None else getattr(results, of)
        return None if self.main is None or scores is None else scores.interval(self.main.measure)

    def difference(self, baseline: Baseline) -> Interval | None:
        """What the model gains over a baseline by the primary metric; None where they were not paired."""
        results = None if self.main is None else self.protocols.get(self.main.protocol)
        paired = None if results is None else results.difference(baseline)
        return None if self.main is None or paired is None else paired.interval(self.main.measure)

    def conclusion_against(self, baseline: Baseline) -> Conclusion | None:
        """See `ProtocolResults.conclusion`, by the primary metric."""
        results = None if self.main is None else self.protocols.get(self.main.protocol)
        return None if self.main is None or results is None else results.conclusion(baseline, self.main.measure)

    @property
    def is_behind_untrained(self) -> bool:
        """Whether the encoder before training has a better value than the model."""
        model, untrained = self.primary(), self.primary("untrained")
        if self.main is None or model is None or untrained is None:
            return False
        behind = untrained.value - model.value
        return behind < 0 if lower_is_better(self.main.measure) else behind > 0

    @property
    def conclusion(self) -> Conclusion | None:
        """Whether training was worth it: better than the raw input, and not behind the encoder before training.

        None if there is nothing to compare with.
        """
        found = self.conclusion_against("raw")
        if found == "better" and self.is_behind_untrained:
            return "worse" if self.conclusion_against("untrained") == "worse" else "undecided"
        return found


def lower_is_better(metric: str) -> bool:
    """Whether less of a metric is better."""
    return metric.partition("@")[0] in _LOWER


def schema() -> dict[str, Any]:
    """The JSON schema of `evaluation.json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **Evaluation.model_json_schema()}
