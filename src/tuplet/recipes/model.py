"""The embedder of a recipe: what each side of the data is turned into, the encoders, and weights to start from."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tuplet import models
from tuplet.data import Dataset, Inputs, Manifest, augment
from tuplet.data.dataset import Preprocessing
from tuplet.data.manifest import Items, Kind
from tuplet.errors import CheckpointError, RecipeError
from tuplet.models import Embedder, build_encoder
from tuplet.models.layers import freeze
from tuplet.recipes.options import PREPROCESSING, arguments
from tuplet.recipes.schema import Component, Model, Recipe, options_of
from tuplet.seeding import derive_seed
from tuplet.training import Task, checkpoint

SAMPLE_RATE = 16000
"""Samples a second of sounds, unless a recipe or an encoder says another number."""


@dataclass(frozen=True)
class PairPreprocessing:
    """Preprocessing of both sides of pairs.

    Args:
        query: Of the items.
        partner: Of the second items, if they have an encoder of their own.
    """

    query: Preprocessing
    partner: Preprocessing | None = None

    @staticmethod
    def of(model: Model, manifest: Manifest) -> "PairPreprocessing":
        """As the recipe names them; what it leaves open, the data decides.

        Raises:
            RecipeError: If a preprocessing is for another kind of data, or pairs and encoders do not fit together.
        """
        query = _made(model.preprocessing, "preprocessing", manifest.kind, manifest.items, model.encoder)
        kind = manifest.pair_kind or manifest.kind
        _check(model, manifest, kind)
        if model.partner_encoder is None or manifest.pairs is None:
            return PairPreprocessing(query)
        component = model.partner_preprocessing
        if component is None:
            component = model.preprocessing if kind == manifest.kind else Component(name="auto")
        return PairPreprocessing(
            query, _made(component, "partner_preprocessing", kind, manifest.pairs, model.partner_encoder)
        )

    def fit(self, train: Dataset) -> "PairPreprocessing":
        """With the statistics of the training examples."""
        query = self.query.fit(train.inputs)
        if self.partner is None or train.partners is None:
            return PairPreprocessing(query)
        return PairPreprocessing(query, self.partner.fit(train.partners))


def _made(component: Component, key: str, kind: Kind, items: Items, encoder: Component) -> Preprocessing:
    """As named; `auto` takes the shape of an array as it is, and leaves texts to an encoder that reads them itself.

    Whatever is named, a pretrained encoder gets images with the statistics of those that it was trained on.
    """
    if component.name not in ("auto", kind):
        raise RecipeError(
            f"model.{key} is for the kind {component.name}; the data is of the kind {kind}.",
            hint=f"Use --set model.{key}=auto, or name another source.",
            reference="wrong-preprocessing",
        )
    options = options_of(component)
    if component.name == "auto":
        shape = items.shape if isinstance(items, np.ndarray) else ()
        if kind == "image" and shape:
            options = {"channels": shape[1], "size": max(shape[2:])}
        elif kind == "series" and shape:
            options = {"channels": shape[1], "length": shape[2]}
        elif kind == "text":
            options = {"hashed": not getattr(models.registry[encoder.name], "reads_texts", False)}
    are_sounds = kind == "series" and isinstance(items, tuple) and bool(items) and isinstance(items[0], Path)
    if encoder.name == "pretrained" and (kind == "image" or are_sounds):
        place = models.locate(options_of(encoder)["folder"], options_of(encoder)["model"])
        theirs = {"size": 224, **models.image_options(place)} if kind == "image" else models.sound_options(place)
        options = theirs if component.name == "auto" else {**theirs, **options}
    if are_sounds and not options.get("rate"):
        options = {**options, "rate": SAMPLE_RATE}
    try:
        made: Any = PREPROCESSING[kind](**options)
    except (TypeError, ValueError) as error:
        raise RecipeError(
            f"model.{key} = {component.name!r} refuses its options: {error}",
            hint=f"Look at the options of {component.name!r} on the page of settings.",
            reference="refused-option",
        ) from error
    preprocessing: Preprocessing = made.with_levels(items) if kind == "image" else made
    return preprocessing


def _check(model: Model, manifest: Manifest, kind: Kind) -> None:
    has_own = model.partner_encoder is not None
    if has_own and manifest.pairs is None:
        raise RecipeError(
            f"model.partner_encoder is for the second items of pairs; {manifest.source} has none that the loss uses.",
            hint="Use --set model.partner_encoder=none, or give the data a column `pair` and a loss of pairs.",
            reference="partner-encoder",
        )
    if manifest.pairs is not None and kind != manifest.kind and not has_own:
        raise RecipeError(
            f"{manifest.source} pairs {manifest.kind} with {kind}: one encoder cannot read both.",
            hint=f"Name one for the {kind} side: --set model.partner_encoder=NAME",
            reference="partner-encoder",
        )
    if model.partner_preprocessing is not None and not has_own:
        raise RecipeError(
            "model.partner_preprocessing changes nothing where both sides share one encoder.",
            hint="Use --set model.partner_preprocessing=none, or name a model.partner_encoder.",
            reference="partner-encoder",
        )


def build_embedder(recipe: Recipe, train: Dataset, sides: PairPreprocessing, *, trust: bool) -> Embedder:
    """The encoder that a recipe names, made for the data; and that of the second items, if they have their own.

    Args:
        recipe: From `load_recipe`.
        train: Examples that are trained on.
        sides: Fitted to them.
        trust: Import the class that the encoder `callable` names.
    """

    def made(key: str, component: Component, inputs: Inputs, preprocessing: Preprocessing) -> Embedder:
        shape = inputs.shape if isinstance(inputs, torch.Tensor) else ()
        known = preprocessing.to_config()
        facts: dict[str, Any] = {
            **{key: known[key] for key in ("channels", "size", "length", "buckets") if key in known},
            "in_dim": shape[1] if shape else None,
            "kind": preprocessing.kind,
            "dim": recipe.model.dim,
        }
        config = {"name": component.name, **arguments(component, ("model", key), facts)}
        is_adapted = key == "encoder" or component.name == "pretrained"
        if is_adapted and recipe.model.lora is not None:
            config["lora"] = recipe.model.lora.model_dump()
        encoder = build_encoder(config, seed=derive_seed(recipe.seed, key), trust=trust)
        if is_adapted:
            freeze(encoder, recipe.model.freeze)
        if recipe.train.recompute:
            _recompute(encoder, component.name)
        return Embedder(encoder, preprocessing, encoder_config=config)

    embedder = made("encoder", recipe.model.encoder, train.inputs, sides.query)
    if sides.partner is None or recipe.model.partner_encoder is None or train.partners is None:
        return embedder
    partner = made("partner_encoder", recipe.model.partner_encoder, train.partners, sides.partner)
    return Embedder(embedder.encoder, sides.query, encoder_config=embedder.encoder_config, partner=partner)


def _recompute(encoder: Any, name: str) -> None:
    if not hasattr(encoder, "set_checkpointing"):
        raise RecipeError(
            f"train.recompute is for pretrained encoders; {name!r} is none.",
            hint="Use --set train.recompute=false; --set train.chunk=32 saves memory with any encoder.",
            reference="cannot-recompute",
        )
    encoder.set_checkpointing()


def fetch_models(recipe: Recipe, tell: Callable[[str], None]) -> None:
    """Fetch the pretrained models that a recipe names and the cache does not hold: the one use of a network.

    Args:
        recipe: From `load_recipe`.
        tell: Called with a note of what is fetched.

    Raises:
        CheckpointError: If a model cannot be fetched.
    """
    for encoder in (recipe.model.encoder, recipe.model.partner_encoder):
        if encoder is None or encoder.name != "pretrained" or options_of(encoder)["folder"]:
            continue
        name = options_of(encoder)["model"]
        try:
            models.locate(None, name)
        except RecipeError:
            tell(f"Fetching {name} into the cache of Hugging Face ...")
            models.download(name)


def check_views(recipe: Recipe, train: Dataset, embedder: Embedder, task: Task) -> None:
    """Refuse what would learn nothing, or fail at the first step.

    Raises:
        RecipeError: If the augmentation is for another kind of data, two views of an example would be one and the same,
            or the loss predicts along series and the encoder has no contexts.
    """
    if recipe.train.augment is not None:
        _require_kind(recipe.train.augment.name, embedder)
    elif task.supervision == "pair" and train.partners is None and not _is_random(embedder.encoder):
        raise RecipeError(
            f"loss = {recipe.loss.name!r} learns from two views of each example, and without an augmentation they are "
            "the same.",
            hint=f"Use --set train.augment={_augmentations(embedder)[0]}, or give the data a column `pair`; if it "
            "has classes, --set batch.name=per-class makes pairs of the examples of each.",
            reference="two-equal-views",
        )
    if task.supervision == "none" and not hasattr(embedder.encoder, "unroll"):
        raise RecipeError(
            f"loss = {recipe.loss.name!r} predicts along series; the encoder {recipe.model.encoder.name!r} gives no "
            "contexts.",
            hint="Use --set model.encoder=series-context, with data of the kind series.",
            reference="encoder-without-contexts",
        )


def _require_kind(name: str, embedder: Embedder) -> None:
    known = _augmentations(embedder)
    if name not in known:
        raise RecipeError(
            f"train.augment = {name!r} does not change data of the kind {embedder.preprocessing.kind}.",
            hint=f"Use --set train.augment={' or '.join([*known, 'none'])}.",
            reference="wrong-augmentation",
        )


def _augmentations(embedder: Embedder) -> list[str]:
    """Names of the augmentations for the kind of the data, the most usual one first; one's own needs a file."""
    kind = embedder.preprocessing.kind
    known = [name for name in augment.registry if kind in getattr(augment.registry[name], "kinds", ())]
    return sorted(known, key=lambda name: (name == "callable", name == "noise" and kind != "vector"))


