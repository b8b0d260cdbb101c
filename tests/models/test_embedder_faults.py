"""A damaged embedder is refused with its name and a way out; a failed save leaves the old one."""

import json
import os
import resource
from importlib.util import find_spec

import pytest
import torch
from safetensors.torch import load_file

import pretrained
from tuplet.checksums import sealed
from tuplet.data.transforms import TextPreprocessing, VectorPreprocessing
from tuplet.errors import CheckpointError, MissingExtraError
from tuplet.models import Embedder, build_encoder
from tuplet.models.embedder import _hash, saved_hash

ROWS = torch.linspace(-1, 1, 15).reshape(3, 5)


def make(seed=1, dim=4):
    config = {"name": "mlp", "in_dim": 5, "dim": dim, "hidden": [64]}
    return Embedder(build_encoder(config, seed=seed), VectorPreprocessing(), encoder_config=config)


@pytest.fixture
def folder(tmp_path):
    make().save(tmp_path / "model")
    return tmp_path / "model"


def refused(folder, found):
    with pytest.raises(CheckpointError, match=found) as caught:
        Embedder.load(folder)
    assert caught.value.hint
    assert caught.value.exit_code == 3
    return caught.value


def edit(folder, change):
    """As someone would who knows the checksum of the description."""
    path = folder / "embedder.json"
    content = {**json.loads(path.read_text()), **change}
    del content["checksum"]
    path.write_text(json.dumps(sealed(content)))
    return content


def forge(folder, change):
    """Edit, with the hash of what stands there now."""
    content = edit(folder, change)
    kept = {
        name: content[name] for name in ("dim", "geometry", "encoder", "preprocessing", "columns") if name in content
    }
    edit(folder, {"hash": _hash(kept, load_file(folder / "weights.safetensors"))})


@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("name", ["weights.safetensors", "embedder.json"])
def test_a_file_cut_short_is_refused(folder, name, share):
    path = folder / name
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    assert refused(folder, rf"{name} (is damaged|has format)").reference in ("damaged-file", "unknown-format")


def test_one_wrong_bit_in_the_weights_is_noticed(folder):
    path = folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    refused(folder, "do not belong together")


def test_no_flipped_bit_in_the_description_goes_unnoticed(folder):
    """Thresholds are not part of the hash of the weights: their bits are covered by the checksum of the file."""
    path = folder / "embedder.json"
    whole = path.read_bytes()
    for place in range(0, 8 * len(whole), 7):
        content = bytearray(whole)
        content[place // 8] ^= 1 << place % 8
        path.write_bytes(content)
        with pytest.raises(CheckpointError):
            Embedder.load(folder)


def test_no_flipped_bit_in_the_files_of_an_encoder_goes_unnoticed(tmp_path):
    """A pretrained encoder keeps a tokenizer and settings beside its weights; 24 bits of each file."""
    config = {"name": "sentence-transformers", "folder": str(pretrained.write(tmp_path))}
    folder = tmp_path / "model"
    Embedder(build_encoder(config), TextPreprocessing(hashed=False), encoder_config=config).save(folder)
    files = [path for path in sorted((folder / "encoder").rglob("*")) if path.is_file()]
    assert len(files) > 5
    for path in files:
        whole = path.read_bytes()
        for place in range(0, 8 * len(whole), max(1, len(whole) // 3)):
            content = bytearray(whole)
            content[place // 8] ^= 1 << place % 8
            path.write_bytes(content)
            assert refused(folder, path.name).reference == "damaged-file"
        path.write_bytes(whole)
    assert Embedder.load(folder).dim == 16


def test_weights_of_another_embedder_are_noticed(folder, tmp_path):
    make(seed=2).save(tmp_path / "other")
    (tmp_path / "other" / "weights.safetensors").replace(folder / "weights.safetensors")
    refused(folder, "do not belong together")


@pytest.mark.parametrize("name", ["weights.safetensors", "embedder.json"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    assert refused(folder, rf"{name} is missing").reference == "missing-file"


def test_a_missing_folder_is_named(tmp_path):
    wrong = refused(tmp_path / "nowhere", r"no model in .*nowhere: embedder\.json is missing")
    assert (wrong.reference, "tuplet runs" in wrong.hint) == ("missing-file", True)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"format": 9}, "has format 9"),
        ({"geometry": "manhattan"}, "'geometry' missing or of the wrong kind"),
        ({"encoder": None, "hash": 5}, "'hash', 'encoder' missing"),
        ({"dim": 5}, "do not belong together"),
        ({"encoder": {"name": "mlp", "in_dim": 6, "dim": 4, "hidden": [64]}}, "do not belong together"),
    ],
)
def test_a_changed_description_is_refused(folder, change, found):
    edit(folder, change)
    refused(folder, found)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"encoder": {"name": "mpl", "in_dim": 5}}, "no encoder called 'mpl'"),
        ({"encoder": {"name": "mlp", "in_dim": 5, "dim": 4, "width": 3}}, "no option 'width'"),
        ({"encoder": {"name": "mlp", "in_dim": 5, "dim": 4, "hidden": [63]}}, "does not fit the encoder"),
        ({"preprocessing": {"kind": "smell"}}, "no preprocessing of kind 'smell'"),
        ({"encoder": {"name": "callable", "target": "subprocess:run", "options": {"args": "false"}}}, "subprocess:run"),
    ],
)
def test_a_description_of_something_else_is_refused_even_with_the_right_hash(folder, change, found):
    forge(folder, change)
    refused(folder, found)


def test_a_full_disk_leaves_the_old_embedder_and_nothing_else(folder):
    before = saved_hash(folder)
    make(seed=2).save(folder)
    after = saved_hash(folder)
    assert before != after
    child = os.fork()
    if not child:  # a real error of the file system, in a process of its own
        resource.setrlimit(resource.RLIMIT_FSIZE, (700, 700))
        try:
            make(seed=3).save(folder)
        except CheckpointError as problem:
            os._exit(
                0 if "could not be written: File too large" in problem.message and "Free some" in problem.hint else 2
            )
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert saved_hash(folder) == after
    Embedder.load(folder)
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_path_below_a_file_gives_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("dear")
    with pytest.raises(CheckpointError, match="file/model could not be written: a part of this path is a file"):
        make().save(tmp_path / "file" / "model")


def test_a_folder_that_is_in_use_for_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("dear")
    with pytest.raises(CheckpointError, match=r"thesis\.tex"):
        make().save(tmp_path)
    assert (tmp_path / "thesis.tex").read_text() == "dear"


@pytest.mark.skipif(find_spec("sentence_transformers") is not None, reason="sentence-transformers is installed")
def test_a_missing_extra_is_not_called_damage(folder):
    forge(folder, {"encoder": {"name": "sentence-transformers", "folder": "encoder"}})
    with pytest.raises(MissingExtraError):
        Embedder.load(folder)


@pytest.mark.parametrize(
    "columns", [["x0"], {"inputs": "x0"}, {"inputs": [1]}, {"label": 3}, {"header": 1}, {"size": "x"}]
)
def test_columns_that_are_no_names_are_refused(folder, columns):
    forge(folder, {"columns": columns})
    assert refused(folder, "columns").reference == "damaged-file"
