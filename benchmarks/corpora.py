"""Fetch the text corpora of the word benchmarks from Debian packages: `python benchmarks/corpora.py FOLDER`.

Five packages of dictionaries, the King James Bible and fortunes, 8.85 million words together, each as one `.txt`.
Their licences differ (see the copyright file of each package), so they are fetched and never part of this project.
Needs `apt-get` and `dpkg-deb`; nothing is installed.
"""

import gzip
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

PACKAGES = ("dict-gcide", "wordnet-base", "bible-kjv", "bible-kjv-text", "dict-foldoc", "fortunes")


def fetch(folder: Path) -> list[Path]:
    """Text files in `folder`, fetched and unpacked where they are missing."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{name}.txt" for name in READERS]
    if all(path.is_file() for path in paths):
        return paths
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch) / "root"
        subprocess.run(["apt-get", "download", "--quiet=2", *PACKAGES], cwd=scratch, check=True)
        for package in sorted(Path(scratch).glob("*.deb")):
            subprocess.run(["dpkg-deb", "--extract", str(package), str(root)], check=True)
        for path, read in zip(paths, READERS.values(), strict=True):
            draft = path.with_suffix(".partial")
            draft.write_text(read(root / "usr"), encoding="utf-8")
            draft.replace(path)
    return paths


def _dictionary(name: str) -> Callable[[Path], str]:
    """A dictd database: dictzip is gzip."""

    def read(usr: Path) -> str:
        with gzip.open(usr / "share" / "dictd" / f"{name}.dict.dz") as file:
            return file.read().decode("utf-8", errors="replace")

    return read


def _glosses(usr: Path) -> str:
    """What stands after the bar in WordNet's data files."""
    lines: list[str] = []
    for part in ("noun", "verb", "adj", "adv"):
        text = (usr / "share" / "wordnet" / f"data.{part}").read_text(encoding="utf-8", errors="replace")
        lines += [line.partition("|")[2].strip() for line in text.splitlines() if "|" in line]
    return "\n".join(lines)


def _bible(usr: Path) -> str:
    """The program looks for its packed text beside itself or in /usr/lib."""
    data = usr / "lib" / "bible.data"
    command = [str(usr / "bin" / "bible"), "-f", "-p", f"{data.parent}/"]
    done = subprocess.run(
        command, input="gen1:1-rev22:21\n", text=True, capture_output=True, check=True, cwd=data.parent
    )
    return done.stdout


def _fortunes(usr: Path) -> str:
    """All files of sayings; a line with a percent sign ends one."""
    folder = usr / "share" / "games" / "fortunes"
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files if path.suffix not in {".dat", ".u8"}]
    return "\n".join(texts).replace("\n%\n", "\n\n")


READERS: dict[str, Callable[[Path], str]] = {
    "gcide": _dictionary("gcide"),
    "glosses": _glosses,
    "bible": _bible,
    "foldoc": _dictionary("foldoc"),
    "fortunes": _fortunes,
}

if __name__ == "__main__":
    for text in fetch(Path(sys.argv[1])):
        print(text)
