"""`tuplet index`, `search` and `verify` as they are typed."""

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tuplet import index as indexes
from tuplet.app.queries import embedded_queries, read_collection, read_pairs, scored
from tuplet.app.thresholds import threshold_for, threshold_of
from tuplet.errors import DataError
from tuplet.models import Embedder


def lines(done):
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def embedder(run):
    return Embedder.load(run / "model")


@pytest.fixture(scope="module")
def index(workplace, run, tuplet):
    """An index of a part of the pictures, made by the command line."""
    shutil.copytree(workplace / "digits" / "3", workplace / "part" / "3")
    shutil.copytree(workplace / "digits" / "4", workplace / "part" / "4")
    [made] = lines(tuplet("index", "build", "part.index", "part", "--model", "runs/digits", "--json", folder=workplace))
    assert made["items"] == made["added"] == made["embedded"] > 50
    return workplace / "part.index"


def test_building_again_goes_on_and_embeds_only_what_is_missing(workplace, index, tuplet):
    [name, *_] = sorted(path.name for path in (workplace / "part" / "3").iterdir())
    tuplet("index", "remove", "part.index", "-", folder=workplace, stdin=f"3/{name}\nnowhere\n")
    assert f"3/{name}" not in {item["id"] for item in indexes.open(index).items}
    [again] = lines(
        tuplet("index", "build", "part.index", "part", "--model", "runs/digits", "--json", folder=workplace)
    )
    assert (again["added"], again["embedded"]) == (1, 0)  # the embedding of its content is still there


def test_what_cannot_be_read_leaves_no_index_and_adds_nothing_to_one(workplace, run, index, tuplet):
    tuplet("index", "build", "none.index", "--model", run, "nowhere", folder=workplace, code=3)
    assert not (workplace / "none.index").exists()
    before = json.loads(tuplet("index", "info", index, "--json", folder=workplace).stdout)["items"]
    (workplace / "some").mkdir()
    Image.new("L", (9, 9)).save(workplace / "some" / "fresh.png")
    tuplet("index", "add", index, "some", "nowhere", folder=workplace, code=3)
    assert json.loads(tuplet("index", "info", index, "--json", folder=workplace).stdout)["items"] == before


def test_search_finds_new_pictures_filters_and_leaves_out_what_is_too_far(workplace, index, tuplet):
    [path, *_] = sorted((workplace / "digits" / "3").iterdir())
    words = ("search", index, path, "--json", "-k", "5")
    found = lines(tuplet(*words, folder=workplace))
    assert found[0]["id"] == f"3/{path.name}"
    others = lines(tuplet(*words, "--where", "label = '4'", folder=workplace))
    assert ([hit["label"] for hit in others], others[0]["rank"]) == (["4"] * 5, 1)
    far = threshold_of(indexes.open(index).embedder, "auto")
    near = lines(tuplet(*words, "--threshold", "auto", folder=workplace))
    assert near == [hit for hit in found if far.accepts(hit["score"])]
    assert "unknown-column" in tuplet(*words, "--where", "lable = '4'", folder=workplace, code=3).stderr


