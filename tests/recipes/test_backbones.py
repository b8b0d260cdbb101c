"""Recipes with pretrained encoders: names, preprocessing, training, adapters, and runs that go on."""

import json
import os
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch
from PIL import Image

from pretrained import cached, write_text, write_vision
from tuplet.errors import RecipeError
from tuplet.models import Embedder
from tuplet.recipes import build, dump_recipe, load_recipe, recipe_for
from tuplet.training import run

pytest.importorskip("transformers", reason="transformers is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")  # of other people's packages

RECIPE = """
name = "photos"
[data]
source = "photos"
split = { by = "row", test = 0.3, validation = 0.3 }
[model]
encoder = "./dino"
[loss]
name = "supcon"
[batch]
name = "per-class"
classes_per_batch = 2
per_class = 3
[train]
steps = 4
validate_every = 2
[evaluate]
bootstrap = 0
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones")
    random = np.random.default_rng(0)
    for label in range(3):
        (folder / "photos" / f"k{label}").mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 80, (34, 40, 3)) + 80 * label
            Image.fromarray(pixels.astype(np.uint8)).save(folder / "photos" / f"k{label}" / f"{number}.png")
    write_vision(folder / "dino")
    (folder / "photos.toml").write_text(RECIPE)
    return folder


def job(place, *overrides, **more):
    return build(load_recipe(place / "photos.toml", overrides), cache=place / "cache", **more)


def trained(place, folder, *overrides):
    for _ in run(job(place, *overrides), folder):
        pass
    return Embedder.load(folder / "model")


NAMES = {
    "dinov2-small": {"model": "facebook/dinov2-small"},
    "someone/their.model-1": {"model": "someone/their.model-1"},
    "./dino": {"folder": "dino"},
    "dino": {"folder": "dino"},
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_no_encoder_names_a_pretrained_one(place, monkeypatch, name):
    monkeypatch.chdir(place)
    recipe = load_recipe("photos.toml", [f"model.encoder={name}", "model.encoder.pool=mean"])
    found = {key: getattr(recipe.model.encoder, key) for key in ("model", "folder")}
    expected = {"model": None, "folder": None, **NAMES[name]}
    expected["folder"] = expected["folder"] and str(place / expected["folder"])
    assert (recipe.model.encoder.name, found, recipe.model.encoder.pool) == ("pretrained", expected, "mean")
    (place / "out").mkdir(exist_ok=True)
    (place / "out" / "recipe.toml").write_text(dump_recipe(recipe, place / "out"))
    assert load_recipe(place / "out" / "recipe.toml").model_dump() == recipe.model_dump()


def test_other_names_are_those_of_encoders_and_others_are_refused(place):
    assert load_recipe(place / "photos.toml", ["model.encoder=conv-small"]).model.encoder.name == "conv-small"
    with pytest.raises(RecipeError) as refused:
        load_recipe(place / "photos.toml", ["model.encoder=dinov2-smal"])
    assert refused.value.reference == "bad-recipe"


def test_images_are_read_as_the_model_was_trained_unless_a_size_is_named(place):
    asked = ["model.encoder=./dino"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        auto = build(recipe_for(place / "photos", [*asked, "train.steps=1"]), cache=place / "cache")
        own = ["data.source=photos", "data.split.by=row", "data.split.validation=0.3"]
        own += ["batch.classes_per_batch=3", "batch.per_class=2"]
        preset = build(load_recipe("own-images", [*asked, *own]), cache=place / "cache")
        named = ["model.preprocessing={name='image',size=42,fit_by='pad'}"]
        larger = build(load_recipe("photos.toml", [*asked, *named]), cache=place / "cache")
    for made in (auto, preset):
        known = made.embedder.preprocessing.to_config()
        assert (known["size"], known["resize"], known["resample"], known["fixed"]) == (28, 32, "bicubic", True)
    known = larger.embedder.preprocessing.to_config()
    assert (known["size"], known["fit_by"], known.get("resize", 0), known["fixed"]) == (42, "pad", 0, True)
    assert larger.embedder.preprocessing.mean == auto.embedder.preprocessing.mean == (0.485, 0.456, 0.406)
    assert larger.train.inputs.shape[1:] == (3, 42, 42)


def test_a_run_goes_on_and_its_model_loads_alone(place, tmp_path):
    pytest.importorskip("peft", reason="peft is not installed")
    settings = ["model.encoder.head=linear", "model.dim=6", "model.lora.rank=2", "train.recompute=true"]
    settings += ["train.layer_decay=0.8", "train.ema=0.5"]
    whole = trained(place, tmp_path / "whole", *settings)
    stopped = job(place, *settings)
    for event in run(stopped, tmp_path / "stopped"):
        if event["kind"] == "checkpoint":
            break
    for _ in run(job(place, *settings), tmp_path / "stopped", resume=True):
        pass
    torch.testing.assert_close(Embedder.load(tmp_path / "stopped" / "model").state_dict(), whole.state_dict())
    start = job(place, *settings).embedder.state_dict()
    moved = {name for name, value in whole.state_dict().items() if not torch.equal(value, start[name])}
    assert {"lora_" in name or name.startswith("encoder.head") for name in moved} == {True}
    assert (whole.dim, whole.encoder_config["lora"]["rank"]) == (6, 2)
    pictures = sorted((place / "photos").rglob("*.png"))[:3]
    assert whole.embed(pictures).shape == (3, 6)


def test_what_is_frozen_stays(place, tmp_path):
    settings = ["model.encoder.head=linear", "model.dim=6", "model.freeze=1"]
    start = job(place, *settings).embedder.state_dict()
    after = trained(place, tmp_path / "run", *settings).state_dict()
    still = {name for name in after if torch.equal(after[name], start[name])}
    layers = {name for name in after if ".embeddings." in name or ".layer.0." in name}
    assert layers == still


def test_texts_and_images_of_pairs_have_a_model_each(place, tmp_path):
    write_text(tmp_path / "bert")
    pictures = sorted((place / "photos").rglob("*.png"))
    lines = [f"{chr(97 + at % 26)}{chr(97 + at // 26)} cat,{path}" for at, path in enumerate(pictures)]
    (tmp_path / "captions.csv").write_text("text,path\n" + "\n".join(lines) + "\n")
    (tmp_path / "pairs.toml").write_text(
        'name = "pairs"\n[data]\nsource = "captions.csv"\nkind = "text"\nsplit = { by = "row" }\n'
        f'[model]\nencoder = "./bert"\npartner_encoder = "{place}/dino"\n'
        '[loss]\nname = "info_nce"\n[batch]\nname = "paired"\nbatch_size = 4\n[train]\nsteps = 1\n'
    )
    made = build(load_recipe(tmp_path / "pairs.toml"), cache=tmp_path / "cache")
    assert made.embedder.partner.preprocessing.to_config()["size"] == 28
    assert made.embedder.embed(["a cat"]).shape == made.embedder.embed(pictures[:1], side="partner").shape == (1, 16)


def tuplet(*words, folder, code=0, **more):
    """Run the command line with a cache of its own, and no way to a network."""
    environment = {**os.environ, "HF_HOME": str(folder / "home"), "HF_ENDPOINT": "http://127.0.0.1:9", **more}
    command = [sys.executable, "-m", "tuplet", *map(str, words)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.mark.slow
def test_the_cache_is_looked_at_and_nothing_is_fetched(place, tmp_path):
    cached(place / "dino", "facebook/dinov2-small", tmp_path / "home")
    small = ["--steps", "2", "--set", "evaluate.bootstrap=0", "--set", "data.split.by=row", "--json"]
    command = ["train", place / "photos", "--set", "model.encoder=dinov2-small", *small]
    found = json.loads(tuplet(*command, folder=tmp_path).stdout)
    known = json.loads((tmp_path / found["run"] / "model" / "embedder.json").read_text())
    assert (known["encoder"]["model"], known["preprocessing"]["size"]) == ("facebook/dinov2-small", 28)
    unknown = ["plan", place / "photos", "--set", "model.encoder=facebook/dinov2-base"]
    assert "model-not-cached" in tuplet(*unknown, folder=tmp_path, code=4).stderr


class Hub(BaseHTTPRequestHandler):
    """As much of the hub as it takes to fetch a model."""

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        self.server.asked.append(self.path)
        folder, commit, path = self.server.folder, "0" * 40, self.path.partition("?")[0]
        if path.startswith("/api/models/someone/tiny"):
            files = [
                {"type": "file", "path": one.name, "size": one.stat().st_size, "oid": "1"} for one in folder.iterdir()
            ]
            known = {"id": "someone/tiny", "sha": commit, "siblings": [{"rfilename": one["path"]} for one in files]}
            body, headers = json.dumps(files if "/tree/" in path else known).encode(), {}
        elif path.startswith("/someone/tiny/resolve/") and (folder / path.rpartition("/")[2]).is_file():
            body = (folder / path.rpartition("/")[2]).read_bytes()
            headers = {"ETag": f'"{len(body)}"', "X-Repo-Commit": commit}
        else:
            self.send_error(404)
            return
        self.send_response(200)
        for key, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)


@pytest.mark.slow
def test_a_model_is_fetched_when_asked_for_and_only_then(place, tmp_path):
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as hub:
        hub.folder, hub.asked = place / "dino", []
        Thread(target=hub.serve_forever, daemon=True).start()
        endpoint = {"HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HUB_DISABLE_XET": "1"}
        command = ["plan", place / "photos", "--set", "model.encoder=someone/tiny", "--set", "data.split.by=row"]
        tuplet(*command, folder=tmp_path, code=4, **endpoint)
        assert hub.asked == []
        tuplet(*command, "--download", folder=tmp_path, **endpoint)
        fetched = len(hub.asked)
        assert fetched > 0
        tuplet(*command, "--download", folder=tmp_path, **endpoint)
        assert len(hub.asked) == fetched
        missing = ["plan", place / "photos", "--set", "model.encoder=someone/gone", "--download"]
        assert "download-failed" in tuplet(*missing, folder=tmp_path, code=3, **endpoint).stderr
        hub.shutdown()
