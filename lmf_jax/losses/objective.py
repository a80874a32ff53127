"""The scalar that training minimizes: a loss, its weights and how a batch is averaged.

An objective is a sum of terms ``coefficient * sum(weight * value) / sum(weight)``. The numerators
add up over devices and micro-batches. The denominators depend on the labels alone, so they are
summed over the whole batch first: N devices give exactly what one device gives.

A value belongs to a label, so to a voxel in a label map; or, in a segmentation loss, to a whole
sample, whose weight is 1, or 0 where it is masked.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
from jaxtyping import Array, Bool, Float, Integer

from lmf_jax.losses.checks import (
    ClassCounts,
    check_batch,
    check_choice,
    check_class_counts,
    check_label_maps,
    check_labels,
    check_maps,
)
from lmf_jax.losses.loss_config import Form, HeadName, LossConfig
from lmf_jax.losses.registry import LossSpec, Task, cosine_losses, get_loss, losses_with
from lmf_jax.losses.term import Term
from lmf_jax.losses.training_progress import Progress


@dataclass(frozen=True, eq=False)  # by identity, so that jit can hash it
class Objective:
    """A batch loss: a pure, differentiable function, the same on any number of devices."""

    terms: tuple[Term, ...]
    """All per sample, or all per label."""
    num_classes: int

    @property
    def per_sample(self) -> bool:
        """Whether the losses, and so the mask, have one value per sample."""
        return self.terms[0].per_sample

    def denominators(
        self,
        labels: Integer[Array, "..."],
        where: Bool[Array, "..."] | None = None,
        axis_name: str | None = None,
        *,
        progress: Progress = 1.0,
    ) -> Float[Array, " terms"]:
        """Return the sum of the weights of each term, over all devices of ``axis_name``.

        Args:
            labels: Class ids ``[...]``; under gradient accumulation, of all micro-batches.
            where: Mask in the shape of ``labels`` or of its leading axes; ``[B]`` per sample.
            axis_name: The mapped axis to sum over.
            progress: As in :meth:`__call__`.

        Raises:
            TypeError, ValueError: As in :meth:`__call__`.
        """
        labels, where = self._check_labels(labels, where)
        sums = jnp.stack([jnp.sum(t.weights(labels, where, progress)) for t in self.terms])
        return sums if axis_name is None else jax.lax.psum(sums, axis_name)

    def __call__(
        self,
        logits: Float[Array, "*batch classes"],
        labels: Integer[Array, "..."],
        where: Bool[Array, "..."] | None = None,
        axis_name: str | None = None,
        *,
        denominators: Float[Array, " terms"] | None = None,
        progress: Progress = 1.0,
    ) -> Float[Array, ""]:
        """Return the batch loss or, with ``axis_name``, this device's part of it.

        ``psum`` of the parts is the loss of the global batch, and ``psum`` of their gradients its
        gradient.

        Args:
            logits: ``[..., C]``.
            labels: Class ids ``[...]``.
            where: Mask in the shape of ``labels`` or of its leading axes, ``[B]`` per sample; a
                fully masked batch has loss 0.
            axis_name: The mapped axis that the batch is spread over.
            denominators: From :meth:`denominators`, if ``labels`` are only part of the batch.
            progress: Training progress in steps, or as a fraction in [0, 1], which float32 rounds;
                only deferred re-weighting reads it.

        Raises:
            TypeError: If logits are not floats, labels not integers or the mask not booleans.
            ValueError: If the shapes do not match, or the numbers of logits and class counts
                differ.
        """
        logits, labels, where = self._check_batch(logits, labels, where)
        if logits.shape[-1] != self.num_classes:
            raise ValueError(
                f"logits have shape {logits.shape}, and the objective was made for class counts of "
                f"{self.num_classes} classes; expected as many logits as class counts."
            )
        if denominators is None:
            denominators = self.denominators(labels, where, axis_name, progress=progress)
        total = jnp.zeros((), logits.dtype)
        for term, denominator in zip(self.terms, denominators, strict=True):
            values = term.loss(logits, labels, where=where)
            weights = term.weights(labels, where, progress).astype(values.dtype)
            safe = jnp.where(denominator > 0, denominator, 1).astype(values.dtype)
            total += term.coefficient * jnp.sum(weights * values) / safe
        return total

    def _check_labels(self, labels: ArrayLike, where: ArrayLike | None) -> tuple:
        return (check_label_maps if self.per_sample else check_labels)(labels, where)

    def _check_batch(self, logits: ArrayLike, labels: ArrayLike, where: ArrayLike | None) -> tuple:
        return (check_maps if self.per_sample else check_batch)(logits, labels, where)


def make_objective(
    name: str,
    class_counts: ClassCounts,
    *,
    form: Form = "released",
    head: HeadName = "linear",
    alpha: float | None = None,
    beta: float | None = None,
    gamma: float | None = None,
    delta: float | None = None,
    weight: float | None = None,
    background_weight: float | None = None,
    scale: float | None = None,
    max_margin: float | None = None,
    tau: float | None = None,
    effective_number_beta: float | None = None,
    drw_start: float | None = None,
) -> Objective:
    """Make the objective of a loss for a training set with these class counts.

    The form decides how the losses of the LMF paper are averaged:

    - ``"released"``: what the authors' code computes and their tables come from. LDAM is scaled by
      30, weighted by the margins and divided by the sum of these weights; the focal part is
      weighted by the margins and divided by N; weighted cross entropy is divided by the sum of
      the weights.
    - ``"paper"``: the equations of the final version as printed. LDAM has scale 1 and no weights;
      every sum is divided by N.
    - ``"paper-v1"``: as ``"paper"``, but the focal part has no class weights (Eq. 1 and 3 of the
      first version).

    A segmentation loss is averaged over the samples; in the paper's forms it is what its paper
    prints. A loss that has one form has it in each.

    An option that is None has its default. An option that the loss does not have is refused,
    because it would have no effect.

    Args:
        name: One of :func:`lmf_jax.losses.loss_names`.
        class_counts: Training examples per class, ``[C]``, by class id; voxels in label maps.
        form: See above.
        head: ``"cosine"`` if the logits are cosines, which the focal part then scales as LDAM does.
        alpha: Weight of the LDAM part of LMF, at least 0; by default 1.
        beta: Weight of the focal part of LMF, at least 0; by default 1.
        gamma: Focusing parameter, at least 0; by default 1.5 in classification losses, and that of
            its paper in a segmentation loss. In Mixed Focal it belongs to the focal part.
        delta: Weight of false negatives in a Tversky index, or of the foreground in a focal loss,
            in [0, 1]; by default that of each segmentation loss.
        weight: Weight of the overlap in Mixed and Unified Focal (of the focal part in the paper's
            forms) and of the cross entropy in combo, in [0, 1]; by default that of each loss.
        background_weight: Weight of the background in the cross entropy of combo, modified focal
            and Mixed Focal, in [0, 1]; the foreground has 1 less it. By default that of each loss.
        scale: Scale of the logits in LDAM, above 0; by default 30, and 1 in the paper's forms with
            the linear head.
        max_margin: Margin of the rarest class, above 0; by default 0.5.
        tau: Strength of logit adjustment, at least 0; by default 1.
        effective_number_beta: In [0, 1), for ``"class-balanced"`` and ``"ldam-drw"``; by default
            0.9999.
        drw_start: Fraction of training after which ``"ldam-drw"`` re-weights, in [0, 1]; by
            default 0.8, as the authors re-weight from epoch 160 of 200 on.

    Raises:
        ValueError: If the name, the form or the head is unknown, a number is out of its range, or
            an option is given that the loss does not have.
        TypeError: If an option is not a number.
    """
    options = {
        "alpha": alpha,
        "beta": beta,
        "gamma": gamma,
        "delta": delta,
        "weight": weight,
        "background_weight": background_weight,
        "scale": scale,
        "max_margin": max_margin,
        "tau": tau,
        "effective_number_beta": effective_number_beta,
        "drw_start": drw_start,
    }
    given = {option: value for option, value in options.items() if value is not None}
    check_options(find_loss(name, form, head), form, given)
    return build_objective(LossConfig(name, form, **given), class_counts, head=head)


def build_objective(
    config: LossConfig, class_counts: ClassCounts, *, head: HeadName = "linear"
) -> Objective:
    """Return the objective that a configuration describes.

    Options that the loss does not have are ignored; :func:`make_objective` refuses them.

    Args:
        config: The loss and a value for every option.
        class_counts: Training examples per class, ``[C]``, by class id; voxels in label maps.
        head: As in :func:`make_objective`.

    Raises:
        ValueError: If a name is unknown or a number is out of its range.
        TypeError: If an option is not a number.
    """
    spec = find_loss(config.loss, config.form, head)
    counts = check_class_counts(class_counts).copy()  # the caller may change the array later
    terms = tuple(spec.build(counts, config, head))
    shape = (2, 3, 3) if spec.task == "segmentation" else (2,)
    for term in terms:
        check_term(spec.name, term, (*shape, len(counts)), shape)
    return Objective(terms, len(counts))


def find_loss(name: str, form: str, head: str, task: Task | None = None) -> LossSpec:
    """Return a registered loss, after checking that it goes with the form and the head.

    Raises:
        ValueError: If a name is unknown, or the loss cannot train a cosine head that was given.
    """
    spec = get_loss(name, task)
    check_choice("form", form, get_args(Form))
    check_choice("head", head, get_args(HeadName))
    if head == "cosine" and spec.logit_scale is None:
        raise ValueError(
            f"The cosine head was given with loss {name!r}; its logits need the scale that only "
            f"{', '.join(cosine_losses(task))} have: choose one of them or the linear head."
        )
    return spec


def check_options(spec: LossSpec, form: Form, given: Mapping[str, object]) -> None:
    """Raise ValueError if an option is given that the loss does not have."""
    for option in given:
        if option not in spec.options_in(form):
            in_form = f" in form {form!r}" if option in spec.options else ""
            others = losses_with(option, form, "multilabel" if spec.task == "multilabel" else None)
            advice = f", or choose a loss that has it: {', '.join(others)}" if others else ""
            raise ValueError(
                f"{option} was given with loss {spec.name!r}{in_form}, which does not have it; "
                f"leave it out{advice}."
            )


def check_term(
    name: str, term: Term, logits_shape: tuple[int, ...], labels_shape: tuple[int, ...]
) -> None:
    """Trace a loss once: it then checks its options now, and not in the first training step.

    Raises:
        ValueError: If the values have a wrong shape, or an option is out of its range.
        TypeError: If an option is not a number.
    """
    logits = jax.ShapeDtypeStruct(logits_shape, jnp.float32)
    labels = jax.ShapeDtypeStruct(labels_shape, jnp.int32)
    values = jax.eval_shape(partial(term.loss, where=None), logits, labels)
    expected = labels_shape[:1] if term.per_sample else labels_shape
    if values.shape != expected:
        raise ValueError(
            f"The loss {name!r} gives values of shape {values.shape} for labels of shape "
            f"{labels_shape}; expected {expected}."
        )
