"""What may be wrong with the data of a run: one table of findings, the strongest first."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from tuplet.app.history import recipe_of
from tuplet.data import Dataset, Manifest, load_dataset
from tuplet.data.fingerprint import Fingerprint
from tuplet.data.raw import raw_features
from tuplet.errors import DataError
from tuplet.evaluation import health
from tuplet.evaluation.audit import FAR, LabelIssues, confused, duplicate_groups, label_issues, outliers
from tuplet.models import Embedder
from tuplet.recipes import Reader, build, load_recipe
from tuplet.recipes.schema import Data, Recipe
from tuplet.seeding import derive
from tuplet.training.record import read_fingerprint
from tuplet.training.trial import fitted

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Finding:
    """One example that may be wrong.

    Args:
        id: Name of the example.
        finding: "duplicate", "label" or "outlier".
        evidence: The larger the surer: of copies 1 across splits and 0.5 within one, of labels how much more neighbours
            are of another class, of outliers robust deviations from the median.
        label: Its class.
        split: Of the run; "" where it is in none.
        suggested: The class that its neighbours have.
        other: The example that speaks against it: the first copy, or the nearest of the suggested class.
        group: Number of the group of copies.
        exclude: "yes" for what `tuplet train --exclude` leaves out: all copies but the first.
    """

    id: str
    finding: str
    evidence: float
    label: str = ""
    split: str = ""
    suggested: str = ""
    other: str = ""
    group: str = ""
    exclude: str = ""


@dataclass(frozen=True)
class Audit:
    """Findings, and what is to be known of the whole.

    Args:
        examples: How many were looked at.
        findings: Copies across splits, then copies, labels and outliers, each with the strongest evidence first.
        confusions: Two classes, and how many examples of the first lie among the second.
        dimensions: How many directions the embeddings use, and how many there are.
        dataset: The decoded examples, for pictures.
        positions: Position of each name in it.
    """

    examples: int
    findings: tuple[Finding, ...]
    confusions: tuple[tuple[str, str, int], ...]
    dimensions: tuple[float, int]
    dataset: Dataset
    positions: dict[str, int]

    def table(self) -> str:
        """The findings as CSV."""
        file = io.StringIO()
        writer = csv.DictWriter(file, [field.name for field in fields(Finding)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(asdict(finding) | {"evidence": f"{finding.evidence:.4f}"} for finding in self.findings)
        return file.getvalue()


def audit(
    run: Path,
    cache: Path,
    *,
    folds: int = 2,
    least: float = 0.99,
    device: torch.device | str = "cpu",
    trust: bool = False,
    progress: Progress = lambda _: None,
) -> Audit:
    """Look for copies, wrong labels and outliers among the data of a run.

    Args:
        run: Folder of the run.
        cache: Folder for data that is generated or decoded once.
        folds: Train the recipe so many times, each time without a part of the examples, which are then evaluated by a
            model that has not learned their labels. 0 asks the model of the run alone.
        least: Cosine of two inputs from which they are copies.
        device: Where to train and embed.
        trust: Import what an encoder `callable` names.
        progress: Is reported what is done next.

    Raises:
        DataError: If there is no run, or its data is gone or has no classes.
    """
    recipe = load_recipe(recipe_of(run))
    reader = Reader(cache)
    manifest = reader.manifest(recipe.data)
    if manifest.labels is None or manifest.pairs is not None:
        raise DataError(
            f"{manifest.source} has no classes that an audit could ask about.",
            hint="Audit a run whose examples have one class each.",
            reference="no-labels",
        )
    labels = torch.from_numpy(manifest.labels)
    embedder = Embedder.load(run / "model", trust=trust).to(device)
    progress(f"embedding {len(manifest):,} examples")
    dataset = load_dataset(manifest, embedder.preprocessing)
    embeddings = embedder.embed(dataset)
    splits = _splits(run, manifest)
    findings = _copies(manifest, dataset, splits, least)
    if folds:
        issues = label_issues_by_folds(recipe, manifest, reader, folds, device, trust=trust, progress=progress)
    else:
        own = torch.arange(len(labels))
        issues = label_issues(embeddings, labels, embeddings, labels, embedder.geometry, exclude=own)
    findings += _labels(manifest, issues, splits)
    far = outliers(embeddings, embedder.geometry)
    order = far.argsort(descending=True)[: int((far >= FAR).sum())].tolist()
    findings += [_finding(manifest, splits, at, "outlier", float(far[at])) for at in order]
    names = manifest.class_names
    pairs = confused(labels, issues.suggested, issues.evidence)
    return Audit(
        len(manifest),
        tuple(findings),
        tuple((names[one], names[other], count) for one, other, count in pairs),
        (float(health(embeddings).values["effective_rank"]), embeddings.shape[1]),
        dataset,
        {name: at for at, name in enumerate(manifest.ids)},
    )


def _splits(run: Path, manifest: Manifest) -> Sequence[str]:
    known = read_fingerprint(run)
    of = {} if known is None else dict(zip(known.ids, known.splits, strict=True))
    return [of.get(name, "") for name in manifest.ids]


def _finding(manifest: Manifest, splits: Sequence[str], at: int, what: str, evidence: float, **more: str) -> Finding:
    assert manifest.labels is not None  # noqa: S101  asked above
    label = manifest.labels[at]
    name = manifest.class_names[label] if label >= 0 else ""
    return Finding(manifest.ids[at], what, evidence, name, splits[at], **more)


def _copies(manifest: Manifest, dataset: Dataset, splits: Sequence[str], least: float) -> list[Finding]:
    """Groups of copies; those that stand in several splits first, since an evaluation counts them as unseen."""
    groups = duplicate_groups(raw_features(dataset), least, contents=Fingerprint.of(manifest).contents)
    groups.sort(key=lambda group: len({splits[at] for at in group}) == 1)
    found = []
    for number, group in enumerate(groups):
        evidence = 1.0 if len({splits[at] for at in group}) > 1 else 0.5
        first = manifest.ids[group[0]]
        for place, at in enumerate(group.tolist()):
            more = {"other": first if place else "", "group": str(number + 1), "exclude": "yes" if place else ""}
            found.append(_finding(manifest, splits, at, "duplicate", evidence, **more))
    return found


def _labels(manifest: Manifest, issues: LabelIssues, splits: Sequence[str]) -> list[Finding]:
    """Labels that more neighbours contradict than confirm."""
    order = issues.evidence.argsort(descending=True)[: int((issues.evidence > 0).sum())].tolist()
    return [
        _finding(
            manifest,
            splits,
            at,
            "label",
            float(issues.evidence[at]),
            suggested=manifest.class_names[int(issues.suggested[at])],
            other=manifest.ids[int(issues.nearest[at])],
        )
        for at in order
    ]


class _Fold(Reader):
    """The data with a part of it held out."""

    def __init__(self, cache: Path, manifest: Manifest, held: NDArray[np.bool_]) -> None:
        super().__init__(cache)
        self.held_out = replace(manifest, splits=tuple("test" if one else "train" for one in held), roles=None)

    def manifest(self, data: Data) -> Manifest:
        """The same whatever is asked for."""
        del data
        return self.held_out


def label_issues_by_folds(
    recipe: Recipe,
    manifest: Manifest,
    reader: Reader,
    folds: int,
    device: torch.device | str,
    *,
    trust: bool,
    progress: Progress,
) -> LabelIssues:
    """Each example by a model that was trained without it."""
    assert manifest.labels is not None  # noqa: S101  asked above
    labels = torch.from_numpy(manifest.labels)
    split = recipe.data.split.model_copy(update={"by": "row", "given": True, "validation": 0.0})
    held_recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"split": split})})
    part = _dealt(manifest.labels, folds, recipe.seed)
    count = len(labels)
    evidence, suggested, nearest = torch.full((count,), -1.0), torch.full((count,), -1), torch.full((count,), -1)
    for fold in range(folds):
        progress(f"training {fold + 1} of {folds}, on the other examples")
        held = part == fold
        job = build(held_recipe, cache=reader.cache, reader=_Fold(reader.cache, manifest, held), trust=trust)
        embedder = fitted(job, device)
        asked, rest = (torch.from_numpy(np.flatnonzero(chosen)) for chosen in (held, ~held))
        found = label_issues(
            embedder.embed(load_dataset(manifest.take(asked.numpy()), embedder.preprocessing)),
            labels[asked],
            embedder.embed(load_dataset(manifest.take(rest.numpy()), embedder.preprocessing)),
            labels[rest],
            embedder.geometry,
        )
        evidence[asked], suggested[asked] = found.evidence, found.suggested
        nearest[asked] = torch.where(found.nearest >= 0, rest[found.nearest.clamp_min(0)], -1)
    return LabelIssues(evidence, suggested, nearest)


def _dealt(labels: NDArray[np.int64], folds: int, seed: int) -> NDArray[np.int64]:
    """A part of each example: every class is dealt out evenly."""
    order = torch.randperm(len(labels), generator=derive(seed, "audit")).numpy()
    part = np.empty(len(labels), np.int64)
    sorted_by_class = order[np.argsort(labels[order], kind="stable")]
    part[sorted_by_class] = np.arange(len(labels)) % folds
    return part
