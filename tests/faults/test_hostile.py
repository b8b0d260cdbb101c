"""A folder is data: whatever it holds, loading it runs no code, asks no network, steers no terminal and never waits."""

import json
import os
import pickle
import shutil
import socket

import pytest

import pretrained
import tiny
from tuplet import index
from tuplet.app.cli import show
from tuplet.data import TextPreprocessing
from tuplet.errors import CheckpointError, RecipeError, TupletError
from tuplet.index import FlatIndex
from tuplet.models import Embedder, build_encoder
from tuplet.recipes import build, load_recipe
from tuplet.training import checkpoint, run

PROGRAM = (
    "import pathlib\npathlib.Path({mark!r}).write_text('ran')\nimport torch\nclass Net(torch.nn.Linear):\n    pass\n"
)


class Bomb:
    """What a pickle may hold: a call."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


@pytest.fixture
def mark(tmp_path):
    """A file that is there once code of a folder was run."""
    return tmp_path / "code-was-run"


@pytest.fixture
def folder(tmp_path):
    return pretrained.write(tmp_path)


@pytest.fixture
def quiet(monkeypatch):
    """Every host that is asked for while a test runs."""
    asked = []

    def refuse(host, *_, **__):
        asked.append(host)
        raise OSError("no network")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return asked


def change(path, **entries):
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))


def arm(folder, how, mark):
    """Make a folder of the sentence-transformers format hostile."""
    program = PROGRAM.format(mark=str(mark))
    match how:
        case "module of its own":
            (folder / "modeling_evil.py").write_text(program)
            modules = json.loads((folder / "modules.json").read_text())
            modules[0]["type"] = "modeling_evil.Net"
            (folder / "modules.json").write_text(json.dumps(modules))
        case "installed module":
            modules = json.loads((folder / "modules.json").read_text())
            modules[0]["type"] = "this.Zen"
            (folder / "modules.json").write_text(json.dumps(modules))
        case "auto_map":
            change(folder / "config.json", auto_map={"AutoModel": "modeling_evil.Net"}, model_type="evil")
        case "program":
            (folder / "configuration_evil.py").write_text(program)
        case "pickle":
            (folder / "model.safetensors").unlink()
            (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Bomb(mark)))
        case "activation":
            change(folder / "1_Pooling" / "config.json", activation_function="os.abort")
        case "way out":
            modules = json.loads((folder / "modules.json").read_text())
            modules[1]["path"] = "../../elsewhere"
            (folder / "modules.json").write_text(json.dumps(modules))
        case "pipe":
            os.mkfifo(folder / "special.json")
        case "deep":
            (folder / "1_Pooling" / "config.json").write_text("[" * 100_000)


HOSTILE = ["module of its own", "installed module", "auto_map", "program", "pickle", "activation", "way out", "pipe"]


@pytest.mark.parametrize("how", HOSTILE)
def test_a_folder_of_text_that_holds_or_names_code_is_refused_unread(folder, mark, how, quiet, survived):
    arm(folder, how, mark)
    with pytest.raises(CheckpointError) as caught:
        build_encoder({"name": "sentence-transformers", "folder": str(folder)})
    assert caught.value.reference == "code-in-folder"
    assert not mark.exists()
    assert quiet == []
    survived("code in a folder")


def test_a_folder_of_text_without_end_is_damaged(folder, mark, survived):
    arm(folder, "deep", mark)
    with pytest.raises(CheckpointError) as caught:
        build_encoder({"name": "sentence-transformers", "folder": str(folder)})
    assert caught.value.reference == "damaged-file"
    survived("brackets without end")


@pytest.mark.parametrize("part", ["", "modules.json", "config.json", "model.safetensors", "1_Pooling"])
def test_what_is_missing_of_a_saved_model_is_said_and_nothing_is_asked_of_a_network(folder, part, tmp_path, quiet):
    config = {"name": "sentence-transformers", "folder": str(folder)}
    Embedder(build_encoder(config), TextPreprocessing(hashed=False), encoder_config=config).save(tmp_path / "model")
    shutil.rmtree(folder)
    Embedder.load(tmp_path / "model")
    lost = tmp_path / "model" / "encoder" / part
    shutil.rmtree(lost) if lost.is_dir() else lost.unlink()
    with pytest.raises(CheckpointError) as caught:
        Embedder.load(tmp_path / "model")
    assert caught.value.reference in ("missing-file", "damaged-file")
    assert quiet == []


@pytest.fixture
def module(tmp_path, mark, monkeypatch):
    """A module in the current folder, which Python would find."""
    (tmp_path / "evil_nets.py").write_text(PROGRAM.format(mark=str(mark)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "evil_nets:Net"


def test_nothing_that_a_model_or_a_recipe_names_is_imported_without_trust(module, tmp_path, mark, survived):
    recipe = tiny.write(tmp_path)
    encoder = f"model.encoder={{name='callable', target='{module}', options={{in_features=6, out_features=8}}}}"
    loaded = load_recipe(recipe, [encoder, "train.steps=5"])
    with pytest.raises(RecipeError) as caught:
        build(loaded, cache=tmp_path / "cache")
    assert caught.value.reference == "untrusted-code"
    assert module in caught.value.message
    assert str(tmp_path / "evil_nets.py") in caught.value.message
    assert not mark.exists()
    list(run(build(loaded, cache=tmp_path / "cache", trust=True), tmp_path / "run"))
    assert mark.exists()
    mark.unlink()
    for load in (
        lambda: Embedder.load(tmp_path / "run" / "model"),
        lambda: FlatIndex(tmp_path / "run" / "gallery").embedder,
        lambda: index.open(tmp_path / "run").embedder,  # checked types of arguments and results ask for no model
    ):
        with pytest.raises(CheckpointError) as refused:
            load()
        assert refused.value.reference == "untrusted-code"
    assert not mark.exists()
    assert Embedder.load(tmp_path / "run" / "model", trust=True).dim == 8
    assert index.open(tmp_path / "run", trust=True).embedder.dim == 8
    survived("code in a folder", 3)


def test_a_pickle_in_a_checkpoint_is_not_run(tmp_path, mark, survived):
    recipe = tiny.write(tmp_path)
    list(run(tiny.job(recipe, "train.steps=5"), tmp_path / "run"))
    last = tmp_path / "run" / "checkpoints" / checkpoint.name_of(5)
    (last / "optimizer.pt").write_bytes(pickle.dumps(Bomb(mark), protocol=2))
    said = {key: value for key, value in json.loads((last / "progress.json").read_text()).items() if key != "check"}
    said["files"]["optimizer.pt"] = checkpoint._digest((last / "optimizer.pt").read_bytes())
    facts = {key: value for key, value in said.items() if key != "format"}
    (last / "progress.json").write_text(json.dumps({**said, "check": checkpoint.check_of(facts)}))
    with pytest.raises(CheckpointError):
        checkpoint.load(last)
    assert not mark.exists()
    survived("code in a folder")


@pytest.mark.parametrize(
    "name",
    [
        "\x1b[2J\x1b[31mred",
        "\x1b]0;title\x07",
        "\x9b31m",
        "a\rb",
        "\x08\x08\x08gone",
        "\u202egnp.exe",
        "\udcff\udcfe",
        "\x7f",
    ],
)
def test_names_in_data_do_not_steer_the_terminal(name, capsys, survived):
    show.show_rows([{"id": name, "score": 1.0}], ["id", "score"], as_json=False)
    show.show_rows([{"id": name}], ["id"], as_json=True)
    show.log(f"The class {name} is odd.")
    shown = "".join(capsys.readouterr())
    assert not set(name) & set(shown) & {"\x1b", "\x9b", "\r", "\x08", "\x07", "\u202e", "\udcff", "\x7f"}
    assert json.loads(shown.splitlines()[2])["id"] == name  # what is written out is what JSON reads
    survived("escape sequences in names")


@pytest.mark.parametrize("place", ["recipe", "run", "model", "weights", "progress"])
def test_a_pipe_in_the_place_of_a_file_keeps_nobody_waiting(tmp_path, place, survived):
    recipe = tiny.write(tmp_path)
    folder = tmp_path / "run"
    list(run(tiny.job(recipe, "train.steps=5"), folder))
    path = {
        "recipe": recipe,
        "run": folder / "resume.json",
        "model": folder / "model" / "embedder.json",
        "weights": folder / "model" / "weights.safetensors",
        "progress": folder / "checkpoints" / "step-000005" / "progress.json",
    }[place]
    job = None if place == "recipe" else tiny.job(recipe, "train.steps=8")
    path.unlink()
    os.mkfifo(path)

    def read():
        if place == "recipe":
            load_recipe(recipe)
        elif place in ("run", "progress"):
            list(run(job, folder, resume=True, extend=True))
        else:
            Embedder.load(folder / "model")

    with pytest.raises(TupletError) as caught:
        read()
    assert caught.value.hint
    survived("pipes in the place of files")


@pytest.mark.parametrize(
    "text", ["a = " + "[" * 50_000, "a = " + "{b=" * 50_000, '[data]\nsource = "a\\u0000b"\n', "\x00", "[" * 50_000]
)
def test_a_recipe_without_end_or_with_zero_bytes_is_refused(tmp_path, text, survived):
    (tmp_path / "recipe.toml").write_text(text)
    with pytest.raises(TupletError) as caught:
        load_recipe(tmp_path / "recipe.toml")
    assert caught.value.exit_code in (3, 4)
    survived("brackets without end")


@pytest.mark.parametrize("hidden", ["[0]", "[-3]", "[16, 0]"])
def test_layers_without_width_are_refused(tmp_path, hidden):
    recipe = tiny.write(tmp_path)
    with pytest.raises(RecipeError) as caught:
        tiny.job(recipe, f"model.encoder={{name='mlp', hidden={hidden}}}")
    assert "hidden" in str(caught.value)


@pytest.mark.parametrize("width", [(0,), (8, -1)])
def test_filters_without_number_are_refused(width):
    with pytest.raises(RecipeError) as caught:
        build_encoder({"name": "conv-small", "channels": 1, "size": 8, "width": width})
    assert caught.value.reference == "option-range"
    assert "width" in str(caught.value)


def test_a_batch_of_one_example_is_not_normalised(tmp_path):
    recipe = tiny.write(tmp_path)
    one = ("batch={name='uniform', batch_size=1}", "loss={name='arcface'}")
    with pytest.raises(RecipeError) as caught:
        next(run(tiny.job(recipe, *one), tmp_path / "run"))
    assert caught.value.reference == "batch-norm-of-one"
    assert not (tmp_path / "run").exists()
