"""The rows that the accelerator benchmark measures: sizes, contestants, and what the project promises of each."""

import itertools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.util import find_spec
from types import FunctionType
from typing import Any

import dense
import every
import torch
from every import Case
from torch import Tensor

from tuplet import evaluation
from tuplet.engine.execution import Execution
from tuplet.engine.topk import topk
from tuplet.losses import registry

_NUMBERS = itertools.count()
LIMIT, COMPILED, KERNELS = "limit", "dense, compiled", "tuplet, triton"
STRIP = 4096
"""Rows of a block of the limit: 65,536 columns of float32 take 1 GB."""


@dataclass(frozen=True)
class Promise:
    """A number of tuplet, and what it may be.

    Args:
        what: "x limit", "x dense", "x best other", "ms", "MB" or "reads".
        bound: At most this.
        target: Better at most this; None where there is no number.
    """

    what: str
    bound: float | None
    target: float | None = None


@dataclass
class Contestant:
    """Something that is timed: `run` takes value and gradients, of which the leaves have theirs afterwards."""

    name: str
    run: Callable[[], Tensor]
    leaves: list[Tensor] = field(default_factory=list)
    eager: Callable[[], Tensor] | None = None
    """The same without compiled code, to be traced."""


@dataclass
class Made:
    """The contestants of a row, tuplet first, and the truth about value and gradients."""

    contestants: list[Contestant]
    truth: Callable[[], tuple[Tensor, list[Tensor]]] | None = None


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Args:
        name: For `--rows`.
        size: Of it, in words.
        make: Builds everything on a device; called when it is the row's turn.
        promises: What is asked of tuplet.
        error: Largest relative error of value and gradient that goes as exact.
        seconds: Share of the time.
    """

    name: str
    size: str
    make: Callable[[torch.device], Made]
    promises: tuple[Promise, ...]
    error: float = 1e-5
    seconds: float = 8.0


def step(value: Callable[[], Tensor], leaves: list[Tensor]) -> Callable[[], Tensor]:
    """One value and gradient."""

    def run() -> Tensor:
        for x in leaves:
            x.grad = None
        found = value()
        found.backward()
        return found.detach()

    return run


def limit(rows: int, cols: int, dim: int, products: int, dtype: torch.dtype, device: torch.device) -> Contestant:
    """So many products of the size, and one exp over every entry: what no method that meets every pair undercuts."""
    a, r = torch.randn(rows, dim, device=device, dtype=dtype), torch.randn(cols, dim, device=device, dtype=dtype)
    height = min(rows, max(1, STRIP * 65_536 // cols))

    @torch.no_grad()
    def run() -> Tensor:
        back = torch.zeros_like(r)
        for block in a.split(height):
            scores = (block @ r.T).exp_()
            if products > 1:
                scores @ r
            if products > 2:
                back += scores.T @ block
        return back[0, 0]

    return Contestant(LIMIT, run)


def of_case(
    name: str,
    size: int,
    dim: int,
    device: torch.device,
    *,
    products: int = 3,
    compile_dense: bool = True,
    execution: Execution | None = None,
    dtype: torch.dtype = torch.float32,
    whole: bool = True,
    **options: Any,
) -> Made:
    """A loss beside its dense form, that form compiled, pytorch-metric-learning, and the limit."""
    given = every.case(name, size, dim, device, **options)
    if dtype != torch.float32:
        given = _cast(given, dtype)
    leaves = given.leaves
    ours = step(given.value, leaves)
    found = [Contestant("tuplet", executed(ours, execution), leaves, executed(ours, execution, compiled=False))]
    if products and device.type == "cuda" and find_spec("triton") is not None:
        by_kernels = replace(execution or Execution(), engine="triton")
        found.append(Contestant(KERNELS, executed(ours, by_kernels), leaves))
    if given.form is not None and given.inputs is not None and whole:
        value = partial(dense.whole, given.form, given.inputs)
        found.append(Contestant("dense", step(value, leaves), leaves))
        if compile_dense:
            found.append(Contestant(COMPILED, step(partial(_compiled(), given.form, given.inputs), leaves), leaves))
    if (theirs := every.baseline(name, given)) is not None and whole:
        found.append(Contestant("pytorch-metric-learning", step(theirs, leaves), leaves))
    if products:
        weight = getattr(given.loss, "weight", None)
        cols = size if weight is None else len(weight)
        found.append(limit(size, cols, dim, products, dtype, device))
    return Made(found, partial(_truth, given))


def executed(
    run: Callable[[], Tensor], execution: Execution | None, *, compiled: bool | None = None
) -> Callable[[], Tensor]:
    """The call with the engine's default replaced: on a CPU the device path is not taken by itself."""

    def with_it() -> Tensor:
        with executing(execution, compiled=compiled):
            return run()

    return with_it


