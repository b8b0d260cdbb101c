"""What a recipe may say: its sections, with options of components derived from their constructors."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict

from tuplet.bounds import Count, NotNegative, Positive, Share, Tau
from tuplet.data import Kind
from tuplet.data.statement import parse
from tuplet.errors import RecipeError
from tuplet.training import EvaluateSettings, TrainSettings
from tuplet.types import GeometryName

BUILT_IN = ("glyphs",)
"""Data sets that need no path."""
PATHS = ("source", "labels", "targets", "exclude")
"""Keys of `data` that name files."""


def _folder_name(name: str) -> str:
    if not name.isprintable() or name.startswith(".") or not name or {"/", "\\"} & set(name):
        raise ValueError("should be fit for a folder: printable, without / and \\, not starting with a dot")
    return name


class Section(BaseModel):
    """A table of a recipe: nothing unknown in it, nothing changed later."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, arbitrary_types_allowed=True)


class Component(Section):
    """A table that names a constructor and its options; every constructor has its own subclass, see `options.py`."""

    name: str


def options_of(component: Component) -> dict[str, Any]:
    """All of a component but its name."""
    return {key: getattr(component, key) for key in type(component).model_fields if key != "name"}


def _or_none(name: Any) -> Any:
    return None if name == "none" else name


def _relation(text: str | None) -> str | None:
    """Refused here, with the other mistakes of a recipe, if it cannot be read."""
    if text is not None:
        try:
            parse(text)
        except RecipeError as problem:
            said = problem.message.partition(" cannot be read: ")[2]
            raise ValueError(f"cannot be read: {said} {problem.hint}") from problem
    return text


Name = Annotated[str | None, BeforeValidator(_or_none)]


class Columns(Section):
    """Names of the columns of a table, where they are not the usual ones; none means that no column is one."""

    id: Name = "id"
    path: Name = "path"
    text: Name = "text"
    label: Name = "label"
    several: str = ""
    """What stands between the labels of an example that has several, such as "|"; by default a cell is one label."""
    pair: Name = "pair"
    split: Name = "split"
    group: Name = "group"
    role: Name = "role"
    """`query` or `gallery`: the role of an example in the evaluation."""
    inputs: tuple[str, ...] | None = None
    """Numeric columns; by default `x0, x1, ...`, or every numeric column that has no other meaning."""
    targets: tuple[str, ...] | None = None
    """Graded labels; by default every column whose name starts with `target`."""
    header: bool = True
    """Whether the first line of a CSV table names the columns; without, they are `column1`, `column2`, ..."""


class Split(Section):
    """The split into training, validation and test examples."""

    by: Literal["class", "row"] = "class"
    """class: validation and test hold classes that training never sees; row: all hold all classes."""
    given: bool = True
    """Use the splits that the data names, where it names some."""
    test: Share = 0.5
    """Share of the classes, or rows, in the test split."""
    validation: Share = 0.1
    """Share of the others that choose the best step."""
    seed: Annotated[int, Ge(0)] = 0


class Words(Section):
    """How plain text becomes words, where `kind` is words."""

    min_count: Annotated[int, Gt(0)] = 5
    """Words that occur less often are left out, as if they were not in the text."""
    by_line: bool = False
    """Each line is a text of its own, instead of each file: no context reaches across."""


class Source(Section):
    """One more source of the same kind."""

    source: str
    """As `data.source`."""
    weight: Positive = 1.0
    """Share of the batches that come from it, beside the weights of the others."""


