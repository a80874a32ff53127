"""The train step: a pure function, mapped over all devices.

It is independent of the task: the model returns logits, the objective reduces them to a loss.
"""

from collections.abc import Sequence
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int, Key, PyTree, Shaped

from lmf_jax.distributed.devices import AXIS, Batch, MappedStep, map_over_devices
from lmf_jax.losses import Objective, TrainingProgress
from lmf_jax.models.further_inputs import further_inputs
from lmf_jax.models.layers import example_keys, parameter_dtype
from lmf_jax.models.normalization import model_inputs
from lmf_jax.training.augment import augment_images, augment_pairs, cutmix, mixup, roll_global_batch
from lmf_jax.training.state import StepSettings, TrainState


def make_train_step(
    model: nn.Module,
    objective: Objective,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
    devices: Sequence[jax.Device] | None = None,
) -> MappedStep:
    """Return the mapped train step ``(state, batch) -> state``; it donates the state.

    The batch is ``{"image": [D, B/D, *space, channels], "label": int32}``, with one label per image
    ``[D, B/D]``, a label vector per image ``[D, B/D, C]`` or one label per pixel
    ``[D, B/D, *space]``. Images are uint8, or float32 if the settings
    have no normalization. Further inputs of the model, such as ``"metadata": float32 [D, B/D, F]``,
    are passed to it by their names. N devices compute what one computes: batch statistics, loss
    denominators, loss and gradients are those of the global batch, and random draws depend on the
    position in it.

    Args:
        model: A module whose synchronized layers use :data:`AXIS`.
        objective: The objective, from :func:`lmf_jax.losses.make_objective`.
        optimizer: The optimizer, from :func:`lmf_jax.training.optimizer.make_optimizer`.
        settings: The settings of the step.
        devices: The devices to map over (default: all).
    """
    base_key = jax.random.fold_in(jax.random.key(settings.seed), 1)  # not that of the initial state

    def train_step(state: TrainState, batch: Batch) -> TrainState:
        step_key = jax.random.fold_in(base_key, state.step)
        mix_key = jax.random.fold_in(step_key, 1)  # the same for all micro-batches
        progress = TrainingProgress(state.step, settings.total_steps)
        micro_keys = jax.random.split(jax.random.fold_in(step_key, 0), settings.accumulate)
        batch = _augment(jax.random.fold_in(micro_keys[0], 0), batch, settings)
        # Of the whole batch on all devices: micro-batches and devices add parts of one quotient.
        denominators = objective.denominators(batch["label"], axis_name=AXIS, progress=progress)

        def loss_of(
            params: PyTree, batch_stats: PyTree, micro_key: Array, micro: Batch
        ) -> tuple[Array, PyTree]:
            """Return this device's part of the loss, and the new batch statistics."""
            inputs, further, label_sets = _normalize_and_mix(mix_key, micro, settings)
            logits, updated = model.apply(
                {"params": params, "batch_stats": batch_stats},
                inputs,
                train=True,
                **further,
                mutable=["batch_stats"],
                rngs={"dropout": jax.random.fold_in(micro_key, 1)},
            )
            # Mixing permutes the labels of the batch, so all label sets share the denominators.
            losses = [
                lam * objective(logits, y, denominators=denominators, progress=progress)
                for lam, y in label_sets
            ]
            return jnp.stack(losses).sum(), updated.get("batch_stats", {})

        def add_micro_batch(carry: tuple, micro: tuple) -> tuple[tuple, None]:
            batch_stats, loss, gradients = carry
            value_and_grad = jax.value_and_grad(loss_of, has_aux=True)
            (micro_loss, batch_stats), new = value_and_grad(state.params, batch_stats, *micro)
            return (batch_stats, loss + micro_loss, jax.tree.map(jnp.add, gradients, new)), None

        start = (
            state.batch_stats,
            jnp.zeros_like(state.loss_sum),
            jax.tree.map(jnp.zeros_like, state.params),
        )
        micro_batches = (micro_keys, _micro_batches(batch, settings.accumulate))
        if settings.accumulate == 1:
            total, _ = add_micro_batch(start, jax.tree.map(lambda x: x[0], micro_batches))
        else:
            total, _ = jax.lax.scan(add_micro_batch, start, micro_batches)
        batch_stats, *sums = total
        # A psum over one device would still copy all gradients.
        is_single_device = jax.lax.axis_size(AXIS) == 1
        loss, gradients = sums if is_single_device else jax.lax.psum(sums, AXIS)
        return _apply_gradients(state, loss, gradients, batch_stats, optimizer, settings)

    return map_over_devices(train_step, devices, donate_state=True, sharded_output=False)


def _augment(key: Key[Array, ""], batch: Batch, settings: StepSettings) -> dict[str, Array]:
    """Augment the images and, in the same way, labels per pixel."""
    images, labels = batch["image"], batch["label"]
    keys = example_keys(key, len(images), AXIS)
    if labels.ndim == images.ndim - 1:  # and neither one label nor a label vector per image
        labels = augment_images(settings.augment, keys, labels[..., None])[..., 0]
    augment = augment_pairs if settings.pairs else augment_images
    return {**batch, "image": augment(settings.augment, keys, images), "label": labels}


def _micro_batches(batch: Batch, count: int) -> dict[str, Shaped[Array, "count ..."]]:
    """Split the batch of a device into micro-batches.

    Every ``count``-th example goes to the same micro-batch, so the members of a micro-batch and
    their positions do not depend on the number of devices.
    """

    def split(values: Array) -> Array:
        return values.reshape(-1, count, *values.shape[1:]).swapaxes(0, 1)

    return {name: split(values) for name, values in batch.items()}


def _normalize_and_mix(
    key: Key[Array, ""], batch: Batch, settings: StepSettings
) -> tuple[
    Float[Array, "batch *space channels"], dict[str, Any], list[tuple[float | Array, Array]]
]:
    """Return the normalized and mixed images and further inputs, and the label sets.

    Each label set has its mixing coefficient. Further inputs are mixed by those of the labels.
    """
    labels, further = batch["label"], further_inputs(batch)
    inputs = model_inputs(batch["image"], settings.normalization, settings.dtype)
    if not settings.mixup and not settings.cutmix:
        return inputs, further, [(1.0, labels)]
    partners = roll_global_batch(inputs, AXIS)
    mix, strength = (mixup, settings.mixup) if settings.mixup else (cutmix, settings.cutmix)
    inputs, lam = mix(key, inputs, partners, strength)
    lam = lam.astype(parameter_dtype(settings.dtype))  # the loss is never computed in bfloat16
    mixed = {
        name: lam * values.astype(lam.dtype)
        + (1 - lam) * roll_global_batch(values, AXIS).astype(lam.dtype)
        for name, values in further.items()
    }
    return inputs, mixed, [(lam, labels), (1 - lam, roll_global_batch(labels, AXIS))]


def _apply_gradients(
    state: TrainState,
    loss: Float[Array, ""],
    gradients: PyTree,
    batch_stats: PyTree,
    optimizer: optax.GradientTransformation,
    settings: StepSettings,
) -> TrainState:
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes float and integer types
        updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema is not None:
        new = {"params": params, "batch_stats": batch_stats}
        # Warm-up of the decay: a slow average would stay close to the initial weights.
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
    # A plain sum of the gradients: a sum of squares would copy them, and overflow earlier.
    finite = jnp.isfinite(loss) & jnp.isfinite(optax.tree.sum(gradients))
    first = (state.nonfinite_step < 0) & ~finite
    return jnp.where(first, state.step, state.nonfinite_step)
