"""What `evaluation.json` says, in words."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuplet.app.history import recipe_of
from tuplet.app.metrics import Metric, primary_of
from tuplet.errors import counted
from tuplet.results import Evaluation, Interval, RawInput, Scores

if TYPE_CHECKING:
    from tuplet.evaluation import VerificationResult

_SPLITS = ("train", "validation", "test", "given")
_FEW = 50
"""Training classes below which long training makes unseen ones worse."""
_UNTRAINED = "the encoder before training"
_PROTOCOLS = {
    "all": "Each example is a query against all others.",
    "train": "Each example is classified by the training examples.",
    "targets": "Distances between embeddings are compared with distances between targets.",
    "scored": "Similarities of the two sides of pairs are compared with the scores of the pairs.",
    "pairs": "Each query is searched among the positives of all.",
    "views": "An augmented view of each example looks for it among all. Without classes, targets or pairs nothing can "
    "be said of what the embedding is good for.",
}


def read_evaluation(run: Path) -> Evaluation:
    """The results of a run."""
    recipe_of(run)
    return Evaluation.read(run, remedy=f"Finish the run: tuplet train --resume {run}")


def state_finding(evaluation: Evaluation) -> str:
    """The result in one sentence."""
    line, conclusion = primary_of(evaluation), evaluation.conclusion
    if line is None:
        return _state_words(evaluation) if evaluation.data.kind == "words" else "Trained, with nothing to evaluate by"
    found = f"{line.name} is {line.model.value:.3f}"
    if line.raw is None:
        return found
    other, value = _rival(evaluation, line)
    return f"{found}: {conclusion} {'against' if conclusion == 'undecided' else 'than'} {other} with {value:.3f}"


def _rival(evaluation: Evaluation, line: Metric) -> tuple[str, float]:
    """What the conclusion compares the model with, and its value: the untrained encoder where that alone is ahead."""
    raw = line.raw.value if line.raw else float("nan")
    if evaluation.conclusion_against("raw") == "better" and evaluation.is_behind_untrained and line.untrained:
        return _UNTRAINED, line.untrained.value
    return _name_raw(evaluation), raw


def _name_raw(evaluation: Evaluation) -> str:
    """What the raw input is here: with targets perhaps what boosted trees predict from it."""
    is_regressed = evaluation.main is not None and evaluation.main.protocol == "targets" and evaluation.raw is not None
    regressor = evaluation.raw.regressor if is_regressed and evaluation.raw else None
    return f"{regressor} on the raw input" if regressor else "raw input"


def state_data(evaluation: Evaluation) -> str:
    """What the model was evaluated on, in a few sentences."""
    main = evaluation.main
    if evaluation.data.kind == "words":
        files = " and ".join(evaluation.protocols)
        shown = f"Evaluated on {files}." if files else "No file of word pairs was named."
        return f"{_state_words(evaluation)}. {shown}"
    part = evaluation.data.splits[evaluation.split]
    shown = f"{part.examples:,} {evaluation.split} examples"
    if main is None:
        return f"There are {shown}, without labels: only the health of their embeddings is reported."
    if main.protocol in ("all", "train"):
        shown += f" of {part.classes:,} classes{_state_seen(evaluation)}"
    elif main.protocol.startswith("relation") and evaluation.data.together and evaluation.data.seen is None:
        shown += ", none of which belongs together with a training example"
    elif main.protocol == "pairs":
        shown = f"{part.examples:,} {evaluation.split} pairs"
    return f"Evaluated on {shown}. {_PROTOCOLS.get(main.protocol, '')}".rstrip()


def _state_seen(evaluation: Evaluation) -> str:
    seen, by = evaluation.data.seen, evaluation.data.by
    if seen is not None:
        return (
            f"; trained on were {seen.examples:,} of the examples and {seen.classes:,} of the classes, with "
            f"{seen.examples_of_classes:,} examples"
        )
    if unseen := evaluation.data.splits[evaluation.split].unseen:
        return f", {unseen:,} of which it has not seen in training"
    if by == "row" and not _is_supervised(evaluation):
        return ", whose labels training did not use"
    return {"class": ", none of which it has seen in training", "row": ", all of which it knows from training"}.get(
        by, ""
    )


def _is_supervised(evaluation: Evaluation) -> bool:
    return evaluation.supervision in ("class", "multi", "relation")


def _state_words(evaluation: Evaluation) -> str:
    """What word vectors were trained on."""
    part = evaluation.data.splits["train"]
    return f"Vectors of {part.classes:,} words, from a text of {part.examples:,}"


def advice(evaluation: Evaluation) -> str | None:
    """What to try if the model is not better than what it is compared with; None if it is."""
    line, conclusion = primary_of(evaluation), evaluation.conclusion
    if line is None or line.raw is None or conclusion in (None, "better"):
        return None
    other, value = _rival(evaluation, line)
    shown = f"{line.model.value:.3f} against {value:.3f}"
    if conclusion == "worse":
        found = f"By {line.name} the model is worse than {other}: {shown}."
    else:
        found = f"By {line.name} it is undecided whether the model is better than {other}: {shown}."
    is_behind = conclusion == "worse" or line.model.value <= value
    end = f"Until then, use {other}" if is_behind else "The difference is within chance: evaluate more examples"
    return f"{found} What helps most often: {'; '.join(_tries(evaluation, line))}. {end}."


def _tries(evaluation: Evaluation, line: Metric) -> list[str]:
    """What helps most often, the likeliest first."""
    tries = {
        "pairs": ["larger batches (batch.batch_size)", "more pairs"],
        "targets": ["another encoder or preprocessing", "more steps (--steps)", "more examples"],
        "views": ["a stronger augmentation (train.augment)", "more steps (--steps)"],
    }.get(line.protocol)
    if tries is not None:
        return tries
    if not _is_supervised(evaluation):
        return ["more steps (--steps)", "another augmentation (train.augment)", "a loss that uses the classes"]
    by, train = evaluation.data.by, evaluation.data.splits.get("train")
    tries = [
        "more examples of each class" if by == "row" else "more classes to train on",  # by row the classes are fixed
        "an augmentation, or a stronger one (train.augment)",
        "another loss (tuplet train --list shows them)",
    ]
    if by == "class" and train and 0 < train.classes < _FEW:
        tries.insert(
            0,
            f"fewer steps (--steps) or early stopping (--set train.patience=3), since it learns from only "
            f"{train.classes} classes and long training makes others worse",
        )
    return tries


def facts(evaluation: Evaluation) -> list[tuple[str, str]]:
    """What is known of the data, name and value."""
    data = evaluation.data
    lines = [("Source", data.source), ("Kind", data.kind)]
    if data.kind == "words":
        part = data.splits["train"]
        rare = f"{data.read - part.examples:,} more are rare and left out"
        return [*lines, ("Text", f"{part.examples:,} words; {rare}"), ("Vocabulary", f"{part.classes:,} words")]
    lines.append(("Split by", data.by))
    if evaluation.raw:
        lines.append(("Raw input", _state_choice(evaluation.raw)))
    for name, part in sorted(data.splits.items(), key=lambda split: _SPLITS.index(split[0])):
        of = f" of {part.classes:,} classes" if part.classes else ""
        lines.append((name.capitalize(), f"{part.examples:,} examples{of}"))
    if data.left_out:
        some = ", ".join(f"{one.file} ({one.reason})" for one in data.left_out[:3])
        more = ", ..." * (len(data.left_out) > 3)
        lines.append(("Left out", f"{counted(len(data.left_out), 'file', 'files')}: {some}{more}"))
    return lines


def _state_choice(raw: RawInput) -> str:
    """How the raw input is compared, and what selected it."""
    plain = f"{'as it is' if raw.scaling == 'none' else raw.scaling}, {raw.geometry}"
    chosen = f"{raw.regressor}; elsewhere {plain}" if raw.regressor else plain
    return f"{chosen} (best of {len(raw.scores)} by {raw.chosen_on} {raw.by})" if raw.scores else chosen


def notes(evaluation: Evaluation) -> list[str]:
    """What a reader of the numbers should know about them."""
    if evaluation.data.kind == "words":
        return [_state_coverage(name, found.model) for name, found in evaluation.protocols.items()]
    main, line = evaluation.main, primary_of(evaluation)
    if main is None or line is None:
        return []
    return list(_notes(evaluation, line, evaluation.protocols[main.protocol].model))


def _notes(evaluation: Evaluation, line: Metric, scores: Scores) -> Iterator[str]:
    for gain, words in (
        (evaluation.difference("raw"), _name_raw(evaluation)),
        (evaluation.difference("untrained"), _UNTRAINED),
    ):
        if gain is not None:
            chance = "which chance alone may explain" if gain.low <= 0 <= gain.high else "more than chance explains"
            yield (
                f"Against {words}, example by example, {line.name} changes by {gain.value:+.3f} "
                f"({gain.low:+.3f} to {gain.high:+.3f}), {chance}."
            )
    if said := advice(evaluation):
        yield said
    if skipped := scores.counts.get("n_skipped", 0):
        yield f"{skipped:,} examples are alone in their class: nothing can be found for them, and they do not count."
    if scores.few_classes:
        what = "classes" if line.protocol in ("all", "train") else "examples"
        yield f"There are fewer than 20 {what}; the intervals are rough."


def _state_coverage(name: str, scores: Scores) -> str:
    scored, missing = scores.counts["n_scored"], scores.counts["n_pairs"] - scores.counts["n_scored"]
    return f"{name}: {scored:,} pairs are scored; {missing:,} hold a word without a vector and do not count."


@dataclass(frozen=True)
class Accepted:
    """One line of the verification."""

    name: str
    meaning: str
    found: Interval
    threshold: float | None


def verification_lines(result: "VerificationResult") -> list[Accepted]:
    """AUC, equal error rate, and what is accepted at each false accept rate; without what could not be measured."""
    meanings = {
        "auc": ("AUC", "chance that a pair of one class is nearer than a pair of two"),
        "eer": ("EER", "error rate where as many pairs are wrongly accepted as wrongly refused"),
    }
    lines, scores = [], Scores.model_validate(result.to_dict())
    for key in scores.values:
        name, meaning = meanings.get(key, ("", ""))
        if key.startswith("tar@far=") and key not in scores.not_measurable:
            share = float(key.removeprefix("tar@far="))
            name, meaning = (
                f"TAR at FAR {share:g}",
                f"accepted pairs of one class, while {100 * share:g} % of the others are accepted",
            )
        found = scores.interval(key)
        if name and found:
            lines.append(Accepted(name, meaning, found, scores.thresholds.get(key.removeprefix("tar@"))))
    return lines


def data_notes(evaluation: Evaluation) -> list[str]:
    """What a reader should know about the data."""
    data, found = evaluation.data, []
    if data.lookalikes:
        found.append(
            f"{data.lookalikes:,} characters are drawn exactly like another one in some typeface, as A is in Latin, "
            f"Greek and Cyrillic. They were set aside before the split, so that no twin of a test class is trained on."
        )
    if data.copies:
        found.append(f"{data.copies:,} exact copies within a class were left out.")
    return found
