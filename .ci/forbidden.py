"""Fails if a package came along that must never be installed; run with the Python whose packages are checked.

torchvision and timm would tie every user to their release cycle; CUDA packages are gigabytes nobody asked for.
"""

import re
import sys
from importlib.metadata import distributions

FORBIDDEN = re.compile(r"torchvision|timm|triton|pytorch-triton|cuda-.*|cupy.*|nvidia-.*")


def forbidden(paths: list[str]) -> list[str]:
    """Names of the packages under `paths` that must not be there, sorted."""
    names = {re.sub(r"[-_.]+", "-", found.metadata["Name"] or "").lower() for found in distributions(path=paths)}
    return sorted(name for name in names if FORBIDDEN.fullmatch(name))


if __name__ == "__main__":
    unwanted = forbidden(sys.argv[1:] or sys.path)
    sys.exit(f"These packages must not be installed: {', '.join(unwanted)}" if unwanted else 0)
