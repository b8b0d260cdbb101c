"""What gets installed, and what must not."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution
from pathlib import Path

import pytest

import tuplet

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
FORBIDDEN = ROOT / ".ci" / "forbidden.py"


def package(requirement: str) -> str:
    return re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")


def test_the_version_is_one():
    assert tuplet.__version__ == PROJECT["version"] == distribution("tuplet").version


def test_the_core_is_four_packages():
    assert {package(one) for one in PROJECT["dependencies"]} == {"torch", "numpy", "safetensors", "jaxtyping"}


def test_the_command_is_installed_beside_the_python_that_runs_this():
    done = subprocess.run(
        [Path(sys.executable).with_name("tuplet"), "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["tuplet", tuplet.__version__]


def test_types_are_published():
    assert (Path(tuplet.__file__).parent / "py.typed").exists()


def test_every_requirement_of_the_make_targets_is_pinned():
    pinned = {package(line) for line in (ROOT / "constraints.txt").read_text().splitlines() if line[:1].isalnum()}
    wanted = {package(one) for extra in ("app", "demo", "dev", "docs", "bench") for one in EXTRAS[extra]}
    assert {package(one) for one in PROJECT["dependencies"]} | wanted <= pinned | {"tuplet"}


def test_no_requirement_is_a_package_that_must_not_come_along():
    everything = [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)]
    assert not {"torchvision", "timm", "vit-pytorch", "faiss-cpu"} & {package(one) for one in everything}


@pytest.mark.parametrize("unwanted", ["timm", "torchvision", "nvidia-cublas-cu12", "nvidia_cuda_runtime", "triton"])
def test_the_guard_finds_a_package_that_must_not_be_installed(unwanted, tmp_path):
    info = tmp_path / f"{unwanted}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {unwanted}\nVersion: 1.0\n")
    done = subprocess.run([sys.executable, FORBIDDEN, tmp_path], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert unwanted.replace("_", "-") in done.stderr


def test_the_guard_lets_harmless_packages_pass(tmp_path):
    info = tmp_path / "optimum-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: optimum\nVersion: 1.0\n")
    assert subprocess.run([sys.executable, FORBIDDEN, tmp_path], check=False).returncode == 0


def test_importing_tuplet_imports_no_heavy_package():
    script = "import sys, tuplet; print(*{'torch', 'numpy', 'pydantic', 'typer', 'rich', 'plotly'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_every_public_name_is_there():
    missing = [name for name in tuplet.__all__ if not hasattr(tuplet, name)]
    assert missing == []
    assert sorted(tuplet.__all__, key=str.lower) == sorted(dir(tuplet), key=str.lower)


@pytest.mark.parametrize("folder", ["src", "tests", "docs", "benchmarks", ".ci"])
def test_no_committed_file_names_a_machine(folder):
    """A path or an address of one machine helps nobody else."""
    listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, capture_output=True, text=True, check=False).stdout
    machine = re.compile(r"/(?:home|root|Users)/\w|https?://(?:\d+\.){3}\d+")
    texts = {name: (ROOT / name).read_text(errors="ignore") for name in listed.splitlines() if (ROOT / name).is_file()}
    assert {name: found[0] for name, text in texts.items() if (found := machine.search(text))} == {}
