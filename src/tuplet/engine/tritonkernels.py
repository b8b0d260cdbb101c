"""Kernels in Triton, written from tile code: products, tile code and sums in one, no tile of scores is ever in memory.

A kernel owns rows, or columns: each of its programs has some of them and passes over the others. So every sum has one
order, nothing is added by several at once, and the same inputs give the same bytes.
"""

import hashlib
import linecache
import math
import types
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from tuplet.engine.program import Monoid, Over
from tuplet.engine.tritoncode import Input, NotPrintable, Printer, Traced, Value, type_name

Owner = Literal["row", "col"]

HEAD = """\
import triton
import triton.language as tl


@triton.jit
def log1p(x):
    s = x / (2.0 + x)  # the series of the inverse hyperbolic tangent, where 1 + x would round x away
    q = s * s
    series = q * 0.0
    for k in tl.static_range(16, -1, -1):
        series = series * q + 1.0 / (2 * k + 1)
    return tl.where(tl.abs(x) < 0.5, 2.0 * s * series, tl.log(1.0 + x))


@triton.jit
def kernel(
    {arguments}, n, m, stride,
    DIM: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, BD: tl.constexpr, PREC: tl.constexpr,
):
"""

LARGE = 227 * 2**10
"""Bytes that the warps of a program share on Hopper and later. Of these InfoNCE's kernels take 214 kB in float32 with a
dim of 128, and 99 kB with the smaller blocks of other cards."""

FIXED = {
    "col:begin": Value(("col0",), frozenset(), torch.int64),
    "col:new": Value(("",), frozenset(), torch.int64, 0.0),
    "col:inside": Value(("inside",), frozenset({1}), torch.bool),
}
"""Inputs that a kernel knows by itself: place of a tile's first column, columns that another tile had, and whether a
column is one at all."""


@dataclass(frozen=True)
class Result:
    """What a kernel gives beside the gradient of embeddings.

    Args:
        name: An output of the tile code.
        monoid: How it is reduced along the rows or columns that a program passes over; "add" for a derivative, which
            the tile code has summed within the tile.
        over: Of what it has one entry each.
        dtype: Type of the sum.
        trailing: Shape of an entry.
    """

    name: str
    monoid: Monoid | Literal["add"]
    over: Over
    dtype: torch.dtype
    trailing: tuple[int, ...] = ()

    @property
    def parts(self) -> int:
        """How many numbers an entry is."""
        return math.prod(self.trailing)

    @property
    def kept(self) -> tuple[torch.dtype, ...]:
        """Types of what a program keeps: the sum, or peak and mass, or the best and where it was."""
        if self.monoid in {"total", "add"}:
            return (self.dtype,)
        return (self.dtype, self.dtype if self.monoid == "lse" else torch.int32)


@dataclass(frozen=True)
class Sizes:
    """Of blocks: what a program owns, what it meets at a time, numbers of an embedding in a product and in a gradient.

    And how many warps have a program, and how many blocks are on their way at once.
    """

    own: int
    other: int
    inner: int
    outer: int
    warps: int
    stages: int


def sizes(dim: int, dtype: torch.dtype, device: torch.device) -> Sizes:
    """Sizes of blocks; on a CPU, where Triton's interpreter runs them, small ones, of which few rows make several."""
    whole = max(16, 1 << (dim - 1).bit_length())
    if device.type == "cpu":
        return Sizes(16, 32, min(whole, 32), min(whole, 32), 1, 1)
    if dtype == torch.float64:
        return Sizes(32, 32, min(whole, 32), min(whole, 128), 4, 1)
    if whole > 128:
        return Sizes(64, 32, 64, min(whole, 256), 8, 2)
    if dtype == torch.bfloat16:
        return Sizes(64, 64, whole, whole, 4, 2)
    return Sizes(128, 32, whole, whole, 8, 2) if _shared(device) >= LARGE else Sizes(64, 32, whole, whole, 4, 2)


def _shared(device: torch.device) -> int:
    """Bytes that the warps of a program share."""
    if device.type != "cuda":
        return 0
    found = getattr(torch.cuda.get_device_properties(device), "shared_memory_per_block_optin", 0)  # ROCm does not say
    return int(found)


@dataclass(frozen=True)
class Kernel:
    """A kernel and what it is called with: inputs and results in the order of its arguments."""

    function: Any
    source: str
    inputs: tuple[Input, ...]
    results: tuple[Result, ...]
    owner: Owner
    gradient: bool


