"""Every loss, search and a training step on an accelerator: against the limit, dense forms and other libraries.

Runs from a checkout where there are torch and Triton and nothing else, in four minutes at most:

    PYTHONPATH=src python benchmarks/bench_gpu.py
    PYTHONPATH=src python benchmarks/bench_gpu.py --rows every          # what had no time in the first run
    PYTHONPATH=src python benchmarks/bench_gpu.py --device cpu --small  # whether everything runs, where there is none
    PYTHONPATH=src python benchmarks/bench_gpu.py --counts              # host reads and operators, counted on a CPU

Rows are printed and written as they are done. The limit is so many cuBLAS products of the size as the loss needs
(three; two for a hinge over one set, one for batch-hard) and one exp over every entry.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import standins

ABSENT = standins.install()

import every  # noqa: E402  # after the stand-ins
import torch  # noqa: E402
from counting import MOST_LAUNCHES, MOST_READS, Trace, traced  # noqa: E402
from gpu_rows import COMPILED, KERNELS, LIMIT, Contestant, Made, OnCard, Promise, Row, executing, rows, step  # noqa: E402
from torch import Tensor  # noqa: E402

HERE = Path(__file__).parent
OUT, COUNTS = HERE / "accelerator.json", HERE / "counts.json"
SECONDS = 235.0
TURNS, LEAST_TURNS = 15, 3
ORDER = ("tuplet", KERNELS, LIMIT, "dense", "pytorch-metric-learning", COMPILED)
COUNTED = (1024, 4096)
QUEUED = ("supcon queue", "info_nce queue")
AS_GOOD = 2.0
"""Exact is what errs at most so many times as much as the dense form of the same type."""


def main(arguments: list[str] | None = None) -> int:
    """The table, or the counts."""
    options = _options(arguments)
    if ABSENT:
        print(f"Stand-ins, for annotations only, take the place of {' and '.join(ABSENT)}.")
    if options.counts:
        return _count(options.out or COUNTS)
    if options.device != "cpu" and not torch.cuda.is_available():
        print("No accelerator is here: nothing was measured. --device cpu --small says whether every row runs.")
        return 2 if options.device else 0
    device = torch.device(options.device or "cuda")
    if device.type == "cpu":
        torch.set_num_threads(1)  # threads that wait for each other take far longer than such sizes
    compiles = not options.small if options.compile is None else options.compile
    chosen = [row for row in rows(small=options.small, compiles=compiles) if _is_chosen(row, options.rows)]
    if not chosen:
        known = ", ".join(row.name for row in rows(small=True, compiles=False))
        print(f"No row is called {options.rows}. Known: {known}.", file=sys.stderr)
        return 2
    report = _report(device, small=options.small)
    print(", ".join(f"{name} {value}" for name, value in report.items() if isinstance(value, str)), flush=True)
    out = options.out or (None if options.small else OUT)
    ends = time.perf_counter() + options.seconds
    for row in chosen:
        measured = _measured(row, device, ends)
        report["rows"].append(measured)
        _show(measured)
        if out is not None:
            _write(out, report)
    return 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", help="cuda or cpu; by default the accelerator")
    parser.add_argument("--small", action="store_true", help="tiny sizes")
    parser.add_argument("--rows", help="names, separated by commas; a name takes in all that begin with it")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="for all rows together")
    parser.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="time the compiled dense form too; by default at full size",
    )
    parser.add_argument("--out", type=Path, help=f"where the table is written; by default {OUT.name} beside this file")
    parser.add_argument("--counts", action="store_true", help="count host reads and operators of every loss on a CPU")
    return parser.parse_args(arguments)


def _is_chosen(row: Row, names: str | None) -> bool:
    return names is None or any(row.name.startswith(name.strip()) for name in names.split(","))


def _report(device: torch.device, *, small: bool) -> dict[str, Any]:
    try:
        import triton  # noqa: PLC0415  # CPU builds of torch come without

        compiler = triton.__version__
    except ImportError:
        compiler = "absent"
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "card": torch.cuda.get_device_name(device) if device.type == "cuda" else f"none ({device.type})",
        "torch": torch.__version__,
        "triton": compiler,
        "sizes": "tiny" if small else "full",
        "rows": [],
    }


def _write(out: Path, report: dict[str, Any]) -> None:
    """Write the rows; those that only an earlier run on the same card measured stay."""
    kept: list[dict[str, Any]] = []
    if out.exists():
        before = json.loads(out.read_text())
        if all(before[key] == report[key] for key in ("card", "torch", "triton", "sizes")):
            fresh = {row["row"] for row in report["rows"] if row["contestants"]}
            kept = [row for row in before["rows"] if row["row"] not in fresh]
    reported = {row["row"] for row in kept}
    found = [*kept, *(row for row in report["rows"] if row["row"] not in reported)]
    out.write_text(json.dumps({**report, "rows": found}, indent=1) + "\n")


def _measured(row: Row, device: torch.device, ends: float) -> dict[str, Any]:
    """Everything about one row; what fails or does not fit says so in its place."""
    found: dict[str, Any] = {"row": row.name, "size": row.size, "contestants": {}, "promises": [], "faster": []}
    begin = time.perf_counter()
    allowed = min(begin + row.seconds, ends)
    if begin + 3 > ends:
        return found | {"note": "out of time"}
    try:
        made = row.make(device)
        found["contestants"] = _timed(made, device, allowed, ends)
        _add_errors(made, found["contestants"])
    except (RuntimeError, ValueError, TypeError) as error:  # one row that fails leaves the others
        found["note"] = _said(error)
    finally:
        made = None  # the next row wants the memory
        if device.type == "cuda":
            torch.cuda.empty_cache()
    ours = found["contestants"].get("tuplet", {})
    plain = found["contestants"].get("dense", {})  # where rounding decides what is chosen, it errs as much
    errors = [
        (ours[key], max(row.error, AS_GOOD * (plain.get(key) or 0.0)))
        for key in ("value_error", "gradient_error")
        if ours.get(key) is not None
    ]
    found["exact"] = all(error <= allowed for error, allowed in errors) if errors else None
    found["promises"] = [_outcome(one, found["contestants"], on_card=device.type == "cuda") for one in row.promises]
    others = {name: numbers.get("ms") for name, numbers in found["contestants"].items() if name != LIMIT}
    mine = others.pop("tuplet", None)
    found["faster"] = [name for name, ms in others.items() if ms is not None and mine is not None and ms < mine]
    return found


def _timed(made: Made, device: torch.device, allowed: float, ends: float) -> dict[str, dict[str, Any]]:
    """Interleaved turns: milliseconds, memory, seconds to compile, host reads."""
    numbers: dict[str, dict[str, Any]] = {}
    ready: list[tuple[Contestant, list[float], float]] = []
    for one in sorted(made.contestants, key=lambda each: ORDER.index(each.name)):
        numbers[one.name] = own = {}
        if time.perf_counter() > (allowed if one.name == COMPILED else ends):
            own["note"] = "out of time"
            continue
        try:
            begin = time.perf_counter()
            _ms(one.run, device)
            first = time.perf_counter() - begin
            own |= _memory(one, device)
            if one.eager is not None:
                trace = traced(one.eager)
                own |= {"reads": trace.reads.total(), "operators": trace.operators}
        except (RuntimeError, ValueError, TypeError) as error:
            own["note"] = _said(error)
            continue
        ready.append((one, [], first))
    for turn in range(TURNS if device.type == "cuda" else LEAST_TURNS):
        if turn >= LEAST_TURNS and time.perf_counter() > allowed:
            break
        for one, times, _ in ready:
            times.append(_ms(one.run, device))
    for one, times, first in ready:
        least = min(times)
        numbers[one.name] |= {
            "ms": least,
            "spread": statistics.median(times) / least,
            "compile_s": max(0.0, first - least / 1e3),
        }
    return numbers


def _ms(run: Callable[[], Tensor], device: torch.device) -> float:
    if device.type != "cuda":
        begin = time.perf_counter()
        run()
        return (time.perf_counter() - begin) * 1e3
    begins, ends = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize(device)
    begins.record()
    run()
    ends.record()
    torch.cuda.synchronize(device)
    return begins.elapsed_time(ends)


def _memory(one: Contestant, device: torch.device) -> dict[str, float]:
    """MB beyond what was there and the gradients; on a CPU there is no such counter."""
    if device.type != "cuda":
        return {}
    for x in one.leaves:
        x.grad = None
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    one.run()
    torch.cuda.synchronize(device)
    grads = sum(x.grad.nbytes for x in one.leaves if x.grad is not None)
    return {"mb": (torch.cuda.max_memory_allocated(device) - before - grads) / 2**20}


def _add_errors(made: Made, numbers: dict[str, dict[str, Any]]) -> None:
    """Relative errors of value and gradients of whoever computes the same thing."""
    if made.truth is None:
        return
    try:
        value, grads = made.truth()
    except torch.cuda.OutOfMemoryError:
        return
    for one in made.contestants:
        if one.name in (LIMIT, "pytorch-metric-learning") or "ms" not in numbers[one.name]:
            continue
        numbers[one.name]["value_error"] = _error([one.run()], [value])
        if grads:
            found = [torch.zeros_like(x) if x.grad is None else x.grad for x in one.leaves]
            numbers[one.name]["gradient_error"] = _error(found, grads)


def _error(found: list[Tensor], true: list[Tensor]) -> float:
    apart = sum(float((x.double() - y).square().sum()) for x, y in zip(found, true, strict=True)) ** 0.5
    size = sum(float(y.square().sum()) for y in true) ** 0.5
    return apart / size if size else apart


def _outcome(promise: Promise, numbers: dict[str, dict[str, Any]], *, on_card: bool) -> dict[str, Any]:
    ours = numbers.get("tuplet", {})
    what, mine = promise.what, ours.get("ms")
    rivals = {"x limit": (LIMIT,), "x dense": ("dense",), "x best other": ("dense", "pytorch-metric-learning")}.get(
        what, ()
    )
    times = [numbers[name]["ms"] for name in rivals if "ms" in numbers.get(name, {})]
    found = mine / min(times) if mine is not None and times else ours.get({"MB": "mb"}.get(what, what))
    if found is None:
        outcome = "not measured"
    elif not on_card and what != "reads":
        outcome = "no card, no result"
    elif promise.target is not None and found <= promise.target:
        outcome = "within the target"
    elif promise.bound is not None and found <= promise.bound:
        outcome = "within the bound"
    else:
        outcome = "missed"
    return {"what": what, "found": found, "bound": promise.bound, "target": promise.target, "outcome": outcome}


def _said(error: Exception) -> str:
    text = str(error).strip().splitlines()
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return "does not fit"
    return f"{type(error).__name__}: {text[0] if text else ''}"


def _show(row: dict[str, Any]) -> None:
    print(f"\n{row['row']}  ({row['size']})  {row.get('note', '')}")
    for name, own in row["contestants"].items():
        ms = f"{own['ms']:10.3f} ms x{own['spread']:.2f}" if "ms" in own else f"{own.get('note', '')}"
        parts = [
            f"{label} {own[key]:{form}}"
            for key, label, form in (
                ("mb", "MB", ",.0f"),
                ("reads", "reads", "d"),
                ("operators", "operators", "d"),
                ("compile_s", "first call +s", ".1f"),
                ("value_error", "value", ".1e"),
                ("gradient_error", "gradient", ".1e"),
            )
            if own.get(key) is not None
        ]
        print(f"  {name:<16}{ms}   {'   '.join(parts)}")
    for one in row["promises"]:
        found = "-" if one["found"] is None else f"{one['found']:.3g}"
        print(f"  {one['what']}: {found}   bound {one['bound']}, target {one['target']}: {one['outcome']}")
    if row.get("exact") is False:
        print("  NOT EXACT")
    if row["faster"]:
        print(f"  faster here: {', '.join(row['faster'])}")
    sys.stdout.flush()


def _count(out: Path) -> int:
    """Host reads and operators of one value and gradient of every loss, traced on a CPU by the device path."""
    bounds = {"reads": MOST_READS, "launches": MOST_LAUNCHES}
    report: dict[str, Any] = {"rows": COUNTED, "torch": torch.__version__, "bounds": bounds, "losses": []}
    for name in (*every.names(), *QUEUED):
        traces = {str(rows): _counted(name, rows) for rows in COUNTED}
        counts = {rows: each.counts() for rows, each in traces.items()}
        report["losses"].append({"loss": name, "counts": counts})
        said = "   ".join("{reads:>3}{operators:>7}{launches:>7}".format(**one) for one in counts.values())
        print(f"{name:<28}{said}   {dict(traces[str(COUNTED[-1])].reads)}", flush=True)
    out.write_text(json.dumps(report, indent=1) + "\n")
    return 0


def _counted(name: str, rows: int) -> Trace:
    """The third step: what is made, or read, once and kept is no part of it."""
    given = every.case(name, rows, 128, torch.device("cpu"))
    one = step(given.value, given.leaves)
    with executing(OnCard(), compiled=False):
        for _ in range(2):
            one()
            given.loss.advance()
        return traced(one)


if __name__ == "__main__":
    sys.exit(main())
