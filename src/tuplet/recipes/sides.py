"""What each side of the data is turned into before an encoder reads it."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from tuplet import models
from tuplet.data import Dataset, Manifest
from tuplet.data.dataset import Preprocessing
from tuplet.data.manifest import Items, Kind
from tuplet.errors import RecipeError
from tuplet.recipes.options import PREPROCESSING
from tuplet.recipes.schema import Component, Model, options_of


@dataclass(frozen=True)
class Sides:
    """Preprocessing of both sides of pairs.

    Args:
        query: Of the items.
        partner: Of the second items, if they have an encoder of their own.
    """

    query: Preprocessing
    partner: Preprocessing | None = None

    @staticmethod
    def of(model: Model, manifest: Manifest) -> "Sides":
        """As the recipe names them; what it leaves open, the data decides.

        Raises:
            RecipeError: If a preprocessing is for another kind of data, or pairs and encoders do not fit together.
        """
        query = _made(model.preprocessing, "preprocessing", manifest.kind, manifest.items, model.encoder.name)
        kind = manifest.pair_kind or manifest.kind
        _check(model, manifest, kind)
        if model.partner_encoder is None or manifest.pairs is None:
            return Sides(query)
        component = model.partner_preprocessing
        if component is None:
            component = model.preprocessing if kind == manifest.kind else Component(name="auto")
        reader = model.partner_encoder.name
        return Sides(query, _made(component, "partner_preprocessing", kind, manifest.pairs, reader))

    def fit(self, train: Dataset) -> "Sides":
        """With the statistics of the training examples."""
        query = self.query.fit(train.inputs)
        if self.partner is None or train.partners is None:
            return Sides(query)
        return Sides(query, self.partner.fit(train.partners))


def _made(component: Component, key: str, kind: Kind, items: Items, encoder: str) -> Preprocessing:
    """As named; `auto` takes the shape of an array as it is, and leaves texts to an encoder that reads them itself."""
    if component.name not in ("auto", kind):
        raise RecipeError(
            f"model.{key} is for the kind {component.name}; the data is of the kind {kind}.",
            hint=f"Type --set model.{key}=auto, or name another source.",
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
            options = {"hashed": not getattr(models.registry[encoder], "reads_texts", False)}
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
            hint="Type --set model.partner_encoder=none, or give the data a column `pair` and a loss of pairs.",
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
            hint="Type --set model.partner_preprocessing=none, or name a model.partner_encoder.",
            reference="partner-encoder",
        )
