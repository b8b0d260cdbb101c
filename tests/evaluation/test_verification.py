import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor

from shapes import unchecked
from tuplet.errors import DataError, LabelError, ShapeError
from tuplet.evaluation import verification, verification_from_scores
from tuplet.evaluation.bootstrap import class_draws


def rows(count: int, dim: int, seed: int = 0) -> Tensor:
    return torch.randn(count, dim, generator=torch.Generator().manual_seed(seed))


def clusters(classes: int, each: int, noise: float = 0.7, dim: int = 6) -> tuple[Tensor, Tensor]:
    labels = torch.arange(classes).repeat_interleave(each)
    return rows(classes, dim)[labels] + noise * rows(len(labels), dim, 1), labels


def scikit_learn(same: np.ndarray, keys: np.ndarray, far: list[float], weights: np.ndarray | None = None):
    fpr, tpr, _ = roc_curve(same, keys, drop_intermediate=False, sample_weight=weights)
    gap = fpr + tpr - 1
    after = int(np.argmax(gap >= 0))
    share = gap[after] / (gap[after] - gap[after - 1])
    return {
        "auc": roc_auc_score(same, keys, sample_weight=weights),
        "eer": fpr[after] + share * (fpr[after - 1] - fpr[after]),
        "average_precision": average_precision_score(same, keys, sample_weight=weights),
        **{f"tar@far={limit:g}": tpr[fpr <= limit][-1] for limit in far},
    }


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6), levels=st.sampled_from([2, 5, 1000]), count=st.integers(4, 60))
def test_values_equal_scikit_learn_with_ties(seed, levels, count):
    generator = np.random.default_rng(seed)
    scores, same = generator.integers(0, levels, count) / 7, np.arange(count) % 3 == 0
    found = verification_from_scores(torch.tensor(scores), torch.tensor(same), far=(0.05, 0.2, 0.5), bootstrap=0)
    for name, value in scikit_learn(same, scores, [0.05, 0.2, 0.5]).items():
        assert found.values[name] == pytest.approx(value, abs=1e-12), name
    flipped = verification_from_scores(-torch.tensor(scores), torch.tensor(same), larger_is_same=False, bootstrap=0)
    assert flipped.values["auc"] == found.values["auc"]
    assert flipped.thresholds["best"] == -found.thresholds["best"]


@pytest.mark.parametrize("geometry", ["cosine", "euclidean"])
def test_embeddings_are_evaluated_over_all_their_pairs(geometry):
    x, labels = clusters(8, 5)
    found = verification(x, labels, geometry=geometry, bootstrap=0)
    first, second = np.triu_indices(40, 1)
    unit = torch.nn.functional.normalize(x.double(), dim=1)
    keys = (unit @ unit.T) if geometry == "cosine" else -torch.cdist(x.double(), x.double())
    same = (labels[first] == labels[second]).numpy()
    expected = scikit_learn(same, keys.numpy()[first, second], [0.01, 0.1])
    for name, value in expected.items():
        assert found.values[name] == pytest.approx(value, rel=1e-9), name
    assert found.counts["n_same"] == found.counts["n_same_available"] == 80
    assert found.counts["n_different"] == 40 * 39 // 2 - 80
    assert not found.settings["sampled"]


def test_thresholds_are_in_the_unit_of_the_score_and_reach_their_rates():
    x, labels = clusters(12, 6)
    for geometry in ("cosine", "euclidean"):
        found = verification(x, labels, geometry=geometry, far=(0.05,), bootstrap=0)
        threshold = found.thresholds["far=0.05"]
        accepted = found.scores >= threshold if geometry == "cosine" else found.scores <= threshold
        assert accepted[found.same].double().mean().item() == pytest.approx(found.values["tar@far=0.05"])
        assert accepted[~found.same].double().mean().item() <= 0.05
        assert (found.scores > 0).all() or geometry == "cosine"


