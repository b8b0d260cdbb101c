"""The document of the API: every example that fits it is answered, none with a bug."""

import json
import urllib.parse

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TEXTS = st.sampled_from(["", "a", "3/0003.png", "label = '3'", "../x", "\0", "é'\"", "x" * 300])
NUMBERS = st.one_of(st.integers(-3, 2000), st.floats(allow_nan=False, allow_infinity=False, width=32))


def of_schema(schema, document):  # noqa: PLR0911  a line for each kind
    """Values that a schema describes, as far as the document uses its words."""
    if "$ref" in schema:
        return of_schema(document["components"]["schemas"][schema["$ref"].rpartition("/")[2]], document)
    if "anyOf" in schema:
        return st.one_of([of_schema(one, document) for one in schema["anyOf"]])
    if "const" in schema or "enum" in schema:
        return st.sampled_from(schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    simple = {"null": st.none(), "string": TEXTS, "number": NUMBERS}
    if kind in simple:
        return simple[kind]
    if kind == "integer":
        return st.integers(schema.get("minimum", -5), min(schema.get("maximum", 50), 50))
    if kind == "array":
        return st.lists(of_schema(schema["items"], document), min_size=schema.get("minItems", 0), max_size=3)
    return of_fields(schema, document)


def of_fields(schema, document):
    """Objects; a query has one of its fields."""
    fields = {name: of_schema(one, document) for name, one in schema.get("properties", {}).items()}
    needed = {name: fields.pop(name) for name in schema.get("required", [])}
    if "picture" in fields:
        return st.one_of([st.fixed_dictionaries({name: one}) for name, one in fields.items()])
    return st.fixed_dictionaries(needed, optional=fields)


def test_the_document_names_what_there_is_and_every_reference_leads_somewhere(server):
    document = server.ask("/api/openapi.json").json
    assert document["openapi"] == "3.1.0"
    named = {
        f"/api/{name}"
        for name in ("search", "embed", "verify", "items", "picture", "about", "map", "health", "session")
    }
    assert set(document["paths"]) == named
    text = json.dumps(document)
    references = {part.partition('"')[0] for part in text.split('"$ref": "')[1:]}
    assert references == {f"#/components/schemas/{one.rpartition('/')[2]}" for one in references}
    assert {one.rpartition("/")[2] for one in references} <= set(document["components"]["schemas"])


def test_whatever_fits_the_document_is_answered_or_refused_but_never_a_bug(server):
    document = server.ask("/api/openapi.json").json
    operations = [(path, method, one) for path, methods in document["paths"].items() for method, one in methods.items()]

    def asked(operation):
        _, method, one = operation
        if method == "get":
            fields = {field["name"]: of_schema(field["schema"], document) for field in one["parameters"]}
            return st.tuples(st.just(operation), st.fixed_dictionaries({}, optional=fields))
        if "requestBody" not in one:
            return st.tuples(st.just(operation), st.just({}))
        return st.tuples(
            st.just(operation), of_schema(one["requestBody"]["content"]["application/json"]["schema"], document)
        )

    @settings(max_examples=80, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from(operations).flatmap(asked))
    def check(plotted):
        (path, method, one), content = plotted
        if method == "get":
            words = {key: value for key, value in content.items() if value is not None}
            answer = server.ask(f"{path}?{urllib.parse.urlencode(words)}")
        else:
            answer = server.ask(path, content)
        assert str(answer.status) in one["responses"], (path, content, answer)
        if answer.status >= 400:
            assert answer.refused
        elif answer.headers.get("content-type", "").startswith("application/json"):
            schema = one["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            assert answer.json.keys() == set(document["components"]["schemas"][schema]["properties"])

    check()