class Writer:
    """Writes a kernel.

    Args:
        traced: The tile code.
        owner: What each program has some of.
        results: What it gives.
        low: Type that the operands of products are rounded to.
        gradient: True if it gives the gradient of its owner's embeddings, by the output "product".
        whole: True if an embedding is one block, so that one load serves the product and the gradient.
        on_cpu: True for Triton's interpreter, which multiplies no bfloat16.
    """

    def __init__(
        self,
        traced: Traced,
        owner: Owner,
        results: Sequence[Result],
        low: torch.dtype,
        *,
        gradient: bool,
        whole: bool,
        on_cpu: bool,
    ) -> None:
        self.traced, self.owner, self.results = traced, owner, tuple(results)
        self.gradient, self.whole = gradient, whole
        self.along = 1 if owner == "row" else 0  # the axis along which a program sums
        self.wide_type = torch.promote_types(low, torch.float32)
        self.wide = type_name(self.wide_type)
        self.rounded = f".to({type_name(low)})" + (f".to({self.wide})" if on_cpu else "")
        self.before: list[str] = []
        self.after: list[str] = []

    def written(self) -> Kernel:
        """The kernel."""
        inputs = self.traced.inputs
        values = [FIXED.get(one.name) or _named(k, one) for k, one in enumerate(inputs)]
        product = Value(("product",), frozenset({0, 1}), self.wide_type)
        printer = Printer(self.traced, [product, *values], "tl.arange(0, BN)[None, :]")
        for at, result in enumerate(self.results):
            self._result(printer, at, result)
        if self.gradient:
            self._gradient(printer)
        used = [k for k, one in enumerate(inputs) if one.name not in FIXED and values[k] in printer.used]
        source = self._source(printer.lines, {k: inputs[k] for k in used})
        chosen = tuple(inputs[k] for k in used)
        return Kernel(made(source), source, chosen, self.results, self.owner, self.gradient)

    def _source(self, body: list[str], inputs: dict[int, Input]) -> str:
        mine, other = ("row", "col") if self.owner == "row" else ("col", "row")
        loads: dict[str, list[str]] = {"row": [], "col": [], "scalar": []}
        for k, one in inputs.items():
            loads[one.axis] += _load(k, one)
        places = {
            "row": ["i = (row0 + tl.arange(0, BM))[:, None]"],
            "col": ["j = (col0 + tl.arange(0, BN))[None, :]", "inside = j < m"],
        }
        blocks = {"row": ("row0", "BM", "n"), "col": ("col0", "BN", "m")}
        begin, size, _ = blocks[mine]
        start, step, end = blocks[other]
        product = self._product()
        buffers = [f"O{at}_{b}" for at, result in enumerate(self.results) for b in range(len(result.kept))]
        arguments = ["A", "R", *(f"X{k}" for k in inputs), *buffers, *(["G"] if self.gradient else [])]
        lines = [
            "part = tl.program_id(1)",
            f"{begin} = tl.program_id(0) * {size}",
            *places[mine],
            *loads[mine],
            *loads["scalar"],
            "zero = tl.zeros([1, 1], tl.int32)",
            *self._spans(end),
            *self.before,
            f"for {start} in range(first, last, {step}):",
            *(f"    {line}" for line in (*places[other], *loads[other], *product, *body)),
            *self.after,
        ]
        return HEAD.format(arguments=", ".join(arguments)) + "".join(f"    {line}\n" for line in lines)

    def _spans(self, end: str) -> list[str]:
        """What a program passes over: a part of it for sums, all of it for gradients, of which it has some numbers."""
        if not self.gradient:
            return ["slot = part", "first = part * stride", f"last = tl.minimum(first + stride, {end})"]
        return ["slot = 0", "first = 0", f"last = {end}", "d = part * BD + tl.arange(0, BD)"]

    def _product(self) -> list[str]:
        numbers = "k = {} + tl.arange(0, BK)"
        loads = {
            "row": "a = tl.load(A + i.to(tl.int64) * DIM + k[None, :], mask=(i < n) & (k[None, :] < DIM), other=0.0)",
            "col": "r = tl.load(R + j.to(tl.int64) * DIM + k[:, None], mask=(j < m) & (k[:, None] < DIM), other=0.0)",
        }
        loads = {side: load + self.rounded for side, load in loads.items()}
        start = f"product = tl.zeros([BM, BN], {self.wide})"
        product = f"product = tl.dot(a, r, product, input_precision=PREC, out_dtype={self.wide})"
        if self.whole:  # its own embeddings are loaded once
            self.before += [numbers.format(0), loads.pop(self.owner)]
            return [*loads.values(), start, product]
        inner = [numbers.format("k0"), *loads.values(), product]
        return [start, "for k0 in range(0, DIM, BK):", *(f"    {line}" for line in inner)]

    def _gradient(self, printer: Printer) -> None:
        score_grads = printer.text(printer.output("product"))
        size = "BM" if self.owner == "row" else "BN"
        goal, others, end = ("i", "R", "m") if self.owner == "row" else ("j", "A", "n")
        start, step = ("col0", "BN") if self.owner == "row" else ("row0", "BM")
        lines = printer.lines
        lines.append(f"lowered = tl.broadcast_to({score_grads}, [BM, BN]){self.rounded}")
        if self.whole:
            lines.append("other = tl.trans(r)" if self.owner == "row" else "other = a")
        else:
            lines.append(f"o = ({start} + tl.arange(0, {step}))[:, None]")
            mask = f"(o < {end}) & (d[None, :] < DIM)"
            load = f"tl.load({others} + o.to(tl.int64) * DIM + d[None, :], mask={mask}, other=0.0)"
            lines.append(f"other = {load}{self.rounded}")
        lowered = "lowered" if self.owner == "row" else "tl.trans(lowered)"
        lines.append(f"grad = tl.dot({lowered}, other, grad, input_precision=PREC, out_dtype={self.wide})")
        self.before.append(f"grad = tl.zeros([{size}, BD], {self.wide})")
        begin, limit = ("row0", "n") if goal == "i" else ("col0", "m")
        self.after += [
            f"mine = ({begin} + tl.arange(0, {size}))[:, None]",
            f"tl.store(G + mine.to(tl.int64) * DIM + d[None, :], grad, mask=(mine < {limit}) & (d[None, :] < DIM))",
        ]

    def _result(self, printer: Printer, at: int, result: Result) -> None:
        shape = {"row": "[BM, 1]", "column": "[1, BN]", "all": "[1, 1]"}[result.over]
        value = printer.cast(printer.output(result.name), result.dtype)
        for c in range(result.parts):
            text = printer.text(value, c if len(value.parts) > 1 else 0)
            names = [f"S{at}_{c}_{b}" for b in range(len(result.kept))]
            empty = {"largest": 'float("-inf")', "smallest": 'float("inf")', "lse": 'float("-inf")'}
            starts = [empty.get(result.monoid, "0"), "0"]
            for name, start, dtype in zip(names, starts, result.kept, strict=False):
                self.before.append(f"{name} = tl.full({shape}, {start}, {type_name(dtype)})")
            if result.monoid == "add":
                printer.lines.append(f"{names[0]} += {text}")
            else:
                if value.axes != {0, 1}:
                    raise NotPrintable("a term that is not of pairs")
                printer.lines += self._folded(result, text, names)
            for b, name in enumerate(names):
                self.after.append(self._stored(result, f"O{at}_{b}", name, c))

    def _folded(self, result: Result, text: str, names: list[str]) -> list[str]:
        """Reduce a tile, and merge it with what there was."""
        every = (1, 0) if result.over == "all" else (self.along,)

        def along(function: str, x: str) -> str:
            for axis in every:
                x = f"tl.{function}({x}, axis={axis}, keep_dims=True)"
            return x

        match result.monoid:
            case "lse":
                peak, mass = names
                kept = f"{mass} * tl.exp({peak} - base) + {along('sum', f'tl.exp({text} - base)')}"
                return [
                    f"top = tl.maximum({peak}, {along('max', text)})",
                    'base = tl.where(top == float("-inf"), 0.0, top)',  # of nothing; inf - inf is no number
                    f"{mass} = {kept}",
                    f"{peak} = top",
                ]
            case "largest" | "smallest":
                best, place = names
                function, sign = ("max", ">") if result.monoid == "largest" else ("min", "<")
                found = f"tl.{function}({text}, axis=1, return_indices=True, keep_dims=True)"
                return [
                    f"better, where = {found}",
                    f"{place} = tl.where(better {sign} {best}, where + col0, {place})",
                    f"{best} = tl.where(better {sign} {best}, better, {best})",
                ]
        return [f"{names[0]} += {along('sum', text)}"]

    def _stored(self, result: Result, buffer: str, name: str, c: int) -> str:
        guard = " & (part == 0)" if self.gradient else ""
        place, size, mask = {
            "row": ("i", "n", "(i < n)"),
            "column": ("j", "m", "(j < m)"),
            "all": ("tl.program_id(0) + zero", "tl.num_programs(0)", "(zero == 0)"),
        }[result.over]
        return f"tl.store({buffer} + (slot * {size} + {place}) * {result.parts} + {c}, {name}, mask={mask}{guard})"


def _named(k: int, one: Input) -> Value:
    axes = {"row": frozenset({0}), "col": frozenset({1}), "scalar": frozenset[int]()}[one.axis]
    return Value(tuple(f"x{k}_{c}" for c in range(one.parts)), axes, one.dtype)


def _load(k: int, one: Input) -> list[str]:
    if one.axis == "scalar":
        return [f"x{k}_0 = tl.load(X{k})"]
    place, mask = ("i", "i < n") if one.axis == "row" else ("j", "j < m")
    return [f"x{k}_{c} = tl.load(X{k} + {place} * {one.parts} + {c}, mask={mask}, other=0)" for c in range(one.parts)]


def made(source: str) -> Any:
    """The kernel of a source text; Triton reads the text again, so it is kept where Python looks for lines of files."""
    place = f"<kernel {hashlib.sha256(source.encode()).hexdigest()[:16]}>"
    linecache.cache[place] = (len(source), None, source.splitlines(keepends=True), place)
    module = types.ModuleType("tuplet_kernel")
    exec(compile(source, place, "exec"), vars(module))  # noqa: S102  # printed from tile code, not from any input
    return vars(module)["kernel"]
