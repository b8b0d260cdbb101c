import json
from pathlib import Path

import pytest

from vectors.metric_cases import run_case

FILE = json.loads((Path(__file__).parents[1] / "vectors" / "data" / "metrics.json").read_text())


@pytest.mark.parametrize("case", FILE["cases"], ids=lambda case: f"{case['kind']}-{case['name']}")
def test_every_number_of_every_case_is_reproduced(case):
    found = run_case(case)
    wanted = case["expected"]
    if case["kind"] == "scalars":  # closed forms of losses and samplers, of which some do not exist yet
        wanted = {name: wanted[name] for name in found}
    assert found.keys() == wanted.keys()
    for name, expected in wanted.items():
        assert found[name] == (None if expected is None else pytest.approx(expected, **TOLERANCE)), name


TOLERANCE = {"rel": FILE["tolerance"]["rtol"], "abs": FILE["tolerance"]["atol"]}
