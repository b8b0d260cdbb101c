"""What `evaluation.json` says, in numbers and in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuplet.errors import DataError
from tuplet.storage import read_json

if TYPE_CHECKING:
    from tuplet.evaluation import VerificationResult

_MEANINGS = {
    "recall@": "one of the {k} nearest neighbours is of the same class",
    "recall@1": "the nearest neighbour is of the same class",
    "map@r": "how early the whole class comes, R being its size",
    "r_precision": "share of the class among the R nearest, R being its size",
    "precision@": "share of the class among the {k} nearest",
    "spearman": "rank correlation with what people say of pairs of words",
    "coverage": "share of the pairs whose words both have a vector",
}
_SPLITS = ("train", "validation", "test", "given")
_NAMES = {"map@r": "MAP@R", "r_precision": "R-Precision", "spearman": "Spearman", "coverage": "Coverage"}


@dataclass(frozen=True)
class Interval:
    """A number and its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Measure:
    """One line of the result: raw input against the model.

    Args:
        key: Name in `evaluation.json`, such as `recall@1`.
        protocol: Whose neighbours count: `all`, or `other_groups`; for words, which pairs are judged.
        raw: With the input itself as embedding.
        model: With the trained one.
    """

    key: str
    protocol: str
    raw: Interval | None
    model: Interval

    @property
    def is_main(self) -> bool:
        """Whether it belongs to the headline."""
        return self.key in {"recall@1", "spearman"} or (self.key == "map@r" and self.protocol == "all")

    @property
    def name(self) -> str:
        """As people write it."""
        if self.protocol == "all":
            return name_of(self.key)
        return f"{name_of(self.key)}, {self.protocol.replace('other_groups', 'other groups')}"

    @property
    def meaning(self) -> str:
        """What is counted, in words."""
        stem, _, k = self.key.partition("@")
        words = _MEANINGS.get(self.key) or _MEANINGS.get(f"{stem}@", "").format(k=k)
        return f"{words}; the query's own group does not count" if self.protocol == "other_groups" and words else words


def name_of(key: str) -> str:
    """A measure as people write it."""
    return _NAMES.get(key) or key.replace("recall@", "Recall@").replace("precision@", "Precision@")


def read_evaluation(run: Path) -> dict[str, Any]:
    """The verdict of a run."""
    if not (run / "recipe.toml").is_file():
        raise DataError(
            f"{run} is not the folder of a run: it has no recipe.toml.",
            hint="Type `tuplet runs` to see the runs there are.",
            reference="no-run",
        )
    remedy = f"Finish the run: tuplet train --resume {run}"
    return read_json(run / "evaluation.json", version=1, error=DataError, remedy=remedy)


def measures(evaluation: Mapping[str, Any]) -> list[Measure]:
    """The lines of the result: recall first of all, then recall among other groups, then the rest."""
    lines = [
        Measure(key, protocol, _interval(judged.get("raw"), key), found)
        for protocol, judged in evaluation["protocols"].items()
        for key in judged["model"]["values"]
        if (found := _interval(judged["model"], key)) is not None
    ]
    return sorted(lines, key=lambda line: line.key != "recall@1")


def _interval(result: Mapping[str, Any] | None, key: str) -> Interval | None:
    value = result["values"].get(key) if result else None
    if result is None or value is None:
        return None
    low, high = (result[end].get(key) for end in ("lower", "upper"))
    return Interval(value, value if low is None else low, value if high is None else high)


def state_finding(evaluation: Mapping[str, Any]) -> str:
    """The result in one sentence."""
    lines = measures(evaluation)
    if not lines:
        return _state_words(evaluation)
    line = lines[0]
    model = f"{line.name} is {line.model.value:.3f}"
    if line.raw is None:
        return model
    if is_better(evaluation):
        return f"{model}; raw input reaches {line.raw.value:.3f}"
    return f"{model}, not clearly better than the {line.raw.value:.3f} of raw input"


def is_better(evaluation: Mapping[str, Any]) -> bool:
    """Whether the model beats the raw input by more than chance explains."""
    gain = _gain(evaluation)
    if gain is not None:
        return gain.low > 0
    return all(line.raw is None or line.model.value > line.raw.value for line in measures(evaluation)[:1])


def _gain(evaluation: Mapping[str, Any]) -> Interval | None:
    compared = evaluation["protocols"].get("all", {}).get("comparison")
    return _interval(compared, measures(evaluation)[0].key) if compared else None