def test_intervals_weigh_pairs_by_how_often_their_classes_are_sampled():
    x, labels = clusters(5, 4)
    found = verification(x, labels, bootstrap=60, seed=3, far=(0.1,))
    first, second = np.triu_indices(20, 1)
    unit = torch.nn.functional.normalize(x.double(), dim=1)
    keys, same = (unit @ unit.T).numpy()[first, second], (labels[first] == labels[second]).numpy()
    draws: dict[str, list[float]] = {name: [] for name in found.lower}
    for times in torch.cat(list(class_draws(5, 60, 3))).numpy():
        weights = np.where(same, times[labels[first]], times[labels[first]] * times[labels[second]])
        if not weights[~same].any():
            continue  # one class drawn five times
        for name, value in scikit_learn(same, keys, [0.1], weights).items():
            draws[name].append(value)
    for name, values in draws.items():
        expected = tuple(np.percentile(values, [2.5, 97.5]))
        assert (found.lower[name], found.upper[name]) == pytest.approx(expected, abs=1e-9), name


def test_pairs_that_are_sampled_stand_for_all_of_their_kind():
    x, labels = clusters(40, 10, noise=1.2)
    whole = verification(x, labels, bootstrap=0)
    part = verification(x, labels, max_pairs=20_000, bootstrap=0)
    assert part.settings["sampled"]
    assert part.counts["n_pairs"] == 20_000
    assert part.counts["n_same"] == whole.counts["n_same"] == 1800  # all of them: fewer than half
    assert part.counts["n_different_available"] == whole.counts["n_different"]
    for name in ("auc", "eer", "tar@far=0.01", "average_precision"):
        assert part.values[name] == pytest.approx(whole.values[name], abs=0.02), name
    again = verification(x, labels, max_pairs=20_000, bootstrap=0)
    assert torch.equal(again.scores, part.scores)
    assert not torch.equal(verification(x, labels, max_pairs=20_000, bootstrap=0, seed=1).scores, part.scores)


def test_sampled_pairs_are_distinct_and_of_their_kind():
    labels = torch.tensor([2, 0, 1, 0, 2, 2, 1, 0])
    x = torch.arange(8).double()[:, None] ** 2 + 1  # each product is of one pair only
    found = verification(x, labels, geometry="dot", max_pairs=14, bootstrap=0)
    assert len(found.scores.unique()) == len(found.scores) == 14
    kinds = {float(x[i, 0] * x[j, 0]): bool(labels[i] == labels[j]) for i in range(8) for j in range(i)}
    assert [kinds[score] for score in found.scores.tolist()] == found.same.tolist()
    assert int(found.same.sum()) == 7


def test_the_threshold_of_a_fold_comes_from_the_classes_of_the_others():
    # Three folds of two classes. Scores of the classes of one fold lie far below the others': a threshold chosen with
    # them would serve them, one chosen without them accepts none of their pairs.
    labels = torch.arange(6).repeat_interleave(2)
    x = rows(6, 3)[labels]
    found = verification(x, labels, geometry="euclidean", folds=3, bootstrap=0)
    assert found.values["accuracy"] == 1
    assert found.counts["n_folds"] == 3
    assert found.settings["folds_of"] == "classes"
    scores = torch.tensor([0.9, 0.8, 0.2, 0.1, 5.9, 5.8, 5.2, 5.1])
    same = torch.tensor([1, 1, 0, 0, 1, 1, 0, 0])
    given = verification_from_scores(scores, same, folds=torch.tensor([0, 0, 0, 0, 1, 1, 1, 1]))
    assert given.values["accuracy"] == 0.5  # fold 0 rejects all at 5.8, fold 1 accepts all at 0.8


@pytest.mark.parametrize("count", [2, 3, 7, 10, 33])
@pytest.mark.parametrize("larger", [True, False])
def test_separated_scores_are_evaluated_without_a_rounding_error(count, larger):
    random = np.random.default_rng(count)
    scores = np.concatenate([1 + random.random(count), 0.5 * random.random(3 * count)]) * (1 if larger else -1)
    same = torch.arange(4 * count) < count
    found = verification_from_scores(torch.tensor(scores), same, larger_is_same=larger, bootstrap=0)
    assert (found.values["auc"], found.values["eer"], found.values["average_precision"]) == (1, 0, 1)
    assert found.values["accuracy"] == 1
    last, first = sorted(abs(scores))[3 * count - 1 : 3 * count + 1]
    assert abs(found.thresholds["best"]) == pytest.approx((last + first) / 2, rel=1e-12)
    assert found.thresholds["far=0.001"] == pytest.approx(first * (1 if larger else -1))


