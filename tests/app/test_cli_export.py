"""`tuplet export`: what is written runs without tuplet, and computes what the model computes."""

import importlib.util
import json
import runpy
import subprocess
import sys
from functools import cache
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import torch
from PIL import Image

from tuplet.app import exported
from tuplet.app.exported import export_folder
from tuplet.data import Columns
from tuplet.data.transforms import ImagePreprocessing, VectorPreprocessing
from tuplet.errors import CheckpointError, DataError
from tuplet.models import Embedder, build_encoder

sys.path.append(str(Path(__file__).parents[2] / "docs"))  # scripts beside their pages, not a package
from shape import lines_of_code

FORMATS = [
    pytest.param(
        "onnx",
        marks=pytest.mark.skipif(
            importlib.util.find_spec("onnxruntime") is None, reason="onnxruntime is not installed"
        ),
    ),
    "torch",
    "safetensors",
]


def made_of(preprocessing, **encoder):
    return Embedder(build_encoder(encoder), preprocessing, encoder_config=encoder)


def run_alone(folder, *items):
    """The program that goes along, where no tuplet can be imported."""
    text = (
        "import runpy, sys\n"
        "class Refused:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.partition('.')[0] == 'tuplet': raise ImportError(name)\n"
        "sys.meta_path.insert(0, Refused())\n"
        "sys.argv = sys.argv[1:]\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')"
    )
    command = [sys.executable, "-I", "-c", text, str(folder / "embed.py"), *map(str, items)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return torch.tensor([json.loads(line) for line in done.stdout.splitlines()])


@pytest.mark.slow
@pytest.mark.parametrize("target", FORMATS)
def test_a_run_is_exported_checked_and_used_without_tuplet(run, workplace, tuplet, target):
    pictures = sorted((workplace / "digits" / "3").iterdir())[:4]
    words = ("export", run, *pictures, "-o", f"to-{target}", "--to", target, "--json")
    said = tuplet(*words, folder=workplace)
    assert f"writing {exported._NETWORKS[target]} and comparing it with the model\nrunning embed.py" in said.stderr
    printed = json.loads(said.stdout)
    assert printed["difference"] < 1e-5
    found = run_alone(workplace / f"to-{target}", *pictures)
    expected = Embedder.load(run / "model").embed(pictures)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    facts = json.loads((workplace / f"to-{target}" / "model.json").read_text())
    assert (facts["geometry"], facts["normalised"], facts["size"]) == ("euclidean", False, 16)
    assert facts["thresholds"] == Embedder.load(run / "model").thresholds


FITS = {"crop": {}, "pad": {}, "stretch": {}, "middle": {"resize": 14, "resample": "bicubic"}}
SHOWN = {
    "image": [(channels, fit) for channels in (1, 3) for fit in FITS],
    "arrays": [(5, None)],
    "tables": [(5, None)],
}


def image_model(channels, fit):
    """A model of images of 12 by 12 pixels, trained on some of 12 bits."""
    fit_by = "crop" if fit == "middle" else fit
    preprocessing = ImagePreprocessing(12, channels, fit_by=fit_by, levels=(0.0, 4095.0), **FITS[fit])
    return made_of(preprocessing, name="conv-small", channels=channels, size=12, width=(8, 8))


def row_model(inputs):
    columns = Columns(inputs=("a", "b", "c", "d", "e")) if inputs == "tables" else None
    config = {"name": "mlp", "in_dim": 5, "dim": 4}
    preprocessing = VectorPreprocessing(mean=(1.0,) * 5, scale=(2.0,) * 5)
    return Embedder(build_encoder(config), preprocessing, encoder_config=config, columns=columns)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """Images of every form that a file may have, from 9 by 12 to 97 by 64 pixels."""
    folder, random = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0)

    def draw(*shape, most=256, kind=np.uint8):
        coarse = random.integers(0, most, (shape[0] // 3, shape[1] // 3, *shape[2:])).astype(kind)
        return Image.fromarray(coarse.repeat(3, 0).repeat(3, 1))

    turned = Image.Exif()
    turned[0x0112] = 6
    draw(96, 63, 3).save(folder / "large.jpg", quality=90)
    draw(96, 63, 3).save(folder / "turned.jpg", exif=turned)
    draw(63, 96, 3).convert("CMYK").save(folder / "cmyk.jpg")
    draw(12, 9, 3).save(folder / "small.png")
    draw(12, 12).save(folder / "grey square.png")
    draw(30, 21, 4).save(folder / "transparent.png")
    draw(30, 21, 2).save(folder / "grey and transparent.png")
    draw(30, 21, 3).quantize(16).save(folder / "palette.gif", transparency=3)
    draw(30, 21).convert("1").save(folder / "two levels.png")
    draw(30, 21, most=4096, kind=np.uint16).save(folder / "deep.png", exif=turned)
    draw(21, 30, most=4096, kind=np.float32).save(folder / "real.tif")
    return sorted(folder.iterdir())


@pytest.mark.parametrize("fit", FITS)
@pytest.mark.parametrize("channels", [1, 3])
def test_a_program_reads_the_pixels_that_the_model_reads(tmp_path, pictures, channels, fit):
    embedder = image_model(channels, fit)
    facts = exported._facts(embedder, normalised=True)
    (tmp_path / "embed.py").write_text(exported._program(facts, "torch"))
    read = runpy.run_path(str(tmp_path / "embed.py"))["read"]
    expected = embedder.preprocessing.load(pictures)
    for at, path in enumerate(pictures):
        np.testing.assert_array_equal(read(str(path), facts), expected[at], err_msg=path.name)


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """A folder of each model and target, exported once: only the program differs by how squares are made."""

    @cache
    def export(kind, channels, target):
        folder = tmp_path_factory.mktemp(f"{kind}-{channels}-{target}") / "out"
        embedder = image_model(channels, "crop") if kind == "image" else row_model(kind)
        export_folder(embedder, folder, target)
        return folder, embedder.encoder

    return export


@pytest.mark.slow
@pytest.mark.parametrize("target", FORMATS)
@pytest.mark.parametrize(("kind", "size", "fit"), [(kind, *one) for kind, ones in SHOWN.items() for one in ones])
def test_each_model_has_a_short_program_of_its_own_that_computes_the_same(
    tmp_path, pictures, networks, monkeypatch, capsys, target, kind, size, fit
):
    folder, encoder = networks(kind, size, target)
    made = image_model(size, fit) if kind == "image" else row_model(kind)
    embedder = Embedder(encoder, made.preprocessing, encoder_config=made.encoder_config, columns=made.columns)
    place = tmp_path / "out"
    copytree(folder, place)
    facts = exported._facts(embedder, normalised=True)
    (place / "model.json").write_text(json.dumps(facts))
    (place / "embed.py").write_text(exported._program(facts, target))
    rows = np.random.default_rng(0).normal(size=(7, 5)).astype(np.float32)
    np.save(tmp_path / "rows.npy", rows)
    items = pictures if kind == "image" else [tmp_path / "rows.npy"]
    monkeypatch.setattr(sys, "argv", ["embed.py", *map(str, items)])
    runpy.run_path(str(place / "embed.py"), run_name="__main__")
    found = torch.tensor([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    expected = torch.nn.functional.normalize(embedder.embed(pictures if kind == "image" else rows), dim=1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert lines_of_code(place / "embed.py") <= (30 if fit in ("pad", "middle") else 26)
    unused = [Path(sys.executable).with_name("ruff"), "check", "--select", "F,I", "--isolated", place / "embed.py"]
    checked = subprocess.run(unused, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def test_rows_that_single_precision_loses_are_embedded_as_the_model_embeds_them(tmp_path):
    """Times in seconds since 1970: float32 tells them apart two minutes at a time."""
    rows = 1.7e9 + np.random.default_rng(0).normal(size=(40, 2)) * 30
    config = {"name": "mlp", "in_dim": 2, "dim": 4}
    preprocessing = VectorPreprocessing().fit(torch.from_numpy(rows))
    embedder = Embedder(build_encoder(config), preprocessing, encoder_config=config)
    np.save(tmp_path / "rows.npy", rows)
    written = export_folder(embedder, tmp_path / "out", "torch", [tmp_path / "rows.npy"])
    assert written.checked == 40
    assert written.difference < 1e-5


@pytest.mark.slow
def test_a_folder_and_tables_of_other_forms_are_items_too(tmp_path, pictures):
    written = export_folder(image_model(3, "crop"), tmp_path / "images", "torch", [pictures[0].parent])
    assert written.checked == len(pictures)
    table = "\n".join(["a\tb\tc\td\te", *("\t".join(str(at * column) for column in range(5)) for at in range(6))])
    (tmp_path / "rows.tsv").write_text(table + "\n")
    assert export_folder(row_model("tables"), tmp_path / "rows", "torch", [tmp_path / "rows.tsv"]).checked == 6


@pytest.mark.slow
def test_rows_come_from_arrays_and_from_tables_whatever_their_order(tmp_path, tuplet):
    rows = np.random.default_rng(0).normal(size=(60, 3)).round(4)
    lines = [f"{c},{b},k{at % 6},{a}" for at, (a, b, c) in enumerate(rows)]
    (tmp_path / "rows.csv").write_text("\n".join(["c,b,label,a", *lines]) + "\n")
    fast = ["--steps", "3", "--set", "evaluate.bootstrap=0", "--set", 'data.columns.inputs=["a","b","c"]']
    tuplet("train", "rows.csv", "--name", "r", *fast, folder=tmp_path)
    printed = tuplet("export", "runs/r", "rows.csv", "-o", "out", "--to", "torch", "--json", folder=tmp_path)
    assert json.loads(printed.stdout)["files"] == ["embed.py", "model.json", "model.pt2"]
    np.save(tmp_path / "rows.npy", rows.astype(np.float32))
    torch.testing.assert_close(
        run_alone(tmp_path / "out", tmp_path / "rows.csv"), run_alone(tmp_path / "out", tmp_path / "rows.npy")
    )


def test_what_cannot_be_exported_is_refused_and_nothing_is_left(tmp_path):
    series = made_of(VectorPreprocessing(), name="mlp", in_dim=3, dim=2)
    with pytest.raises(CheckpointError) as refused:
        export_folder(series, tmp_path / "out", "huggingface")
    assert refused.value.reference == "export-format"
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "mine.txt").write_text("x")
    with pytest.raises(CheckpointError):
        export_folder(series, tmp_path / "kept", "torch")
    with pytest.raises((CheckpointError, DataError)):
        export_folder(series, tmp_path / "out", "torch", [tmp_path / "nowhere.npy"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept"]