class Data(Section):
    """What to train on."""

    source: str
    """Folder, table or array; `glyphs`, the built-in data set; for words a text file, or a folder of `.txt`."""
    weight: Positive = 1.0
    """Share of the batches that come from `source`, where there are more sources."""
    more: tuple[Source, ...] = ()
    """Further sources, as `[{ source = "other/", weight = 0.5 }]`, read and divided by the same rules; each batch is of
    one of them. Classes of one name are one class."""
    kind: Kind | None = None
    """What an item is, where the source leaves it open."""
    labels: str | None = None
    """Classes of the rows of an array."""
    targets: str | None = None
    """Graded labels of the rows of an array."""
    relation: Annotated[str | None, BeforeValidator(_or_none), AfterValidator(_relation)] = None
    """Which pairs are positive, negative or ignored, by columns of the data, where it is not the class that says so:
    `same_class(person).ignoring(same_class(camera))`. The guide on relations has the language."""
    arrays: dict[str, str] = {}
    """Files of numbers that a relation names, `{ guide = "guide.npy" }`, with a row for each example."""
    exclude: str | None = None
    """Table of examples to leave out, as `tuplet audit` writes it: those whose column `exclude` says yes."""
    skip_broken: bool = False
    """Of a folder, leave out the images that cannot be decoded; the run lists them."""
    columns: Columns = Columns()
    split: Split = Split()
    words: Words = Words()


class Lora(Section):
    """Low-rank adapters, which learn in place of the weights of an encoder."""

    rank: Annotated[int, Gt(0)] = 8
    """Rows of A and columns of B: the layer becomes W x + alpha / rank · B A x."""
    alpha: Positive = 16.0
    """Strength of the adapters, times `rank`."""
    dropout: Share = 0.0
    """Share of what an adapter reads that is set to zero in training."""
    targets: tuple[str, ...] = ()
    """Ends of the names of the layers, such as `q_proj`; by default all linear ones of the repeated layers."""


class Model(Section):
    """What to train."""

    encoder: Component
    dim: Annotated[int, Gt(0)] = 128
    """Size of an embedding."""
    geometry: GeometryName | Literal["loss"] = "loss"
    """How embeddings are compared after training; by default as the loss compares them."""
    preprocessing: Component
    """`auto` takes the one for the kind of the data, with its defaults."""
    partner_encoder: Component | None = None
    """Of the second items of pairs; without one, both sides share `encoder`."""
    partner_preprocessing: Component | None = None
    """Of the second items, where they have an encoder of their own; by default the same as of the first, or `auto`."""
    freeze: Annotated[int, Ge(0)] | Literal["all"] = 0
    """Layers of the encoder that do not learn, from its input on, with what comes before them; all: only a head and
    adapters learn. A pretrained `partner_encoder` is treated alike."""
    lora: Annotated[Lora | None, BeforeValidator(_or_none)] = None
    """Adapters of the encoder, `{ rank = 8 }`, and of a pretrained `partner_encoder`; they are those of peft."""


class Train(TrainSettings):
    """How to train."""

    augment: Component | None = None
    """Random change of each batch."""


class Objective(Section):
    """What stands around the loss, whichever it is."""

    queue: Annotated[int, Gt(0)] | None = None
    """Rows of earlier batches that are further references of a loss over pairs or triplets; a loss that has a `queue`
    takes it as its own, too."""
    matryoshka: tuple[Count, ...] = ()
    """Lengths of prefixes of the embedding, ascending: the loss is the sum over these. Name `model.dim` among them to
    train the whole embedding too."""
    matryoshka_weights: tuple[NotNegative, ...] = ()
    """One for each prefix; by default 1."""
    uniformity: NotNegative = 0.0
    """Weight of a term that spreads directions evenly: log of the mean of exp(-2 squared distance) over all pairs."""
    norm_penalty: NotNegative = 0.0
    """Weight of the mean squared length of an embedding."""
    teacher: str | None = None
    """Folder of a trained model, `runs/NAME/model`, whose similarities each batch is to have; it reads the examples as
    they are, without the augmentation."""
    teacher_weight: NotNegative = 1.0
    """Weight of the divergence from it."""
    teacher_temperature: Tau = 0.05
    """Of the softmaxes that are compared."""
    teacher_distances: NotNegative = 0.0
    """Weight of a term that gives pairs the distances that the teacher gives them, each over its mean."""
    teacher_angles: NotNegative = 0.0
    """Weight of the same for the angles of triples; it costs batch size³."""


class Recipe(Section):
    """One training, described."""

    name: Annotated[str, AfterValidator(_folder_name)]
    seed: Annotated[int, Ge(0)] = 0
    data: Data
    model: Model
    loss: Component
    objective: Objective = Objective()
    batch: Component
    train: Train = Train()
    evaluate: EvaluateSettings = EvaluateSettings()
