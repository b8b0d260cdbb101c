"""The server as programs use it: real processes, real requests."""

import json

import pytest
import torch

from tuplet import index as indexes


def test_api_command_line_and_python_find_the_same(server, run, workplace, digit, tuplet):
    path, name = digit
    typed = tuplet("search", run, path, "--top", 5, "--json", "--where", "split = 'train'", folder=workplace)
    rows = [json.loads(line) for line in typed.stdout.splitlines()]
    index = indexes.open(run)
    hits = index.search(index.embedder.embed([path]), 5, where="split = 'train'")
    answer = server.form(
        "/api/search", ("picture", path.name, path.read_bytes()), ("top", 5), ("where", "split = 'train'")
    ).json
    found = answer["results"][0]["hits"]
    assert [hit["id"] for hit in found] == [row["id"] for row in rows] == list(hits.ids[0])
    assert [hit["rank"] for hit in found] == [1, 2, 3, 4, 5]
    assert [hit["facts"]["label"] for hit in found] == [row["label"] for row in rows]
    scores = [hit["score"] for hit in found]
    assert scores == pytest.approx([row["score"] for row in rows], abs=1e-4)
    assert scores == pytest.approx(hits.scores[0].tolist(), abs=1e-4)
    assert name


def test_queries_of_all_kinds_in_one_request(server, run, digit):
    path, name = digit
    index = indexes.open(run)
    vector = index.fetch([name])[name].vector.tolist()
    asked = {"queries": [{"item": name}, {"vector": vector}], "top": 4}
    first, second = server.ask("/api/search", asked).json["results"]
    assert first["hits"] == second["hits"]
    assert first["query"] == name
    embedded = server.form("/api/embed", ("picture", "a.png", path.read_bytes()), ("item", name)).json
    assert embedded["model"] == index.model_hash
    torch.testing.assert_close(
        torch.tensor(embedded["embeddings"]), torch.tensor([vector, vector]), rtol=1e-4, atol=1e-4
    )


def test_a_threshold_leaves_out_what_does_not_reach_it(server, digit):
    everything = server.ask("/api/search", {"queries": [{"item": digit[1]}], "top": 400}).json
    hits, value = everything["results"][0]["hits"], everything["threshold"]["value"]
    assert [hit["same"] for hit in hits] == [hit["score"] <= value for hit in hits]
    asked = {"queries": [{"item": digit[1]}], "top": 400, "threshold": "auto"}
    assert server.ask("/api/search", asked).json["results"][0]["hits"] == [hit for hit in hits if hit["same"]]
    nearest = server.ask("/api/search", {**asked, "threshold": hits[2]["score"]}).json["results"][0]["hits"]
    assert nearest == [{**hit, "same": True} for hit in hits[:3]]


def test_verification_is_that_of_the_command_line(server, run, workplace, digit, tuplet):
    path, _ = digit
    other = min((workplace / "digits" / "4").glob("*.png"))
    row = json.loads(tuplet("verify", run, path, other, "--far", 0.05, "--json", folder=workplace).stdout)
    answer = server.form(
        "/api/verify", ("a", "a.png", path.read_bytes()), ("b", "b.png", other.read_bytes()), ("far", 0.05)
    ).json
    assert answer["decision"] == row["decision"]
    assert answer["score"] == pytest.approx(row["score"], abs=1e-4)
    assert answer["threshold"]["value"] == row["threshold"]
    assert answer["threshold"]["rates"] == {
        key: value for key, value in row.items() if key.startswith(("threshold", "false"))
    }


def test_items_are_listed_filtered_and_counted(server):
    page = server.ask("/api/items?where=label%20%3D%20%273%27&limit=2&offset=1").json
    everything = server.ask("/api/items?where=label%20%3D%20%273%27&limit=1000").json
    assert page == {"items": everything["items"][1:3], "total": len(everything["items"])}
    assert {item["facts"]["label"] for item in everything["items"]} == {"3"}
    name = everything["items"][0]["id"]
    assert server.ask(f"/api/items?name={name.upper()}").json["items"] == everything["items"][:1]
    about = server.ask("/api/about").json
    counts = next(column["values"] for column in about["columns"] if column["name"] == "label")
    assert counts["3"] == everything["total"]
    assert about["items"] == sum(counts.values()) == server.ask("/api/health").json["items"]


def test_a_server_that_is_reported_to_stop_leaves_with_zero(served, run):
    with served(run, folder=run.parent) as server:
        assert server.ask("/api/health").status == 200
        assert server.stop() == 0
