"""What the pages tell people to type, typed."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

ROOT = Path(__file__).parents[2]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs" / "guides").glob("*.md")),
    *sorted((ROOT / "docs" / "losses").glob("*.md")),
]


def code(page: Path, language: str) -> str:
    """The code blocks of one language, on the lines where the page has them; `<!-- not run: why -->` leaves one out."""
    kept, wanted = [], False
    lines = page.read_text().splitlines()
    for number, line in enumerate(lines):
        if line.startswith("```"):
            wanted = line == f"```{language}" and not any(
                "<!-- not run: " in above for above in lines[max(0, number - 2) : number]
            )
        kept.append("" if line.startswith("```") or not wanted else line)
    return "\n".join(kept)


def commands(page: Path) -> list[str]:
    lines = code(page, "sh").replace("\\\n", " ").splitlines()
    return [bare for line in lines if (bare := line.partition("  #")[0].strip()).startswith("tuplet ")]


@pytest.mark.parametrize("page", [page for page in PAGES if code(page, "python").strip()], ids=lambda page: page.stem)
def test_the_python_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code(page, "python"), str(page), "exec"), {"__name__": page.stem})  # noqa: S102


@pytest.fixture
def desk(tmp_path):
    """A folder with the files that the pages speak of."""
    digits = load_digits()
    for position, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
        if position < 400:
            folder = tmp_path / "photos" / str(label)
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray((image * 15.9).astype(np.uint8)).resize((32, 32)).save(folder / f"{position:04d}.png")
    (tmp_path / "new.png").write_bytes(next((tmp_path / "photos" / "3").iterdir()).read_bytes())
    np.save(tmp_path / "vectors.npy", digits.data[:400].astype(np.float32))
    np.save(tmp_path / "vectors.labels.npy", digits.target[:400])
    columns = ",".join(f"x{number}" for number in range(digits.data.shape[1]))
    rows = [
        ",".join(map(str, [*row, label])) for row, label in zip(digits.data[:400], digits.target[:400], strict=True)
    ]
    (tmp_path / "table.csv").write_text("\n".join([f"{columns},label", *rows]))
    (tmp_path / "corpus.txt").write_text("the house is a home and the home is a house " * 50)
    (tmp_path / "pairs.txt").write_text("house home 9\nhouse is 2\nthe home 3")
    return tmp_path


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_the_commands_of_a_page_run_in_their_order(page, desk):
    for command in commands(page):
        program, *arguments = command.split()
        if arguments[0] == "train":
            arguments += [] if "--resume" in arguments else ["--steps", "4"]  # the same path, for a moment
        path = Path(sys.executable).with_name(program)
        done = subprocess.run([path, *arguments], cwd=desk, capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
