"""Options of components: a constructor's signature is the one place for their names, types, bounds and defaults."""

import inspect
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import torch
from annotated_types import Gt
from pydantic import BeforeValidator, create_model

from tuplet import losses, models, sampling
from tuplet.data import augment, transforms
from tuplet.data.words import WordPreprocessing
from tuplet.errors import RecipeError, ShapeError
from tuplet.memory import FeatureQueue
from tuplet.recipes.schema import Component, options_of
from tuplet.registry import Registry, did_you_mean
from tuplet.seeding import derive_seed

Constructor = Callable[..., Any]


@dataclass(frozen=True)
class Slot:
    """A place in a recipe where a component stands.

    Attributes:
        path: Where.
        kind: What the names stand for, as written in messages.
        names: Known constructors.
        given: Arguments that come from the data, from other sections or from the run, never from this table.
    """

    path: tuple[str, ...]
    kind: str
    names: Mapping[str, Constructor] | Registry[Any]
    given: frozenset[str]


def _auto() -> None:
    """Preprocessing for the kind of the data, with its defaults."""


PREPROCESSING: dict[str, Constructor] = {
    "auto": _auto,
    "image": transforms.ImagePreprocessing,
    "series": transforms.SeriesPreprocessing,
    "text": transforms.TextPreprocessing,
    "vector": transforms.VectorPreprocessing,
    "words": WordPreprocessing,
}
ENCODER_IS_GIVEN = frozenset({"dim", "in_dim", "channels", "size", "length", "buckets", "kind"})
PREPROCESSING_IS_GIVEN = frozenset({"mean", "std", "scale", "fixed", "words"})
LOSS_IS_GIVEN = frozenset(
    {
        "num_classes",
        "num_instances",
        "dim",
        "latent_dim",
        "context_dim",
        "counts",
        "label_distance",
        "seed",
        "processes",
    }
)
SAMPLER_IS_GIVEN = frozenset({"labels", "targets", "groups", "related", "count", "contents", "corpus", "dim", "seed"})
SLOTS = (
    Slot(("model", "encoder"), "encoder", models.registry, ENCODER_IS_GIVEN),
    Slot(("model", "preprocessing"), "preprocessing", PREPROCESSING, PREPROCESSING_IS_GIVEN),
    Slot(("model", "partner_encoder"), "encoder", models.registry, ENCODER_IS_GIVEN),
    Slot(("model", "partner_preprocessing"), "preprocessing", PREPROCESSING, PREPROCESSING_IS_GIVEN),
    Slot(("loss",), "loss", losses.registry, LOSS_IS_GIVEN),
    Slot(("batch",), "sampler", sampling.registry, SAMPLER_IS_GIVEN),
    Slot(("train", "augment"), "augmentation", augment.registry, frozenset()),
)
SLOT: Mapping[tuple[str, ...], Slot] = {slot.path: slot for slot in SLOTS}


def constructor(slot: Slot, name: str) -> Constructor:
    """The constructor that a component names.

    Raises:
        RecipeError: If there is none.
    """
    if isinstance(slot.names, Registry):
        return slot.names[name]
    if name not in slot.names:
        raise RecipeError(
            f"There is no {slot.kind} called {name!r}.",
            hint=did_you_mean(name, dict(slot.names)),
            reference="unknown-name",
        )
    return slot.names[name]


def schema_of(slot: Slot, name: str) -> type[Component]:
    """Options of one component.

    Raises:
        RecipeError: If the name is unknown.
    """
    built = constructor(slot, name)
    hints = get_type_hints(inspect.unwrap(built.__init__ if inspect.isclass(built) else built), include_extras=True)
    fields: dict[str, Any] = {}
    for option, parameter in inspect.signature(built).parameters.items():
        is_named = parameter.kind in {parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY}
        if is_named and option not in slot.given:
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[option] = (_in_toml(hints.get(option, Any)), default)
    fields["name"] = (Literal[name], name)
    return create_model(name, __base__=Component, __doc__=inspect.getdoc(built), **fields)


def _in_toml(annotation: Any) -> Any:
    """The type of an option as it is written: "none" for None, for which TOML has no word; a queue by its size."""
    if annotation == FeatureQueue | None:
        annotation = Annotated[int, Gt(0)] | None
    is_optional = get_origin(annotation) in {Union, types.UnionType} and type(None) in get_args(annotation)
    return Annotated[annotation, BeforeValidator(_none)] if is_optional else annotation


def _none(value: Any) -> Any:
    return None if value == "none" else value


def make(component: Component, path: tuple[str, ...], facts: Mapping[str, Any]) -> Any:
    """The object that a component names; its initial weights depend on the seed alone."""
    made = constructor(SLOT[path], component.name)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(derive_seed(facts.get("seed", 0), *path))
        try:
            return made(**arguments(component, path, facts))
        except (TypeError, ValueError, ShapeError) as error:
            said, hint = (error.message, error.hint) if isinstance(error, ShapeError) else (str(error), "")
            raise RecipeError(
                f"{'.'.join(path)} = {component.name!r} refuses its options: {said}",
                hint=hint or f"Look at the options of {component.name!r} on the page of settings.",
                reference="refused-option",
            ) from error


def arguments(component: Component, path: tuple[str, ...], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What a constructor is called with: the facts that it asks for, and the options of the recipe."""
    asked = inspect.signature(constructor(SLOT[path], component.name)).parameters
    given = {key: facts[key] for key in asked if key in SLOT[path].given and key in facts}
    options = options_of(component)
    if options.get("queue") is not None:  # a recipe gives its size
        options["queue"] = FeatureQueue(options["queue"], facts["dim"])
    return given | options
