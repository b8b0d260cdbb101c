"""Calls of other libraries, answered by the losses of this one; none of them is imported."""

from tuplet.interop import pml
from tuplet.interop.pml import become
from tuplet.interop.settings import Became

__all__ = ["Became", "become", "pml"]
