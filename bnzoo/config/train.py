"""How a model is trained: optimizer, schedule, precision, stopping, what is recorded."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from bnzoo.config.own import checked_reference
from bnzoo.config.section import (
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Section,
    each_once,
    named,
)

Share = Annotated[float, Field(ge=0, lt=1)]


class _Optimizer(Section):
    """What every optimizer takes; names and defaults are Keras' own.

    Attributes:
        name: which optimizer of Keras.
        learning_rate: step size; 0.001 is the rate of the published recipes.
        weight_decay: decoupled weight decay per step; null is none.
        global_clipnorm: largest norm of the gradient over all weights; null is no limit.
    """

    name: str

    learning_rate: PositiveFloat = 0.001
    weight_decay: NonNegativeFloat | None = None
    global_clipnorm: PositiveFloat | None = None


class SGD(_Optimizer):
    """Stochastic gradient descent (`keras.optimizers.SGD`).

    Attributes:
        momentum: share of the last update added to the next.
        nesterov: Nesterov momentum.
    """

    name: Literal["sgd"] = "sgd"
    momentum: Share = 0.0
    nesterov: bool = False


class _Adam(_Optimizer):
    """What Adam and AdamW take.

    Attributes:
        beta_1: share of the old average of gradients kept at each step.
        beta_2: share of the old average of squared gradients kept at each step.
        epsilon: added to the root of that average.
    """

    beta_1: Share = 0.9
    beta_2: Share = 0.999
    epsilon: PositiveFloat = 1e-7


class Adam(_Adam):
    """Adam (`keras.optimizers.Adam`).

    Attributes:
        amsgrad: divide by the largest average of squared gradients so far.
    """

    name: Literal["adam"]
    amsgrad: bool = False


class AdamW(_Adam):
    """Adam with decoupled weight decay (`keras.optimizers.AdamW`)."""

    name: Literal["adamw"]
    weight_decay: NonNegativeFloat = 0.004


class RMSprop(_Optimizer):
    """RMSprop (`keras.optimizers.RMSprop`).

    Attributes:
        rho: share of the old average of squared gradients kept at each step.
        momentum: share of the last update added to the next.
        epsilon: added to that average.
    """

    name: Literal["rmsprop"]
    rho: Share = 0.9
    momentum: Share = 0.0
    epsilon: PositiveFloat = 1e-7


class Constant(Section):
    """The learning rate stays what it is.

    Attributes:
        name: which schedule.
    """

    name: Literal["constant"] = "constant"


class Cosine(Section):
    """Cosine decay over the run, after a linear warm-up (`keras.optimizers.schedules.CosineDecay`).

    Attributes:
        name: which schedule.
        warmup_epochs: epochs of linear rise from 0; may be a fraction.
        alpha: the last learning rate as a share of the first.
    """

    name: Literal["cosine"]
    warmup_epochs: NonNegativeFloat = 0.0
    alpha: Share = 0.0


class Exponential(Section):
    """The rate shrinks by `decay_rate` every `decay_epochs` epochs (`ExponentialDecay`).

    Attributes:
        name: which schedule.
        decay_rate: factor of the rate.
        decay_epochs: epochs after which it has been applied once.
        staircase: apply it all at once, at the end of those epochs.
    """

    name: Literal["exponential"]
    decay_rate: Annotated[float, Field(gt=0, lt=1)] = 0.94
    decay_epochs: PositiveFloat = 1.0
    staircase: bool = False


class Step(Section):
    """The rate is multiplied by `factor` after each epoch named (`PiecewiseConstantDecay`).

    Attributes:
        name: which schedule.
        epochs: after which the rate changes, in rising order.
        factor: of the rate, each time.
    """

    name: Literal["step"]
    epochs: tuple[PositiveInt, ...] = Field(min_length=1, strict=False)
    factor: Annotated[float, Field(gt=0, lt=1)] = 0.1

    @model_validator(mode="after")
    def _epochs_rise(self) -> "Step":
        if list(self.epochs) != sorted(set(self.epochs)):
            raise ValueError(
                f"expected epochs that rise, got {list(self.epochs)}. Sort them, each once."
            )
        return self


Optimizer = Annotated[SGD | Adam | AdamW | RMSprop, Field(discriminator="name")]
Schedule = Annotated[Constant | Cosine | Exponential | Step, Field(discriminator="name")]


class EarlyStopping(Section):
    """Stop when the monitored column of the history has not improved for `patience` epochs.

    Attributes:
        monitor: a column of `history.csv`; accuracies are maximized, losses minimized.
        patience: epochs without an improvement after which training stops.
        min_delta: smallest change that counts as an improvement.
        restore_best_weights: keep the weights of the best epoch instead of the last one's.
    """

    monitor: Literal["loss", "accuracy", "val_loss", "val_accuracy"] = "val_loss"
    patience: NonNegativeInt = 5
    min_delta: NonNegativeFloat = 0.0
    restore_best_weights: bool = True


def _function_name(name: str) -> str:
    return checked_reference(name) if ":" in name else name


FunctionName = Annotated[str, AfterValidator(_function_name)]


class FollowedWeight(Section):
    """One single weight whose value is written down after each epoch.

    Attributes:
        layer: its name as in `model.summary()`, say `conv_3`.
        weight: its name inside the layer.
        index: position inside the weight, one integer per dimension. PyTorch's convolution index
            (out, in, row, column) is `[row, column, in, out]` here.
    """

    layer: str
    weight: str = "kernel"
    index: tuple[NonNegativeInt, ...] = Field(strict=False)

    @property
    def label(self) -> str:
        """The column heading of `weights_path.csv`, say `conv_3/kernel[1,0,4,3]`."""
        return f"{self.layer}/{self.weight}[{','.join(map(str, self.index))}]"


def _leaves(part: Any) -> list[str]:
    parts = part.values() if isinstance(part, dict) else part or ()
    return [part] if isinstance(part, str) else [name for one in parts for name in _leaves(one)]


class Train(Section):
    """How the model is trained.

    Attributes:
        epochs: passes over the training data, or over a part of it with `steps_per_epoch`.
        steps_per_epoch: batches of an epoch, after which it is validated and written down, and on
            which schedules count. Each epoch is a fresh shuffle of all the training data (a
            tf.data.Dataset of your own shuffles itself); null is all of its batches.
        loss: a name of Keras, such as `mse`, or a function of your own, such as
            `my_losses.py:loss`; of a model with several outputs, one for each by its name. Null is
            the cross-entropy of logits, with the accuracy, for data with classes.
        metrics: names of Keras, or functions of your own, as `loss`; null is none beside the loss.
        optimizer: its name, or a mapping with its name and arguments.
        schedule: of the learning rate: its name, or a mapping with its name and arguments.
        distribute: `mirrored` divides each batch among the GPUs of this machine (without one, among
            TensorFlow's logical CPU devices), `multi_worker` among the processes that `TF_CONFIG`
            names, and their devices. `data.batch_size` is that of one step over all of them.
        precision: Keras' global dtype policy of the run.
        deterministic: the same numbers at each run on the same machine, at some cost in speed.
        jit_compile: whether XLA compiles the step; `auto` leaves it to Keras.
        recalibrate: number of training examples from which the statistics of batch normalization
            are estimated anew after each epoch, before its validation, as `bnzoo.Recalibrate` does
            ("precise BN"); null is never. 1,000 to 10,000 are enough. They come in whole batches,
            the same each time, and are at most those of an epoch. Training goes on from these
            statistics, and the model that is tested and saved has them.
        early_stopping: when to stop before the last epoch; null is never.
        tensorboard: write event files beside `history.csv`.
        watch_batch_norm: write histograms of each batch normalization layer after each epoch, for
            TensorBoard: moving statistics, gamma and beta, and the statistics of one batch.
        follow_weights: single weights recorded after each epoch in `weights_path.csv`.
    """

    epochs: PositiveInt = 10
    steps_per_epoch: PositiveInt | None = None
    loss: FunctionName | dict[str, FunctionName] | None = None
    metrics: (
        Annotated[tuple[FunctionName, ...], Field(strict=False)]
        | dict[str, Annotated[tuple[FunctionName, ...], Field(strict=False)]]
        | None
    ) = None
    optimizer: Annotated[Optimizer, named("sgd", Optimizer)] = SGD()
    schedule: Annotated[Schedule, named("constant", Schedule)] = Constant()
    distribute: Literal["none", "mirrored", "multi_worker"] = "none"
    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"] = "float32"
    deterministic: bool = False
    jit_compile: bool | Literal["auto"] = "auto"
    recalibrate: PositiveInt | None = None
    early_stopping: EarlyStopping | None = None
    tensorboard: bool = True
    watch_batch_norm: bool = False
    follow_weights: Annotated[
        tuple[FollowedWeight, ...], each_once("weight", lambda weight: weight.label)
    ] = Field((), strict=False)

    @model_validator(mode="after")
    def _metrics_have_a_loss(self) -> "Train":
        if self.metrics is not None and self.loss is None:
            raise ValueError(
                f"metrics: expected a loss beside them, got metrics: {self.metrics!r} alone. "
                "Set loss, for example sparse_categorical_crossentropy."
            )
        return self

    @model_validator(mode="after")
    def _replicas_exchange_between_operations(self) -> "Train":
        if self.distribute != "none" and self.jit_compile is True:
            raise ValueError(
                f"jit_compile: expected auto or false with distribute: {self.distribute}, got true:"
                " XLA cannot compile an exchange between replicas. Leave it out."
            )
        return self

    def functions(self) -> list[str]:
        """Return the names of loss and metrics, as the config has them."""
        return [*_leaves(self.loss), *_leaves(self.metrics)]

    @property
    def main_metric(self) -> str:
        """What the model is judged by: `accuracy` where it is measured, else `loss`."""
        return "accuracy" if self.loss is None or "accuracy" in self.functions() else "loss"
