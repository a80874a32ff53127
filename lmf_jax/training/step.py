"""One step of training: pure, and mapped over all devices.

The step knows nothing of the task: it takes whatever logits the model returns and whatever
objective reduces them.
"""

from collections.abc import Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped

from lmf_jax.distributed.devices import AXIS, Batch, MappedStep, over_devices
from lmf_jax.losses import Objective, TrainingProgress
from lmf_jax.models.layers import example_keys, parameter_dtype
from lmf_jax.models.normalisation import model_inputs
from lmf_jax.training.augment import augment_images, cutmix, mixup, roll_global_batch
from lmf_jax.training.state import StepSettings, TrainState


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
        model: A module whose synchronised layers use :data:`AXIS`.
        objective: From :func:`lmf_jax.losses.make_objective`.
        optimizer: From :func:`lmf_jax.training.optimizer.make_optimizer`.
        settings: See :class:`StepSettings`.
        devices: What to map over; by itself all devices there are.
    """
    base_key = jax.random.fold_in(jax.random.key(settings.seed), 1)  # 0 would be the initial key's

    def train_step(state: TrainState, batch: Batch) -> TrainState:
        step_key = jax.random.fold_in(base_key, state.step)
        mix_key = jax.random.fold_in(step_key, 1)  # the same for all micro-batches
        progress = TrainingProgress(state.step, settings.total_steps)
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

    return over_devices(train_step, devices, donate_state=True, spread_output=False)


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
    inputs = model_inputs(images, settings.normalisation, settings.dtype)
    if not settings.mixup and not settings.cutmix:
        return inputs, [(1.0, labels)]
    partners = roll_global_batch(inputs, AXIS)
    mix, strength = (mixup, settings.mixup) if settings.mixup else (cutmix, settings.cutmix)
    inputs, share = mix(key, inputs, partners, strength)
    share = share.astype(parameter_dtype(settings.dtype))
    return inputs, [(share, labels), (1 - share, roll_global_batch(labels, AXIS))]


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