def state_data(evaluation: Mapping[str, Any]) -> str:
    """What the model was judged on, in one sentence."""
    data = evaluation["data"]
    if data["kind"] == "words":
        judged = " and ".join(evaluation["protocols"])
        return f"{_state_words(evaluation)}. " + (
            f"Judged by {judged}." if judged else "No file of word pairs was named."
        )
    part = data["splits"][evaluation["split"]]
    seen = {"class": ", none of which it has seen in training", "row": ", all of which it knows from training"}
    return (
        f"Judged on {part['examples']:,} {evaluation['split']} examples of {part['classes']:,} classes"
        f"{seen.get(data['by'], '')}. Each example looks for its nearest neighbour among all others."
    )


def _state_words(evaluation: Mapping[str, Any]) -> str:
    """What word vectors were trained on."""
    part = evaluation["data"]["splits"]["train"]
    return f"Vectors of {part['classes']:,} words, from a text of {part['examples']:,}"


def facts(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the data, name and value."""
    data = evaluation["data"]
    lines = [("Source", data["source"]), ("Kind", data["kind"])]
    if data["kind"] == "words":
        part = data["splits"]["train"]
        rare = f"{data['read'] - part['examples']:,} more are rare and left out"
        return [*lines, ("Text", f"{part['examples']:,} words; {rare}"), ("Vocabulary", f"{part['classes']:,} words")]
    lines.append(("Split by", data["by"]))
    for name, part in sorted(data["splits"].items(), key=lambda split: _SPLITS.index(split[0])):
        lines.append((name.capitalize(), f"{part['examples']:,} examples of {part['classes']:,} classes"))
    return lines


def remarks(evaluation: Mapping[str, Any]) -> list[str]:
    """What a reader of the numbers should know about them."""
    if evaluation["data"]["kind"] == "words":
        return [_state_coverage(name, judged["model"]["counts"]) for name, judged in evaluation["protocols"].items()]
    judged = evaluation["protocols"]["all"]
    found = []
    if gain := _gain(evaluation):
        words = "more than chance explains" if is_better(evaluation) else "which chance alone may explain"
        name = measures(evaluation)[0].name
        found.append(
            f"Query by query, {name} changes by {gain.value:+.3f} ({gain.low:+.3f} to {gain.high:+.3f}), {words}."
        )
    skipped = judged["model"]["counts"].get("n_skipped", 0)
    if skipped:
        found.append(
            f"{skipped:,} examples are alone in their class: nothing can be found for them, and they do not count."
        )
    if judged["model"]["few_classes"]:
        found.append("There are fewer than 20 classes; the intervals are rough.")
    return found


def _state_coverage(name: str, counts: Mapping[str, int]) -> str:
    missing = counts["n_pairs"] - counts["n_scored"]
    return (
        f"{name}: {counts['n_scored']:,} pairs are judged; {missing:,} hold a word without a vector and do not count."
    )


@dataclass(frozen=True)
class Accepted:
    """One line of the verification."""

    name: str
    meaning: str
    found: Interval
    threshold: float | None


def verification_lines(judged: "VerificationResult") -> list[Accepted]:
    """AUC, equal error rate, and what is accepted at each false accept rate; without what could not be measured."""
    meanings = {
        "auc": ("AUC", "chance that a pair of one class is nearer than a pair of two"),
        "eer": ("EER", "error rate where as many pairs are wrongly accepted as wrongly refused"),
    }
    lines = []
    for key in judged.values:
        name, meaning = meanings.get(key, ("", ""))
        if key.startswith("tar@far=") and key not in judged.not_measurable:
            share = float(key.removeprefix("tar@far="))
            name, meaning = (
                f"TAR at FAR {share:g}",
                f"accepted pairs of one class, while {100 * share:g} % of the others are accepted",
            )
        found = _interval(judged.to_dict(), key)
        if name and found:
            lines.append(Accepted(name, meaning, found, judged.thresholds.get(key.removeprefix("tar@"))))
    return lines


def data_remarks(evaluation: Mapping[str, Any]) -> list[str]:
    """What a reader should know about the data."""
    data = evaluation["data"]
    found = []
    if data.get("lookalikes"):
        found.append(
            f"{data['lookalikes']:,} characters are drawn exactly like another one in some typeface, as A is in Latin, "
            f"Greek and Cyrillic. They were set aside before the split, so that no twin of a test class is trained on."
        )
    if data.get("copies"):
        found.append(f"{data['copies']:,} exact copies within a class were left out.")
    return found
