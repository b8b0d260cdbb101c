"""What `evaluation.json` says, in words."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuplet.app.metrics import (
    Interval,
    Measure,
    gain_over,
    interval,
    is_behind_untrained,
    main_measure,
    main_of,
    measures,
    verdict_of,
    verdict_over,
)
from tuplet.errors import DataError, counted
from tuplet.storage import read_json

if TYPE_CHECKING:
    from tuplet.evaluation import VerificationResult

_SPLITS = ("train", "validation", "test", "given")
_FEW = 50
"""Fewer training classes than this make unseen ones worse when trained long."""
_ASKED = {
    "all": "Each example looks for its nearest neighbour among all others.",
    "train": "Each example asks the training examples for its class.",
    "targets": "Distances between embeddings are compared with distances between targets.",
    "pairs": "Each query looks for its own answer among the answers of all.",
    "views": "Nothing is known of them: a random change of each looks for it among all. Without classes, targets or "
    "pairs nothing can be said of what the embedding is good for.",
}


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


def state_finding(evaluation: Mapping[str, Any]) -> str:
    """The result in one sentence."""
    line = main_measure(evaluation)
    if line is None:
        return (
            _state_words(evaluation) if evaluation["data"]["kind"] == "words" else "Trained, with nothing to judge by"
        )
    model = f"{line.name} is {line.model.value:.3f}"
    if line.raw is None:
        return model
    verdict, other = verdict_of(evaluation), f"{_baseline(evaluation)} with {line.raw.value:.3f}"
    if verdict_over(evaluation, "raw") == "better" and is_behind_untrained(evaluation) and line.untrained:
        other = f"the encoder before training with {line.untrained.value:.3f}"
    return f"{model}: {verdict} {'against' if verdict == 'undecided' else 'than'} {other}"


def _baseline(evaluation: Mapping[str, Any]) -> str:
    """What the raw input is here: with targets perhaps what boosted trees predict from it."""
    line, raw = main_measure(evaluation), evaluation.get("raw") or {}
    if line is not None and line.protocol == "targets" and raw.get("regressor"):
        return f"{raw['regressor']} on the raw input"
    return "raw input"


def state_data(evaluation: Mapping[str, Any]) -> str:
    """What the model was judged on, in a few sentences."""
    data, main = evaluation["data"], main_of(evaluation)
    if data["kind"] == "words":
        judged = " and ".join(evaluation["protocols"])
        return f"{_state_words(evaluation)}. " + (
            f"Judged by {judged}." if judged else "No file of word pairs was named."
        )
    part = data["splits"][evaluation["split"]]
    shown = f"{part['examples']:,} {evaluation['split']} examples"
    if main is None:
        return f"There are {shown}, of which nothing is known: only the health of their embeddings can be told."
    if main[0] in ("all", "train"):
        shown += f" of {part['classes']:,} classes{_state_seen(evaluation)}"
    elif main[0] == "pairs":
        shown = f"{part['examples']:,} {evaluation['split']} pairs"
    return f"Judged on {shown}. {_ASKED.get(main[0], '')}".rstrip()


def _state_seen(evaluation: Mapping[str, Any]) -> str:
    seen = evaluation["data"].get("seen")
    if seen is not None:
        return (
            f"; trained on were {seen['examples']:,} of the examples and {seen['classes']:,} of the classes, with "
            f"{seen['examples_of_classes']:,} examples"
        )
    by, unseen = evaluation["data"]["by"], evaluation["data"]["splits"][evaluation["split"]].get("unseen", 0)
    if unseen:
        return f", {unseen:,} of which it has not seen in training"
    if by == "row" and evaluation.get("supervision", "class") not in ("class", "multi"):
        return ", whose names it was not told in training"
    return {"class": ", none of which it has seen in training", "row": ", all of which it knows from training"}.get(
        by, ""
    )


def _state_words(evaluation: Mapping[str, Any]) -> str:
    """What word vectors were trained on."""
    part = evaluation["data"]["splits"]["train"]
    return f"Vectors of {part['classes']:,} words, from a text of {part['examples']:,}"


def advice(evaluation: Mapping[str, Any]) -> str | None:
    """What to try if the model is not better than the raw input on unseen data; None if it is."""
    line, verdict = main_measure(evaluation), verdict_of(evaluation)
    if line is None or line.raw is None or verdict in (None, "better"):
        return None
    elsewhere = _state_elsewhere(evaluation, line)
    if verdict_over(evaluation, "raw") == "better" and line.untrained is not None:
        what, other, value = "", "the encoder before training", line.untrained.value
    else:
        what, other, value = " on data it has not seen", _baseline(evaluation), line.raw.value
    shown = f"{line.model.value:.3f} against {value:.3f}"
    found = (
        f"By {line.name} the model is worse than {other}{what}: {shown}."
        if verdict == "worse"
        else f"By {line.name} it is undecided whether the model is better than {other}{what}: {shown}."
    )
    end = (
        f"Until then, use {other}{f' where {line.name} counts' * bool(elsewhere)}"
        if verdict == "worse" or line.model.value <= value
        else "Chance alone may explain the difference; more examples to judge by would tell"
    )
    return f"{found} {elsewhere}What helps most often: {'; '.join(_tries(evaluation, line))}. {end}."


def _tries(evaluation: Mapping[str, Any], line: Measure) -> list[str]:
    """What helps most often, the likeliest first."""
    by, train = evaluation["data"]["by"], evaluation["data"]["splits"].get("train", {})
    tries = {
        "pairs": ["larger batches (batch.batch_size)", "more pairs"],
        "targets": ["another encoder or preprocessing", "more steps (--steps)", "more examples"],
        "views": ["a stronger augmentation (train.augment)", "more steps (--steps)"],
    }.get(line.protocol)
    if tries is not None:
        return tries
    if evaluation.get("supervision", "class") not in ("class", "multi"):
        return ["more steps (--steps)", "another augmentation (train.augment)", "a loss that is told the classes"]
    tries = [
        "more examples of each class" if by == "row" else "more classes to train on",  # by row the classes are fixed
        "a random change of each batch, or a stronger one (train.augment)",
        "another loss (tuplet train --list shows them)",
    ]
    if by == "class" and 0 < train.get("classes", 0) < _FEW:
        tries.insert(
            0,
            f"fewer steps (--steps) or early stopping (--set train.patience=3), since it learns from only "
            f"{train['classes']} classes and long training makes others worse",
        )
    return tries


def _state_elsewhere(evaluation: Mapping[str, Any], main: Measure) -> str:
    """Measures of the headline by which the model is clearly better, though not by the main one."""
    told = [
        f"{line.name} ({line.model.value:.3f} against {line.raw.value:.3f})"
        for line in measures(evaluation)
        if line.raw and line.is_main and line.protocol == main.protocol and line.key != main.key
        if verdict_over(evaluation, "raw", line.key) == "better"
    ]
    return f"By {' and '.join(told)} it is. " if told else ""


def facts(evaluation: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is known of the data, name and value."""
    data = evaluation["data"]
    lines = [("Source", data["source"]), ("Kind", data["kind"])]
    if data["kind"] == "words":
        part = data["splits"]["train"]
        rare = f"{data['read'] - part['examples']:,} more are rare and left out"
        return [*lines, ("Text", f"{part['examples']:,} words; {rare}"), ("Vocabulary", f"{part['classes']:,} words")]
    lines.append(("Split by", data["by"]))
    if raw := evaluation.get("raw"):
        lines.append(("Raw input", _state_choice(raw)))
    for name, part in sorted(data["splits"].items(), key=lambda split: _SPLITS.index(split[0])):
        of = f" of {part['classes']:,} classes" if part["classes"] else ""
        lines.append((name.capitalize(), f"{part['examples']:,} examples{of}"))
    if left_out := data.get("left_out"):
        some = ", ".join(f"{one['file']} ({one['reason']})" for one in left_out[:3])
        lines.append(("Left out", f"{counted(len(left_out), 'file', 'files')}: {some}{', ...' * (len(left_out) > 3)}"))
    return lines


