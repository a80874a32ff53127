"""One step of training and of prediction: pure, and mapped over all devices.

The step knows nothing of the task: it takes whatever logits the model returns and whatever
objective reduces them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped, UInt8

from lmf_jax.losses import Objective
from lmf_jax.models.layers import example_keys, parameter_dtype
from lmf_jax.models.normalisation import NORMALISATIONS, Normalisation, normalise_images
from lmf_jax.training.augment import (
    Augmentation,
    augment_images,
    cutmix,
    mixup,
    roll_global_batch,
)

AXIS = "batch"
"""The name of the mapped axis; synchronised layers of a model need it."""

Variables = Mapping[str, PyTree]
Batch = Mapping[str, Any]


class TrainState(flax.struct.PyTreeNode):
    """Everything that a step changes; with the settings and the input position, the whole run.

    The fields are not typed by shape: tree transformations put other things than arrays here.
    """

    step: Any
    """Updates done so far, int32 ``[]``."""
    params: PyTree
    """Parameters, float32 (float64 where the model computes in it)."""
    batch_stats: PyTree
    """Running mean and variance of every BatchNorm, in the type of the parameters."""
    opt_state: PyTree
    """State of the optimizer."""
    ema: PyTree | None
    """Moving average of ``{"params", "batch_stats"}``, or None."""
    loss_sum: Any
    """Sum of the batch losses of the current epoch so far, float ``[]``."""
    nonfinite_step: Any
    """The first update with a loss or gradient that is not finite, int32 ``[]``; -1 if none."""

    @property
    def evaluation_variables(self) -> Variables:
        """The variables to validate, test and predict with."""
        if self.ema is not None:
            return self.ema
        return {"params": self.params, "batch_stats": self.batch_stats}


@dataclass(frozen=True)
class StepSettings:
    """What a train step does besides the model, the objective and the optimizer."""

    steps_per_epoch: int
    total_steps: int
    seed: int
    dtype: Any = jnp.float32
    normalisation: Normalisation | None = NORMALISATIONS["imagenet"]
    """None: the images come normalised."""
    augment: Augmentation = "none"
    mixup: float = 0.0
    cutmix: float = 0.0
    accumulate: int = 1
    ema_decay: float = 0.0


def create_train_state(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    settings: StepSettings,
    pretrained: Variables | None = None,
) -> TrainState:
    """Return the state before the first step; a function of its arguments alone.

    Args:
        model: the module; a mapped axis of it is not used, since nothing is trained here.
        optimizer: as given to :func:`make_train_step`.
        image_shape: of one image ``(*space, channels)``.
        settings: as given to :func:`make_train_step`.
        pretrained: variables to start from; what they lack of a top-level module, such as the head,
            starts at random.
    """

    # Laid out as the mapped step returns it: any other layout would compile the step twice.
    @partial(jax.jit, out_shardings=NamedSharding(_local_mesh(), PartitionSpec()))
    def create(pretrained: Variables) -> TrainState:
        images = jnp.zeros((1, *image_shape), settings.dtype)
        variables = model.init(jax.random.key(settings.seed), images, train=False)
        params, batch_stats = (
            _replace_modules(variables.get(name, {}), pretrained.get(name, {}))
            for name in ("params", "batch_stats")
        )
        averaged = {"params": params, "batch_stats": batch_stats}
        return TrainState(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
            opt_state=optimizer.init(params),
            ema=jax.tree.map(jnp.copy, averaged) if settings.ema_decay else None,
            loss_sum=jnp.zeros((), parameter_dtype(settings.dtype)),
            nonfinite_step=jnp.full((), -1, jnp.int32),
        )

    return create(pretrained or {})


def train_state_shapes(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    image_shape: tuple[int, ...],
    settings: StepSettings,
) -> TrainState:
    """Return shape, type and devices of every array of a state; the arguments are those above."""
    state = jax.eval_shape(lambda: create_train_state(model, optimizer, image_shape, settings))
    sharding = NamedSharding(_local_mesh(), PartitionSpec())
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), state)


def _replace_modules(initial: Variables, pretrained: Variables) -> dict[str, PyTree]:
    """Return the variables with those modules replaced that are pretrained, type by type."""
    replaced = {
        name: jax.tree.map(lambda new, old: new.astype(old.dtype), module, initial[name])
        for name, module in pretrained.items()
    }
    return {**initial, **replaced}


CPU_COMPILER_OPTIONS = {"xla_disable_hlo_passes": "cse_barrier_expander"}
"""Lets optimization barriers stand until the program is done. XLA for CPUs drops them before it
fuses, and then computes a value anew in every place that needs it, such as the sum of the gradients
of all later layers in each layer of a DenseNet."""


@dataclass(frozen=True)
class MappedStep:
    """A step mapped over devices, compiled for every shape and type of its batch that it meets."""

    mapped: Any
    """From ``jax.pmap``, which itself takes no options for the compiler."""
    compiler_options: Mapping[str, str]
    _compiled: dict[Any, Callable] = field(default_factory=dict)

    def __call__(self, state: Any, batch: Any) -> Any:
        """Run the step; the state or the variables have one shape, the batch may have any."""
        if jax.process_count() > 1:  # pmap alone joins the shares of several processes
            return self.mapped(state, batch)
        kind = tuple((x.shape, x.dtype) for x in jax.tree.leaves(batch))
        if kind not in self._compiled:
            self._compiled[kind] = self.compile(state, batch)
        return self._compiled[kind](state, batch)

    def compile(self, state: Any, batch: Any) -> Any:
        """Compile the step for arguments like these, or for ``jax.ShapeDtypeStruct``."""
        return self.mapped.lower(state, batch).compile(dict(self.compiler_options))


def make_train_step(
    model: nn.Module,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    devices: Sequence[jax.Device] | None = None,
) -> MappedStep:
    """Return the mapped train step; it takes the batch spread over devices and gives up its state.

    The batch is ``{"image": [D, B/D, *space, channels], "label": int32}``, one label ``[D, B/D]``
    for an image or one for every pixel ``[D, B/D, *space]``. Images are uint8, or float32 where the
    settings have no normalisation. N devices compute
    what one device computes: BatchNorm statistics, loss denominators, loss and gradients are those
    of the global batch, and random draws follow the position in it.

    Args:
        model: a module whose synchronised layers use :data:`AXIS`.
        objective: from :func:`lmf_jax.losses.make_objective`.
        optimizer: from :func:`lmf_jax.training.optimizer.make_optimizer`.
        settings: see :class:`StepSettings`.
        devices: what to map over; by itself all devices there are.
    """
    base_key = jax.random.fold_in(jax.random.key(settings.seed), 1)  # 0 would be the initial key's

    def train_step(state: TrainState, batch: Batch) -> TrainState:
        step_key = jax.random.fold_in(base_key, state.step)
        mix_key = jax.random.fold_in(step_key, 1)  # the same for all micro-batches
        progress = state.step / settings.total_steps
        micro_keys = jax.random.split(jax.random.fold_in(step_key, 0), settings.accumulate)
        batch = _augmented(jax.random.fold_in(micro_keys[0], 0), batch, settings)
        denominators = objective.denominators(batch["label"], axis_name=AXIS, progress=progress)

        def loss_of(
            params: PyTree, batch_stats: PyTree, micro_key: Array, images: Array, labels: Array
        ) -> tuple[Array, PyTree]:
            """Return this device's share of the loss, and the new batch statistics."""
            inputs, label_sets = _mixed(mix_key, images, labels, settings)
            logits, updated = model.apply(
                {"params": params, "batch_stats": batch_stats},
                inputs,
                train=True,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.fold_in(micro_key, 1)},
            )
            # Mixing permutes the labels of the batch, so all label sets share the denominators.
            losses = [
                share * objective(logits, y, denominators=denominators, progress=progress)
                for share, y in label_sets
            ]
            return jnp.stack(losses).sum(), updated.get("batch_stats", {})

        def add_micro_batch(carry: tuple, micro: tuple) -> tuple[tuple, None]:
            batch_stats, loss, gradients = carry
            value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
            (share, batch_stats), new = value_and_grad(state.params, batch_stats, *micro)
            return (batch_stats, loss + share, jax.tree.map(jnp.add, gradients, new)), None

        start = (
            state.batch_stats,
            jnp.zeros_like(state.loss_sum),
            jax.tree.map(jnp.zeros_like, state.params),
        )
        micro_batches = (micro_keys, *_micro_batches(batch, settings.accumulate))
        if settings.accumulate == 1:
            total, _ = add_micro_batch(start, jax.tree.map(lambda x: x[0], micro_batches))
        else:
            total, _ = jax.lax.scan(add_micro_batch, start, micro_batches)
        batch_stats, *shares = total
        # XLA copies even what one device alone sums.
        alone = jax.lax.axis_size(AXIS) == 1
        loss, gradients = shares if alone else jax.lax.psum(shares, AXIS)
        return _apply_gradients(state, loss, gradients, batch_stats, optimizer, settings)

    return _over_devices(train_step, devices, donate_state=True, spread_output=False)


