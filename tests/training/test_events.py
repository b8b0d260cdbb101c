"""The event log grows by whole lines and can be cut back to where a checkpoint was."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuplet.training import CLOCKS
from tuplet.training.events import EventLog, read_events

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(fields=st.lists(st.fixed_dictionaries({"step": st.integers(0), "stats": values}), max_size=5))
def test_what_is_written_is_read_and_returned(tmp_path_factory, fields):
    path = tmp_path_factory.mktemp("run") / "events.jsonl"
    with EventLog(path) as event_log:
        written = [event_log.write("step", **entry) for entry in fields]
    assert read_events(path) == written
    assert [(event["step"], event["stats"]) for event in written] == [(one["step"], one["stats"]) for one in fields]


def test_every_event_has_its_kind_and_the_clocks(tmp_path):
    with EventLog(tmp_path / "events.jsonl") as event_log:
        event = event_log.write("end", step=3)
    assert event["kind"] == "end"
    assert set(event) - {"kind", "step"} == set(CLOCKS) - {"examples_per_second", "waited"}  # those are of steps


def test_numbers_that_json_has_no_word_for_become_null(tmp_path):
    with EventLog(tmp_path / "events.jsonl") as event_log:
        event = event_log.write("step", loss=float("nan"), stats={"a": [float("inf"), 1.5]})
    assert (event["loss"], event["stats"]) == (None, {"a": [None, 1.5]})
    json.loads((tmp_path / "events.jsonl").read_text(), parse_constant=pytest.fail)


def test_a_event_log_goes_on_where_a_checkpoint_was(tmp_path):
    path = tmp_path / "events.jsonl"
    with EventLog(path) as event_log:
        event_log.write("step", step=1)
        kept = event_log.settle()
        event_log.write("step", step=2)
    with path.open("ab") as file:
        file.write(b'{"kind": "st')  # a process was killed here
    assert [event["step"] for event in read_events(path)] == [1, 2]
    with EventLog(path, kept) as event_log:
        event_log.write("step", step=3)
    assert [event["step"] for event in read_events(path)] == [1, 3]


def test_a_event_log_of_nobody_writes_nothing():
    with EventLog(None) as event_log:
        assert event_log.write("step", step=1)["step"] == 1
        event_log.settle()


def test_statistics_of_an_event_log_of_the_first_format_have_the_names_of_today(tmp_path):
    (tmp_path / "events.jsonl").write_text('{"kind": "step", "stats": {"lonely_share": 0.5, "norm": 1.0}}\n')
    assert read_events(tmp_path / "events.jsonl")[0]["stats"] == {"without_positives_share": 0.5, "norm": 1.0}