def _state_choice(raw: Mapping[str, Any]) -> str:
    """How the raw input is compared, and what chose it."""
    plain = f"{'as it is' if raw['scaling'] == 'none' else raw['scaling']}, {raw['geometry']}"
    chosen = f"{raw['regressor']}; elsewhere {plain}" if raw["regressor"] else plain
    return f"{chosen} (best of {len(raw['scores'])} by {raw['chosen_on']} {raw['by']})" if raw["scores"] else chosen


def remarks(evaluation: Mapping[str, Any]) -> list[str]:
    """What a reader of the numbers should know about them."""
    if evaluation["data"]["kind"] == "words":
        return [_state_coverage(name, judged["model"]["counts"]) for name, judged in evaluation["protocols"].items()]
    main, line = main_of(evaluation), main_measure(evaluation)
    if main is None or line is None:
        return []
    judged, found = evaluation["protocols"][main[0]]["model"], []
    for other, words in (("raw", _baseline(evaluation)), ("untrained", "the encoder before training")):
        gain = gain_over(evaluation, other)
        if gain is not None:
            chance = "which chance alone may explain" if gain.low <= 0 <= gain.high else "more than chance explains"
            found.append(
                f"Against {words}, example by example, {line.name} changes by {gain.value:+.3f} "
                f"({gain.low:+.3f} to {gain.high:+.3f}), {chance}."
            )
    if said := advice(evaluation):
        found.append(said)
    skipped = judged["counts"].get("n_skipped", 0)
    if skipped:
        found.append(
            f"{skipped:,} examples are alone in their class: nothing can be found for them, and they do not count."
        )
    if judged["few_classes"]:
        what = "classes" if main[0] in ("all", "train") else "examples"
        found.append(f"There are fewer than 20 {what}; the intervals are rough.")
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
        found = interval(judged.to_dict(), key)
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
