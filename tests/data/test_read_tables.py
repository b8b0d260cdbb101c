"""CSV tables as manifests, and everything that can be wrong with them."""

import csv

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_wine

from tuplet.data import Columns, read_manifest
from tuplet.errors import DataError


@pytest.fixture
def write(tmp_path):
    def write(text, name="table.csv", encoding="utf-8"):
        (tmp_path / name).write_text(text, encoding=encoding)
        return tmp_path / name

    return write


def error_of(path, **options):
    with pytest.raises(DataError) as error:
        read_manifest(path, **options)
    assert error.value.hint
    assert error.value.exit_code == 3
    return error.value


def test_the_wine_table_with_named_columns(tmp_path):
    wine = load_wine()
    with (tmp_path / "wine.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["", *wine.feature_names, "label"])  # as pandas writes it: the row number has no name
        for row, (values, label) in enumerate(zip(wine.data.tolist(), wine.target, strict=True)):
            table.writerow([row, *values, wine.target_names[label]])
    manifest = read_manifest(tmp_path / "wine.csv")
    assert manifest.kind == "vector"
    assert manifest.items.shape == (178, 13)  # without the row number
    np.testing.assert_allclose(manifest.items, wine.data, rtol=1e-6)
    assert manifest.class_names == ("class_0", "class_1", "class_2")
    assert manifest.labels.tolist() == wine.target.tolist()
    assert manifest.ids[:3] == ("0", "1", "2")
    assert manifest.lines[:2] == (2, 3)


def test_numbered_columns_leave_other_numbers_out(write):
    path = write("id,x0,x1,age,label,split,group\na,1,2,50,dog,train,g\nb,3,4,60,cat,val,h\n")
    manifest = read_manifest(path)
    assert manifest.items.tolist() == [[1, 2], [3, 4]]
    assert manifest.items.dtype == np.float32
    assert manifest.ids == ("a", "b")
    assert manifest.class_names == ("cat", "dog")
    assert manifest.labels.tolist() == [1, 0]
    assert manifest.splits == ("train", "validation")
    assert manifest.groups == ("g", "h")


def test_whole_number_labels_sort_as_numbers_and_stay_exact(write):
    big = 2**24
    manifest = read_manifest(write(f"x0,label\n1,{big + 1}\n2,{big}\n3,9\n4,-1\n5,\n"))
    assert manifest.class_names == ("9", str(big), str(big + 1))
    assert manifest.labels.tolist() == [2, 1, 0, -1, -1]


def test_numbers_written_differently_are_different_names(write):
    assert read_manifest(write("x0,label\n1,01\n2,1\n")).class_names == ("01", "1")


def test_graded_labels(write):
    manifest = read_manifest(write("x0,x1,target_fat,Target_water\n1,2,0.5,60\n3,4,0.7,58\n"))
    assert manifest.targets.tolist() == [[0.5, 60], [0.7, 58]]
    assert manifest.labels is None
    assert read_manifest(write("x0,target,target_name\n1,0.5,lean\n2,0.7,fat\n")).targets.tolist() == [[0.5], [0.7]]


def test_columns_can_be_named(write):
    path = write("length,species,target,noise\n1,cat,0.5,9\n2,dog,0.7,8\n")
    manifest = read_manifest(path, columns=Columns(label="species", inputs=("length",), targets=()))
    assert manifest.items.tolist() == [[1], [2]]
    assert manifest.class_names == ("cat", "dog")
    assert manifest.targets is None
    assert "no column 'colour'" in error_of(path, columns=Columns(label="colour")).message
    assert "no column 'fat'" in error_of(path, columns=Columns(targets=("fat",))).message
    assert "no column 'width'" in error_of(path, columns=Columns(inputs=("length", "width"))).message


def test_texts_and_pairs(write):
    manifest = read_manifest(write('text,pair\n"a dog, barking",hound\nsmall cat,kitten\n'))
    assert manifest.kind == "text"
    assert manifest.items == ("a dog, barking", "small cat")
    assert manifest.pairs == ("hound", "kitten")


def test_a_table_with_a_text_and_a_path_holds_pairs_of_both(write, tmp_path):
    Image.new("L", (4, 4)).save(tmp_path / "one.png")
    table = write("text,path\na dot,one.png\n")
    images, texts = read_manifest(table), read_manifest(table, kind="text")
    assert (images.kind, images.pair_kind, images.pairs) == ("image", "text", ("a dot",))
    assert (texts.kind, texts.pair_kind, texts.pairs) == ("text", "image", (tmp_path / "one.png",))
    assert texts.take([0]).pair_kind == "image"
    assert "gone.png: no such file" in error_of(write("text,path\na dot,gone.png\n"), kind="text").message


def test_a_plain_text_file_has_an_example_on_each_line(write):
    manifest = read_manifest(write("first one\n\n  second  \n", "corpus.txt"))
    assert manifest.kind == "text"
    assert manifest.items == ("first one", "second")
    assert manifest.ids == ("1", "3")
    assert "there is no text" in error_of(write("\n", "blank.txt")).message


@pytest.mark.parametrize(("separator", "name"), [(";", "t.csv"), ("\t", "t.tsv")])
def test_other_separators_and_byte_order_marks(write, separator, name):
    text = "x0,label\n1,a\n2,b\n".replace(",", separator)
    assert read_manifest(write(text, name, encoding="utf-8-sig")).items.tolist() == [[1], [2]]


def test_lines_are_counted_through_quoted_breaks_and_blank_lines(write):
    path = write('text,label\n"two\nlines",a\n\n,b\n')
    assert "line 5: text is empty" in error_of(path).message


def test_image_paths_are_relative_to_the_table(tmp_path, write):
    (tmp_path / "img").mkdir()
    Image.new("RGB", (4, 4)).save(tmp_path / "img" / "1.png")
    manifest = read_manifest(write("path,label\nimg/1.png,a\n"))
    assert manifest.kind == "image"
    assert manifest.items == (tmp_path / "img" / "1.png",)
    assert manifest.ids == ("img/1.png",)


def test_all_problems_of_a_table_are_reported_at_once_with_their_lines(tmp_path, write):
    Image.new("RGB", (4, 4)).save(tmp_path / "1.png")
    (tmp_path / "broken.png").write_text("no image")
    error = error_of(
        write(
            "path,label,split,id\n"
            "1.png,a,train,one\n"
            "missing.png,a,train,two\n"
            "broken.png,b,tarin,three\n"
            "1.png,b,train,one\n"
            "1.png,b\n"
            ",b,test,six\n"
        )
    )
    for text in (
        "6 problems",
        "line 3: missing.png: no such file",
        "line 4: broken.png is not an image",
        "line 4: the split is 'tarin'",
        "line 5: 'one' already appears in line 2",
        "line 6: 2 cells, but the header has 4",
        "line 7: path is empty",
    ):
        assert text in error.message
    assert "'train'" in error.hint
    assert error.reference == "bad-data"
    assert error.message.index("line 3") < error.message.index("line 5") < error.message.index("line 7")


def test_cells_that_are_no_finite_numbers_are_problems(write):
    rows = "".join(f"{row},{row},a\n" for row in range(2, 10))
    error = error_of(write(f"x0,x1,label\nnan,1,a\n{rows}5,abc,a\n,inf,a\n1e300,1,a\n"))
    assert "5 problems" in error.message
    assert "line 2: x0 is 'nan', not a finite number" in error.message
    assert "line 11: x1 is 'abc', not a finite number" in error.message
    assert "line 12: x0 is empty" in error.message
    assert "line 12: x1 is 'inf', not a finite number" in error.message
    assert error.reference == "not-a-number"


def test_twenty_problems_are_shown_and_the_others_counted(write):
    error = error_of(write("x0,label\n" + "oops,a\n" * 50 + "1,b\n" * 60))
    assert "50 problems" in error.message
    assert "line 21:" in error.message
    assert "line 22:" not in error.message
    assert error.message.endswith("... and 30 more")


def test_a_missing_label_column_is_named_with_what_is_there(write):
    error = error_of(write("x0,lable\n1,a\n2,b\n"), needs=["label"])
    assert "no column 'label'" in error.message
    assert "lable" in error.hint
    assert error.reference == "missing-column"


def test_a_number_column_that_looks_like_the_label_is_no_input(write):
    path = write("length,width,class\n1,2,0\n3,4,1\n")
    assert error_of(path).reference == "unclear-columns"
    assert read_manifest(path, columns=Columns(label="class")).items.shape == (2, 2)


def test_tables_without_content_are_explained(write):
    assert "the table is empty" in error_of(write("")).message
    assert "no rows below the header" in error_of(write("x0,label\n")).message
    assert "no column of numbers" in error_of(write("name,label\nann,a\n")).message
    assert "2 columns are called 'x0'" in error_of(write("x0,x0,label\n1,2,a\n")).message
    assert "is not UTF-8" in error_of(write("x0,label\n1,é\n", encoding="latin-1")).message
    assert "no column 'path'" in error_of(write("x0,label\n1,a\n"), kind="image").message


def test_a_quote_that_never_ends_is_found(write):
    assert "line 3" in error_of(write('text,label\na,b\n"open,c\nd,e\n')).message


def test_a_cell_with_several_labels_is_read_as_a_set(write):
    table = write("label,x0\nwet|warm,1\nwarm | wet,2\n,3\nwarm,4\n")
    manifest = read_manifest(table, columns=Columns(several="|"))
    assert manifest.class_names == ("warm", "warm|wet")
    assert manifest.labels.tolist() == [1, 1, -1, 0]
    assert manifest.label_sets.astype(int).tolist() == [[1, 1], [1, 1], [0, 0], [1, 0]]
    assert manifest.take([3]).label_sets.tolist() == [[True, False]]
    assert read_manifest(table).label_sets is None


def test_a_column_role_says_who_asks_who_answers_and_who_trains(write):
    text = "x0,label,role,group\n1,a,,c1\n2,b,query,c1\n3,b,Gallery,c2\n4,c,probe,c2\n"
    manifest = read_manifest(write(text))
    assert manifest.roles == ("", "query", "gallery", "query")
    assert manifest.splits == ("train", "test", "test", "test")
    assert manifest.column_roles()["role"] == ["role"]
    given = read_manifest(write(text.replace("group", "split").replace("c1", "train").replace("c2", "val")))
    assert given.splits == ("train", "train", "validation", "validation")


def test_a_column_role_that_says_something_else_is_not_read_unless_it_is_asked_for(write):
    film = write("x0,label,role\n1,a,hero\n2,b,villain\n")
    manifest = read_manifest(film)
    assert (manifest.roles, manifest.splits, manifest.unread) == (None, None, ("role",))
    named = write("x0,label,part\n1,a,query\n2,b,galery\n", "other.csv")
    error = error_of(named, columns=Columns(role="part"))
    assert error.reference == "unknown-role"
    assert "'galery'" in str(error)
