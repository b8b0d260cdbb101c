"""Counts what the table of docs/design.md says of the code: `python docs/shape.py [ROOT]`."""

import ast
import io
import sys
import tokenize
from pathlib import Path

ROOT = Path(__file__).parent.parent
SILENT = {tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.COMMENT, tokenize.ENDMARKER}
LAYERS = {
    "foundations": "errors checksums tensors bounds types registry foreign seeding storage __init__ __main__",
    "scores of a tile": "geometry keys relation rule relations margin",
    "engine": "engine",
    "reductions, memory": "reductions heads memory noise",
    "losses": "losses interop",
    "data": "data",
    "models, sampling": "models sampling",
    "index, evaluation": "index evaluation results",
    "training": "training",
    "recipes": "recipes sklearn",
    "comparison": "comparison",
    "app": "app",
}


def modules(root: Path) -> dict[str, list[Path]]:
    """All modules by layer, from the lowest up; those that no layer names under an empty name."""
    layer_of = {name: layer for layer, names in LAYERS.items() for name in names.split()}
    home = root / "src" / "tuplet"
    found: dict[str, list[Path]] = {layer: [] for layer in LAYERS}
    for path in sorted(home.rglob("*.py")):
        found.setdefault(layer_of.get(path.relative_to(home).with_suffix("").parts[0], ""), []).append(path)
    return found


def lines_of_code(path: Path) -> int:
    """Lines that hold something else than blanks, comments and docstrings."""
    text = path.read_text(encoding="utf-8")
    strings = {
        (node.lineno, node.col_offset)
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in SILENT and not (token.type == tokenize.STRING and token.start in strings):
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines)


def counted(root: Path) -> dict[str, tuple[int, int]]:
    """Modules and lines of code of each layer."""
    return {layer: (len(paths), sum(map(lines_of_code, paths))) for layer, paths in modules(root).items()}


if __name__ == "__main__":
    rows = counted(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT)
    rows["all"] = (sum(number for number, _ in rows.values()), sum(size for _, size in rows.values()))
    for layer, (number, size) in rows.items():
        print(f"| {layer} | {number} | {size:,} |")
