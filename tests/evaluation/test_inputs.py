"""What every measure takes beside tensors, and what it refuses."""

import numpy as np
import pytest
import torch

from shapes import unchecked
from tuplet import evaluation
from tuplet.errors import LabelError, ShapeError, TupletError

X = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)).double()
LABELS = torch.arange(40) % 5
SCORES = X[:, 0]
TARGETS = X[:, 1]
CALLS = {
    "retrieval": (evaluation.retrieval, X, LABELS, X, LABELS),
    "verification": (evaluation.verification, X, LABELS),
    "verification_from_scores": (evaluation.verification_from_scores, SCORES, LABELS == 0),
    "knn": (evaluation.knn, X, LABELS, X, LABELS),
    "knn_curve": (evaluation.knn_curve, X, LABELS, X, LABELS),
    "graded": (evaluation.graded, X, TARGETS, X, TARGETS),
    "ndcg": (lambda gains, scores: evaluation.ndcg(gains, scores, (2,)), X.abs(), X),
    "matching": (evaluation.matching, X, X, torch.arange(40)),
    "linear_probe": (evaluation.linear_probe, X, LABELS, X, LABELS),
    "clustering": (evaluation.clustering, X, LABELS),
    "clustering_agreement": (evaluation.clustering_agreement, LABELS, LABELS % 3),
    "health": (evaluation.health, X, LABELS),
    "rank_correlation": (evaluation.rank_correlation, SCORES, TARGETS),
}


def values(found):
    found = found if isinstance(found, dict) else dict(found.values)
    return {name: torch.as_tensor(value).tolist() for name, value in found.items()}


@pytest.mark.parametrize("name", CALLS)
def test_arrays_and_lists_are_converted(name):
    measure, *arguments = CALLS[name]
    expected = values(measure(*arguments))
    for convert in (lambda part: part.numpy(), lambda part: part.tolist()):
        found = values(measure(*map(convert, arguments)))
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key] == pytest.approx(value, nan_ok=True), key


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("wrong", [[["a", "b"], ["c", "d"]], [[1.0], [1.0, 2.0]], np.array([{}], dtype=object), {1.0}])
def test_what_is_no_array_of_numbers_is_refused_in_one_sentence(name, wrong):
    measure, *arguments = CALLS[name]
    for at in range(len(arguments)):
        with unchecked(), pytest.raises(TupletError) as caught:
            measure(*arguments[:at], wrong, *arguments[at + 1 :])
        assert isinstance(caught.value, ShapeError | LabelError)
        assert "\n" not in caught.value.message


def test_labels_of_every_integer_type_are_the_same_classes():
    expected = evaluation.retrieval(X, LABELS).to_dict()["values"]
    for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32):
        assert evaluation.retrieval(X, (LABELS + 100).to(dtype)).to_dict()["values"] == expected
    top = torch.tensor([255, 255, 1, 1], dtype=torch.uint8)
    assert evaluation.retrieval(X[:4], top, top=(1,), bootstrap=0).counts["n_queries"] == 4


@pytest.mark.parametrize(
    "arguments",
    [(SCORES[:-1], LABELS == 0), (SCORES, X), (X, LABELS == 0)],
)
def test_pairs_without_one_score_each_are_refused(arguments):
    with unchecked(), pytest.raises(ShapeError) as caught:
        evaluation.verification_from_scores(*arguments)
    assert caught.value.reference == "verification-pairs"
