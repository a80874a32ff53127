"""One weighted mean over a batch; an objective is a sum of such terms."""

from collections.abc import Callable
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from lmf_jax.losses.training_progress import Progress, has_reached


@dataclass(frozen=True, eq=False)  # by identity, so that jit can hash it
class Term:
    """One weighted mean, ``coefficient * sum(weight * value) / sum(weight)``."""

    coefficient: float
    loss: Callable[..., Float[Array, "..."]]
    """``loss(logits, labels, where=where)``: one value per label, or per sample. Masked values are
    0, with gradient 0."""
    class_weights: Float[Array, " classes"] | Float[Array, "labels 2"] | None = None
    """The weight of a value is that of the class of its label; 1 if not given. ``[C, 2]`` in
    :class:`lmf_jax.losses.label_vectors.LabelTerm`."""
    reweight_start: float = 0.0
    """Fraction of training, in [0, 1], after which class weights apply."""
    per_sample: bool = False
    """Whether the loss gives one value per sample ``[B]`` instead of one per label."""

    def weights(
        self,
        labels: Integer[Array, "..."],
        where: Bool[Array, "..."] | None,
        progress: Progress,
    ) -> Float[Array, "..."]:
        """Return the weight of each value, in the shape of the values and of the mask."""
        shape = labels.shape[:1] if self.per_sample else labels.shape
        weights = jnp.ones(shape, jnp.result_type(float))
        if self.class_weights is not None:
            of_label = self.class_weights[jnp.where(labels < 0, 0, labels)]
            weights = jnp.where(has_reached(progress, self.reweight_start), of_label, weights)
        return weights if where is None else jnp.where(where, weights, 0)
