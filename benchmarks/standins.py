"""Stand-ins for packages that a bare machine may lack and that only annotate, or that no benchmark calls."""

import importlib.util
import sys
from types import ModuleType
from typing import Any

KINDS = ("Bool", "Float", "Float32", "Float64", "Int", "Int64", "Integer", "Num", "Shaped", "UInt8")


class _Annotation:
    """What `Float[Tensor, "rows dim"]` is where jaxtyping is absent: the array's type, unchecked."""

    def __class_getitem__(cls, item: tuple[Any, str]) -> Any:
        return item[0]


def install() -> list[str]:
    """Put stand-ins for whatever is absent in `sys.modules`; returns the names, to be said to the reader."""
    absent = [name for name in ("jaxtyping", "safetensors") if importlib.util.find_spec(name) is None]
    if "jaxtyping" in absent:
        module = ModuleType("jaxtyping")
        for kind in KINDS:
            setattr(module, kind, _Annotation)
        module.AbstractArray = type("AbstractArray", (), {})  # type: ignore[attr-defined]
        sys.modules["jaxtyping"] = module
    if "safetensors" in absent:
        module = ModuleType("safetensors")
        module.SafetensorError = type("SafetensorError", (Exception,), {})  # type: ignore[attr-defined]
        sys.modules["safetensors"], sys.modules["safetensors.torch"] = module, ModuleType("safetensors.torch")
    return absent
