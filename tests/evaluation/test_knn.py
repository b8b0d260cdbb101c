import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from shapes import unchecked
from tuplet.errors import DataError, ShapeError
from tuplet.evaluation import knn


def rows(count: int, dim: int, seed: int = 0):
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("geometry", ["cosine", "dot", "euclidean"])
@pytest.mark.parametrize("temperature", [0.07, 1.0, None])
@pytest.mark.parametrize("neighbours", [1, 5, 500])
def test_votes_equal_a_count_by_hand(geometry, temperature, neighbours):
    x, labels = rows(60, 4), torch.arange(60) % 4 * 10
    bank, bank_labels = rows(90, 4, 1), torch.arange(90) % 4 * 10
    bank_labels[::7] = -1
    found = knn(
        x, labels, bank, bank_labels, neighbours=neighbours, temperature=temperature, geometry=geometry, bootstrap=0
    )
    a, b = x.double(), bank.double()
    if geometry == "cosine":
        a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    keys = -torch.cdist(a, b) if geometry == "euclidean" else a @ b.T
    for q in range(60):
        able = [j for j in keys[q].argsort(descending=True).tolist() if bank_labels[j] != -1][:neighbours]
        votes = dict.fromkeys((0, 10, 20, 30), 0.0)
        for j in able:
            votes[int(bank_labels[j])] += 1 if temperature is None else float((keys[q, j] / temperature).exp())
        assert found.predictions[q] == max(votes, key=lambda label: (votes[label], -label))
    right = (found.predictions == labels).double().mean().item()
    assert found.values["accuracy"] == pytest.approx(right)


def test_majority_votes_of_an_odd_number_equal_scikit_learn():
    x, labels = rows(200, 5), torch.arange(200) % 2
    model = KNeighborsClassifier(7).fit(x.numpy(), labels.numpy())
    found = knn(rows(50, 5, 1), torch.zeros(50).long(), x, labels, neighbours=7, temperature=None, geometry="euclidean")
    np.testing.assert_array_equal(found.predictions.numpy(), model.predict(rows(50, 5, 1).numpy()))


def test_nobody_votes_for_itself():
    x = torch.tensor([[0.0], [0.1], [5.0], [5.1]])
    found = knn(x, torch.tensor([0, 1, 2, 3]), neighbours=1, geometry="euclidean", bootstrap=0)
    assert found.predictions.tolist() == [1, 0, 3, 2]
    assert found.values["accuracy"] == 0


def test_equal_votes_go_to_the_lowest_class():
    bank = torch.tensor([[1.0], [1.0], [1.0], [1.0]])
    found = knn(torch.ones(1, 1), torch.tensor([3]), bank, torch.tensor([9, 3, 9, 3]), neighbours=4, bootstrap=0)
    assert found.predictions.tolist() == [3]


def test_unlabelled_queries_are_classified_and_not_scored():
    x = torch.tensor([[0.0], [0.1], [5.0], [5.1], [0.2]])
    found = knn(x, torch.tensor([0, 0, 1, 1, -1]), neighbours=1, geometry="euclidean")
    assert found.predictions.tolist() == [0, 0, 1, 1, 0]
    assert found.values["accuracy"] == 1
    assert found.counts == {"n_queries": 4, "n_unlabelled": 1, "n_classes": 2}


def test_predictions_do_not_depend_on_the_tile_size():
    x, labels = rows(150, 6), torch.arange(150) % 12
    whole = knn(x, labels, neighbours=20)
    parts = knn(x, labels, neighbours=20, tile_size=700)
    assert torch.equal(whole.predictions, parts.predictions)
    assert whole.to_dict() == parts.to_dict()


def test_what_cannot_be_evaluated_is_refused():
    x, labels = rows(4, 2), torch.zeros(4).long()
    with pytest.raises(DataError) as refused:
        knn(x, labels, x, labels - 1)
    assert refused.value.reference == "no-labels"
    with pytest.raises(DataError, match="No query has a label"):
        knn(x, labels - 1, x, labels)
    for wrong in ({"neighbours": 0}, {"temperature": 0.0}, {"gallery": x}, {"gallery_labels": labels}):
        with unchecked(), pytest.raises(ShapeError, match=f"kNN|{next(iter(wrong))} is"):
            knn(x, labels, **wrong)