def test_a_search_for_a_picture_imports_only_what_it_needs(workplace, index):
    """Nearly all of a cold start is importing; what trains, evaluates and reads tables is most of tuplet's own part."""
    text = (
        "import sys\n"
        "from tuplet.app.cli import main\n"
        "try: main()\n"
        "finally:\n"
        "    heavy = {'sklearn', 'scipy', 'pandas', 'pyarrow', 'rich', 'plotly', 'lancedb', 'psycopg', 'matplotlib',\n"
        "             'torch._dynamo', 'torch._inductor', 'transformers', 'optuna', 'jinja2', 'starlette',\n"
        "             'tuplet.training', 'tuplet.losses', 'tuplet.evaluation', 'tuplet.recipes', 'tuplet.results',\n"
        "             'tuplet.comparison', 'tuplet.app.cli.train', 'tuplet.app.cli.follow', 'tuplet.app.metrics'}\n"
        "    print(*sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    [path, *_] = sorted((workplace / "digits" / "3").iterdir())
    command = [sys.executable, "-c", text, "search", "part.index", path, "--json", "-k", "1"]
    done = subprocess.run(command, cwd=workplace, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["id"] == f"3/{path.name}"
    assert done.stderr.strip() == ""


@pytest.mark.slow
def test_hits_are_shown_as_pictures_in_a_terminal_with_colours(workplace, index):
    [path, *_] = sorted((workplace / "digits" / "3").iterdir())
    words = ["search", "part.index", str(path), "-k", "3"]
    pictures = ["--pictures", "part"]
    shown = re.sub(r"\x1b\[[0-9;]*m", "", typed_in_terminal([*words, *pictures], workplace))
    assert len(re.findall("▄+", shown)) == 8 * 4  # 16 x 16 pixels, two of them to a character: the query and three hits
    assert re.search(r"query +1 +2 +3", shown)
    assert "▄" not in typed_in_terminal(words, workplace)
    assert "▄" not in typed_in_terminal([*words, *pictures, "--no-pictures"], workplace)
    assert "▄" not in typed_in_terminal([*words, *pictures], workplace, NO_COLOR="1")


@pytest.mark.parametrize("command", [("search", "photo.png"), ("serve",)])
def test_pictures_that_are_not_there_are_refused(workplace, index, tuplet, command):
    name, *queries = command
    said = tuplet(name, index, *queries, "--pictures", "nowhere", folder=workplace, code=3)
    assert "missing-file" in said.stderr


def typed_in_terminal(words, folder, **environment):
    """What a command prints where its output is a terminal of 100 columns."""
    pty = pytest.importorskip("pty", reason="this system has no pseudo-terminals")
    termios = pytest.importorskip("termios", reason="this system has no pseudo-terminals")
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (50, 100))
    command = [sys.executable, "-m", "tuplet", *words]
    around = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", **environment}
    with subprocess.Popen(command, cwd=folder, stdout=theirs, stdin=theirs, env=around) as process:
        os.close(theirs)
        written = b""
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # on Linux the end of a terminal is an error
                break
            if not part:
                break
            written += part
    os.close(ours)
    assert process.returncode == 0
    return written.decode()


def test_info_and_check_say_what_there_is(workplace, index, tuplet):
    [said] = lines(tuplet("index", "info", "part.index", "--json", folder=workplace))
    assert (said["backend"], said["items"], said["columns"]["label"]) == ("flat", len(indexes.open(index)), "text")
    [found] = lines(tuplet("index", "check", "part.index", "--json", folder=workplace))
    assert (found["damages"], found["recall"]["measured"]) == ([], 1.0)
    shutil.copytree(index, workplace / "damaged.index")
    path = workplace / "damaged.index" / "embeddings.npy"
    content = bytearray(path.read_bytes())
    content[500] ^= 1
    path.write_bytes(content)
    refused = tuplet("index", "check", "damaged.index", folder=workplace, code=3)
    assert "damaged-file" in refused.stderr


def test_a_model_that_did_not_make_the_index_and_a_gallery_are_refused(workplace, index, run, tuplet):
    shutil.copytree(run / "model", workplace / "other")
    other = Embedder.load(workplace / "other")
    next(other.encoder.parameters()).data.mul_(2)
    other.save(workplace / "other")
    words = ("index", "add", "part.index", "digits")
    refused = tuplet(*words, "--prefix", "x/", "--model", "other", folder=workplace, code=3)
    assert "wrong-model" in refused.stderr
    assert "tuplet index upgrade" in refused.stderr
    assert "run-gallery" in tuplet("index", "add", "runs/digits", "digits", folder=workplace, code=3).stderr


def test_verify_says_same_or_different_with_its_error_rates(workplace, run, embedder, tuplet):
    threes, fours = (sorted((workplace / "digits" / name).iterdir()) for name in "34")
    table = workplace / "digits" / "pairs.csv"
    table.write_text(f"a,b\n3/{threes[0].name},3/{threes[0].name}\n3/{threes[0].name},4/{fours[0].name}\n")
    try:
        said = tuplet("verify", "runs/digits", "digits/pairs.csv", "--far", "0.02", "--json", folder=workplace)
    finally:
        table.unlink()
    found, point = lines(said), threshold_for(embedder, 0.02).point
    rates = re.findall(r"false \w+ ([\d.]+) % \(([\d.e-]+) to ([\d.]+) %\)", said.stderr)
    measured = [point[name] for name in ("false_accepts", "false_rejects")]
    for said_of, one in zip(rates, measured, strict=True):
        assert [float(number) / 100 for number in said_of] == pytest.approx(
            [one[name] for name in ("value", "low", "high")], rel=0.06
        )
    assert [row["decision"] for row in found] == ["same", "different"]
    assert found[0]["score"] == pytest.approx(0, abs=1e-3)
    for row in found:
        assert row["threshold"] == pytest.approx(point["threshold"]["value"])
        for name in ("false_accepts", "false_rejects"):
            assert row[f"{name}_low"] <= row[name] <= row[f"{name}_high"]
        assert row["false_accepts"] <= 0.02
    tuplet("verify", "runs/digits", "digits", folder=workplace, code=3)


def test_thresholds_are_stored_by_rate_and_none_is_stricter_than_was_measured(embedder):
    points = embedder.verification["points"]
    rates = [point["rate"] for point in points]
    values = [point["threshold"]["value"] for point in points]
    assert len(rates) > 3
    assert rates == sorted(rates, reverse=True)
    assert values == sorted(values, reverse=embedder.geometry not in ("cosine", "dot"))
    for point in points:
        assert point["false_accepts"]["value"] <= point["rate"]
        assert point["threshold"]["low"] <= point["threshold"]["high"]
    with pytest.raises(DataError) as caught:
        threshold_for(embedder, 1e-9)
    assert caught.value.reference == "no-threshold"
    with pytest.raises(DataError):
        threshold_of(embedder, "near")
    assert threshold_of(embedder, "2.5").value == 2.5


def test_pairs_are_scored_by_the_geometry_of_the_model(workplace, embedder):
    paths = [str(path) for path in sorted((workplace / "digits" / "3").iterdir())[:3]]
    rows = embedder.embed(paths).double()
    found = scored(embedder, [(paths[0], paths[1]), (paths[2], paths[0])])
    expected = [float((rows[0] - rows[1]).norm()), float((rows[2] - rows[0]).norm())]
    assert embedder.geometry == "euclidean"
    assert found == pytest.approx(expected)
    for typed in (["one"], ["one", "two", "three"]):
        with pytest.raises(DataError) as caught:
            read_pairs(typed)
        assert caught.value.reference == "pairs-to-verify"


def test_rows_of_pairs_that_lack_an_item_are_named(tmp_path):
    (tmp_path / "pairs.csv").write_text("a,b\nx.png,y.png\nx.png,\n,y.png\n")
    with pytest.raises(DataError, match=r"2 rows below the header without an item in a or b: 2, 3\.") as caught:
        read_pairs([str(tmp_path / "pairs.csv")])
    assert caught.value.reference == "pairs-to-verify"


def test_a_search_in_an_empty_index_says_so(tmp_path, workplace, run, embedder, tuplet):
    indexes.create(tmp_path / "none.index", embedder)
    path = next(iter(sorted((workplace / "digits" / "3").iterdir())))
    said = tuplet("search", tmp_path / "none.index", path, "--json", folder=workplace)
    assert said.stdout == ""
    assert "holds no items; add some: tuplet index add" in said.stderr


def test_an_embedding_is_a_query_too(tmp_path, workplace, embedder):
    path = next(iter(sorted((workplace / "digits" / "3").iterdir())))
    rows = embedder.embed([path, path]).numpy()
    np.save(tmp_path / "rows.npy", rows)
    typed = ",".join(map(repr, rows[0].tolist()))
    vectors, names, _ = embedded_queries(embedder, [str(path)], vectors=[typed, str(tmp_path / "rows.npy")])
    assert (len(vectors), names[-1]) == (4, f"{tmp_path / 'rows.npy'}:1")
    assert np.allclose(vectors.numpy(), rows[:1], atol=1e-5)
    for wrong in ("1,2", "a,b", str(path), "nan," * (embedder.dim - 1) + "1"):
        with pytest.raises(DataError) as caught:
            embedded_queries(embedder, [], vectors=[wrong])
        assert caught.value.reference == "query-vector"
    with pytest.raises(DataError) as caught:
        embedded_queries(embedder, [], texts=["a text"])
    assert caught.value.reference == "query-kind"


def test_columns_of_a_table_become_filters(tmp_path, embedder, workplace, run):
    """A table of pictures with columns that mean nothing to a training."""
    for number in range(4):
        Image.new("L", (16, 16), 60 * number).save(tmp_path / f"{number}.png")
    table = tmp_path / "shop.csv"
    table.write_text("path,brand,price,sku\n0.png,x,5,007\n1.png,y,,A1\n2.png,x,7.5,008\n3.png,,1,9\n")
    manifest, printed = read_collection(embedder, table)
    assert len(printed) == 1
    found = indexes.create(tmp_path / "shop.index", embedder)
    indexes.add(found, manifest)
    assert dict(found.columns) == {"id": "text", "brand": "text", "price": "number", "sku": "text"}
    hits = found.search(embedder.embed([tmp_path / "0.png"]), 9, where="price > 4 AND brand = 'x'")
    assert set(hits.ids[0]) == {"0.png", "2.png"}
    assert hits.facts[0][0]["sku"] in ("007", "008")
