"""From a folder of pictures to daily use: the lines of the README, typed, with a browser at the server."""

import csv
import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import digits

README = Path(__file__).parents[3] / "README.md"
HERE = "tests/app/web/test_path.py"


def lines():
    """The commands of the README that this test types."""
    block = README.read_text(encoding="utf-8").partition(HERE)[2].partition("```sh\n")[2].partition("```")[0]
    return [shlex.split(line.partition("  #")[0]) for line in block.splitlines()]


@pytest.fixture(scope="module")
def desk(tmp_path_factory):
    """Pictures of digits, a folder for each class, and one that is in none of them."""
    folder = tmp_path_factory.mktemp("desk")
    digits.write(folder / "photos", 160, 32)
    digits.picture(160, 32).save(folder / "new.png")
    return folder


@pytest.fixture(scope="module")
def said(desk, typist, served):
    """What each line of the README did; of `tuplet serve` the server, which runs until the tests are done."""
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed (the extra `export`)")
    found = {}
    for words in lines():
        if words[0] == "python":
            found["python"] = subprocess.run(
                [sys.executable, *words[1:]], cwd=desk, capture_output=True, text=True, check=True
            )
        elif words[1] != "serve":
            more = ["--steps", "6"] if words[1] == "train" else []
            found[" ".join(words[1:3])] = said = typist([*words[1:], *more], desk)
            assert said.returncode == 0, f"{words}\n{said.stderr}"
    serve = next(words for words in lines() if words[1] == "serve")
    with served(*serve[2:], folder=desk) as found["server"]:
        yield found


def test_the_lines_of_the_readme_are_a_path():
    kinds = [" ".join(words[1 : 3 if words[1] == "index" else 2]) for words in lines()]
    assert kinds == ["train", "index build", "index add", "serve", "audit", "export", "exported/embed.py"]


def test_the_index_holds_the_folder_and_what_was_added(said):
    names = [item["id"] for item in said["server"].ask("/api/items?limit=1000").json["items"]]
    assert len(names) == len(set(names)) == 161
    assert names[-1] == "new.png"


@pytest.mark.slow
def test_the_audit_is_a_page_and_a_table_that_training_reads(said, desk):
    assert said["audit runs/daily"].returncode == 0
    with (desk / "runs" / "daily" / "audit" / "findings.csv").open(newline="") as file:
        assert {"id", "finding", "exclude"} <= set(next(csv.reader(file)))
    assert (desk / "runs" / "daily" / "audit" / "findings.html").stat().st_size > 10_000


def test_what_was_exported_embeds_as_the_server_does(said, desk):
    shown = json.loads(said["python"].stdout)
    form = ("picture", "new.png", (desk / "new.png").read_bytes())
    [vector] = said["server"].form("/api/embed", form).json["embeddings"]
    length = np.linalg.norm(vector)
    assert np.ravel(shown) == pytest.approx(np.array(vector) / length, abs=1e-5)


@pytest.mark.browser
def test_a_search_and_a_verification_in_the_browser(said, desk, browser):
    server = said["server"]
    page, troubles = browser.new_page(), []
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("console", lambda said: troubles.append(said.text) if said.type == "error" else None)
    page.goto(server.address)
    page.wait_for_selector(".card")
    page.set_input_files("#file", desk / "new.png")
    page.wait_for_selector("#compare:not([hidden])")
    page.wait_for_selector(".card .score")
    found = page.eval_on_selector_all(".card", "cards => cards.map(card => card.dataset.id)")
    asked = server.form("/api/search", ("picture", "new.png", (desk / "new.png").read_bytes()), ("top", 24)).json
    assert found == [hit["id"] for hit in asked["results"][0]["hits"]]
    assert found[0] == "new.png"
    for other in (found[1], found[-1]):
        page.click("#compare")
        page.click(f'.card[data-id="{other}"] > button')
        page.wait_for_selector(f'#decision:not([hidden]) figure:nth-of-type(2) code:text-is("{other}")')
        content = (desk / "new.png").read_bytes()
        answer = server.form("/api/verify", ("a", "new.png", content), ("b", "b.png", photo(desk, other))).json
        assert page.get_attribute("#decision", "data-decision") == answer["decision"]
        assert float(page.get_attribute("#decision", "data-score")) == pytest.approx(answer["score"], abs=1e-4)
    assert troubles == []
    page.close()


def photo(desk, name):
    return (desk / "photos" / name).read_bytes()
