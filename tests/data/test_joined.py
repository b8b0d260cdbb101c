"""Several sources as one."""

import numpy as np
import pytest

from tuplet.data import Manifest
from tuplet.data.joined import join
from tuplet.errors import DataError


def rows(source, of, **more):
    names = sorted(set(of))
    known = {
        "kind": "vector",
        "ids": tuple(str(row) for row in range(len(of))),
        "items": np.arange(2.0 * len(of)).reshape(-1, 2),
        "labels": np.array([names.index(name) if name else -1 for name in of]),
        "class_names": tuple(names),
        "source": source,
    }
    return Manifest(**{**known, **more})


def test_classes_of_one_name_are_one_and_ids_say_where_they_are_from():
    found = join([rows("a/x.npy", ["b", "c"]), rows("b/x.npy", ["a", "b", "b"]), rows("y.csv", ["d"])])
    assert found.class_names == ("a", "b", "c", "d")
    assert [found.class_names[label] for label in found.labels] == ["b", "c", "a", "b", "b", "d"]
    assert found.ids == ("x/0", "x/1", "x-2/0", "x-2/1", "x-2/2", "y/0")
    assert found.sources.tolist() == [0, 0, 1, 1, 1, 2]
    assert found.items.shape == (6, 2)
    part = found.take([5, 1])
    assert (part.ids, part.sources.tolist()) == (("y/0", "x/1"), [2, 0])


def test_unknown_classes_stay_unknown_and_groups_stay_apart():
    first = rows("a", ["b", "c"])
    unknown = Manifest(**{**vars(first), "labels": np.array([-1, 1]), "groups": ("g", "g")})
    found = join([unknown, rows("e", ["c", "c"])])
    assert found.labels.tolist() == [-1, 1, 1, 1]
    assert found.groups == ("a/g", "a/g", "e/0", "e/1")


def test_one_source_is_itself():
    only = rows("a", ["b"])
    assert join([only]) is only


@pytest.mark.parametrize(
    "other",
    [
        rows("z", ["a"], kind="series"),
        rows("z", ["a"], labels=None, class_names=()),
        rows("z", ["a"], splits=("train",)),
        rows("z", ["a"], targets=np.zeros((1, 1))),
        rows("z", ["a"], items=np.zeros((1, 3))),
    ],
)
def test_sources_that_do_not_fit_together_are_refused(other):
    with pytest.raises(DataError) as refused:
        join([rows("a", ["b"]), other])
    assert (refused.value.reference, refused.value.exit_code) == ("sources-differ", 3)
