"""`tuplet export`: what is written runs without tuplet, and computes what the model computes."""

import importlib.util
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from tuplet.app.exported import export_folder
from tuplet.data.transforms import ImagePreprocessing, VectorPreprocessing
from tuplet.errors import CheckpointError, DataError
from tuplet.models import Embedder, build_encoder

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


@pytest.mark.parametrize("target", FORMATS)
def test_a_run_is_exported_checked_and_used_without_tuplet(run, workplace, tuplet, target):
    pictures = sorted((workplace / "digits" / "3").iterdir())[:4]
    words = ("export", run, *pictures, "-o", f"to-{target}", "--to", target, "--json")
    printed = json.loads(tuplet(*words, folder=workplace).stdout)
    assert printed["difference"] < 1e-5
    found = run_alone(workplace / f"to-{target}", *pictures)
    expected = Embedder.load(run / "model").embed(pictures)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    facts = json.loads((workplace / f"to-{target}" / "model.json").read_text())
    assert (facts["geometry"], facts["normalised"], facts["size"]) == ("euclidean", False, 16)
    assert facts["thresholds"] == Embedder.load(run / "model").thresholds


@pytest.mark.parametrize(
    ("mode", "channels", "fit_by"),
    [("RGB", 1, "crop"), ("RGBA", 3, "pad"), ("I;16", 1, "stretch"), ("RGB", 3, "middle")],  # each value of each once
)
def test_pictures_of_any_shape_are_read_as_training_reads_them(tmp_path, mode, channels, fit_by):
    more = {"resize": 14, "resample": "bicubic"} if fit_by == "middle" else {}
    fit_by = "crop" if more else fit_by
    random = np.random.default_rng(0)
    shape = {"RGB": (20, 31, 3), "RGBA": (20, 31, 4), "I;16": (20, 31)}[mode]
    most, kind = (4096, np.uint16) if mode == "I;16" else (256, np.uint8)
    Image.fromarray(random.integers(0, most, shape).astype(kind)).save(tmp_path / "a.png")
    preprocessing = ImagePreprocessing(12, channels, fit_by=fit_by, levels=(0.0, 4095.0), **more)
    embedder = made_of(preprocessing, name="conv-small", channels=channels, size=12, width=(8, 8))
    written = export_folder(embedder, tmp_path / "out", "torch", [tmp_path / "a.png"])
    assert written.checked == 1
    assert run_alone(tmp_path / "out", tmp_path / "a.png").norm().item() == pytest.approx(1.0, abs=1e-5)


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
