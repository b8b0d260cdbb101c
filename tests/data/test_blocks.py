"""What a relation holds together is never parted: every positive pair lies in one block, whatever the rule."""

from dataclasses import replace

import numpy as np
import pytest

from tuplet.data import Manifest
from tuplet.data.blocks import blocks_of
from tuplet.data.related import relate
from tuplet.data.split import find_leaks, holds_together, units_of
from tuplet.data.statement import parse

COLUMNS = {
    "person": ("a", "a", "b", "b", "c", "", "d", "a"),
    "camera": ("1", "2", "1", "1", "2", "2", "1", "1"),
    "tags": ("x|y", "y|z", "w", "", "z", "v", "w", "u"),
    "second": ("0", "3", "5", "20", "22", "", "40", "21"),
    "next": ("e1", "", "e3", "e3", "nobody", "e6", "", ""),
    "genus": ("g", "g", "g", "h", "h", "h", "", "g"),
}
RULES = {
    "same_class(person)": "00112.30",
    "same_class(person).ignoring(same_class(camera))": "00112.30",
    "same_class(person) & same_class(camera)": "01223.40",
    "same_class(person) | same_class(camera)": "00000000",
    "shared_label(tags)": "001.0213",
    "within(second, 3)": "00011.21",
    "paired(next)": "00112334",
    "hierarchy(genus, person)": "00123..0",
    "~same_class(person)": None,
    "same_class(person) & ~within(second, 4)": "00112.30",
    "same_class(person) | ~same_class(camera)": None,
}


def about(text):
    items = np.arange(8, dtype=np.float32)[:, None]
    manifest = Manifest(kind="vector", ids=tuple(f"e{at}" for at in range(8)), items=items, metadata=COLUMNS)
    return relate(manifest, parse(text), {})


def shown(blocks):
    return None if blocks is None else "".join("." if one < 0 else str(one) for one in blocks)


@pytest.mark.parametrize("text", RULES)
def test_no_positive_pair_lies_in_two_blocks(text):
    related = about(text).related
    blocks = blocks_of(related)
    assert shown(blocks) == RULES[text]
    if blocks is None:
        return
    positive = related.about_all()[-1].masks(slice(0, 8), slice(0, 8))[0]
    apart = [pair for pair in positive.nonzero().tolist() if pair[0] != pair[1]]
    assert apart
    assert all(blocks[one] == blocks[other] >= 0 for one, other in apart)


def test_of_places_of_several_numbers_and_of_distances_nothing_is_known():
    table = about("same_class(person)")
    places = replace(table, related=relate(table, parse("within(second, camera, 3)"), {}).related)
    assert blocks_of(places.related) is None
    assert units_of(replace(table, related=relate(table, parse("tree_distance(camera)"), {}).related)) is None


def test_blocks_of_a_part_hold_together_what_is_positive_there():
    part = about("same_class(person)").take([7, 4, 0, 5])
    assert shown(units_of(part)) == "010."


def test_what_belongs_together_and_stands_in_two_splits_is_found_by_its_first_example():
    table = replace(about("same_class(person)"), splits=("train", "train", "train", "test", "test", "test", "", "test"))
    leaks = find_leaks(table, contents=False)
    assert [(leak.name, leak.splits, leak.ids) for leak in leaks] == [
        ("e0", ("test", "train"), ("e0", "e1", "e7")),
        ("e2", ("test", "train"), ("e2", "e3")),
    ]


def test_classes_of_an_array_may_have_any_number(tmp_path):
    """Numbers are names: no room is made for those between, and only -1 is unknown."""
    items = np.arange(5, dtype=np.float32)[:, None]
    manifest = Manifest(kind="vector", ids=tuple("abcde"), items=items)
    files = {"one": np.array([2**60, 2**60, 7, -1, 9]), "two": np.array([-5, 3, 2**40, -1, 2**40])}
    for name, values in files.items():
        np.save(tmp_path / f"{name}.npy", values)
    paths = {name: str(tmp_path / f"{name}.npy") for name in files}
    assert shown(units_of(relate(manifest, parse("same_class(one) | same_class(two)"), paths))) == "001.1"


def test_classes_are_split_whole_where_no_column_tells_what_belongs_together(tmp_path):
    """Then positives may stand in two splits, and nothing says that they do not."""
    np.save(tmp_path / "said.npy", np.eye(8, dtype=bool))
    table = replace(about("same_class(person)"), labels=np.arange(8) // 2, class_names=("a", "b", "c", "d"))
    assert holds_together(table)
    asked = relate(replace(table, related=None), parse("matrix(said)"), {"said": str(tmp_path / "said.npy")})
    assert not holds_together(asked)
    assert units_of(asked).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    leaks = find_leaks(replace(asked, splits=("train", "test", *["train"] * 6)), contents=False)
    assert [leak.name for leak in leaks] == ["a"]
