"""Check tuplet against a folder of reference vectors: `python tests/vectors/check.py tests/vectors/data`.

Every case goes through the function of its loss and, where a module can be given the same tensors, through the module.
Value, gradients and counts must agree with the file to its tolerance. One line is printed for each that does not;
the last line is `N passed, M failed`, and the exit code is 1 if M > 0.
"""
# ruff: noqa: T201  # a command prints

import argparse
import importlib.util
import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
if importlib.util.find_spec("tuplet") is None:
    sys.path.insert(0, str(HERE.parents[1] / "src"))
sys.path.insert(0, str(HERE))

import torch  # noqa: E402  # after the path is known
from routes import PUBLIC, Answer, Case, answers  # noqa: E402

from tuplet import losses  # noqa: E402

LOSSES, METRICS = "tuplet-vectors/1", "tuplet-metric-vectors/1"


class Mismatch(NamedTuple):
    file: str
    case: str
    route: str
    what: str
    found: str
    expected: str
    worst: str  # element that is farthest off, or what went wrong

    def __str__(self) -> str:
        return (
            f"{self.file} · {self.case} · {self.route} · {self.what}: found {self.found}, "
            f"expected {self.expected}; worst: {self.worst}"
        )


class Tolerance(NamedTuple):
    rtol: float  # of the value, and of each element of a gradient
    atol: float
    of_largest: float = 0.0  # of the largest element of a gradient


FLOAT32 = Tolerance(1e-5, 1e-6, 1e-4)


class Report(NamedTuple):
    passed: int
    mismatches: list[Mismatch]
    failed: int
    absent: list[str]


def check_folder(folder: Path, dtype: torch.dtype = torch.float64) -> Report:
    """All cases of all files, in the order of their names."""
    passed, failed, mismatches, absent = 0, 0, [], []
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise SystemExit(f"{folder}: no .json files")
    for path in paths:
        file = json.loads(path.read_text())
        if file["schema"] not in {LOSSES, METRICS}:
            raise SystemExit(f"{path}: schema {file['schema']!r}; {LOSSES!r} or {METRICS!r} is expected")
        name = PUBLIC.get(file.get("loss"), "")
        if file["schema"] == METRICS and dtype != torch.float64:
            continue  # metrics are computed in float64 only
        known = hasattr(losses, name) if file["schema"] == LOSSES else (HERE / "metric_cases.py").exists()
        if not known:
            absent.append(path.stem)
            continue
        for case in file["cases"]:
            mismatches_of = _metric_mismatches if file["schema"] == METRICS else _mismatches
            try:
                found = list(mismatches_of(path.stem, file, case, dtype))
            except Exception as error:  # noqa: BLE001  # whatever a case raises, the others are still checked
                found = [Mismatch(path.stem, case["name"], "-", "raised", type(error).__name__, "numbers", str(error))]
            passed, failed, mismatches = passed + (not found), failed + bool(found), mismatches + found
    return Report(passed, mismatches, failed, absent)


def _metric_mismatches(stem: str, file: dict[str, Any], case: dict[str, Any], dtype: torch.dtype) -> Iterator[Mismatch]:
    from metric_cases import run_case  # noqa: PLC0415  # losses can be checked without the evaluation part

    del dtype
    found = run_case(case)
    for name, expected in case["expected"].items():
        got = found.get(name)
        if expected is None or got is None:
            right = expected is None and (got is None or math.isnan(got))
        else:
            right = math.isclose(got, expected, rel_tol=file["tolerance"]["rtol"], abs_tol=file["tolerance"]["atol"])
        if not right:
            yield Mismatch(stem, case["name"], "metric", name, str(got), str(expected), "-")


def _mismatches(stem: str, file: dict[str, Any], case: dict[str, Any], dtype: torch.dtype) -> Iterator[Mismatch]:
    tolerance = Tolerance(**file["tolerance"]) if dtype == torch.float64 else FLOAT32
    for answer in answers(file["loss"], case, dtype):
        for what, found, expected, worst in _differences(answer, case, tolerance):
            yield Mismatch(stem, case["name"], answer.route, what, found, expected, worst)


def _differences(answer: Answer, case: dict[str, Any], tolerance: Tolerance) -> Iterator[tuple[str, str, str, str]]:
    """Found, expected and worst element of each number of a case that is off."""
    wanted = case["expected"]
    pairs = []
    if answer.value is not None:
        gradients = torch.autograd.grad(answer.value, list(answer.leaves.values()), materialize_grads=True)
        pairs.append(("loss", answer.value.detach(), torch.tensor(wanted["loss"], dtype=torch.float64)))
        found = dict(zip(answer.leaves, gradients, strict=True))
        pairs += [(f"gradient of {name}", found[name], Case.tensor(wanted["grads"][name])) for name in found]
    for name, count in answer.aux.items():
        expected = wanted["aux"][name]
        expected = Case.tensor(expected) if isinstance(expected, dict) else torch.tensor(expected, dtype=torch.float64)
        pairs.append((name, count.detach(), expected))
    for what, got, expected in pairs:
        if got.shape != expected.shape:
            yield what, f"shape {tuple(got.shape)}", f"shape {tuple(expected.shape)}", "-"
            continue
        off = (got.double() - expected).abs()
        largest = expected.abs().max() if expected.ndim and expected.numel() else 0.0
        allowed = tolerance.atol + tolerance.rtol * expected.abs() + tolerance.of_largest * largest
        if not bool((off <= allowed).all()):
            at = int((off - allowed).nan_to_num(torch.inf).flatten().argmax())
            index = tuple(int(i) for i in torch.unravel_index(torch.tensor(at), off.shape))
            yield (
                what,
                f"{got.flatten()[at].item():.15g}",
                f"{expected.flatten()[at].item():.15g}",
                f"{list(index)}, off by {off.flatten()[at].item():.3g}",
            )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="Folder with .json files of reference vectors.")
    parser.add_argument("--json", action="store_true", help="Print one JSON object.")
    parser.add_argument("--float32", action="store_true", help="Check float32 inputs, with a looser tolerance.")
    options = parser.parse_args()
    report = check_folder(options.folder, torch.float32 if options.float32 else torch.float64)
    if options.json:
        counts = {"passed": report.passed, "failed": report.failed, "not_yet": report.absent}
        print(json.dumps({**counts, "mismatches": [mismatch._asdict() for mismatch in report.mismatches]}))
    else:
        for mismatch in report.mismatches:
            print(mismatch)
        for name in report.absent:
            print(f"not yet: {name}")
        print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
