import pytest
import torch
from sklearn.metrics import adjusted_mutual_info_score, normalized_mutual_info_score

from tuplet.errors import DataError
from tuplet.evaluation import clustering, clustering_agreement


def clusters(classes: int, each: int, noise: float):
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat_interleave(each)
    x = torch.randn(classes, 8, generator=generator)[labels]
    return x + noise * torch.randn(len(labels), 8, generator=generator), labels


def test_clear_clusters_are_found():
    found = clustering(*clusters(6, 10, 0.01))
    assert found.values == {"nmi": pytest.approx(1), "ami": pytest.approx(1)}
    assert found.few_classes
    assert found.counts["n_classes"] == 6


def test_values_are_those_of_the_clusters_and_the_interval_holds_resampled_classes():
    x, labels = clusters(8, 12, 1.5)
    labels[3] = -1
    found = clustering(x, labels, restarts=2, bootstrap=10)
    kept = labels != -1
    assert found.clusters.shape == (95,)
    assert found.values["nmi"] == pytest.approx(normalized_mutual_info_score(labels[kept], found.clusters))
    assert found.values["ami"] == pytest.approx(adjusted_mutual_info_score(labels[kept], found.clusters))
    assert 0 < found.lower["ami"] < found.upper["ami"] < 1
    assert found.to_dict() == clustering(x, labels, restarts=2, bootstrap=10).to_dict()


def test_cosine_ignores_lengths():
    x, labels = clusters(5, 8, 0.05)
    scaled = x * torch.rand(40, 1, generator=torch.Generator().manual_seed(1)).add(0.01)
    assert clustering(scaled, labels, bootstrap=0).values["ami"] == pytest.approx(1)


def test_a_collapsed_space_has_no_agreement_and_no_warning():
    found = clustering(torch.ones(20, 3), torch.arange(20) % 4, bootstrap=2)
    assert found.values["ami"] == pytest.approx(0)


def test_equal_partitions_agree_whatever_their_numbers():
    assert clustering_agreement(torch.tensor([0, 0, 1]), torch.tensor([7, 7, 3])) == {"nmi": 1, "ami": 1}
    one = torch.zeros(4).long()
    assert clustering_agreement(one, one) == {"nmi": 1, "ami": 1}


def test_without_labels_there_is_nothing_to_compare():
    with pytest.raises(DataError, match="No example has a label"):
        clustering(torch.ones(3, 2), torch.full((3,), -1))