def _is_random(encoder: nn.Module) -> bool:
    """Whether an encoder in training gives the same input different embeddings."""
    return any(isinstance(part, nn.Dropout) and part.p > 0 for part in encoder.modules())


def load_start(embedder: Embedder, run: Path) -> dict[str, Any]:
    """Give an embedder the best weights that a run has saved; its preprocessing stays that of the new data.

    Args:
        embedder: Of the new run; changed in place.
        run: Folder of the earlier one, which need not have come to its end.

    Returns:
        Name of the run, and the step of its weights.

    Raises:
        CheckpointError: If the run has saved nothing that can be read.
        RecipeError: If the weights are those of another network.
    """
    found = _best(run / "checkpoints")
    tensors: Mapping[str, Tensor] = found.tensors.get("averaged", found.tensors["model"])
    mine = embedder.state_dict()
    differ = [name for name in {**tensors, **mine} if _shape(tensors, name) != _shape(mine, name)]
    if differ:
        name = differ[0]
        raise RecipeError(
            f"The weights of {run} are those of another network: {name} is {_shape(tensors, name) or 'not there'}, and "
            f"{_shape(mine, name) or 'not there'} in this recipe.",
            hint=f"Take the recipe of that run, {run}/recipe.toml, and give it inputs of the same size.",
            reference="start-does-not-fit",
        )
    embedder.load_state_dict(dict(tensors))
    return {"run": run.resolve().name, "step": found.progress.step}


def _best(checkpoints: Path) -> checkpoint.Checkpoint:
    """That of the best step, or the latest one that is whole."""
    latest, _ = checkpoint.load_latest(checkpoints)
    if latest is None:
        raise CheckpointError(
            f"There is no checkpoint in {checkpoints}, so no weights to start from.",
            hint="Name a run that has saved one: tuplet runs",
            reference="no-checkpoints",
        )
    if latest.progress.best_step in (0, latest.progress.step):
        return latest
    try:
        return checkpoint.load(checkpoints / checkpoint.name_of(latest.progress.best_step))
    except CheckpointError:
        return latest


def _shape(tensors: Mapping[str, Tensor], name: str) -> str:
    return str(tuple(tensors[name].shape)) if name in tensors else ""
