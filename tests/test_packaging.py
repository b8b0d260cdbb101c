"""What gets installed, and what must not."""

import ast
import re
import shlex
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from functools import cache
from importlib.metadata import distribution
from itertools import product
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import tuplet
from tuplet.errors import install

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
FORBIDDEN = ROOT / ".ci" / "forbidden.py"
IMPORTED_AS = {
    "opentsne": "openTSNE",
    "pillow": "PIL",
    "scikit-learn": "sklearn",
}
"""Import names that are not the package's own."""
FOR_USERS = sorted(set(EXTRAS) - {"dev", "docs", "bench"})


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


@cache
def imported(folder: Path) -> set[str]:
    """First names of all modules that the code of a folder imports, or asks for by a text such as "scipy.stats"."""
    nodes = [node for path in folder.rglob("*.py") for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module or "" for node in nodes if isinstance(node, ast.ImportFrom)}
    names |= {node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return {name.partition(".")[0] for name in names}


@pytest.mark.parametrize("extra", FOR_USERS)
def test_an_extra_installs_nothing_that_is_not_imported(extra):
    used = imported(ROOT / "examples") if extra == "interop" else imported(ROOT / "src")
    wanted = {package(one) for one in EXTRAS[extra]} - {"tuplet"}
    assert {name for name in wanted if IMPORTED_AS.get(name, name.replace("-", "_")) not in used} == set()


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    """A folder with sdist and wheel, built from this tree."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-d", folder], cwd=ROOT, capture_output=True, check=True
    )
    return folder


def test_the_wheel_holds_the_package_and_the_page_of_errors(built):
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())
        assert wheel.read("tuplet/errors.md") == (ROOT / "docs" / "errors.md").read_bytes()
    source = ROOT / "src"
    expected = {str(path.relative_to(source).as_posix()) for path in source.rglob("*") if path.is_file()}
    expected = {name for name in expected if "__pycache__" not in name and ".egg-info" not in name}
    packed = {name for name in names if ".dist-info/" not in name}
    assert packed == expected | {"tuplet/errors.md"}


def test_the_sdist_holds_what_is_needed_to_build_test_and_read(built):
    with tarfile.open(next(built.glob("*.tar.gz"))) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    folders = ("examples", "tests", "docs", "benchmarks", ".ci", ".github")
    listed = subprocess.run(["git", "ls-files", *folders], cwd=ROOT, capture_output=True, text=True, check=True)
    assert sorted(set(listed.stdout.splitlines()) - names) == []
    assert {"SECURITY.md", "CONTRIBUTING.md", "LICENSE", "README.md", "Makefile", "constraints.txt"} <= names


def floors() -> dict[str, str]:
    printed = subprocess.run([sys.executable, ROOT / ".ci" / "floors.py"], capture_output=True, text=True, check=True)
    return dict(line.split("==") for line in printed.stdout.splitlines())


def test_every_requirement_has_a_floor_that_ci_can_install():
    everything = [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)]
    assert {package(name) for name in floors()} == {package(one) for one in everything} - {"tuplet"}
    assert all(re.fullmatch(r"\d+(\.\d+)*", version) for version in floors().values())


def workflow(name: str) -> dict:
    return pytest.importorskip("yaml").safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))


def test_ci_covers_every_system_every_python_and_both_ends_of_the_versions():
    matrix = workflow("ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    named = [one.split(" :: ")[-1] for one in PROJECT["classifiers"] if one.startswith("Programming Language ::")]
    systems = {"ubuntu", "macos", "windows"}
    runs = set(product(matrix["os"], matrix["python"], matrix["versions"]))
    runs |= {(one["os"], one["python"], one["versions"]) for one in matrix["include"]}
    assert {(system, python) for system, python, _ in runs} == set(product(systems, named))
    assert {(system, named[0], "lowest") for system in systems} <= runs
    assert {(system, named[-1], "newest") for system in systems} <= runs
    assert PROJECT["requires-python"] == f">={named[0]}"
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    asked = re.search(r"floors\.py ([\w ]+) >", text)[1].split() + re.search(r"\.\[([\w,]+)\]", text)[1].split(",")
    assert set(asked) <= set(EXTRAS)


@pytest.mark.parametrize("name", ["ci.yml", "publish.yml"])
def test_a_workflow_may_do_no_more_than_it_must(name):
    """What it runs is named by a hash, and only the upload may prove who it is."""
    found = workflow(name)
    assert found["permissions"] == {"contents": "read"}
    steps = [(job, step) for job in found["jobs"].values() for step in job["steps"]]
    used = [step["uses"] for _, step in steps if "uses" in step]
    assert [one for one in used if not re.fullmatch(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}", one)] == []
    asking = [name for name, job in found["jobs"].items() if "permissions" in job]
    assert asking == (["publish"] if name == "publish.yml" else [])


def test_the_address_of_the_project_is_declared_once():
    home = PROJECT["urls"]["Homepage"]
    assert all(address.startswith(home) for address in PROJECT["urls"].values())
    owner = re.compile(r"github\.com/([\w-]+/tuplet)\b")
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    texts = [(ROOT / name).read_text(errors="ignore") for name in listed.splitlines() if (ROOT / name).is_file()]
    assert {home.rpartition("github.com/")[2]} == {found for text in texts for found in owner.findall(text)}


def test_what_hints_say_to_type_installs_from_the_declared_address_and_extras_that_there_are():
    sources = [path.read_text() for path in sorted((ROOT / "src").rglob("*.py"))]
    named = {extra for text in sources for extra in re.findall(r'MissingExtraError\((?s:.*?)extra="(\w+)"', text)}
    assert named
    for extra in named:
        wanted = Requirement(shlex.split(install(extra))[-1])
        assert (wanted.name, wanted.url) == ("tuplet", f"git+{PROJECT['urls']['Homepage']}")
        assert wanted.extras == {extra} <= EXTRAS.keys()
    assert shlex.split(install())[-1] == f"git+{PROJECT['urls']['Homepage']}"


def test_no_requirement_is_a_package_that_must_not_come_along():
    everything = [*PROJECT["dependencies"], *(one for extra in EXTRAS.values() for one in extra)]
    assert not {"torchvision", "timm", "vit-pytorch"} & {package(one) for one in everything}
    assert {extra for extra, wanted in EXTRAS.items() if "faiss-cpu" in map(package, wanted)} == {"bench"}


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
    machine = re.compile(r"/(?:home|root|Users)/\w|https?://(?!127\.0\.0\.1)(?:\d+\.){3}\d+")  # one's own is nobody's
    texts = {name: (ROOT / name).read_text(errors="ignore") for name in listed.splitlines() if (ROOT / name).is_file()}
    assert {name: found[0] for name, text in texts.items() if (found := machine.search(text))} == {}
