"""A trained model on data that it was not made for."""

import logging
from dataclasses import replace
from pathlib import Path

from tuplet.data import Manifest, load_dataset, read_manifest
from tuplet.data.fingerprint import Fingerprint
from tuplet.data.related import relate
from tuplet.data.statement import parse
from tuplet.errors import DataError
from tuplet.models import Embedder
from tuplet.recipes import load_recipe
from tuplet.results import FILE, DataSummary, Evaluation, Primary, Seen, Split
from tuplet.training.baseline import Baseline
from tuplet.training.evaluator import Evaluator, protocols_for, verified
from tuplet.training.features import ModelExtractor
from tuplet.training.protocols import ClassRetrieval
from tuplet.training.record import RECORD, read_fingerprint

logger = logging.getLogger(__name__)


def evaluate_on(
    run: Path, source: Path, *, skip_broken: bool = False, trust: bool = False, device: str = "cpu"
) -> Evaluation:
    """Evaluate the model of a run on other data.

    Args:
        run: Folder of the run; its recipe says how to evaluate.
        source: Folder, table or array.
        skip_broken: Leave out the images of a folder that cannot be decoded.
        trust: Import what an encoder `callable` names.
        device: Where the model embeds.

    Returns:
        What `evaluation.json` would say.

    Raises:
        DataError: If the data cannot be read, or has no classes, targets or pairs.
    """
    embedder = Embedder.load(run / "model", trust=trust).to(device)
    recipe = load_recipe(run / "recipe.toml")
    manifest = _read(embedder, source, recipe.data.relation, skip_broken=skip_broken)
    partner = embedder.side("partner").preprocessing
    dataset = load_dataset(manifest, embedder.preprocessing, partner_preprocessing=partner)
    protocols = protocols_for(dataset, recipe.evaluate)
    seen = _seen(run, manifest)
    if seen and seen.classes == len({*_classes(manifest)}):  # the classes are those of the training
        protocols = [replace(one, resample="examples") if isinstance(one, ClassRetrieval) else one for one in protocols]
    raw = Evaluation.read(run, remedy="").raw if (run / FILE).is_file() else None
    model = ModelExtractor(embedder, recipe.evaluate.batch_size)
    evaluator = Evaluator(protocols, recipe.evaluate, recipe.seed)
    features = evaluator.extract({"raw": Baseline.extractor_from(raw), "model": model})
    results, left_out = evaluator.evaluate(features)
    main = next((protocol for protocol in protocols if protocol.name in results), None)
    if main is None:
        raise DataError(
            " ".join([f"{source} has no classes, targets or pairs to evaluate by.", *left_out]),
            hint="Use one folder per class, a column `label`, or a file NAME.labels.npy beside NAME.npy. Targets and "
            "pairs will do as well.",
            reference="no-labels",
        )
    data = DataSummary(
        source=manifest.source,
        kind=manifest.kind,
        by="given",
        relation="" if manifest.related is None else manifest.related.statement.text,
        splits={"given": Split(examples=len(manifest), classes=len({*_classes(manifest)}))},
        seen=seen,
        columns=manifest.column_roles() if manifest.columns else {},
    )
    return Evaluation(
        name=recipe.name,
        seed=recipe.seed,
        split="given",
        geometry=embedder.geometry,
        data=data,
        main=Primary(protocol=main.name, measure=main.primary_metric),
        protocols=evaluator.compare(results) | verified(model, dataset, recipe.seed),
        left_out=left_out,
    )


def _read(embedder: Embedder, source: Path, relation: str | None, *, skip_broken: bool) -> Manifest:
    """Data as the model was trained on, under its relation; what a user should know of it is logged."""
    asked = None if relation is None else parse(relation)
    manifest = read_manifest(
        source,
        kind=embedder.preprocessing.kind,
        columns=embedder.columns,
        as_trained=True,
        skip_broken=skip_broken,
        keep=() if asked is None else asked.names,
    )
    if asked is not None:
        try:
            manifest = relate(manifest, asked, {})
        except DataError as problem:  # other data need not have these columns
            logger.warning("%s The protocol relation is left out.", problem.message)
    for note in manifest.notes:
        logger.warning("%s", note)
    return manifest


def _seen(run: Path, manifest: Manifest) -> Seen | None:
    """How many of the given examples, by their content, and of their classes the model was trained on.

    None where the run does not say what it was trained on.
    """
    known = read_fingerprint(run) if (run / RECORD).is_file() else None
    if known is None:
        return None
    trained, given = known.seen(), Fingerprint.of(manifest)
    examples = sum(content in trained.contents for content in given.contents)
    classes = [name for name in _classes(manifest) if name in trained.classes]
    return Seen(examples=examples, classes=len({*classes}), examples_of_classes=len(classes))


def _classes(manifest: Manifest) -> list[str]:
    """Class of each example that has one."""
    labels = [] if manifest.labels is None else manifest.labels.tolist()
    return [manifest.class_names[label] for label in labels if label >= 0]
