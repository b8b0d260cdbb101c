"""A table of what was done to trainings and folders, and how much of it was survived."""

from collections import defaultdict

import pytest


@pytest.fixture
def survived(record_property):
    """`survived("killed", 30)`: so many faults of a kind did no harm. Counts once the test has passed."""

    def count(kind, number=1):
        record_property("fault", [kind, number])

    return count


def pytest_terminal_summary(terminalreporter):
    counts, failed = defaultdict(int), defaultdict(int)
    for outcome in ("passed", "failed"):
        for report in terminalreporter.stats.get(outcome, []):
            for name, value in getattr(report, "user_properties", []):
                if name == "fault" and report.when == "call":
                    kind, number = value
                    (counts if outcome == "passed" else failed)[kind] += number
    if not counts and not failed:
        return
    terminalreporter.section("faults")
    for kind in sorted({*counts, *failed}):
        lost = f", {failed[kind]} in tests that failed" if failed[kind] else ""
        terminalreporter.write_line(f"{kind:<44} {counts[kind]:>5} survived{lost}")
