"""The guide "Beyond one machine", with processes in the place of machines: its lines are typed."""

import shlex
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

import digits
from tuplet import index as indexes

pytestmark = pytest.mark.distributed

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "machines.md"
HERE = "tests/app/web/test_machines.py"


def lines():
    """The commands of the guide that this test types."""
    parts = GUIDE.read_text(encoding="utf-8").split(HERE)[1:]
    blocks = [part.partition("```sh\n")[2].partition("```")[0] for part in parts]
    return [shlex.split(line) for block in blocks for line in block.splitlines()]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("machines")
    digits.write(folder / "photos", 120, 16)
    digits.picture(120, 16).save(folder / "new.png")
    return folder


def typed(words, desk, address, starter):
    words = [address if word.startswith("postgresql:") else word for word in words]
    if "train" in words:
        words += ["--steps", "6", "--set", "batch.classes_per_batch=4", "--set", "evaluate.bootstrap=100"]
    if words[0] == "torchrun":
        command = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
        done = subprocess.run(command, cwd=desk, capture_output=True, text=True, check=False)
    else:
        done = starter(words[1:], desk)
    assert done.returncode == 0, f"{words}\n{done.stderr}"


@pytest.mark.slow
def test_two_trainers_one_database_and_two_servers(desk, postgres, served, starter):
    train, build, first, second, add = lines()
    assert [train[-4], build[6], first[1], second[1], add[2]] == ["train", "index", "serve", "serve", "add"]
    typed(train, desk, postgres, starter)
    typed(build, desk, postgres, starter)
    index = indexes.open(desk / "shared.index")
    assert (index.backend, len(index), index.check()) == ("postgres", 120, [])
    with ExitStack() as running:
        servers = [running.enter_context(served(*words[2:-2], folder=desk)) for words in (first, second)]
        typed(add, desk, postgres, starter)
        form = (("picture", "new.png", (desk / "new.png").read_bytes()), ("top", 5))
        one, two = (server.form("/api/search", *form).json for server in servers)
        assert one == two
        assert one["results"][0]["hits"][0]["id"] == "new.png"
        assert [server.ask("/api/health").json["items"] for server in servers] == [121, 121]
        assert servers[0].stop() == 0  # the other one goes on
        assert servers[1].form("/api/search", *form).json == two
