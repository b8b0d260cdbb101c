"""What tests have shown of each loss: the record from which the table of all losses is written.

A test says what it shows with `@pytest.mark.shows("oracle")`, of the loss that its parameter `name` begins with, or of
those that are named after it. `pytest --shown tests/shown.json` takes down which of the tests that ran have passed, and
leaves what the file says of others as it is; `make shown` runs them all. With `--collect-only` it takes down
all claims.
"""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

Shown = dict[str, dict[str, list[str]]]
"""What is shown, of which loss, and the tests that show it."""
RECORD = Path(__file__).with_name("shown.json")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--shown", type=Path, help="file in which to take down what the tests that pass show of each loss")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("shown") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(config.getoption("shown")))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A report says what its test shows, also one that comes from another process."""
    report = yield
    if shown := list(claims(item)):
        report.user_properties = [*report.user_properties, ("shows", shown)]
    return report


def claims(item: pytest.Item) -> Iterator[tuple[str, str]]:
    """What a test shows, and of which loss."""
    for mark in item.iter_markers("shows"):
        what, *losses = mark.args
        for loss in losses or [item.callspec.params["name"].partition("-")[0]]:
            yield what, loss


class Recorder:
    """Takes down what passes, and strikes out what does not.

    Args:
        path: The record, which may be there already.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.passed: dict[tuple[str, str, str], bool] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of a test with several parameters all that ran must have passed; one that is skipped says nothing."""
        for what, loss in dict(report.user_properties).get("shows", []):
            claim = what, loss, report.nodeid.partition("[")[0]
            if report.failed or (report.when == "call" and report.passed):
                self.passed[claim] = self.passed.get(claim, True) and report.passed

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """With `--collect-only`, what there is to be shown."""
        if session.config.option.collectonly:
            self.passed = {
                (*claim, item.nodeid.partition("[")[0]): True for item in session.items for claim in claims(item)
            }

    def pytest_sessionfinish(self) -> None:
        """Write the record."""
        shown: Shown = json.loads(self.path.read_text(encoding="utf-8")) if self.path.exists() else {}
        for (what, loss, test), passed in self.passed.items():
            tests = {*shown.setdefault(what, {}).get(loss, [])}
            shown[what][loss] = sorted(tests | {test} if passed else tests - {test})
        ordered = {
            what: {loss: tests for loss, tests in sorted(losses.items()) if tests}
            for what, losses in sorted(shown.items())
        }
        self.path.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
