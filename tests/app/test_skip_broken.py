"""One broken picture or a stray file does not stop a folder."""

import json
import os
import sys

import numpy as np
import pytest
from PIL import Image

SMALL = [
    "--set",
    "model.preprocessing.size=16",
    "--set",
    "model.encoder={name='conv-small',width=[8,8]}",
    "--set",
    "data.split.by=row",
]


@pytest.fixture
def photos(tmp_path):
    random = np.random.default_rng(0)
    for place in range(48):
        file = tmp_path / "photos" / f"class-{place % 4}" / f"{place}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (16, 16), dtype=np.uint8)).save(file)
    (tmp_path / "photos" / "class-1" / "Thumbs.db").write_bytes(bytes(100))
    return tmp_path / "photos"


def spoil(file):
    """Keep first and last bytes of a PNG: only decoding tells that it is broken."""
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)


def test_a_run_leaves_out_what_cannot_be_decoded_and_lists_it(photos, tmp_path, tuplet):
    spoil(photos / "class-2" / "6.png")
    (photos / "class-3" / "7.png").write_bytes(b"")
    refused = tuplet("train", photos, "--steps", 2, *SMALL, folder=tmp_path, code=3)
    assert "class-3/7.png" in refused.stderr
    assert "--skip-broken" in refused.stderr
    trained = tuplet("train", photos, "--steps", 2, "--skip-broken", "--json", *SMALL, folder=tmp_path)
    assert "class-2/6.png" in trained.stderr
    run = tmp_path / "runs" / "photos"
    evaluation = json.loads((run / "evaluation.json").read_text())
    left_out = [one["file"] for one in evaluation["data"]["left_out"]]
    assert left_out == ["class-1/Thumbs.db", "class-2/6.png", "class-3/7.png"]
    assert sum(split["examples"] for split in evaluation["data"]["splits"].values()) == 46
    for command in (("embed", run, photos, "--json"), ("search", run, photos, "--json", "--top", 1)):
        tuplet(*command, folder=tmp_path, code=3)
        answered = tuplet(*command, "--skip-broken", folder=tmp_path)
        assert len(answered.stdout.splitlines()) == 46
    evaluated = tuplet("evaluate", run, "--data", photos, "--skip-broken", "--json", folder=tmp_path)
    assert json.loads(evaluated.stdout)["data"]["splits"]["given"]["examples"] == 46


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_that_are_not_utf_8_pass_through_every_command(photos, tmp_path, tuplet):
    odd = photos / "class-0" / os.fsdecode(b"\xe9.png")
    (photos / "class-0" / "0.png").rename(odd)
    odd.parent.rename(photos / os.fsdecode(b"caf\xe9"))
    odd = photos / os.fsdecode(b"caf\xe9") / odd.name
    tuplet("train", photos, "--steps", 2, *SMALL, folder=tmp_path)
    run = tmp_path / "runs" / "photos"
    found = tuplet("search", run, odd, "--top", 48, "--json", folder=tmp_path)
    rows = [json.loads(line) for line in found.stdout.splitlines()]
    assert rows[0]["query"].endswith(r"caf\xe9/\xe9.png")
    assert r"caf\xe9" in {row["label"] for row in rows}
    tuplet("embed", run, photos, "-o", "all.npy", folder=tmp_path)
    assert r"caf\xe9/\xe9.png" in (tmp_path / "all.ids.txt").read_text(encoding="utf-8").splitlines()


def test_a_stray_file_is_named_and_does_not_stop_a_plan(photos, tmp_path, tuplet):
    planned = tuplet("plan", photos, "--json", *SMALL, folder=tmp_path)
    assert "class-1/Thumbs.db" in planned.stderr


def test_rows_of_a_table_whose_images_are_broken_or_missing_are_left_out(photos, tmp_path, tuplet):
    files = sorted(photos.rglob("*.png"))
    lines = [f"{file.relative_to(tmp_path)},{file.parent.name}" for file in files]
    (tmp_path / "photos.csv").write_text("path,label\n" + "\n".join(lines) + "\n")
    spoil(photos / "class-2" / "6.png")
    (photos / "class-3" / "7.png").write_bytes(b"")
    (photos / "class-0" / "8.png").unlink()
    refused = tuplet("train", "photos.csv", "--steps", 2, *SMALL, folder=tmp_path, code=3)
    assert "8.png" in refused.stderr
    tuplet("train", "photos.csv", "--steps", 2, "--skip-broken", *SMALL, folder=tmp_path)
    evaluation = json.loads((tmp_path / "runs" / "photos" / "evaluation.json").read_text())
    left_out = [one["file"] for one in evaluation["data"]["left_out"]]
    assert left_out == ["photos/class-0/8.png", "photos/class-2/6.png", "photos/class-3/7.png"]
    assert sum(split["examples"] for split in evaluation["data"]["splits"].values()) == 45
    answered = tuplet("embed", "runs/photos", "photos.csv", "--skip-broken", "--json", folder=tmp_path)
    assert len(answered.stdout.splitlines()) == 45


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes by name")
def test_a_pipe_in_the_place_of_a_query_is_refused_and_not_waited_for(photos, tmp_path, tuplet):
    tuplet("train", photos, "--steps", 2, *SMALL, folder=tmp_path)
    for name in ("pipe.png", "pipe.csv", "pipe.npy"):
        os.mkfifo(tmp_path / name)
    run = "runs/photos"
    for words in (
        ("search", run, "pipe.png"),
        ("embed", run, "pipe.csv", "-o", "all.npy"),
        ("search", run, "--vector", "pipe.npy"),
    ):
        refused = tuplet(*words, folder=tmp_path, code=3)
        assert "not-a-file" in refused.stderr
    assert not (tmp_path / "all.npy").exists()