def test_sampled_pairs_have_an_exact_area_too():
    labels = torch.arange(30).repeat_interleave(7)
    x = torch.nn.functional.one_hot(labels).double() + 0.01 * rows(210, 30)
    found = verification(x, labels, max_pairs=1000, bootstrap=20)
    assert found.settings["sampled"]
    assert found.values["auc"] == found.lower["auc"] == found.upper["auc"] == found.values["accuracy"] == 1


def test_a_threshold_between_neighbouring_numbers_is_the_accepted_one():
    low = 1.0
    high = np.nextafter(low, 2)
    found = verification_from_scores(torch.tensor([high, high, low, low]), torch.tensor([1, 1, 0, 0]), folds=2)
    assert found.thresholds["best"] == high
    assert found.values["accuracy"] == 1


def test_classes_in_several_given_folds_are_counted():
    classes = torch.tensor([[0, 0], [0, 1], [2, 2], [2, 3], [0, 3], [1, 1]])
    folds = torch.tensor([0, 0, 1, 1, 1, 0])
    same = classes[:, 0] == classes[:, 1]
    found = verification_from_scores(torch.rand(6), same, classes=classes, folds=folds, bootstrap=0)
    assert found.counts["n_leaking_classes"] == 1
    assert found.settings["folds_of"] == "given"


def test_what_rests_on_less_than_one_pair_is_marked():
    scores = torch.tensor([3.0, 2, 1, 0])
    found = verification_from_scores(scores, torch.tensor([0, 1, 1, 0]), far=(0.1, 0.5), folds=2)
    assert found.not_measurable == ("tar@far=0.1",)
    assert found.values["tar@far=0.1"] == 0
    assert found.thresholds["far=0.1"] is None
    assert found.thresholds["far=0.5"] == 1


def test_too_few_classes_for_folds_leave_accuracy_undefined():
    found = verification(rows(6, 2), torch.tensor([0, 0, 0, 1, 1, 1]), bootstrap=0)
    assert np.isnan(found.values["accuracy"])
    assert "accuracy" in found.not_measurable
    assert found.to_dict()["values"]["accuracy"] is None


def test_unlabelled_rows_are_left_out():
    x, labels = clusters(6, 4)
    labels[::5] = -1
    kept = labels != -1
    found, expected = verification(x, labels, bootstrap=0), verification(x[kept], labels[kept], bootstrap=0)
    assert found.values == expected.values
    assert found.counts["n_unlabelled"] == 5


def test_a_result_is_json_with_a_short_curve():
    x, labels = clusters(10, 8)
    said = json.loads(json.dumps(verification(x, labels, bootstrap=10).to_dict(), allow_nan=False))
    assert len(said["curve"]["tar"]) == len(said["curve"]["thresholds"]) == 200
    assert (said["curve"]["tar"][-1], said["curve"]["far"][-1]) == (1, 1)


def test_what_cannot_be_evaluated_is_refused():
    with pytest.raises(DataError, match="of two classes"):
        verification(rows(4, 2), torch.arange(4))
    with pytest.raises(DataError, match="of one class"):
        verification(rows(4, 2), torch.zeros(4).long())
    with pytest.raises(DataError, match="1 of 2 scores"):
        verification_from_scores(torch.tensor([1.0, torch.nan]), torch.tensor([0, 1]))
    with pytest.raises(ShapeError, match="rows: 2"):
        verification(torch.tensor([[1.0], [2], [torch.inf], [3]]), torch.tensor([0, 0, 1, 1]))
    with unchecked(), pytest.raises(LabelError):
        verification(rows(4, 2), torch.tensor([0.0, 0, 1, 1]))
