"""The lift of a multi-label loss from the labels of one example to a batch, and its terms.

Labels are 0 or 1 for every label of an example, ``[..., C]``; a label of -1 is missing, and its
value and gradient are 0.

Most losses are a function of one number per label, the log odds against it: ``d = -z`` for a
positive label and ``d = z`` for a negative one. Cross entropy is ``softplus(d)``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from lmf_jax.losses.checks import as_array, at_least_float32, check_mask
from lmf_jax.losses.term import Term
from lmf_jax.losses.training_progress import Progress, has_reached

MISSING = -1
"""A label that is not known."""


@dataclass(frozen=True, eq=False)  # by identity, so that jit can hash it
class LabelTerm(Term):
    """A term with one value per example and label.

    ``class_weights`` are ``[C, 2]``, by label and its value. A missing label has weight 0, so that
    without class weights the denominator is the number of labels present.
    """

    def weights(
        self,
        labels: Integer[Array, "*batch labels"],
        where: Bool[Array, "..."] | None,
        progress: Progress,
    ) -> Float[Array, "*batch labels"]:
        """Return the weight of each value, in the shape of the labels and of the mask."""
        weights = jnp.ones(labels.shape, jnp.result_type(float))
        if self.class_weights is not None:
            known = jnp.where((labels == 0) | (labels == 1), labels, 0)
            of_label = self.class_weights[jnp.arange(labels.shape[-1]), known]
            weights = jnp.where(has_reached(progress, self.reweight_start), of_label, weights)
        return jnp.where(is_present(labels, where), weights, 0)


def is_present(
    labels: Integer[Array, "*batch labels"], where: Bool[Array, "*batch labels"] | None
) -> Bool[Array, "*batch labels"]:
    """Return which labels are neither missing nor masked."""
    present = labels != MISSING
    return present if where is None else present & where


def check_label_vectors(
    labels: ArrayLike, where: ArrayLike | None
) -> tuple[Integer[Array, "*batch labels"], Bool[Array, "*batch labels"] | None]:
    """Return labels of at least 32 bits, and the mask broadcast to their shape.

    Raises:
        TypeError: If the labels are not integers or the mask not booleans.
        ValueError: If the labels are a scalar, or the mask has another shape.
    """
    labels = as_array("labels", labels)
    if not jnp.issubdtype(labels.dtype, jnp.integer):
        raise TypeError(
            f"labels are {labels.dtype}; expected integers, 0 or 1 for each label and -1 for a "
            "missing one."
        )
    if labels.ndim == 0:
        raise ValueError("labels have shape (); expected [..., C], 0 or 1 for each label.")
    if labels.dtype.itemsize < 4:
        labels = labels.astype(jnp.int32)
    return labels, None if where is None else check_mask(where, labels)


def check_label_batch(
    logits: ArrayLike, labels: ArrayLike, where: ArrayLike | None
) -> tuple[
    Float[Array, "*batch labels"],
    Integer[Array, "*batch labels"],
    Bool[Array, "*batch labels"] | None,
]:
    """Return logits in float32 or float64, with labels and mask of :func:`check_label_vectors`.

    Raises:
        TypeError: If a dtype is wrong.
        ValueError: If the shapes do not match.
    """
    logits = as_array("logits", logits)
    labels, where = check_label_vectors(labels, where)
    if not jnp.issubdtype(logits.dtype, jnp.floating):
        raise TypeError(f"logits are {logits.dtype}; expected floating point numbers.")
    if logits.shape != labels.shape:
        raise ValueError(
            f"logits have shape {logits.shape} and labels {labels.shape}; expected the same shape "
            "[..., C], a logit and 0 or 1 for each label."
        )
    return logits.astype(at_least_float32(logits.dtype)), labels, where


def log_odds_against_labels(
    logits: Float[Array, " labels"], labels: Integer[Array, " labels"]
) -> Float[Array, " labels"]:
    """Return ``-z`` for positive and ``z`` for negative labels."""
    return jnp.where(labels == 1, -logits, logits)


@partial(jax.jit, static_argnums=0)
def map_label_vectors(
    example_loss: Callable[..., Array],
    logits: Float[Array, "*batch labels"],
    labels: Integer[Array, "*batch labels"],
    where: Bool[Array, "*batch labels"] | None,
    *parameters: ArrayLike,
) -> Float[Array, "*batch labels"]:
    """Apply ``example_loss(logits [C], labels [C], *parameters)`` to every example of a batch.

    One program is compiled for each loss and shape.

    Args:
        example_loss: The losses of one example, ``[C]``. It sees logit 0 and label 0 where a label
            is missing or masked.
        logits: ``[..., C]``.
        labels: 0, 1 or -1 for a missing label, ``[..., C]``; another label gives NaN.
        where: Mask ``[..., C]``; a masked label gives 0 with gradient 0.
        parameters: Further arguments of the loss, the same for all examples.
    """
    present = is_present(labels, where)
    # Mask before the loss, so that a masked NaN reaches neither the value nor the gradient.
    logits = jnp.where(present, logits, 0)
    labels = jnp.where(present, labels, 0)
    one = partial(_example, example_loss, parameters)
    values = jnp.vectorize(one, signature="(c),(c)->(c)")(logits, labels)
    # jit cannot raise, and any other label would be read as 0.
    values = jnp.where((labels == 0) | (labels == 1), values, jnp.nan)
    return jnp.where(present, values, 0)


def _example(
    example_loss: Callable[..., Array], parameters: tuple, logits: Array, labels: Array
) -> Array:
    return example_loss(logits, labels, *(jnp.asarray(p, logits.dtype) for p in parameters))
