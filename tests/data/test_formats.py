"""Files that tables come in: what spreadsheets and programs write, and what is broken in them."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tuplet.data import Columns, read_manifest
from tuplet.errors import DataError


@pytest.fixture
def write(tmp_path):
    def write(content, name="table.csv"):
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path / name

    return write


def error_of(path, **options):
    with pytest.raises(DataError) as error:
        read_manifest(path, **options)
    return error.value


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\nx0;label\n1,5;a\n",
        '"sep=;"\r\nx0;label\r\n1.5;a\r\n',
    ],
)
def test_the_first_line_of_spreadsheets_names_the_separator(write, text):
    path = write(text)
    if "1,5" in text:
        error = error_of(path)
        assert (error.reference, "line 3" in error.message, "1.5" in error.hint) == ("not-a-number", True, True)
    else:
        manifest = read_manifest(path)
        assert (manifest.items.tolist(), manifest.class_names, manifest.lines) == ([[1.5]], ("a",), (3,))


def test_commas_in_quotes_are_no_separators(write):
    path = write('"x0, in cm, or so";"size, of a, b";label\n1;2;"a, b"\n')
    manifest = read_manifest(path)
    assert manifest.columns.inputs == ("x0, in cm, or so", "size, of a, b")
    assert manifest.class_names == ("a, b",)


@pytest.mark.parametrize("length", [131_073, 20_000_000])
def test_cells_of_any_length_are_read(write, length):
    manifest = read_manifest(write(f"text,label\n{'a' * length},x\nb,y\n"))
    assert [len(text) for text in manifest.items] == [length, 1]


@pytest.mark.parametrize(
    "text",
    ["x0,label,,\n1,a,,\n2,b,,\n", "x0,label\n1,a,,\n2,b,\n", "x0,label,,\n1,a\n2,b,\n", "x0,label\n1,a\n,\n2,b\n\n"],
)
def test_trailing_columns_and_rows_without_content_do_not_count(write, text):
    manifest = read_manifest(write(text))
    assert manifest.items.tolist() == [[1], [2]]
    assert manifest.class_names == ("a", "b")
    assert manifest.unread == ()


def test_lines_are_reported_through_what_is_left_out(write):
    error = error_of(write('text,label\n"two\nlines",a\n\nb,c,d\n,e\n"f",g\n'))
    assert "line 5: 3 cells" in error.message
    assert "line 6: text is empty" in error.message


@pytest.mark.parametrize("cell", ["1_2", "0x1f", "1,5", "١"])
def test_what_only_python_takes_for_a_number_is_none(write, cell):
    error = error_of(write(f'x0,x1,label\n1,2,a\n3,"{cell}",b\n5,6,a\n'))
    assert (error.reference, "line 3: x1" in error.message) == ("not-a-number", True)


@pytest.mark.parametrize("cell", ["+1.5", " 1.5", "1.5e0", "15e-1"])
def test_what_programs_write_is_a_number(write, cell):
    assert read_manifest(write(f"x0,label\n{cell},a\n")).items.tolist() == [[1.5]]


def test_paths_that_no_file_can_have_are_missing_files(write):
    assert error_of(write("path,label\na\0b.png,x\n")).reference == "missing-file"


def test_a_table_of_several_blocks_keeps_its_order(tmp_path):
    rows = np.random.default_rng(0).normal(size=(30_000, 80)).astype(np.float32)
    labels = np.arange(len(rows)) % 7
    lines = [",".join([*(f"x{at}" for at in range(80)), "label"])]
    lines += [",".join([*map(str, row), str(label)]) for row, label in zip(rows.tolist(), labels, strict=True)]
    (tmp_path / "long.csv").write_text("\n".join(lines))  # without a line break at its end
    manifest = read_manifest(tmp_path / "long.csv")
    np.testing.assert_array_equal(manifest.items, rows)
    assert manifest.labels.tolist() == labels.tolist()
    lines[20_001] = lines[20_001].replace(",", ",oops", 1)
    (tmp_path / "long.csv").write_text("\n".join(lines) + "\n\n")
    assert "line 20002: x1" in error_of(tmp_path / "long.csv").message


VALUES = {"x0": [1.5, 2.5, 3.5], "x1": [1, 2, 3], "label": ["a", None, "b"], "group": ["g", None, None]}


def same(manifest):
    assert manifest.items.tolist() == [[1.5, 1], [2.5, 2], [3.5, 3]]
    assert manifest.labels.tolist() == [0, -1, 1]
    assert manifest.class_names == ("a", "b")
    assert len(set(manifest.groups)) == 3


def test_parquet_is_a_table(tmp_path):
    pq.write_table(pa.table(VALUES), tmp_path / "t.parquet")
    same(read_manifest(tmp_path / "t.parquet"))
    large = {"label": pa.array([2**60, 2**60 + 1, None]), "x0": pa.array([1.5, None, 2], pa.float32())}
    pq.write_table(pa.table(large), tmp_path / "large.parquet")
    error = error_of(tmp_path / "large.parquet")
    assert (error.reference, "row 2: x0 is empty" in error.message) == ("not-a-number", True)
    pq.write_table(pa.table({"label": large["label"], "x0": [1.5, 2, 2]}), tmp_path / "large.parquet")
    assert read_manifest(tmp_path / "large.parquet").class_names == (str(2**60), str(2**60 + 1))


def test_vectors_in_one_column_are_columns(tmp_path):
    vectors = [[1.0, 2.0], [3.0, 4.0]]
    pq.write_table(pa.table({"embedding": vectors, "label": ["a", "b"]}), tmp_path / "v.parquet")
    (tmp_path / "v.jsonl").write_text(
        "".join(json.dumps({"embedding": v, "label": c}) + "\n" for v, c in zip(vectors, "ab", strict=True))
    )
    for name in ("v.parquet", "v.jsonl"):
        manifest = read_manifest(tmp_path / name)
        assert manifest.items.tolist() == vectors
        assert manifest.columns.inputs == ("embedding.0", "embedding.1")


def test_lines_of_json_are_a_table(write):
    rows = [{key: values[row] for key, values in VALUES.items()} for row in range(3)]
    del rows[1]["label"]  # what is not named is missing
    same(read_manifest(write("\n\n".join(map(json.dumps, rows)), "t.jsonl")))


@pytest.mark.parametrize("line", ['{"x0": 1', "[1, 2]", "[" * 100_000, '{"x0": 1}x', "\xff"])
def test_lines_that_are_no_objects_are_named(write, line):
    content = b'{"x0": 1, "label": "a"}\n' + line.encode("latin-1") + b"\n"
    error = error_of(write(content, "t.jsonl"))
    assert (error.reference, "line 2" in error.message) == ("bad-json", True)


def test_files_that_are_cut_or_something_else_are_unreadable(tmp_path, write):
    pq.write_table(pa.table(VALUES), tmp_path / "t.parquet")
    content = (tmp_path / "t.parquet").read_bytes()
    for name, broken in (
        ("cut.parquet", content[:-9]),
        ("text.parquet", b"x0,label\n1,a\n"),
        ("cut.npz", b"PK\3\4abc"),
    ):
        assert error_of(write(broken, name)).reference == "unreadable-source"
    for name in ("t.parquet", "t.jsonl", "t.npz", "t.csv"):
        assert error_of(write(b"", name)).reference in {"unreadable-source", "empty-source"}


@pytest.mark.parametrize("names", [("x", "y"), ("data", "labels"), ("embeddings", "label"), ("arr_0", "y")])
def test_arrays_in_one_file_are_examples_and_their_classes(tmp_path, names):
    rows = np.arange(8, dtype=np.float32).reshape(4, 2)
    content = dict(zip(names, (rows, np.array(["b", "a", "nan", "b"])), strict=True))
    np.savez(tmp_path / "t.npz", **content, ids=np.array(list("wxyz")), split=np.array(["train"] * 3 + ["val"]))
    manifest = read_manifest(tmp_path / "t.npz")
    assert manifest.items.tolist() == rows.tolist()
    assert manifest.labels.tolist() == [1, 0, -1, 1]
    assert (manifest.ids, manifest.splits) == (tuple("wxyz"), ("train", "train", "train", "validation"))


def test_an_array_of_roles_says_who_asks_and_who_answers(tmp_path):
    rows, labels = np.arange(8, dtype=np.float32).reshape(4, 2), np.array(["a", "a", "b", "b"])
    path = tmp_path / "t.npz"
    np.savez(path, x=rows, y=labels, role=np.array(["query", "gallery", "gallery", ""]))
    manifest = read_manifest(path)
    assert (manifest.roles, manifest.splits) == (("query", "gallery", "gallery", ""), ("test", "test", "test", "train"))
    np.savez(path, x=rows, y=labels, role=np.array(["hero", "villain", "hero", "extra"]))
    assert read_manifest(path).roles is None  # of persons in a film
    assert error_of(path, columns=Columns(role="asks")).reference == "missing-column"
    np.savez(path, x=rows, y=labels, asks=np.array(["query", "gallery", "hero", ""]))
    assert error_of(path, columns=Columns(role="asks")).reference == "unknown-role"


def test_arrays_that_cannot_be_distinguished_are_asked_for(tmp_path):
    rows = np.zeros((4, 2), np.float32)
    np.savez(tmp_path / "t.npz", left=rows, right=rows + 1)
    assert error_of(tmp_path / "t.npz").reference == "unclear-arrays"
    assert read_manifest(tmp_path / "t.npz", columns=Columns(inputs=("right",))).items.min() == 1
    np.savez(tmp_path / "t.npz", x=rows, y=np.arange(3))
    assert error_of(tmp_path / "t.npz").reference == "label-count"
    np.savez(tmp_path / "t.npz", x=np.array([{}, []], dtype=object))
    assert error_of(tmp_path / "t.npz").reference == "unreadable-source"
