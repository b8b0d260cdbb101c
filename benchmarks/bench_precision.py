"""Errors of value and gradient in low precision, against float64 on the same numbers; writes a table into docs.

python benchmarks/bench_precision.py
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import every
import torch
from torch import Tensor

from tuplet.engine import Execution, products, work
from tuplet.losses import registry

ROWS, DIM, CLASSES = 512, 64, 64
PAGE = Path(__file__).parents[1] / "docs" / "precision.md"
TF32_BITS = 10
"""Of the mantissa of an operand of a product on a card, beside the leading one."""


def rounded(x: Tensor) -> Tensor:
    """float32 to the nearest number of so many bits."""
    mantissa, exponent = torch.frexp(x)
    return torch.ldexp((mantissa * 2 ** (TF32_BITS + 1)).round() / 2 ** (TF32_BITS + 1), exponent)


@contextmanager
def tf32() -> Iterator[None]:
    """Products whose operands are rounded as a card rounds them; sums stay float32."""
    plain = work.multiply, work.add_product
    work.multiply = lambda x, y: products.multiply(rounded(x), rounded(y))
    work.add_product = lambda goal, x, y: goal.addmm_(rounded(x.to(y.dtype)), rounded(y))
    try:
        yield
    finally:
        work.multiply, work.add_product = plain


@contextmanager
def nothing() -> Iterator[None]:
    yield


Mode = tuple[torch.dtype, Execution | None, Callable[[], Any]]
"""Type of the embeddings, how a call is carried out, and what is emulated around it."""

MODES: dict[str, Mode] = {
    "float32": (torch.float32, None, nothing),
    '`precision="tf32"`': (torch.float32, Execution(engine="tiles"), tf32),
    '`precision="bfloat16"`': (torch.float32, Execution(engine="tiles", precision="bfloat16"), nothing),
    "float16 embeddings": (torch.float16, None, nothing),
    "bfloat16 embeddings": (torch.bfloat16, None, nothing),
}


def errors(name: str, mode: Mode) -> tuple[float, float]:
    """Relative error of the value, and of the gradient of the embeddings by its norm."""
    dtype, execution, around = mode
    case = every.case(name, ROWS, DIM, torch.device("cpu"), CLASSES)

    def cast(x: Any) -> Any:
        is_leaf = isinstance(x, Tensor) and x.requires_grad
        return x.detach().to(dtype).requires_grad_() if is_leaf else x

    low = every.make(case.loss, tuple(map(cast, case.tensors)), {key: cast(x) for key, x in case.given.items()})
    truth = low.double()
    low.loss.execution = execution
    with around():
        value = low.value()
        (found,) = torch.autograd.grad(value, low.leaves[:1])
    wanted = truth.value()
    (gradient,) = torch.autograd.grad(wanted, truth.leaves[:1])
    apart = (found.double() - gradient).norm() / gradient.norm().clamp_min(1e-300)
    return abs(value.item() - wanted.item()) / max(abs(wanted.item()), 1e-300), apart.item()


def table() -> str:
    """One row for each loss: error of the value, and of the gradient."""
    rows = ["| loss | " + " | ".join(MODES) + " |", "| --- |" + " ---: |" * len(MODES)]
    for name in every.names():
        if name == "triplet easy" or not registry[name.partition(" ")[0]].__module__.startswith("tuplet."):
            continue  # a hinge that is 0, and losses of other packages
        found = [errors(name, mode) for mode in MODES.values()]
        rows.append(f"| {name} | " + " | ".join(f"{value:.0e}, {gradient:.0e}" for value, gradient in found) + " |")
    return "\n".join(rows)


def main() -> None:
    torch.set_num_threads(1)
    marked = re.compile(r"(<!-- measured: precision -->\n).*?(<!-- end -->)", re.DOTALL)
    text = table()
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(marked.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", page), encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
