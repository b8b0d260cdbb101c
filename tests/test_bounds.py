"""Numbers and choices are checked wherever something is called, and recipes know the same bounds."""

import math

import pytest
import torch

from shapes import unchecked
from tuplet import evaluation, models
from tuplet.bounds import Bounds, Count, NotNegative, Share, Tau, bounded, check
from tuplet.data.augment import AffineAugment, NoiseAugment
from tuplet.engine.topk import topk
from tuplet.errors import RecipeError, TupletError
from tuplet.recipes import load_recipe

X = torch.randn(12, 4, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(12) % 4

OUTSIDE = {
    "top": lambda: evaluation.retrieval(X, LABELS, top=(1, 0)),
    "bootstrap": lambda: evaluation.retrieval(X, LABELS, bootstrap=-1),
    "tile_size": lambda: evaluation.retrieval(X, LABELS, tile_size=0),
    "neighbours": lambda: evaluation.knn(X, LABELS, neighbours=0),
    "temperature": lambda: evaluation.knn(X, LABELS, temperature=-0.1),
    "far": lambda: evaluation.verification(X, LABELS, far=(0.1, 1.5)),
    "folds": lambda: evaluation.verification(X, LABELS, folds=-2),
    "max_pairs": lambda: evaluation.graded(X, X[:, :1], max_pairs=0),
    "restarts": lambda: evaluation.clustering(X, LABELS, restarts=0),
    "strength": lambda: evaluation.linear_probe(X, LABELS, X, LABELS, strength=math.inf),
    "max_rows": lambda: evaluation.health(X, max_rows=0),
    "top of a search": lambda: topk(X, X, 0),
    "noise": lambda: NoiseAugment(noise=-1.0),
    "crop": lambda: AffineAugment(crop=0.0),
    "dropout": lambda: models.build_encoder({"name": "mlp", "in_dim": 4, "dropout": 1.0}),
    "hidden": lambda: models.build_encoder({"name": "mlp", "in_dim": 4, "hidden": [0]}),
}


@pytest.mark.parametrize("name", OUTSIDE)
def test_a_number_out_of_bounds_is_refused_by_name(name):
    with unchecked(), pytest.raises(TupletError) as error:
        OUTSIDE[name]()
    assert error.value.reference == "option-range"
    assert f"{name.partition(' ')[0]} is " in error.value.message


@pytest.mark.parametrize("call", ["batch_size", "side"])
def test_an_embedder_returns_no_memory_that_nobody_wrote(call):
    from tuplet.data.transforms import VectorPreprocessing  # noqa: PLC0415

    config = {"name": "linear", "in_dim": 4, "dim": 2}
    embedder = models.Embedder(models.build_encoder(config), VectorPreprocessing(), encoder_config=config)
    with unchecked(), pytest.raises(TupletError) as error:
        embedder.embed(X, **{"batch_size": -1} if call == "batch_size" else {"side": "x"})
    assert error.value.message.startswith(f"{call} is ")


@pytest.mark.parametrize(
    "override",
    [
        "train.learning_rate=inf",
        "train.learning_rate=nan",
        "train.weight_decay=-1.0",
        "train.ema=1.0",
        "model.encoder={name='mlp', dropout=1.0}",
        "train.augment={name='noise', noise=-1.0}",
        "loss={name='triplet', margin=-1.0}",
        "loss={name='npair', norm_penalty=-1.0}",
        "loss={name='arcface', margin=28.6}",
        "batch={name='uniform', batch_size=-1}",
    ],
)
def test_a_recipe_knows_the_bounds_of_what_it_names(override):
    with pytest.raises(RecipeError) as error:
        load_recipe("own-vectors", ["data.source='x.csv'", override])
    assert error.value.reference == "bad-recipe"


@pytest.mark.parametrize(
    ("value", "annotation", "is_right"),
    [
        (1, Count, True),
        (0, Count, False),
        (1.0, Count, False),
        (torch.tensor(3), Count, True),
        (0.0, NotNegative, True),
        (-1e-9, NotNegative, False),
        (math.nan, NotNegative, False),
        (math.inf, NotNegative, False),
        (1.0, Share, False),
        (None, Share | None, True),
        ("x", Share | None, False),
        (torch.tensor(0.1, requires_grad=True), Tau | torch.Tensor, True),
        ((1, 2), tuple[Count, ...], True),
        ((1, 0), tuple[Count, ...], False),
    ],
)
def test_what_is_right_and_what_is_not(value, annotation, is_right):
    if is_right:
        check("it", value, annotation)
        return
    with pytest.raises(TupletError) as error:
        check("it", value, annotation)
    assert error.value.reference == "option-range"


def test_infinity_is_a_number_where_bounds_say_so():
    assert math.inf in Bounds(above=0, is_finite=False)
    assert math.inf not in Bounds(above=0)
    assert not Bounds(is_finite=False).__contains__(math.nan)


def test_a_bounded_function_converts_arrays_and_passes_the_rest_on():
    @bounded
    def scaled(x: torch.Tensor, times: Count = 1, *, reported: str = "") -> tuple[torch.Tensor, str]:
        return x * times, reported

    found, reported = scaled([1.0, 2.0], 3, reported="as it is")
    assert torch.equal(found, torch.tensor([3.0, 6.0], dtype=torch.float64))
    assert reported == "as it is"
