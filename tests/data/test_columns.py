"""Which column of a table is what, and what is asked for in place of being guessed."""

import numpy as np
import pytest

from tuplet.data import Columns, read_manifest
from tuplet.errors import DataError


@pytest.fixture
def write(tmp_path):
    def write(header, rows, name="table.csv"):
        lines = [header, *(",".join(map(str, row)) for row in rows)]
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return tmp_path / name

    return write


def reference(path, **options):
    with pytest.raises(DataError) as error:
        read_manifest(path, **options)
    return error.value.reference


LABELLED = [[0.5 + row, 1.5 * row % 7, "abc"[row % 3]] for row in range(12)]
COUNTED = [[0.5 + row, 1.5 * row % 7, row % 3] for row in range(12)]


@pytest.mark.parametrize("name", ["species", "Class", "y", "person_id", "cultivar", "breed", "lable"])
@pytest.mark.parametrize("rows", [LABELLED, COUNTED], ids=["texts", "numbers"])
def test_a_class_under_another_name_is_asked_for_and_read_when_named(write, name, rows):
    path = write(f"length,width,{name}", rows)
    assert reference(path) == "unclear-columns"
    named = read_manifest(path, columns=Columns(label=name))
    assert named.column_roles() == {
        "input": ["length", "width"],
        "label": [name],
        "group": [],
        "id": [],
        "unread": [],
    }
    assert len(named.class_names) == 3
    without = read_manifest(path, columns=Columns(label=None))
    assert without.labels is None
    assert without.columns.label is None


def test_every_column_that_is_not_read_is_named(write):
    rows = [[row + 0.5, row, f"note {row}", "ab"[row % 2], 3] for row in range(12)]
    manifest = read_manifest(write("size,sample_id,note,label,wave_2", rows))
    assert manifest.column_roles() == {
        "input": ["size", "wave_2"],
        "label": ["label"],
        "group": [],
        "id": ["sample_id"],
        "unread": ["note"],
    }
    assert manifest.ids[:2] == ("0", "1")


@pytest.mark.parametrize("name", ["sample_id", "row", "idx", "Index", "customerID", "number"])
def test_columns_that_count_or_name_rows_are_no_inputs(write, name):
    rows = [[row, 0.5 * row * row, "ab"[row % 2]] for row in range(12)]
    assert read_manifest(write(f"{name},size,label", rows)).columns.inputs == ("size",)
    named = Columns(inputs=(name, "size"))
    assert read_manifest(write(f"{name},size,label", rows), columns=named).items[:2].tolist() == [[0, 0], [1, 0.5]]


def test_a_column_x_is_one_of_several_and_not_the_only_one(write):
    rows = [[row + 0.5, row / 3, row / 7, "ab"[row % 2]] for row in range(12)]
    assert read_manifest(write("x,y,z,label", rows)).columns.inputs == ("x", "y", "z")


def test_texts_beside_numbers_are_asked_for(write):
    rows = [[f"the number of it is {row}", f"a text about {row} there", row / 7] for row in range(12)]
    path = write("sentence1,sentence2,score", rows)
    with pytest.raises(DataError) as error:
        read_manifest(path)
    assert error.value.reference == "unclear-columns"
    assert "--set data.columns.text='sentence1' --set data.columns.pair='sentence2'" in error.value.hint
    pairs = read_manifest(path, columns=Columns(text="sentence1", pair="sentence2"))
    assert (pairs.kind, len(pairs.pairs), pairs.unread) == ("text", 12, ("score",))
    assert read_manifest(path, columns=Columns(inputs=("score",))).kind == "vector"


def test_names_of_images_beside_numbers_are_asked_for(write):
    rows = [[f"{row}.jpg", row / 7, "ab"[row % 2]] for row in range(12)]
    assert reference(write("file,width,label", rows)) == "unclear-columns"


