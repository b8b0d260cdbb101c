"""Which settings are searched, and where: read from the loss's own declaration, so that nothing is said of it twice."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from tuplet.bounds import Bounds
from tuplet.errors import MissingExtraError
from tuplet.recipes import Recipe
from tuplet.recipes.options import SLOT, constructor
from tuplet.seeding import derive_seed

RATE = "train.learning_rate"
FACTORS = {RATE: 10.0, "loss": 4.0}
"""How far a search goes, by what it is for: from the recipe's value divided by this to the value times this."""
_STARTS = 3
"""Trials before the first that is led by earlier ones: the recipe's own settings, and two at random."""


@dataclass(frozen=True)
class Range:
    """Where a setting is searched, evenly in its logarithm.

    Args:
        start: What the recipe says.
        low: Least value.
        high: Largest value.
    """

    start: float
    low: float
    high: float


@dataclass(frozen=True)
class Past:
    """A finished trial: its settings, and what it reached; None if its loss diverged."""

    settings: Mapping[str, float]
    value: float | None


def search_space(recipe: Recipe) -> dict[str, Range]:
    """The settings that trials of a recipe may change: the learning rate, and numbers above 0 of its loss.

    A number is searched if its declaration bounds it and it is above 0 in the recipe: a part that is switched off stays
    off, and what counts something or names a choice stays as it is. Shares of a whole are not searched either: they
    trade time for accuracy.
    """
    rate = recipe.train.learning_rate
    found = {RATE: Range(rate, rate / FACTORS[RATE], rate * FACTORS[RATE])}
    built = constructor(SLOT["loss",], recipe.loss.name)
    hints = get_type_hints(inspect.unwrap(built.__init__), include_extras=True)
    for option in inspect.signature(built).parameters:
        value = getattr(recipe.loss, option, None)
        bounds = next(_bounds(hints.get(option)), None)
        if bounds is None or isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
            continue
        if 1 in (bounds.most, bounds.below):
            continue
        high = value * FACTORS["loss"]
        high = high if bounds.most is None else min(high, bounds.most)
        high = high if bounds.below is None else min(high, (value + bounds.below) / 2)
        low = max(value / FACTORS["loss"], bounds.least or 0.0)
        found[f"loss.{option}"] = Range(float(value), low, high)
    return found


def suggest(space: Mapping[str, Range], past: Sequence[Past], seed: int, entry: str) -> dict[str, float]:
    """Settings of the next trial, by the tree-structured Parzen estimator of optuna.

    The first trial takes the recipe's own settings. Each later one depends on the seed, the entry and the trials before
    it alone, so a search that was interrupted goes on as if it had not been.

    Args:
        space: From `search_space`.
        past: Trials so far, in order.
        seed: Of the comparison.
        entry: Whose search this is.

    Raises:
        MissingExtraError: If optuna is not installed.
    """
    if not past:
        return {name: one.start for name, one in space.items()}
    try:
        import optuna  # noqa: PLC0415  # one trial needs none
    except ModuleNotFoundError as missing:
        raise MissingExtraError(
            "Searching for settings needs optuna, which is not installed.",
            extra="compare",
            otherwise=", or compare the recipes as they are: --trials 1",
        ) from missing
    from optuna.distributions import BaseDistribution, FloatDistribution  # noqa: PLC0415
    from optuna.trial import TrialState, create_trial  # noqa: PLC0415

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    where: dict[str, BaseDistribution] = {
        name: FloatDistribution(one.low, one.high, log=True) for name, one in space.items()
    }
    sampler = optuna.samplers.TPESampler(n_startup_trials=_STARTS, seed=derive_seed(seed, entry, len(past)) % 2**32)
    study = optuna.create_study(direction="maximize", sampler=sampler)
    for one in past:
        state = TrialState.FAIL if one.value is None else TrialState.COMPLETE
        study.add_trial(create_trial(state=state, params=dict(one.settings), distributions=where, value=one.value))
    return {name: float(f"{value:.4g}") for name, value in study.ask(where).params.items()}


def _bounds(hint: Any) -> Iterator[Bounds]:
    """Bounds of a real number in an annotation, or in an alternative of it."""
    if get_origin(hint) is Annotated:
        kind, *notes = get_args(hint)
        yield from (note for note in notes if isinstance(note, Bounds) and kind is float)
    else:
        for arm in get_args(hint):
            yield from _bounds(arm)
