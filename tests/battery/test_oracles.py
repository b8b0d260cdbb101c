"""Every declared loss against the oracle of its name: value and gradient, for any options, sets of examples and tiling.

An oracle takes what the function takes: `tests/oracles/nca.py` is `oracles.nca(x, labels, *, scale, geometry, ...)`.
"""

import inspect
import sys
from collections.abc import Callable
from typing import Annotated, Any, Literal, get_args, get_origin

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

import oracles
from oracles.comparison import assert_same, thorough
from oracles.problems import case, rows
from oracles.problems import weights as weights_of
from tuplet.bounds import Bounds
from tuplet.losses import PairLoss, registry
from tuplet.losses.classes import ClassLoss
from tuplet.losses.declare import Option

KINKED = {
    "centroid_triplet",
    "dynamic_soft_margin",
    "fast_ap",
    "histogram",
    "margin",
    "ranked_list",
    "snr_contrastive",
    "threshold_consistent_margin",
}
"""Losses with kinks where rounding decides on which side a pair of the grid lies; so has the swap of triplets."""

TIED = {"centroid_triplet", "dynamic_soft_margin", "snr_contrastive", "threshold_consistent_margin"}
"""Losses that equal rows, or rows of zeros, bring to a tie or a kink."""

ONE_LABEL = {"centroid_triplet"}
"""Losses that refuse several labels."""

TILES = st.sampled_from([3, 7, None])  # of one entry: test_battery.py; they take five times as long


def has_oracle(name: str, base: Any) -> bool:
    """Whether the loss is of this kind and has an oracle that knows all of its options."""
    loss, oracle = registry[name], getattr(oracles, name, None)
    if not inspect.isfunction(oracle) or not issubclass(loss, base):
        return False
    needs_more = len(loss.inputs) > 3  # what it keeps besides its class weights
    return not needs_more and {"labels", *loss.options} - loss.of_module <= {*inspect.signature(oracle).parameters}


def function(name: str) -> Callable[..., Tensor]:
    return getattr(sys.modules[registry[name].__module__], name)


def choices(option: Option) -> st.SearchStrategy[Any]:
    """Values of an option: its default and others; none that is left out by default."""
    hint, default = option.hint, option.default
    if default is None:
        return st.none()
    if isinstance(default, tuple):  # a schedule of the module, of which a function takes one value
        return st.sampled_from([0.0, 5.0])
    if default == "learned":
        hint, default = get_args(hint)[0], 1.0
    if get_origin(hint) is Literal:
        return st.sampled_from(get_args(hint))
    if get_origin(hint) is not Annotated:
        return st.booleans() if isinstance(default, bool) else st.just(default)
    if get_args(hint)[0] is int:
        return st.sampled_from([default, 1, 3])
    bounds = next(each for each in get_args(hint) if isinstance(each, Bounds))
    return st.sampled_from([x for x in (default, default / 2, 2 * default, default - 0.25) if x in bounds])


def sampled(data: st.DataObject, name: str) -> dict[str, Any]:
    loss = registry[name]
    return {key: data.draw(choices(x), key) for key, x in loss.options.items() if key not in loss.of_module}


@pytest.mark.shows("oracle")
@pytest.mark.parametrize("name", [name for name in registry if has_oracle(name, PairLoss)])
@thorough
@given(data=st.data(), tile_size=TILES)
def test_value_and_gradient_of_pairs_equal_the_oracle_for_every_tiling(name, data, tile_size):
    options = sampled(data, name)
    is_kinked = name in KINKED or options.get("select") == "swap" or options.get("normalise", False)  # ties by rounding
    asked = data.draw(case(pairs=True, grid=False if is_kinked else None, copies=name not in TIED))
    assume(name not in ONE_LABEL or asked.labels is None or asked.labels.ndim == 1)
    truth = getattr(oracles, name)(asked.embeddings, asked.labels, **asked.sides, **options)
    found = function(name)(asked.embeddings, asked.labels, tile_size=tile_size, **asked.sides, **options)
    assert_same(found, truth.value, *asked.leaves)
    others = asked.sides.get("reference_labels")
    if others is None or bool((others != -1).any()):  # among none that is known nothing is divided
        outcome = registry[name](**options).double().measure(asked.embeddings, asked.labels, **asked.sides)
        assert outcome.count.item() == pytest.approx(truth.count, abs=1e-12)


@pytest.mark.shows("oracle")
@pytest.mark.parametrize("name", [name for name in registry if has_oracle(name, ClassLoss)])
@thorough
@given(data=st.data(), tile_size=TILES)
def test_value_and_gradient_of_proxies_equal_the_oracle_for_every_tiling(name, data, tile_size):
    count, classes, dim = (data.draw(st.integers(1, most)) for most in (9, 5, 4))
    x, proxies = (data.draw(rows(each, dim)).requires_grad_() for each in (count, classes))
    labels = torch.tensor(data.draw(st.lists(st.integers(-1, classes - 1), min_size=count, max_size=count)))
    w, options = data.draw(weights_of(count)), sampled(data, name)
    truth = getattr(oracles, name)(x, proxies, labels, weights=w, **options)
    found = function(name)(x, proxies, labels, weights=w, tile_size=tile_size, **options)
    assert_same(found, truth.value, x, proxies)
