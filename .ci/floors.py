"""Prints the lowest declared version of every requirement, one `name==version` a line, for `pip install -c`.

    python .ci/floors.py app demo > floors.txt
    pip install -c floors.txt ".[demo]"

The core is always among them; name the extras whose floors are wanted, or none for all.
"""

import re
import sys
import tomllib
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LOWEST = re.compile(r"(?P<name>[\w.-]+)(?:\[[\w,-]+\])?(?:>=|==)(?P<version>[\w.]+)")


def floors(extras: list[str]) -> dict[str, str]:
    """Lowest version of each package that the core and these extras ask for."""
    asked = list(PROJECT["dependencies"])
    for extra in extras or PROJECT["optional-dependencies"]:
        asked += PROJECT["optional-dependencies"][extra]
    found = [LOWEST.match(one) for one in asked if not one.startswith("tuplet")]
    return {one["name"]: one["version"] for one in found}


if __name__ == "__main__":
    print("\n".join(f"{name}=={version}" for name, version in floors(sys.argv[1:]).items()))
