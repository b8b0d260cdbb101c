"""What a step of each loss family asks of n processes, counted, beside the model of `scale_model.py`.

Run `make bench BENCH=benchmarks/bench_scale.py`, or with `--check` to compare with `scale.csv` without writing. Real
processes under gloo take one step, forward and backward, on 1,024 rows of 64 numbers. Counted are the multiply-adds of
all matrix products of a process, and the bytes that a process receives from the others: (n - 1) x for an all-gather of
x bytes, 2 (n - 1) / n x for an all-reduce, what the ring hands over.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from scale_model import CASES, Sizes, cost
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tuplet import losses
from tuplet.engine import SINGLE_PROCESS, Execution, Processes

RESULTS = Path(__file__).with_name("scale.csv")
SIZES = Sizes(batch=1024, dim=64, classes=8192, bank=8192, noise=512)
COUNTS = (1, 2, 4)


class Products(TorchDispatchMode):
    """Multiply-adds of matrix products, backward passes included."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__.rstrip("_")
        if name in ("mm", "bmm", "addmm", "baddbmm", "mv", "addmv"):
            left, right = args[1:3] if "add" in name else args[:2]
            self.total += left.numel() * (right.shape[-1] if "mv" not in name else 1)
        return func(*args, **(kwargs or {}))


class Wire:
    """Bytes that this process receives while `counting`."""

    def __init__(self) -> None:
        self.received = 0.0

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what the collectives of `torch.distributed` bring."""
        kept = {name: getattr(dist, name) for name in ("all_gather", "all_reduce", "batch_isend_irecv")}
        size = dist.get_world_size() if dist.is_initialized() else 1

        def gathered(everyone: list[Tensor], mine: Tensor, **options: Any) -> Any:
            self.received += (size - 1) * mine.nbytes
            return kept["all_gather"](everyone, mine, **options)

        def reduced(x: Tensor, *args: Any, **options: Any) -> Any:
            self.received += 2 * (size - 1) / size * x.nbytes
            return kept["all_reduce"](x, *args, **options)

        def passed(both: list[Any]) -> Any:
            self.received += sum(one.tensor.nbytes for one in both if one.op is dist.irecv)
            return kept["batch_isend_irecv"](both)

        dist.all_gather, dist.all_reduce, dist.batch_isend_irecv = gathered, reduced, passed
        try:
            yield
        finally:
            for name, function in kept.items():
                setattr(dist, name, function)


def made(case: str, processes: Processes) -> nn.Module:
    """The loss of a case."""
    shared = {"processes": processes}
    classes, dim, bank = SIZES.classes, SIZES.dim, SIZES.bank
    torch.manual_seed(0)
    tiles = Execution(engine="tiles", exchange="ring" if case.endswith("ring") else "gather", compiled=False)
    options: dict[str, Any] = {"num_classes": classes, "dim": dim, **shared}
    if case.startswith("pairs"):
        loss: Any = losses.SupConLoss(**shared)
    elif case == "triplets":
        loss = losses.TripletLoss(select="batch_hard", **shared)
    elif case == "proxies":
        loss = losses.ProxyAnchorLoss(**options)
    elif case.startswith("class weights"):
        rate = 0.1 if "sampled" in case else 1.0
        loss = losses.ArcFaceLoss(sharded="sharded" in case, sample_rate=rate, **options)
    else:
        options = {"num_instances": bank, "dim": dim, "noise_samples": SIZES.noise, **shared}
        loss = losses.InstanceDiscriminationLoss(sharded="sharded" in case, **options)
    loss.execution = tiles
    return loss


def counted(case: str, processes: Processes) -> dict[str, float]:
    """Multiply-adds and received bytes of one step of this process."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.nn.functional.normalize(torch.randn(SIZES.batch, SIZES.dim, generator=generator))
    labels = torch.randint(SIZES.classes // 4, (SIZES.batch,), generator=generator).sort()[0]
    positions = torch.randperm(SIZES.bank, generator=generator)[: SIZES.batch]
    each = SIZES.batch // processes.size
    part = slice(each * processes.rank, each * (processes.rank + 1))
    loss = made(case, processes)
    given = positions[part] if case.startswith("memory bank") else labels[part]
    wire, products = Wire(), Products()
    for _ in range(2):  # the first step of a bank estimates its constant too
        wire.received, products.total = 0.0, 0
        with wire.counting(), products:
            loss(rows[part].clone().requires_grad_(), given).backward()
            loss.advance()
    return {"products": products.total, "wire": wire.received}


def work(rank: int, size: int, place: Path, cases: list[str]) -> None:
    """One process: all cases, one after the other."""
    torch.set_num_threads(1)
    processes = SINGLE_PROCESS
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{place / 'store'}", rank=rank, world_size=size)
        processes = Processes.default()
    found = {case: counted(case, processes) for case in cases}
    (place / f"{rank}.json").write_text(json.dumps(found))
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()


def measure(size: int, cases: list[str]) -> dict[str, dict[str, float]]:
    """The mean over processes of what each case asks of one."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, __file__, "--work", str(size), scratch, *cases]
        started = [subprocess.Popen([*command, "--rank", str(rank)]) for rank in range(size)]
        codes = [process.wait() for process in started]
        if any(codes):
            raise SystemExit(f"A process of {size} failed.")
        found = [json.loads((Path(scratch) / f"{rank}.json").read_text()) for rank in range(size)]
    return {
        case: {what: sum(one[case][what] for one in found) / size for what in ("products", "wire")} for case in cases
    }


def rows(counts: tuple[int, ...] = COUNTS) -> Iterator[dict[str, object]]:
    """Counts beside the model, and the error of the model."""
    for size in counts:
        cases = [case for case in CASES if size > 1 or ("sharded" not in case and "ring" not in case)]
        for case, found in measure(size, cases).items():
            model = cost(case, size, SIZES)
            for what, expected in (("products", model.products), ("wire", model.wire)):
                if size == 1 and what == "wire":
                    continue
                error = abs(expected - found[what]) / max(found[what], 1.0)
                yield {
                    "case": case,
                    "processes": size,
                    "what": what,
                    "counted": round(found[what]),
                    "model": round(expected),
                    "error": round(error, 4),
                }


def main() -> None:
    """Write `scale.csv`, or compare with it."""
    words = argparse.ArgumentParser()
    words.add_argument("--check", action="store_true")
    words.add_argument("--work", nargs="+")
    words.add_argument("--rank", type=int)
    words.add_argument("--processes", type=int, nargs="*")
    asked = words.parse_args()
    if asked.work:
        work(asked.rank, int(asked.work[0]), Path(asked.work[1]), asked.work[2:])
        return
    found = list(rows(tuple(asked.processes or COUNTS)))
    for row in found:
        print(*row.values(), sep="\t", flush=True)
    if asked.check:
        with RESULTS.open(newline="") as file:
            kept = {(row["case"], row["processes"], row["what"]): row for row in csv.DictReader(file)}
        for row in found:
            stored = kept[row["case"], str(row["processes"]), row["what"]]  # type: ignore[index]
            if {key: str(value) for key, value in row.items()} != stored:
                raise SystemExit(f"scale.csv says {stored}, counted is {row}")
        return
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    main()
