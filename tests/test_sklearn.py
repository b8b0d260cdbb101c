"""The estimator keeps scikit-learn's promises and learns a metric."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from tuplet.errors import RecipeError
from tuplet.models import Embedder
from tuplet.sklearn import MetricEmbedding


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@parametrize_with_checks([MetricEmbedding(steps=20, hidden=(32,), dim=8)])
def test_it_is_an_estimator(estimator, check):
    check(estimator)


def digits():
    x, y = load_digits(return_X_y=True)
    return train_test_split(x, y, train_size=600, random_state=0, stratify=y)


@pytest.mark.slow
@pytest.mark.parametrize("loss", ["supcon", "triplet", "multi_similarity", "arcface"])
def test_it_embeds_new_rows_so_that_neighbours_share_a_class(loss):
    train, test, names, expected = digits()
    plain = make_pipeline(StandardScaler(), KNeighborsClassifier()).fit(train, names).score(test, expected)
    model = MetricEmbedding(loss=loss, steps=150, random_state=0).fit(train, names)
    assert model.transform(test).shape == (len(test), 32)
    assert model.score(test, expected) > plain


def test_more_rows_than_a_batch_are_sampled_class_by_class():
    random = np.random.default_rng(0)
    names = np.repeat([f"class {at}" for at in range(300)], 3)
    rows = random.normal(size=(300, 6)).repeat(3, 0) + 0.1 * random.normal(size=(900, 6))
    model = MetricEmbedding(steps=40, n_neighbors=1, random_state=1).fit(rows, names)
    assert model.score(rows + 0.05 * random.normal(size=rows.shape), names) > 0.9


def test_it_is_tuned_like_any_other_and_saved_as_a_model(tmp_path):
    train, test, names, _ = digits()
    grid = GridSearchCV(MetricEmbedding(steps=20, random_state=0), {"dim": [2, 16]}, cv=2).fit(train, names)
    assert grid.best_params_ == {"dim": 16}
    best = grid.best_estimator_
    best.embedder_.save(tmp_path / "model")
    rows = Embedder.load(tmp_path / "model").embed(test.astype(np.float64))
    found = torch.nn.functional.normalize(rows.double(), dim=1).numpy()
    np.testing.assert_allclose(found, best.transform(test), atol=1e-5)


def test_a_loss_without_classes_is_refused():
    with pytest.raises(RecipeError) as refused:
        MetricEmbedding(loss="log_ratio").fit(np.eye(4), [0, 0, 1, 1])
    assert refused.value.reference == "missing-labels"
