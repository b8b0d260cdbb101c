"""Requests and responses of the API."""

from typing import Annotated, Any, Literal, Self

from pydantic import Base64Bytes, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

MOST_QUERIES, MOST_HITS = 64, 1000
Text = Annotated[str, Field(max_length=100_000)]
Where = Annotated[
    Text | None, Field(description="Search among some items: brand = 'x' AND price < 50.", examples=["label = 'cat'"])
]
Far = Annotated[FiniteFloat, Field(ge=0, le=1, description="Largest allowed false accept rate.")]


class _Schema(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Query(_Schema):
    """What to search for: one of the fields."""

    picture: Annotated[Base64Bytes | None, Field(description="Bytes of an image file, in base64.")] = None
    text: Text | None = None
    item: Annotated[Text | None, Field(description="Id of an item of the index; its stored embedding is used.")] = None
    vector: Annotated[list[FiniteFloat] | None, Field(description="An embedding of this model.")] = None
    row: Annotated[list[FiniteFloat] | None, Field(description="Input of a model of rows of numbers.")] = None
    series: Annotated[
        list[list[FiniteFloat]] | None, Field(description="Input of a model of series: a list for each channel.")
    ] = None

    @model_validator(mode="after")
    def _has_one(self) -> Self:
        if len(self.model_dump(exclude_none=True)) != 1:
            raise ValueError("a query has exactly one of picture, text, item, vector, row, series")
        return self


Queries = Annotated[list[Query], Field(min_length=1, max_length=MOST_QUERIES)]


class SearchRequest(_Schema):
    """Queries, and which hits are wanted."""

    queries: Queries
    top: Annotated[int, Field(ge=1, le=MOST_HITS, description="Hits per query.")] = 10
    where: Where = None
    threshold: Annotated[
        Literal["auto"] | FiniteFloat | None, Field(description="Leave out hits that do not reach it.")
    ] = None


class EmbedRequest(_Schema):
    """What to embed."""

    queries: Queries


class VerifyRequest(_Schema):
    """Two items."""

    a: Query
    b: Query
    far: Far = 0.01
    threshold: Annotated[FiniteFloat | None, Field(description="A score, instead of `far`.")] = None


class ItemsRequest(_Schema):
    """Which items to list."""

    where: Where = None
    name: Annotated[Text | None, Field(description="Part of the id, in any case.")] = None
    offset: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=MOST_HITS)] = 50


class PictureRequest(_Schema):
    """Which picture."""

    id: Text
    size: Annotated[int, Field(ge=16, le=2048, description="Longest side in pixels.")] = 320


class NoParameters(_Schema):
    """Nothing is to be said."""


class Item(_Schema):
    """An item of the index."""

    id: str
    facts: Annotated[dict[str, Any], Field(description="Class, split and the other columns.")]
    picture: Annotated[str | None, Field(description="Where its picture is, relative to the server.")]


class Hit(Item):
    """A neighbour of a query."""

    rank: Annotated[int, Field(ge=1)]
    score: float
    same: Annotated[
        bool | None, Field(description="Whether the score reaches the threshold; null if the model has none.")
    ]


class QueryHits(_Schema):
    """The neighbours of one query, nearest first."""

    query: str
    hits: list[Hit]


class Threshold(_Schema):
    """A score from which on two items count as the same, with its error rates on validation classes."""

    value: float
    larger_is_same: bool
    rates: Annotated[dict[str, float], Field(description="false_accepts, false_rejects, and their 95 % intervals.")]


class SearchResponse(_Schema):
    """Hits of each query."""

    results: list[QueryHits]
    threshold: Threshold | None


class EmbedResponse(_Schema):
    """An embedding for each query."""

    embeddings: list[list[float]]
    geometry: str
    model: Annotated[str, Field(description="Content hash of the model.")]


class VerifyResponse(_Schema):
    """Whether two items are of one class."""

    decision: Literal["same", "different"]
    score: float
    threshold: Threshold


class ItemsResponse(_Schema):
    """Some items, in the order in which they were added."""

    items: list[Item]
    total: Annotated[int, Field(ge=0, description="How many match.")]


class Column(_Schema):
    """A column that can be filtered by."""

    name: str
    kind: Literal["text", "number"]
    values: Annotated[dict[str, int], Field(description="Items by value, most frequent first, if there are few.")]


class AboutResponse(_Schema):
    """What is served."""

    name: str
    version: str
    backend: str
    items: int
    dim: int
    geometry: str
    model: str
    inputs: Annotated[list[str], Field(description="Which fields of a query this model takes.")]
    columns: list[Column]
    threshold: Threshold | None
    pictures: bool
    beside: Annotated[
        str | None, Field(description="A second index or run, whose endpoints are under /api/beside.")
    ] = None


class MapResponse(_Schema):
    """Places of items on a plane; empty lists while they are computed."""

    ready: bool
    ids: list[str]
    labels: list[str]
    classes: Annotated[list[int], Field(description="Of each item a position in `labels`; -1 without a class.")]
    x: Annotated[list[int], Field(description="From -10,000 to 10,000.")]
    y: list[int]


class HealthResponse(_Schema):
    """Whether requests are answered."""

    ready: bool
    items: int


class Problem(_Schema):
    """Why a request was refused."""

    id: Annotated[str, Field(description="`tuplet explain ID` says more.")]
    message: str
    hint: str


class ErrorResponse(_Schema):
    """What every refusal looks like."""

    error: Problem
