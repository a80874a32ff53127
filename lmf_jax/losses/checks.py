"""Checks of what is given to a loss, made before anything is traced; each error names the culprit.

Values under ``jit``, ``grad`` or ``vmap`` cannot be looked at: there, only shapes and types are
checked.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Shaped

Scalar = float | int | Float[Array, ""] | np.ndarray
"""One number, traced or not."""
ClassCounts = Shaped[Array | np.ndarray, " classes"] | Sequence[int] | Sequence[float]
"""Training examples per class, indexed by class id; every class holds at least one."""


def check_class_counts(class_counts: ClassCounts) -> np.ndarray:
    """Return the counts as float64 ``[C]``; refuse counts that no margin or weight can come from.

    Raises:
        ValueError: if they are not one positive, finite number for each of two or more classes.
        TypeError: if they are being traced: counts belong to the dataset, not to the program.
    """
    if isinstance(class_counts, jax.core.Tracer):
        raise TypeError(
            "class_counts is traced by jit, grad or vmap; compute margins and weights "
            "outside and pass them in."
        )
    counts = np.asarray(class_counts, dtype=np.float64)
    if counts.ndim != 1 or len(counts) < 2:
        raise ValueError(
            f"class_counts has shape {counts.shape}; expected one count for each of two or more "
            "classes."
        )
    for class_id, count in enumerate(counts):
        if not np.isfinite(count):
            raise ValueError(
                f"class_counts holds {count} for class {class_id}; expected a finite number."
            )
        if count <= 0:
            raise ValueError(
                f"Class {class_id} has {count:g} training examples, so its margin or weight would "
                "be infinite; leave the class out or give it examples."
            )
    return counts


def check_batch(
    logits: ArrayLike, labels: ArrayLike, where: ArrayLike | None
) -> tuple[Array, Array, Array | None]:
    """Return arrays that fit each other, logits in float32 or float64, or say what does not fit.

    Labels and mask come back as from :func:`check_labels`.
    """
    logits = jnp.asarray(logits)
    labels, where = check_labels(labels, where)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits are {logits.dtype}; expected floating point numbers.")
    if logits.ndim == 0 or logits.shape[-1] < 2:
        raise ValueError(
            f"logits have shape {logits.shape}; expected [..., C] with C of two or more classes."
        )
    if logits.shape[:-1] != labels.shape:
        raise ValueError(
            f"logits have shape {logits.shape} and labels {labels.shape}; expected the shape of "
            "the labels and one more axis, the classes."
        )
    return logits.astype(at_least_float32(logits.dtype)), labels, where


def check_labels(labels: ArrayLike, where: ArrayLike | None) -> tuple[Array, Array | None]:
    """Return class ids of at least 32 bits, and the mask in their shape, or say what is wrong."""
    labels = jnp.asarray(labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels are {labels.dtype}; expected integers, the class ids.")
    if labels.dtype.itemsize < 4:  # 8 bits do not count to the number of classes
        labels = labels.astype(jnp.int32)
    return labels, None if where is None else _check_mask(where, labels)


def check_label_maps(
    labels: ArrayLike, where: ArrayLike | None
) -> tuple[Array, Bool[Array, " batch"] | None]:
    """Return class ids of at least 32 bits, and a mask ``[B]``, or say what is wrong."""
    labels, _ = check_labels(labels, None)
    if labels.ndim < 2:
        raise ValueError(
            f"labels have shape {labels.shape}; expected [B, *space], a class id for each pixel or "
            "voxel of each sample."
        )
    if where is None:
        return labels, None
    if jnp.shape(where) != labels.shape[:1]:
        raise ValueError(
            f"where has shape {jnp.shape(where)} and labels {labels.shape}; expected one boolean "
            "for each sample, as the loss has one value for each."
        )
    return labels, _check_mask(where, labels[(slice(None), *[0] * (labels.ndim - 1))])


def check_maps(
    logits: ArrayLike, labels: ArrayLike, where: ArrayLike | None
) -> tuple[Array, Array, Bool[Array, " batch"] | None]:
    """Return arrays as from :func:`check_batch`, of whole samples, with a mask over the samples."""
    labels, where = check_label_maps(labels, where)
    logits, labels, _ = check_batch(logits, labels, None)
    return logits, labels, where


def at_least_float32(dtype: DTypeLike) -> jnp.dtype:
    """Return the type that a loss of logits of this type is computed in."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def _check_mask(where: ArrayLike, labels: Array) -> Bool[Array, "*batch"]:
    where = jnp.asarray(where)
    if where.dtype != jnp.bool_:
        raise TypeError(f"where is {where.dtype}; expected booleans.")
    if where.shape != labels.shape[: where.ndim]:
        raise ValueError(
            f"where has shape {where.shape} and labels {labels.shape}; expected the shape of the "
            "labels or of their leading axes."
        )
    trailing = (1,) * (labels.ndim - where.ndim)
    return jnp.broadcast_to(where.reshape(where.shape + trailing), labels.shape)


def check_class_vector(
    name: str, values: ArrayLike | None, logits: Array, *, signed: bool = False
) -> Float[Array, " classes"]:
    """Return one number per class in the type of the logits, all 1 if not given."""
    num_classes = logits.shape[-1]
    if values is None:
        return jnp.ones(num_classes, logits.dtype)
    if jnp.shape(values) != (num_classes,):
        raise ValueError(
            f"{name} has shape {jnp.shape(values)} and logits {logits.shape}; expected one number "
            f"for each of the {num_classes} classes."
        )
    if not isinstance(values, jax.core.Tracer):
        numbers = np.asarray(values, np.float64)
        for class_id in np.flatnonzero(~np.isfinite(numbers) | (not signed) & (numbers < 0)):
            raise ValueError(
                f"{name} holds {numbers[class_id]} for class {class_id}; expected a finite number "
                "that is not negative."
            )
    return jnp.asarray(values, logits.dtype)


def check_not_negative(**numbers: Scalar) -> None:
    """Refuse a number that is negative, infinite or not a number."""
    for name, number in numbers.items():
        if not isinstance(number, jax.core.Tracer) and not 0 <= number < np.inf:
            raise ValueError(f"{name} is {number}; expected a number of at least 0.")


def check_positive(**numbers: Scalar) -> None:
    """Refuse a number that is not above 0, infinite or not a number."""
    for name, number in numbers.items():
        if not isinstance(number, jax.core.Tracer) and not 0 < number < np.inf:
            raise ValueError(f"{name} is {number}; expected a number above 0.")


def check_fraction(**numbers: Scalar) -> None:
    """Refuse a number outside [0, 1]."""
    for name, number in numbers.items():
        if not isinstance(number, jax.core.Tracer) and not 0 <= number <= 1:
            raise ValueError(f"{name} is {number}; expected a number in [0, 1].")


def check_choice(name: str, given: str, choices: tuple[str, ...]) -> None:
    """Refuse a name that is not among the choices."""
    if given not in choices:
        raise ValueError(f"Unknown {name} {given!r}; expected one of {', '.join(choices)}.")