def test_a_table_of_measurements_alone_needs_no_question(write):
    rows = np.random.default_rng(0).normal(size=(12, 3)).round(3).tolist()
    manifest = read_manifest(write("height,width,depth", rows))
    assert manifest.labels is None
    assert manifest.columns.inputs == ("height", "width", "depth")


def test_a_table_without_a_header_loses_no_row(write):
    path = write("5.1,3.5,setosa", [[4.9, 3.0, "setosa"], [6.2, 2.9, "virginica"], [5.9, 3.0, "virginica"]])
    assert reference(path) == "no-header"
    manifest = read_manifest(path, columns=Columns(header=False, label="column3"))
    assert manifest.items.tolist() == np.float32([[5.1, 3.5], [4.9, 3.0], [6.2, 2.9], [5.9, 3.0]]).tolist()
    assert manifest.labels.tolist() == [0, 0, 1, 1]
    assert manifest.lines == (1, 2, 3, 4)


def test_numbers_that_count_the_columns_are_names(write):
    assert read_manifest(write("0,1,label", LABELLED)).columns.inputs == ("0", "1")


def test_the_columns_of_training_are_found_in_any_order(write):
    known = read_manifest(write("length,width,species", LABELLED), columns=Columns(label="species")).columns
    rows = [[row[2], "note", row[1], row[0]] for row in LABELLED]
    manifest = read_manifest(write("Species,remark,width,length", rows, "other.csv"), columns=known, as_trained=True)
    assert manifest.items.tolist() == [row[:2] for row in LABELLED]
    assert manifest.class_names == ("a", "b", "c")
    assert manifest.unread == ("remark",)
    bare = read_manifest(write("width,length", [[2, 1]], "bare.csv"), columns=known, as_trained=True)
    assert bare.items.tolist() == [[1, 2]]
    assert bare.labels is None
    with pytest.raises(DataError) as error:
        read_manifest(write("width,species", [[2, "a"]], "short.csv"), columns=known, as_trained=True)
    assert error.value.reference == "missing-column"
    assert "'length'" in error.value.message


MISSING = ["nan", "NaN", "NA", "N/A", "null", "None", "<NA>", "", " "]


@pytest.mark.parametrize("missing", MISSING)
def test_cells_that_say_nothing_are_no_class_and_no_group(write, missing):
    rows = [[1, "a", "g"], [2, missing, missing], [3, "b", missing], [4, "a", "g"]]
    manifest = read_manifest(write("x0,label,group", rows))
    assert manifest.labels.tolist() == [0, -1, 1, 0]
    assert manifest.class_names == ("a", "b")
    groups = manifest.groups
    assert groups[0] == groups[3] == "g"
    assert len(set(groups)) == 3


def test_a_name_that_only_looks_missing_stays_a_class(write):
    rows = [[row, name] for row, name in enumerate(["Na", "none", "Null", "nan", "Na"])]
    assert read_manifest(write("x0,label", rows)).class_names == ("Na", "Null", "none")


def test_spellings_of_one_class_are_one(write):
    numbers = read_manifest(write("x0,label", [[1, "1"], [2, "1.0"], [3, "10.00"], [4, "2"], [5, "nan"]]))
    assert numbers.labels.tolist() == [0, 0, 2, 1, -1]
    assert numbers.class_names == ("1", "2", "10")
    names = read_manifest(write("x0,label", [[1, "caf\u00e9"], [2, "cafe\u0301"], [3, "1.50"]]))
    assert names.labels.tolist() == [1, 1, 0]
    column = write("x0,cafe\u0301", [[1, "a"], [2, "b"]], "accent.csv")
    assert read_manifest(column, columns=Columns(label="caf\u00e9")).class_names == ("a", "b")


def test_times_since_1970_stay_apart(write):
    seconds = 1_700_000_000 + 60 * np.arange(80)
    manifest = read_manifest(write("time,height,label", [[one, 1.5, "ab"[one % 3 % 2]] for one in seconds]))
    assert manifest.items[:, 0].tolist() == seconds.tolist()
