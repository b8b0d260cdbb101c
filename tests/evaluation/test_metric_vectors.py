import json
from pathlib import Path

import pytest

from vectors.metric_cases import run_case

FILE = json.loads((Path(__file__).parents[1] / "vectors" / "data" / "metrics.json").read_text())


@pytest.mark.parametrize("case", FILE["cases"], ids=lambda case: f"{case['kind']}-{case['name']}")
def test_every_number_of_every_case_is_reproduced(case):
    found = run_case(case)
    assert found.keys() == case["expected"].keys()
    for name, expected in case["expected"].items():
        assert found[name] == (None if expected is None else pytest.approx(expected, **TOLERANCE)), name


TOLERANCE = {"rel": FILE["tolerance"]["rtol"], "abs": FILE["tolerance"]["atol"]}