def make_predict_step(
    model: nn.Module,
    normalisation: Normalisation | None,
    dtype: Any = jnp.float32,
    devices: Sequence[jax.Device] | None = None,
) -> MappedStep:
    """Return the mapped forward pass in evaluation mode, from images to logits.

    Args:
        model: the module that was trained.
        normalisation: what its inputs are normalised by; None if they come normalised.
        dtype: type of its inputs.
        devices: as given to :func:`make_train_step`.
    """

    def predict_step(variables: Variables, images: Array) -> Any:
        return model.apply(variables, _inputs(images, normalisation, dtype), train=False)

    return _over_devices(predict_step, devices, donate_state=False, spread_output=True)


def make_segment_step(
    model: nn.Module,
    normalisation: Normalisation | None,
    dtype: Any = jnp.float32,
    devices: Sequence[jax.Device] | None = None,
) -> MappedStep:
    """Return the mapped step from images to the predicted class of every pixel, uint8.

    Args:
        model: the module that was trained.
        normalisation: as given to :func:`make_predict_step`.
        dtype: type of its inputs.
        devices: as given to :func:`make_train_step`.
    """

    def segment_step(variables: Variables, images: Array) -> Array:
        logits: Any = model.apply(variables, _inputs(images, normalisation, dtype), train=False)
        return _most_likely(logits)

    return _over_devices(segment_step, devices, donate_state=False, spread_output=True)


