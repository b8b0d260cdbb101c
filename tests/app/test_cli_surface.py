"""The command line before anything heavy happens: speed, help, wrong usage, and what a failure looks like."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import tuplet as package
from tuplet import losses
from tuplet.app.cli import HELP
from tuplet.app.cli.commands import COMMANDS, assemble
from tuplet.app.explanations import explanations
from tuplet.app.presets import FAMILIES
from tuplet.recipes import load_recipe, preset_names

ROOT = Path(__file__).parents[2]
COMMAND = assemble()
EXAMPLES = [
    pytest.param(line.strip(), id=line.split()[1] + str(number))
    for command in COMMAND.commands.values()
    for number, line in enumerate(command.epilog.splitlines())
    if line.strip().startswith("tuplet ")
]


def python(text, *words, code, **options):
    """Run Python source as a process of its own, for what a person cannot type."""
    command = [sys.executable, "-c", text, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)
    assert done.returncode == code, done.stderr
    return done


def test_importing_the_package_imports_nothing_heavy():
    python("import sys, tuplet; assert not {'torch', 'numpy', 'typer'} & set(sys.modules)", code=0)


def test_public_names_are_loaded_when_they_are_used():
    assert {name for name in package.__all__ if getattr(package, name) is None} == set()
    with pytest.raises(AttributeError, match="nonsense"):
        _ = package.nonsense


def test_the_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == package.__version__


@pytest.mark.parametrize("word", ["--help", "-h"])
def test_help_imports_nothing_heavy(word):
    text = (
        "import sys\n"
        "from tuplet.app.cli import main\n"
        "try: main()\n"
        "finally: print(*({'torch', 'numpy', 'pydantic', 'rich', 'typer'} & set(sys.modules)), file=sys.stderr)"
    )
    assert python(text, word, code=0).stderr.strip() == ""


def test_the_page_of_help_is_what_the_commands_say():
    context = COMMAND.make_context("tuplet", [], resilient_parsing=True, terminal_width=80)
    assert COMMAND.get_help(context) + "\n" == HELP.read_text()


def test_the_list_of_presets_is_grouped_says_what_each_is_and_imports_nothing_heavy():
    text = (
        "import sys\n"
        "from tuplet.app.cli import main\n"
        "try: main()\n"
        "finally: assert not {'torch', 'numpy', 'tuplet.recipes'} & set(sys.modules)"
    )
    rows = [json.loads(line) for line in python(text, "train", "--list", "--json", code=0).stdout.splitlines()]
    assert sorted(row["preset"] for row in rows) == preset_names()
    assert list(dict.fromkeys(row["kind"] for row in rows))[:4] == [
        "your data",
        "pair-wise",
        "softmax-based",
        "triplet",
    ]
    for row in rows:
        assert row["loss"] == load_recipe(row["preset"], ["data.source=glyphs"]).loss.name
        assert row["about"].endswith("."), f"{row['preset']}: its first line should be one sentence"


def test_every_loss_belongs_to_a_family():
    assert {loss for family in FAMILIES.values() for loss in family} == set(losses.registry)


def test_help_names_every_command_and_shows_where_to_start(tuplet, tmp_path):
    shown = tuplet("--help", folder=tmp_path).stdout
    assert re.findall(r"^  (\w+)  ", shown, re.MULTILINE) == list(COMMANDS)
    assert "..." not in shown.replace("[ARGS]...", "")  # no summary is cut off
    assert "tuplet demo" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_each_command_teaches_by_example(name):
    command = COMMAND.commands[name]
    shown = command.get_help(command.make_context(f"tuplet {name}", [], resilient_parsing=True))
    assert f"Usage: tuplet {name}" in shown
    assert f"  tuplet {name}" in shown.partition("Examples:")[2]


@pytest.mark.parametrize("line", EXAMPLES)
def test_every_example_can_be_typed(line):
    words = shlex.split(re.split(r"\s{2,}|\s(?:&&|\|)\s", line)[0])
    command = COMMAND.commands[words[1]]
    command.make_context(words[1], words[2:])  # refuses unknown options, wrong values and missing arguments


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param(["frobnicate"], "No such command", id="command"),
        pytest.param(["serch"], "search", id="typing mistake"),
        pytest.param(["train"], "Name a recipe or data", id="nothing to train"),
        pytest.param(["train", "x", "--resume", "y"], "keeps its recipe", id="two trainings"),
        pytest.param(["train", "--resume", "y", "--set", "seed=3"], "keeps its recipe", id="resume another recipe"),
        pytest.param(["train", "x", "--require", "good"], "METRIC=VALUE", id="requirement"),
        pytest.param(["train", "glyphs", "--device", "tpu"], "--device tpu is not available", id="device"),
        pytest.param(["train", "x", "--require", "recal@1=0.9"], "--require recal@1", id="metric"),
        pytest.param(["search", "x", "y", "--top", "0"], "--top", id="no hits"),
        pytest.param(["embed", "x", "y"], "-o FILE.npy or --json", id="no output"),
        pytest.param(["embed", "x", "y", "-o", "a.txt"], ".npy", id="format"),
    ],
)
def test_wrong_usage_is_refused_with_a_reason(tuplet, tmp_path, words, expected):
    done = tuplet(*words, folder=tmp_path, code=2)
    assert expected in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "code", "reference"),
    [
        pytest.param(["evaluate", "nowhere"], 3, "no-run", id="evaluate"),
        pytest.param(["report", "nowhere"], 3, "no-run", id="report"),
        pytest.param(["train", "--resume", "nowhere"], 3, "no-run", id="resume"),
        pytest.param(["search", "nowhere", "a.png"], 3, "no-index", id="search"),
        pytest.param(["embed", "nowhere", "a.png", "--json"], 3, "missing-file", id="embed"),
        pytest.param(["runs", "nowhere"], 3, "no-runs", id="runs"),
        pytest.param(["train", "nowhere.csv"], 3, "missing-file", id="data"),
        pytest.param(["plan", "nowhere/"], 3, "missing-file", id="folder"),
        pytest.param(["train", "nowhere.toml"], 4, "recipe-missing", id="recipe"),
        pytest.param(["train", "glyphs", "--set", "train.stpes=3"], 4, "bad-recipe", id="setting"),
    ],
)
def test_an_error_says_what_to_type_and_where_to_read_more(tuplet, tmp_path, words, code, reference):
    done = tuplet(*words, folder=tmp_path, code=code)
    error, *_, hint, more = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("hint: ")
    assert more == f"more: tuplet explain {reference}"
    assert done.stdout == ""
    assert list(tmp_path.iterdir()) == []


def test_without_its_optional_part_the_command_line_names_the_line_to_type():
    text = (
        "import sys\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'typer': raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from tuplet.app.cli import main; main()"
    )
    done = python(text, "--help", code=5)
    assert 'pip install "tuplet[app] @ git+https://' in done.stderr
    assert "Traceback" not in done.stderr
    *_, explain, reference = done.stderr.split()
    assert python(text, explain, reference, code=0).stdout.strip() == explanations()[reference]


def test_a_bug_is_reported_with_a_saved_traceback(tmp_path):
    text = "import tuplet.app.cli.commands as c\nc.assemble = lambda _: 1 / 0\nfrom tuplet.app.cli import main; main()"
    done = python(text, "train", "x", code=1, env={**os.environ, "TMPDIR": str(tmp_path)})
    (saved,) = tmp_path.iterdir()
    assert str(saved) in done.stderr
    assert "Traceback" not in done.stderr
    assert "ZeroDivisionError" in saved.read_text()
    assert "tuplet train x" in saved.read_text()


def test_interruption_leaves_with_130():
    text = (
        "import os, signal, tuplet.app.cli.commands as c\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # a suite in the background has it ignored
        "c.assemble = lambda _: os.kill(os.getpid(), signal.SIGINT)\n"
        "from tuplet.app.cli import main; main()"
    )
    assert "Traceback" not in python(text, code=130).stderr
