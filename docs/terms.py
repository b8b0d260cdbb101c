"""Fails where a word stands that docs/glossary.md retires: `python docs/terms.py`."""

import io
import re
import sys
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
GLOSSARY = ROOT / "docs" / "glossary.md"
PLACES = (
    "README.md",
    "CONTRIBUTING.md",
    "Makefile",
    "src",
    "tests",
    "docs",
    "course",
    "benchmarks",
    "results",
    "examples",
    ".ci",
)
KINDS = {".py", ".md", ".toml", ".j2", ".txt", ".css", ".yml", ""}
LEFT_OUT = ("docs/glossary.md", "tests/docs/test_terms.py")
PARTS = re.compile(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])")  # of snake_case and CamelCase
CODE = re.compile(r"^```python.*?^```|`[^`\n]*`", re.DOTALL | re.MULTILINE)


def tables() -> Iterator[tuple[str, str, str]]:
    """The rows of the glossary's tables."""
    for line in GLOSSARY.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split(" | ")]
        if line.startswith("|") and len(cells) == 3 and cells[0] not in ("term", "word", "---"):
            yield cells[0], cells[1], cells[2]


def retired() -> tuple[dict[str, str], dict[str, str]]:
    """Parts of identifiers and words of prose that are retired, each with the term that replaces it."""
    parts, words = {}, {}
    for term, meaning, replaced in tables():
        if not meaning.startswith("`"):
            parts |= dict.fromkeys(re.findall(r"`([^`]+)`", replaced), term)
            words |= dict.fromkeys(re.findall(r"\*([^*]+)\*", replaced), term)
    return parts, words


def exceptions() -> list[tuple[str, str]]:
    """Words, and the beginning of the paths where they may stand."""
    listed = []
    for words, places, _ in tables():
        if places.startswith("`"):
            listed += [(w, p) for w in re.findall(r"`([^`]+)`", words) for p in re.findall(r"`([^`]+)`", places)]
    return listed


def files() -> Iterator[Path]:
    """Everything that people write."""
    for place in PLACES:
        path = ROOT / place
        found = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() else []
        for file in found:
            name = file.relative_to(ROOT)
            is_hidden = any(part.startswith((".", "_")) and part != ".ci" for part in name.parts[:-1])
            if file.is_file() and file.suffix in KINDS and name.as_posix() not in LEFT_OUT and not is_hidden:
                yield file


def pieces(path: Path) -> Iterator[tuple[int, str, bool]]:
    """Line, text, and whether that is code; what is neither name nor sentence is left out."""
    text = path.read_text(encoding="utf-8", errors="ignore")
    if path.suffix != ".py":
        yield 1, text, False
        if path.suffix == ".md":
            yield from ((text.count("\n", 0, found.start()) + 1, found[0], True) for found in CODE.finditer(text))
        return
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.NAME:
            yield token.start[0], token.string, True
        elif token.type in (tokenize.STRING, tokenize.COMMENT):
            is_name = re.fullmatch(r"[rbfRBF]*[\"'](\w+)[\"']", token.string)
            yield token.start[0], is_name[1] if is_name else token.string, bool(is_name)


def misused(allowed: Sequence[tuple[str, str]] | None = None) -> Iterator[str]:
    """One line for each retired word that stands where it should not."""
    parts, words = retired()
    pattern = re.compile(rf"\b({'|'.join(sorted(map(re.escape, words), key=len, reverse=True))})\b", re.IGNORECASE)
    allowed = exceptions() if allowed is None else allowed
    for path in files():
        name = path.relative_to(ROOT).as_posix()
        here = {word for word, place in allowed if name.startswith(place)}
        for line, text, is_code in pieces(path):
            if is_code:
                found = [(line, part) for part in PARTS.findall(text) if part in parts or part.lower() in parts]
            else:
                found = [(line + text.count("\n", 0, at.start()), at[1]) for at in pattern.finditer(text)]
            for number, word in found:
                term = parts.get(word) or (parts if is_code else words).get(word.lower())
                if term and not {word, word.lower()} & here:
                    yield f"{name}:{number}: {word!r} is retired: {term}"


if __name__ == "__main__":
    lines = list(dict.fromkeys(misused()))
    sys.exit("\n".join([*lines, f"{len(lines)} retired words; docs/glossary.md lists them."]) if lines else 0)