def make_validation_step(
    model: nn.Module,
    objective: Objective,
    normalisation: Normalisation | None,
    dtype: Any = jnp.float32,
    devices: Sequence[jax.Device] | None = None,
) -> MappedStep:
    """Return the mapped step from images and the labels of their pixels to predictions and losses.

    Of variables and ``{"image", "label"}`` it makes the predicted class ids, uint8
    ``[D, B/D, *space]``, and for each image the objective of that image alone ``[D, B/D]``; the
    logits, which are many times larger, stay on the device.

    Args:
        model: the module that is trained.
        objective: what it is trained for.
        normalisation: as given to :func:`make_predict_step`.
        dtype: type of its inputs.
        devices: as given to :func:`make_train_step`.
    """

    def loss_of_one(logits: Array, labels: Array) -> Array:
        return objective(logits[None], labels[None])

    def validation_step(variables: Variables, batch: Batch) -> tuple[Array, Array]:
        inputs = _inputs(batch["image"], normalisation, dtype)
        logits: Any = model.apply(variables, inputs, train=False)
        return _most_likely(logits), jax.vmap(loss_of_one)(logits, batch["label"])

    return _over_devices(validation_step, devices, donate_state=False, spread_output=True)


def _most_likely(logits: Float[Array, "*batch classes"]) -> UInt8[Array, "*batch"]:
    return jnp.argmax(logits, axis=-1).astype(jnp.uint8)


def spread_over_devices(batch: Batch) -> dict[str, Array]:
    """Put this process's part of a batch on its devices: ``[b, ...]`` becomes ``[D, b/D, ...]``."""
    mesh = _local_mesh()
    sharding = NamedSharding(mesh, PartitionSpec(AXIS))
    return {
        name: jax.device_put(values.reshape(mesh.size, -1, *values.shape[1:]), sharding)
        for name, values in batch.items()
    }


