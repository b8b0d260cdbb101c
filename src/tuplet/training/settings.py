"""How long, how fast and how carefully a run trains; how it is evaluated."""

from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, MinLen
from pydantic import BaseModel, ConfigDict

from tuplet.bounds import Bounds, NotNegative, Part, Positive, Share

Count = Annotated[int, Ge(0)]


class TrainSettings(BaseModel):
    """The `[train]` section of a recipe, without its augmentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    steps: Annotated[int, Gt(0)] = 1000
    """Optimiser steps in all; the clock never decides."""
    epochs: Count = 0
    """Passes over a text, of word vectors; 0: `steps` decide."""
    optimizer: Literal["adamw", "adam", "sgd", "adagrad"] = "adamw"
    """Class weights of which a sample is drawn (`sample_rate` below 1) get the sparse form of it, which moves the rows
    drawn and no other: SparseAdam for adamw and adam, SGD without momentum, AdaGrad; never decayed, never clipped."""
    learning_rate: Positive = 1e-3
    """Largest learning rate of the schedule."""
    weight_decay: NotNegative = 0.01
    """Of matrices and filters; biases and normalisation have none."""
    momentum: Share = 0.9
    """Of sgd."""
    schedule: Literal["one-cycle", "cosine", "linear", "steps", "constant"] = "one-cycle"
    warmup: Share = 0.1
    """Share of the steps in which the learning rate rises."""
    drops: tuple[Share, ...] = (0.5, 0.75)
    """Shares of the steps after which the learning rate falls to a tenth, of the schedule `steps`."""
    clip: Annotated[float, Bounds(above=0, is_finite=False)] = float("inf")
    """Largest norm of the gradient; inf does not clip."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Of the encoder; the loss is computed in float32 at least."""
    chunk: Count = 0
    """Examples encoded at a time, where a whole batch does not fit; the gradient stays that of the batch. 0: all."""
    layer_decay: Part = 1.0
    """Learning rate of each layer of an encoder, as a share of that of the layer behind it; the last one and the head
    have `learning_rate`."""
    recompute: bool = False
    """Keep no activations within the layers of a pretrained encoder, and compute them again in backward (gradient
    checkpointing): less memory, more time, the same gradient."""
    ema: Share = 0.0
    """Decay of the averaged weights that are evaluated and saved; 0 uses the weights themselves."""
    validate_every: Count = 0
    """Steps between two validations and checkpoints; 0: a tenth of the steps."""
    patience: Count = 0
    """Validations without a better score before training stops early; 0 never stops early."""
    stop_collapsed: bool = True
    """End a training whose embedding has collapsed, once no later step was better than those before: the model is the
    best step from before the collapse."""
    log_every: Annotated[int, Gt(0)] = 10
    """Steps between two `step` events."""
    tensorboard: bool = False
    """Also write what happens for TensorBoard, into the folder `tensorboard` of the run."""

    @property
    def interval(self) -> int:
        """Steps between two validations."""
        return self.validate_every or max(1, self.steps // 10)


class EvaluateSettings(BaseModel):
    """The `[evaluate]` section of a recipe."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    top: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (1, 5, 10)
    """K of Recall@K."""
    neighbours: Annotated[tuple[Annotated[int, Gt(0)], ...], MinLen(1)] = (1, 5, 20, 200)
    """How many of the nearest training examples vote, where the split is by row; 1 is always among them."""
    probe: bool = False
    """There also fit a linear classifier to the training examples; asks for `untrained` too."""
    untrained: bool = False
    """Also evaluate the encoder as it was before training."""
    best_by: Literal["auto", "last", "map@r", "recall@1", "r_precision", "spearman", "kendall", "mrr"] = "auto"
    """The number by which validation chooses the best step; auto: map@r with classes, spearman with targets, recall@1
    with pairs, else the last step, as `last` does."""
    groups: bool = True
    """Where the data names groups, also evaluate with neighbours left out as `junk` says."""
    junk: Literal["auto", "group", "class_and_group"] = "auto"
    """Which: all of the query's own group; or only those of its class and its group, as person re-identification does
    with the pictures of one camera. auto: these where the data says query and gallery, else all of the group."""
    bootstrap: Annotated[int, Ge(0), Le(100_000)] = 2000
    """Draws behind each interval."""
    words: tuple[str, ...] = ()
    """Files of word pairs and how alike people find them, for word vectors: two words and a number on each line."""
    batch_size: Annotated[int, Gt(0)] = 512
    """Examples embedded at once."""
