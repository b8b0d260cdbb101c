"""What an installed wheel must do; run outside the checkout as `smoke.py core` or `smoke.py app`."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch

import tuplet


def run(*arguments: str, expected: int = 0) -> str:
    """The output of the installed command, which must leave with the expected code."""
    program = Path(sys.executable).with_name("tuplet")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)  # noqa: S603  our own command
    if done.returncode != expected:
        raise SystemExit(f"tuplet {' '.join(arguments)}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout + done.stderr


def core() -> None:
    """One loss and its gradient; the command line says which part is missing."""
    present = [name for name in ("pydantic", "typer", "plotly", "PIL", "sklearn") if importlib.util.find_spec(name)]
    if present:
        raise SystemExit(f"The core must not need {', '.join(present)}.")
    embeddings = torch.randn(64, 16, requires_grad=True)
    loss = tuplet.losses.SupConLoss()(embeddings, torch.arange(64) % 8)
    loss.backward()
    if not (loss.isfinite() and embeddings.grad is not None and embeddings.grad.abs().sum() > 0):
        raise SystemExit("The loss or its gradient is not what it should be.")
    said = run("--help", expected=5)
    if 'pip install "tuplet[app]' not in said:
        raise SystemExit("The command line does not say how to install what is missing.")
    if "package that is not installed" not in run(*said.split("tuplet ")[-1].split()):
        raise SystemExit("The command that an error ends with does not explain it.")


def app() -> None:
    """A training, its evaluation, a search and the report, from a table of numbers."""
    rows, labels = np.random.default_rng(0).normal(size=(240, 8)), np.arange(240) % 24
    rows[:, 0] += labels
    lines = ["id," + ",".join(f"x{i}" for i in range(8)) + ",label"]
    lines += [
        f"row{i}," + ",".join(map(str, row)) + f",{label}"
        for i, (row, label) in enumerate(zip(rows, labels, strict=True))
    ]
    Path("table.csv").write_text("\n".join(lines))
    run("--help")
    run("train", "table.csv", "--steps", "20")
    run("evaluate", "runs/table", "--json")
    run("search", "runs/table", "table.csv", "--json")
    run("report", "runs/table")
    if not Path("runs/table/report.html").read_text().startswith("<!doctype html>"):
        raise SystemExit("The report is not a page.")


if __name__ == "__main__":
    if Path(tuplet.__file__).is_relative_to(Path(__file__).parents[1]):
        raise SystemExit("This is the checkout, not the installed wheel.")
    {"core": core, "app": app}[sys.argv[1]]()