class OnCard(Execution):
    """Tiles as they are on an accelerator, wherever they are counted."""

    def entries(self, like: Tensor) -> int:
        """What there is memory for."""
        return self.room(like)


@contextmanager
def executing(execution: Execution | None, *, compiled: bool | None = None) -> Iterator[None]:
    """Replace the engine's default wherever it is known, with tile code in the place of "auto"."""
    execution = execution or Execution()
    if execution.engine == "auto":
        execution = replace(execution, engine="tiles")
    if compiled is not None:
        execution = replace(execution, compiled=compiled)
    known = [
        module
        for name, module in sys.modules.items()
        if name.startswith("tuplet.") and isinstance(vars(module).get("DEFAULT"), Execution)
    ]
    before = [vars(module)["DEFAULT"] for module in known]
    for module in known:
        vars(module)["DEFAULT"] = execution
    try:
        yield
    finally:
        for module, one in zip(known, before, strict=True):
            vars(module)["DEFAULT"] = one


def _compiled() -> Callable[..., Tensor]:
    """The dense form compiled; a code object of its own, since the compiler counts variants by code object."""
    code = dense.whole.__code__
    own = FunctionType(code.replace(co_name=f"{code.co_name}_{next(_NUMBERS)}"), vars(dense))
    return torch.compile(own, dynamic=False)


def _cast(given: Case, dtype: torch.dtype) -> Case:
    def cast(x: Any) -> Any:
        leaf = isinstance(x, Tensor) and x.requires_grad
        return x.detach().to(dtype).requires_grad_() if leaf else x

    tensors = tuple(map(cast, given.tensors))
    reported = {name: cast(x) for name, x in given.given.items()}
    assert given.inputs is not None
    inputs = dense.Inputs(tensors[0], reported.get("references"), given.inputs.labels, given.inputs.options)
    return every.make(given.loss, tensors, reported, form=given.form, inputs=inputs)


def _truth(given: Case) -> tuple[Tensor, list[Tensor]]:
    """The dense form in float64; without one, the panels of the CPU's engine in float64."""
    if given.form is not None and given.inputs is not None:
        return dense.truth(given.form, given.inputs)
    exact = given.double()
    value = executed(step(exact.value, exact.leaves), Execution(engine="panels"))()
    return value, [torch.zeros_like(x) if x.grad is None else x.grad for x in exact.leaves]


