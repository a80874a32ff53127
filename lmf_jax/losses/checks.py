"""Argument checks of the losses, made before tracing; each error names the argument.

The values of traced arrays are unknown, so under ``jit``, ``grad`` and ``vmap`` only shapes and
dtypes are checked.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike
from jaxtyping import Array, Bool, Float, Shaped

Scalar = float | int | Float[Array, ""] | np.ndarray
"""A single number, traced or not."""
ClassCounts = Shaped[Array | np.ndarray, " classes"] | Sequence[int] | Sequence[float]
"""Training examples per class, indexed by class id; every class holds at least one."""


def check_class_counts(class_counts: ClassCounts) -> np.ndarray:
    """Return the counts as float64 ``[C]``, after checking that each is positive and finite.

    Raises:
        ValueError: If they are not one positive, finite number for each of two or more classes.
        TypeError: If they are not numbers, or are traced: counts are constants of the dataset.
    """
    if isinstance(class_counts, jax.core.Tracer):
        raise TypeError(
            "class_counts is traced by jit, grad or vmap; compute margins and weights "
            "outside and pass them in."
        )
    try:
        counts = np.asarray(class_counts, dtype=np.float64)
    except (TypeError, ValueError):
        raise TypeError(
            f"class_counts are {class_counts!r}; expected one number for each class."
        ) from None
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
    """Return logits in float32 or float64, with labels and mask as from :func:`check_labels`.

    Raises:
        TypeError: If a dtype is wrong.
        ValueError: If the shapes do not match.
    """
    logits = as_array("logits", logits)
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
    """Return class ids of at least 32 bits, and the mask broadcast to their shape."""
    labels = as_array("labels", labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(f"labels are {labels.dtype}; expected integers, the class ids.")
    if labels.dtype.itemsize < 4:  # the number of classes may not fit in 8 bits
        labels = labels.astype(jnp.int32)
    return labels, None if where is None else check_mask(where, labels)


def check_label_maps(
    labels: ArrayLike, where: ArrayLike | None
) -> tuple[Array, Bool[Array, " batch"] | None]:
    """Return class ids of at least 32 bits, and a mask ``[B]``."""
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
    return labels, check_mask(where, labels[(slice(None), *[0] * (labels.ndim - 1))])


def check_maps(
    logits: ArrayLike, labels: ArrayLike, where: ArrayLike | None
) -> tuple[Array, Array, Bool[Array, " batch"] | None]:
    """Return logits and label maps as from :func:`check_batch`, and a mask over the samples."""
    labels, where = check_label_maps(labels, where)
    logits, labels, _ = check_batch(logits, labels, None)
    return logits, labels, where


def at_least_float32(dtype: DTypeLike) -> jnp.dtype:
    """Return the dtype in which a loss of logits of this dtype is computed."""
    return jnp.dtype(jnp.float64 if dtype == jnp.float64 else jnp.float32)


def as_array(name: str, values: ArrayLike) -> Array:
    """Return an argument as an array, or raise TypeError with its name."""
    try:
        return jnp.asarray(values)
    except (TypeError, ValueError):
        raise TypeError(f"{name} are {values!r}; expected an array of numbers.") from None


def check_mask(where: ArrayLike, labels: Array) -> Bool[Array, "*batch"]:
    """Return a mask broadcast to the shape of the labels.

    Raises:
        TypeError: If the mask is not booleans.
        ValueError: If its shape is not that of the labels or of their leading axes.
    """
    where = as_array("where", where)
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
    """Return one number per class in the dtype of the logits; all 1 if not given."""
    num_classes = logits.shape[-1]
    if values is None:
        return jnp.ones(num_classes, logits.dtype)
    if np.shape(values) != (num_classes,):
        raise ValueError(
            f"{name} has shape {np.shape(values)} and logits {logits.shape}; expected one number "
            f"for each of the {num_classes} classes."
        )
    if not isinstance(values, jax.core.Tracer):
        try:
            numbers = np.asarray(values, np.float64)
        except (TypeError, ValueError):
            raise TypeError(f"{name} are {values!r}; expected one number for each class.") from None
        for class_id in np.flatnonzero(~np.isfinite(numbers) | (not signed) & (numbers < 0)):
            raise ValueError(
                f"{name} holds {numbers[class_id]} for class {class_id}; expected a finite number "
                "that is not negative."
            )
    return jnp.asarray(values, logits.dtype)


def check_not_negative(**numbers: Scalar) -> None:
    """Raise if a number is negative, infinite or NaN."""
    for name, number in numbers.items():
        _check_number(name, number, "a number of at least 0", lambda x: 0 <= x < np.inf)


def check_positive(**numbers: Scalar) -> None:
    """Raise if a number is not above 0, infinite or NaN."""
    for name, number in numbers.items():
        _check_number(name, number, "a number above 0", lambda x: 0 < x < np.inf)


def check_finite(**numbers: Scalar) -> None:
    """Raise if a number is infinite or NaN."""
    for name, number in numbers.items():
        _check_number(name, number, "a finite number", lambda x: abs(x) < np.inf)


def check_fraction(**numbers: Scalar) -> None:
    """Raise if a number is outside [0, 1]."""
    for name, number in numbers.items():
        _check_number(name, number, "a number in [0, 1]", lambda x: 0 <= x <= 1)


def check_below_one(**numbers: Scalar) -> None:
    """Raise if a number is outside [0, 1)."""
    for name, number in numbers.items():
        _check_number(name, number, "a number in [0, 1)", lambda x: 0 <= x < 1)


def check_whole(**numbers: Scalar) -> None:
    """Raise if a number is not whole or below 1."""
    for name, number in numbers.items():
        _check_number(name, number, "a whole number of at least 1", lambda x: x >= 1 and x % 1 == 0)


def _check_number(
    name: str, number: object, expected: str, holds: Callable[[Any], bool | np.bool_]
) -> None:
    """Raise TypeError for anything but a number, ValueError for one out of its range."""
    if isinstance(number, jax.core.Tracer):
        return
    if not _is_number(number):
        raise TypeError(f"{name} is {number!r}; expected {expected}.")
    if not holds(number):
        raise ValueError(f"{name} is {number}; expected {expected}.")


def _is_number(value: object) -> bool:
    if isinstance(value, (int, float)):
        return not isinstance(value, bool)
    if not isinstance(value, (np.ndarray, np.number, jax.Array)) or value.ndim:
        return False
    return any(jnp.issubdtype(value.dtype, kind) for kind in (jnp.integer, jnp.floating))


def check_choice(name: str, given: str, choices: tuple[str, ...]) -> None:
    """Raise if a name is not one of the choices."""
    if given not in choices:
        raise ValueError(f"Unknown {name} {given!r}; expected one of {', '.join(choices)}.")
