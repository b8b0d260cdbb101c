"""What a step of each loss family asks of n processes, counted, beside the model of `scale_model.py`.

Run `make bench BENCH=benchmarks/bench_scale.py`, or with `--check` to compare all but memory with `scale.csv`. Real
processes under gloo take one step, forward and backward, on 1,024 rows of 64 numbers. Counted are the multiply-adds of
all matrix products of a process, and the bytes that a process receives from the others: (n - 1) x for an all-gather of
x bytes, 2 (n - 1) / n x for an all-reduce, what the ring hands over. The peak of memory is measured where 262,144
classes, or rows of a bank, of 128 numbers are held.
"""

import argparse
import csv
import gc
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from scale_model import CASES, SEVERAL, UNSHARED, Sizes, cost
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tuplet import losses
from tuplet.engine import SINGLE_PROCESS, Execution, Processes
from tuplet.engine.topk import topk

RESULTS = Path(__file__).with_name("scale.csv")
SIZES = Sizes(batch=1024, dim=64, classes=8192, bank=8192, noise=512, queries=16)
LARGE = replace(SIZES, batch=64, dim=128, classes=262_144, bank=262_144, noise=64)
"""Where what is held is more than what a process takes anyway."""
HEAVY = ("proxies", "class weights", "class weights, sharded", "memory bank", "memory bank, sharded")
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
        elif name in ("_embedding_bag", "_embedding_bag_forward_only"):  # sums of rows of lists, each times its factor
            table, positions = args[:2]
            self.total += positions.numel() * table.shape[1]
        elif name == "_embedding_bag_per_sample_weights_backward":  # products of a row with each of its list
            _, table, positions = args[:3]
            self.total += positions.numel() * table.shape[1]
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


def made(case: str, processes: Processes, sizes: Sizes) -> nn.Module:
    """The loss of a case."""
    shared = {"processes": processes}
    classes, dim, bank = sizes.classes, sizes.dim, sizes.bank
    torch.manual_seed(0)
    tiles = Execution(engine="tiles", exchange="ring" if case.endswith("ring") else "gather", compiled=False)
    options: dict[str, Any] = {"num_classes": classes, "dim": dim, **shared}
    if case.startswith("pairs"):
        loss: Any = losses.SupConLoss(**shared)
    elif case == "triplets":
        loss = losses.TripletLoss(select="batch_hard", **shared)
    elif case == "graded":
        loss = losses.LogRatioLoss(**shared)
    elif case == "proxies":
        loss = losses.ProxyAnchorLoss(**options)
    elif case.startswith("class weights"):
        rate = 0.1 if "sampled" in case else 1.0
        loss = losses.ArcFaceLoss(sharded="sharded" in case, sample_rate=rate, **options)
    else:
        options = {"num_instances": bank, "dim": dim, "noise_samples": sizes.noise, **shared}
        loss = losses.InstanceDiscriminationLoss(sharded="sharded" in case, **options)
    loss.execution = tiles
    return loss


def counted(case: str, processes: Processes, *, light: bool) -> dict[str, float]:
    """Multiply-adds and received bytes of one step of this process, and MB that it holds in a large one."""
    if case.startswith("index"):
        with Products() as searched:
            topk(torch.randn(SIZES.queries, SIZES.dim), torch.randn(SIZES.bank, SIZES.dim), 10)
        return {"products": searched.total}
    wire, products = Wire(), Products()
    with wire.counting(), products:
        step = _step(case, processes, SIZES)
        next(step)  # the first step of a bank estimates its constant too
        wire.received, products.total = 0.0, 0
        next(step)
    found = {"products": products.total, "wire": wire.received}
    if case in HEAVY and not light:
        before = _high()
        next(_step(case, processes, LARGE))
        found["memory"] = _high(clear=False) - before
    return found


def _step(case: str, processes: Processes, sizes: Sizes) -> Iterator[None]:
    """Steps of a loss, forward and backward, without end."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.nn.functional.normalize(torch.randn(sizes.batch, sizes.dim, generator=generator))
    labels = torch.randint(sizes.classes // 4, (sizes.batch,), generator=generator).sort()[0]
    if case.startswith("memory bank"):
        labels = torch.randperm(sizes.bank, generator=generator)[: sizes.batch]
    elif case == "graded":
        labels = torch.randn(sizes.batch, 2, generator=generator)
    each = sizes.batch // processes.size
    part = slice(each * processes.rank, each * (processes.rank + 1))
    loss: Any = made(case, processes, sizes)
    while True:
        loss(rows[part].clone().requires_grad_(), labels[part]).backward()
        loss.advance()
        yield


def _high(*, clear: bool = True) -> int:
    """Bytes of the peak of this process; from now on, if it is cleared."""
    if clear:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def work(rank: int, size: int, place: Path, cases: list[str], *, light: bool) -> None:
    """One process: all cases, one after the other."""
    torch.set_num_threads(1)
    processes = SINGLE_PROCESS
    if size > 1:
        dist.init_process_group("gloo", init_method=f"file://{place / 'store'}", rank=rank, world_size=size)
        processes = Processes.default()
    found = {case: counted(case, processes, light=light) for case in cases}
    (place / f"{rank}.json").write_text(json.dumps(found))
    if size > 1:
        dist.barrier()
        dist.destroy_process_group()


def measure(size: int, cases: list[str], *, light: bool) -> dict[str, dict[str, float]]:
    """The mean over processes of what each case asks of one."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, __file__, *(["--check"] if light else []), "--work", str(size), scratch, *cases]
        environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is given back
        started = [subprocess.Popen([*command, "--rank", str(rank)], env=environment) for rank in range(size)]
        codes = [process.wait() for process in started]
        if any(codes):
            raise SystemExit(f"A process of {size} failed.")
        found = [json.loads((Path(scratch) / f"{rank}.json").read_text()) for rank in range(size)]
    return {case: {what: sum(one[case][what] for one in found) / size for what in found[0][case]} for case in cases}


def rows(counts: tuple[int, ...], *, light: bool) -> Iterator[dict[str, object]]:
    """Counts beside the model, and the error of the model."""
    for size in counts:
        cases = [case for case in CASES if case not in (UNSHARED if size > 1 else SEVERAL)]
        for case, found in measure(size, cases, light=light).items():
            model = replace(cost(case, size, SIZES), memory=cost(case, size, LARGE).memory)
            for what, number in found.items():
                if number < 100:  # a few counters go over the wire in any case
                    continue
                expected = getattr(model, what)
                yield {
                    "case": case,
                    "processes": size,
                    "what": what,
                    "counted": round(number),
                    "model": round(expected),
                    "error": round(abs(expected - number) / number, 4),
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
        work(asked.rank, int(asked.work[0]), Path(asked.work[1]), asked.work[2:], light=asked.check)
        return
    found = list(rows(tuple(asked.processes or COUNTS), light=asked.check))
    for row in found:
        print(*row.values(), sep="\t", flush=True)
    if asked.check:
        with RESULTS.open(newline="") as file:
            kept = {(row["case"], row["processes"], row["what"]): row for row in csv.DictReader(file)}
        for row in found:
            stored = kept[str(row["case"]), str(row["processes"]), str(row["what"])]
            if {key: str(value) for key, value in row.items()} != stored:
                raise SystemExit(f"scale.csv says {stored}, counted is {row}")
        return
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]))
        writer.writeheader()
        writer.writerows(found)


if __name__ == "__main__":
    main()