def retrieval(size: int, dim: int, device: torch.device) -> Made:
    """Neighbour lists evaluated by labels, beside blocks of a product and `topk`."""
    each = 5
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(size, device=device) // each
    centers = torch.randn(-(-size // each), dim, generator=generator).repeat_interleave(each, 0)[:size]
    x = (centers + 1.5 * torch.randn(size, dim, generator=generator)).to(device)

    def ours() -> Tensor:
        found = evaluation.retrieval(x, labels, top=(1,), measures=("recall",), bootstrap=0)
        return torch.as_tensor(found.values["recall@1"])

    def blocks(x: Tensor) -> Tensor:
        unit, hits = torch.nn.functional.normalize(x), []
        for block in torch.arange(size, device=device).split(STRIP):
            scores = unit[block] @ unit.T
            scores[torch.arange(len(block), device=device), block] = -torch.inf
            hits.append((labels[scores.topk(each).indices[:, 0]] == labels[block]).double().mean() * len(block))
        return torch.stack(hits).sum() / size

    return Made([Contestant("tuplet", ours), Contestant("dense", lambda: blocks(x))], lambda: (blocks(x.double()), []))


def nearest(queries: int, size: int, dim: int, device: torch.device) -> Made:
    """Exact nearest neighbours, beside blocks of a product and `topk`."""
    generator = torch.Generator().manual_seed(0)
    gallery = torch.randn(size, dim, generator=generator).to(device)
    q = torch.randn(queries, dim, generator=generator).to(device)
    block = max(16, size // 8)

    def blocks(q: Tensor, gallery: Tensor) -> Tensor:
        unit = torch.nn.functional.normalize(q)
        best = [
            (unit @ torch.nn.functional.normalize(part).T).topk(min(10, len(part))).values
            for part in gallery.split(block)
        ]
        return torch.cat(best, 1).topk(10).values

    return Made(
        [
            Contestant("tuplet", lambda: topk(q, gallery, 10).scores),
            Contestant("dense", lambda: blocks(q, gallery)),
        ],
        lambda: (blocks(q.double(), gallery.double()), []),
    )


def training(batch: int, side: int, device: torch.device) -> Made:
    """A step of an image encoder, beside the loop one would write around a dense loss; images are there already."""
    from tuplet.models.encoders import ConvSmall  # noqa: PLC0415  # needs a stand-in on a bare machine

    given = every.case("supcon", batch, 128, device)
    images = torch.rand(batch, 3, side, side, generator=torch.Generator().manual_seed(0)).to(device)
    labels = given.given["labels"]

    def loop(loss: Callable[[Tensor], Tensor]) -> Contestant:
        torch.manual_seed(0)
        encoder = ConvSmall(3, side, width=(64, 128, 256)).to(device).train()
        optimizer = torch.optim.SGD(encoder.parameters(), lr=1e-4)

        def run() -> Tensor:
            optimizer.zero_grad()
            value = loss(encoder(images))
            value.backward()
            optimizer.step()
            return value.detach()

        return Contestant("", run)

    ours = loop(lambda x: given.loss(x, labels))
    bare = loop(lambda x: dense.whole(dense.supcon, dense.Inputs(x, None, labels)))
    ours.eager = executed(ours.run, None, compiled=False)
    ours.run, ours.name, bare.name = executed(ours.run, None), "tuplet", "dense"
    return Made([ours, bare])


def rows(*, small: bool, compiles: bool) -> Iterator[Row]:
    """The table, at its sizes, or tiny ones that tell whether everything runs."""
    losses = partial(of_case, compile_dense=compiles)
    once = partial(of_case, compile_dense=False)  # where the compiled dense form tells nothing new

    def n(size: int, tiny: int) -> int:
        return tiny if small else size

    reads = Promise("reads", 1, 0)
    big, dim = n(16_384, 64), n(128, 16)
    for name, products in (
        ("supcon", 3),
        ("nt_xent", 3),
        ("contrastive", 2),
        ("multi_similarity", 3),
        ("log_ratio", 3),
        ("info_nce", 3),
    ):
        times = Promise("x limit", 2, 1.3) if name == "info_nce" else Promise("x limit", 1.5, 1.1)
        if name in registry:
            make = partial(losses, name, big, dim, products=products)
            yield Row(name, f"B={big:,} D={dim}", make, (times, reads))
    huge = n(65_536, 96)
    for name in ("info_nce", "supcon"):
        promises = (Promise("MB", 512), reads)
        make = partial(once, name, huge, dim, whole=small)
        times = (Promise("x limit", 2, 1.3),) if name == "info_nce" else ()
        yield Row(f"{name} large", f"B={huge:,} D={dim}", make, (*times, *promises), seconds=12)
    wide = n(768, 32)
    low = partial(
        once,
        "info_nce",
        huge,
        wide,
        whole=small,
        execution=Execution(precision="bfloat16", memory=2**29),
        dtype=torch.bfloat16,
    )
    promises = (Promise("x limit", 2.5), Promise("ms", None, 45), Promise("MB", 2000, 1500), reads)
    yield Row("info_nce bfloat16", f"B={huge:,} D={wide}", low, promises, error=2e-2, seconds=12)
    hard = partial(losses, "triplet batch_hard", big, dim, products=1)
    yield Row("batch-hard", f"B={big:,} D={dim}", hard, (Promise("ms", 5, 2), reads))
    several = n(4096, 48)
    for select in ("all", "semihard", "facenet"):
        make = partial(losses, f"triplet {select}", several, dim)
        yield Row(f"triplets {select}", f"B={several:,} D={dim}", make, (Promise("ms", 10, 4), reads))
    for classes, tiny in ((100_000, 80), (1_000_000, 120)):
        c, b, d = n(classes, tiny), n(512, 24), n(512, 16)
        make = partial(losses if classes == 100_000 else once, "arcface", b, d, classes=c)
        yield Row(
            f"arcface {classes:,}",
            f"B={b} D={d} C={c:,}",
            make,
            (Promise("x limit", 1.5, 1.15), Promise("MB", 64), reads),
        )
    yield Row("retrieval", f"N={n(60_000, 200):,}", partial(retrieval, n(60_000, 200), dim), (Promise("ms", 200, 80),))
    q, m = n(1000, 8), n(1_000_000, 500)
    make = partial(nearest, q, m, n(64, 8))
    yield Row("topk", f"{q:,} x {m:,} x {n(64, 8)}", make, (Promise("ms", 45, 20),))
    make = partial(training, n(384, 16), n(64, 16))
    yield Row("training step", f"B={n(384, 16)}", make, (Promise("x dense", 1.1, 1.02),))
    for name in every.names():
        for size, tiny in ((1024, 24), (256, 16), (4096, 32)):
            b = n(size, tiny)
            make = partial(once, name, b, dim, products=0)
            promises = (Promise("x best other", 1), *((Promise("ms", 1.5),) if size == 1024 else ()), reads)
            yield Row(f"every {name} {size}", f"B={b:,} D={dim}", make, promises, seconds=2.5)
