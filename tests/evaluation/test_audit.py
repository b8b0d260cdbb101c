"""Copies, wrong labels and outliers that were planted are found, and nothing else."""

import numpy as np
import torch

from tuplet.evaluation.audit import FAR, confused, duplicate_groups, label_issues, outliers


def clusters(classes=6, each=20, dim=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    centers = 4 * torch.randn(classes, dim, generator=generator)
    rows = centers.repeat_interleave(each, 0) + 0.3 * torch.randn(classes * each, dim, generator=generator)
    return rows, torch.arange(classes).repeat_interleave(each)


def test_flipped_labels_come_first_with_the_right_class():
    rows, true = clusters()
    flipped = torch.tensor([3, 25, 47, 70, 111])
    labels = true.clone()
    labels[flipped] = (true[flipped] + 1) % 6
    found = label_issues(rows, labels, rows, labels, "euclidean", exclude=torch.arange(len(rows)))
    first = found.evidence.argsort(descending=True)[:5]
    assert set(first.tolist()) == set(flipped.tolist())
    assert torch.equal(found.suggested[flipped], true[flipped])
    assert torch.equal(labels[found.nearest[flipped]], true[flipped])
    assert confused(labels, found.suggested, found.evidence)[0][2] == 1


def test_evidence_is_the_vote_of_the_neighbours_and_ranks_ties_by_distance():
    gallery, votes = torch.tensor([[1.0], [2.0], [3.0], [9.0]]), torch.tensor([0, 1, 1, -1])
    found = label_issues(torch.tensor([[0.0], [9.0]]), torch.tensor([0, -1]), gallery, votes, "euclidean", neighbours=3)
    assert 1 / 6 < found.evidence[0].item() < (2 - 1) / 3  # the own class is nearer
    assert (found.suggested[0].item(), found.nearest[0].item()) == (1, 1)
    assert found.evidence[1].item() == -1.0  # an unknown label is not suspected


def test_a_single_class_has_no_suspects():
    rows = torch.randn(9, 3, generator=torch.Generator().manual_seed(0))
    found = label_issues(rows, torch.zeros(9).long(), rows, torch.zeros(9).long(), exclude=torch.arange(9))
    assert (found.evidence.max().item(), found.suggested.max().item()) == (-1.0, -1)
    assert confused(torch.zeros(9).long(), found.suggested, found.evidence) == []


def test_copies_are_grouped_by_what_they_are_and_by_content():
    rows = torch.randn(12, 30, generator=torch.Generator().manual_seed(1))
    rows[7] = rows[2] + 1e-3 * torch.randn(30, generator=torch.Generator().manual_seed(2))
    rows[9] = 2 * rows[7]
    contents = (*map(str, range(10)), "0", "11")
    groups = duplicate_groups(rows, 0.99, contents=contents)
    assert [group.tolist() for group in groups] == [[2, 7, 9], [0, 10]]
    assert duplicate_groups(rows[:1]) == []
    assert duplicate_groups(rows[:0]) == []
    assert all(isinstance(group, np.ndarray) for group in groups)


def test_what_lies_apart_is_an_outlier():
    rows, _ = clusters()
    rows[17] = 30.0
    far = outliers(rows, "euclidean")
    assert far.argmax().item() == 17
    assert far[17] > FAR
    assert far.median().abs() < 1e-6