def place_on_devices(variables: Variables) -> Variables:
    """Put the same variables on all devices of this process, once for many steps."""
    return jax.device_put(variables, NamedSharding(_local_mesh(), PartitionSpec()))


def _local_mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), (AXIS,))


def _over_devices(
    step: Callable,
    devices: Sequence[jax.Device] | None,
    *,
    donate_state: bool,
    spread_output: bool,
) -> MappedStep:
    """Map a step over devices: the one place that knows how."""
    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0),
        out_axes=0 if spread_output else None,
        donate_argnums=0 if donate_state else (),
        devices=devices,
    )
    on_cpu = (jax.devices() if devices is None else devices)[0].platform == "cpu"
    return MappedStep(mapped, CPU_COMPILER_OPTIONS if on_cpu else {})


def _augmented(key: Key[Array, ""], batch: Batch, settings: StepSettings) -> dict[str, Array]:
    """Augment each image and, where its pixels have labels, these in the same way."""
    images, labels = batch["image"], batch["label"]
    keys = example_keys(key, len(images), AXIS)
    if labels.ndim > 1:
        labels = augment_images(settings.augment, keys, labels[..., None])[..., 0]
    return {"image": augment_images(settings.augment, keys, images), "label": labels}


def _micro_batches(
    batch: Batch, count: int
) -> tuple[Shaped[Array, "count ..."], Int[Array, "count ..."]]:
    """Cut a device's batch into micro-batches.

    Every ``count``-th example of the global batch goes to the same micro-batch, so that its members
    and their positions do not depend on the number of devices.
    """

    def cut(values: Array) -> Array:
        return values.reshape(-1, count, *values.shape[1:]).swapaxes(0, 1)

    return cut(batch["image"]), cut(batch["label"])


def _mixed(
    key: Key[Array, ""],
    images: Shaped[Array, "batch *space channels"],
    labels: Int[Array, "batch ..."],
    settings: StepSettings,
) -> tuple[Float[Array, "batch *space channels"], list[tuple[float | Array, Array]]]:
    """Normalise and mix; return the inputs and the labels with their shares."""
    inputs = _inputs(images, settings.normalisation, settings.dtype)
    if not settings.mixup and not settings.cutmix:
        return inputs, [(1.0, labels)]
    partners = roll_global_batch(inputs, AXIS)
    mix, strength = (mixup, settings.mixup) if settings.mixup else (cutmix, settings.cutmix)
    inputs, share = mix(key, inputs, partners, strength)
    share = share.astype(parameter_dtype(settings.dtype))
    return inputs, [(share, labels), (1 - share, roll_global_batch(labels, AXIS))]


def _inputs(images: Array, normalisation: Normalisation | None, dtype: Any) -> Array:
    """Return images as the model takes them."""
    if normalisation is None:
        return images.astype(dtype)
    return normalise_images(images, normalisation, dtype)


def _apply_gradients(
    state: TrainState,
    loss: Float[Array, ""],
    gradients: PyTree,
    batch_stats: PyTree,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
) -> TrainState:
    with jax.numpy_dtype_promotion("standard"):  # Optax raises floats to whole powers
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema is not None:
        new = {"params": params, "batch_stats": batch_stats}
        # A slow average of a short training would still be the random weights that it began with.
        step = state.step.astype(loss.dtype)
        decay = jnp.minimum(settings.ema_decay, (1 + step) / (10 + step))
        ema = optax.incremental_update(new, ema, 1 - decay)
    first_of_epoch = state.step % settings.steps_per_epoch == 0
    return TrainState(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        ema=ema,
        loss_sum=jnp.where(first_of_epoch, 0, state.loss_sum) + loss,
        nonfinite_step=_first_nonfinite(state, loss, gradients),
    )


def _first_nonfinite(state: TrainState, loss: Array, gradients: PyTree) -> Int[Array, ""]:
    # A sum over finite values is finite, and needs no second copy as a sum of squares does.
    finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.sum(gradients))
    first = (state.nonfinite_step < 0) & ~finite
    return jnp.where(first, state.step, state.nonfinite_step)
