import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tuplet.errors import DataError
from tuplet.evaluation import knn, knn_curve, linear_probe
from tuplet.evaluation.result import joined


def clusters(count: int, seed: int):
    """Four classes in five dimensions that overlap, one column far larger than the others."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 4
    centres = torch.randn(4, 5, generator=torch.Generator().manual_seed(99))
    return (centres[labels] + torch.randn(count, 5, generator=generator)) * torch.tensor([1, 1, 1, 1, 100.0]), labels


def test_accuracy_equals_a_pipeline_of_scikit_learn():
    (train, theirs), (test, mine) = clusters(200, 0), clusters(100, 1)
    test += torch.tensor([2, 2, 2, 2, 200.0])  # columns are scaled as in training, wherever the queries lie
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(train.double(), theirs)
    found = linear_probe(test, mine, train, theirs, bootstrap=100)
    assert found.values["probe"] == pytest.approx(model.score(test.double(), mine))
    assert found.lower["probe"] <= found.values["probe"] <= found.upper["probe"]
    assert found.settings["converged"]


def test_unlabelled_rows_neither_teach_nor_count():
    (train, theirs), (test, mine) = clusters(80, 0), clusters(40, 1)
    theirs[::5], mine[::4] = -1, -1
    found = linear_probe(test, mine, train, theirs, bootstrap=0)
    known, asked = theirs >= 0, mine >= 0
    again = linear_probe(test[asked], mine[asked], train[known], theirs[known], bootstrap=0)
    assert found.values == again.values
    assert found.counts["n_queries"] == int(asked.sum())


def test_a_constant_column_and_few_steps_are_no_trouble():
    (train, theirs), (test, mine) = clusters(80, 0), clusters(40, 1)
    train[:, 2], test[:, 2] = 3, 5
    found = linear_probe(test, mine, train, theirs, steps=1, max_rows=50, bootstrap=0)
    assert np.isfinite(found.values["probe"])
    assert not found.settings["converged"]
    assert found.counts["n_probe_rows"] == 50


def test_one_class_teaches_nothing():
    (train, theirs), (test, mine) = clusters(80, 0), clusters(40, 1)
    with pytest.raises(DataError) as caught:
        linear_probe(test, mine, train, theirs * 0)
    assert caught.value.reference == "no-labels"


@pytest.mark.parametrize("temperature", [0.07, None])
@pytest.mark.parametrize("geometry", ["cosine", "euclidean"])
def test_one_search_gives_the_votes_of_several(geometry, temperature):
    (train, theirs), (test, mine) = clusters(80, 0), clusters(60, 1)
    theirs[::7], mine[::9] = -1, -1
    options = {"geometry": geometry, "temperature": temperature, "bootstrap": 50}
    curve = knn_curve(test, mine, train, theirs, neighbours=(1, 5, 20, 500), tile_size=3000, **options)
    for count in (1, 5, 20, 500):
        alone = knn(test, mine, train, theirs, neighbours=count, **options)
        assert curve.values[f"knn@{count}"] == alone.values["accuracy"]
        assert curve.lower[f"knn@{count}"] == alone.lower["accuracy"]


def test_results_on_the_same_queries_are_joined():
    (train, theirs), (test, mine) = clusters(80, 0), clusters(60, 1)
    votes, probe = knn_curve(test, mine, train, theirs, neighbours=(1,)), linear_probe(test, mine, train, theirs)
    both = joined(votes, probe)
    assert list(both.values) == list(both.per_query) == list(both.macro.lower) == ["knn@1", "probe"]
    assert both.settings["neighbours"] == (1,)
    assert both.upper["probe"] == probe.upper["probe"]
