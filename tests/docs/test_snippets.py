"""What the pages tell people to type, typed."""

import re
import shlex
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

import digits
from sounds import write as write_sound
from tuplet.recipes import preset_names

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "docs" / "index.md",
    ROOT / "docs" / "precision.md",
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
    *sorted((ROOT / "docs" / "losses").glob("*.md")),
]


OTHERS_LOSS = re.compile(r"\b(\w+)\.losses\.[A-Z]")  # a loss of another library by its dotted name
GOES_ON = "# goes on "  # the first line of a block that needs those above it


def blocks(page: Path, language: str) -> list[str]:
    """The code blocks of one language, each on its lines of the page; `<!-- not run: why -->` leaves one out."""
    found, inside = [], False
    lines = page.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines):
        if not line.startswith("```"):
            if inside:
                found[-1].append(line)
            continue
        is_left_out = any("<!-- not run: " in above for above in lines[max(0, number - 2) : number])
        inside = line == f"```{language}" and not is_left_out
        if inside:
            found.append([""] * (number + 1))
    return ["\n".join(block) for block in found]


def commands(page: Path) -> list[str]:
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    return [bare for line in lines if (bare := line.partition("  #")[0].strip()).startswith("tuplet ")]


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")], ids=lambda page: page.stem)
def test_each_block_of_python_runs_alone_or_says_that_it_goes_on(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": page.stem}
    for block in blocks(page, "python"):
        if not block.lstrip("\n").startswith(GOES_ON):
            names = {"__name__": page.stem}
        exec(compile(block, str(page), "exec"), names)  # noqa: S102


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """A folder with the files that the pages speak of."""
    folder = tmp_path_factory.mktemp("desk")
    fill(folder)
    return folder


def fill(desk):
    digits.write(desk / "photos", 400, 32)
    (desk / "new.png").write_bytes(next((desk / "photos" / "3").iterdir()).read_bytes())
    digits.table(desk, 400)
    rows, labels = digits.load().data[:400], digits.load().target[:400]
    np.save(desk / "vectors.npy", rows.astype(np.float32))
    np.save(desk / "vectors.labels.npy", labels)
    np.save(desk / "waves.npy", rows[:60, None].repeat(5, axis=2).astype(np.float32))
    columns = ",".join(f"x{number}" for number in range(rows.shape[1]))
    lines = [",".join(map(str, [*row, label])) for row, label in zip(rows, labels, strict=True)]
    (desk / "table.csv").write_text("\n".join([f"{columns},label", *lines]))
    flowers = load_iris()
    names = flowers.target_names[flowers.target]
    lines = [",".join(map(str, [*row, name])) for row, name in zip(flowers.data, names, strict=True)]
    (desk / "bare.csv").write_text("\n".join(lines))
    (desk / "iris.csv").write_text("\n".join(["length,width,petal_length,petal_width,species", *lines]))
    (desk / "corpus.txt").write_text("the house is a home and the home is a house " * 50)
    for number in range(40):
        pitch = 300 + 200 * (number % 4)
        sound = 0.5 * np.sin(2 * np.pi * pitch * np.arange(3200) / 16000)
        write_sound(
            desk / "calls" / ("robin", "wren", "owl", "jay")[number % 4 - 1] / f"{number}.wav", sound, rate=16000
        )
    (desk / "shards").mkdir()
    with tarfile.open(desk / "shards" / "data-000000.tar", "w") as archive:
        for position, file in enumerate(sorted((desk / "photos").rglob("*.png"))[:120]):
            archive.add(file, f"{position:04d}.png")
            (desk / "class").write_text(file.parent.name)
            archive.add(desk / "class", f"{position:04d}.cls")
    own = next(block for block in blocks(ROOT / "docs" / "guides" / "training.md", "python") if "# my_net.py" in block)
    (desk / "my_net.py").write_text(own.lstrip("\n"))
    random = np.random.default_rng(0)
    characters = random.integers(0, 256, (240, 1, 32, 32)).repeat(4, 0)
    np.save(desk / "characters.npy", (characters // 2 + random.integers(0, 128, characters.shape)).astype(np.uint8))
    np.save(desk / "characters.labels.npy", np.arange(240).repeat(4))
    (desk / "pairs.txt").write_text("house home 9\nhouse is 2\nthe home 3")


@pytest.fixture(scope="module")
def after(desk, typist, tmp_path_factory):
    """The folder as commands leave it, typed one after the other; pages that begin alike share their beginning."""
    known = {(): desk}

    def typed(words: tuple[str, ...]) -> Path:
        if words not in known:
            folder = shutil.copytree(typed(words[:-1]), tmp_path_factory.mktemp("typed"), dirs_exist_ok=True)
            type_in(words[-1], folder, typist)
            known[words] = folder
        return known[words]

    return typed


def type_in(command: str, folder: Path, typist) -> None:
    arguments = shlex.split(command)[1:]
    if arguments[0] == "train":
        if arguments[1] in preset_names() and "--data" not in arguments:
            arguments += ["--data", "characters.npy"]  # 960 images in the place of 20,000
        arguments += [] if "--resume" in arguments else ["--steps", "4"]  # the same path, for a moment
    if arguments[0] == "compare" and "--resume" not in arguments:
        arguments += ["--steps", "4", "--trials", "1", "--seeds", "2", "--jobs", "1"]
    said = typist(arguments, folder)
    assert said.returncode == 0, f"{command}\n{said.stdout}\n{said.stderr}"


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_in_their_order(page, after):
    for library in OTHERS_LOSS.findall("\n".join(commands(page))):
        pytest.importorskip(library, reason=f"{library} is not installed, whose losses the page compares")
    after(tuple(commands(page)))
