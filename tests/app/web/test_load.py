"""Many clients at once, and what the server's own document allows and forbids."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tuplet import index as indexes

BENCH = Path(__file__).parents[3] / "benchmarks" / "bench_load.py"
MEMORY = 64 << 20


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("bench_load", BENCH)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_sixty_four_clients_are_answered_in_bounded_memory(bench, server, run, workplace):
    index = indexes.open(run)
    pictures = sorted((workplace / "digits").rglob("*.png"))[:20]
    names = [str(fact["id"]) for fact in list(index.items)[:20]]
    vectors = [item.vector.tolist() for item in index.fetch(names).values()]
    bodies = bench.bodies_of(pictures, names, vectors)
    process = psutil.Process(server.process.pid)
    found = bench.under_load(server.address, bodies, 64, 1000)  # passes of all sizes, each of which torch prepares once
    assert (len(found.seconds), found.errors) == (1000, [])
    before = process.memory_info().rss
    assert not bench.under_load(server.address, bodies, 64, 500).errors
    assert process.memory_info().rss - before < MEMORY
    counted = server.ask("/metrics").body.decode()
    assert 'path="/api/search",status="200"' in counted
    assert server.ask("/api/health").status == 200


def test_work_of_other_processes_is_told_from_that_of_client_and_server(bench, server):
    process = psutil.Process(server.process.pid)
    before = bench.spent(process)
    other = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        while psutil.Process(other.pid).cpu_times().user < 0.5:
            time.sleep(0.05)
    finally:
        other.kill()
        other.wait()
    busy, own = (after - earlier for after, earlier in zip(bench.spent(process), before, strict=True))
    assert busy - own > 0.4
    begin = time.process_time()
    while time.process_time() - begin < 0.5:
        pass
    assert bench.spent(process)[1] - before[1] - own > 0.4


@pytest.mark.slow
def test_no_request_that_schemathesis_makes_of_the_document_is_a_bug(server):
    """What the document allows, and what it forbids."""
    schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (make setup)")
    from hypothesis import HealthCheck, Phase, given, settings  # noqa: PLC0415
    from requests import ConnectionError as Refused  # noqa: PLC0415
    from requests.exceptions import ChunkedEncodingError  # noqa: PLC0415

    schema = schemathesis.openapi.from_dict(server.ask("/api/openapi.json").json)
    schema.config.base_url = server.address
    statuses = {}
    for found in schema.get_all_operations():
        operation = found.ok()
        has_input = bool(operation.query.items or operation.body.items)
        modes = [schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE][: 1 + has_input]
        for mode in modes:

            @settings(max_examples=12, phases=[Phase.generate], database=None, suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(mode))
            def check(case):
                try:
                    answer = case.call(timeout=60)
                except (Refused, ChunkedEncodingError):  # a head beyond 64 KiB is not read to its end
                    assert len(case.as_curl_command()) > 1 << 16
                    return
                assert answer.status_code < 500, (case.as_curl_command(), answer.text)
                statuses.setdefault(case.operation.path, set()).add(answer.status_code)

            check()
    assert {"/api/search", "/api/verify", "/api/embed", "/api/items", "/api/picture"} <= statuses.keys()
    assert 400 in statuses["/api/search"]
    assert server.ask("/api/health").status == 200
