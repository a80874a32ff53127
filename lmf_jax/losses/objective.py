"""The scalar that training minimises: a loss, its weights and how a batch is averaged.

An objective is a sum of terms ``coefficient * sum(weight * value) / sum(weight)``. The numerators
add up over devices and micro-batches; the denominators need the labels alone, so they are summed
over the whole batch first. That is why N devices give exactly what one device gives.

A value is that of a label, so of a voxel in a label map, or of a whole sample where the loss is one
of segmentation; the weight of a sample is 1, or 0 where it is masked.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Integer

from lmf_jax.losses.checks import (
    ClassCounts,
    check_batch,
    check_choice,
    check_class_counts,
    check_fraction,
    check_label_maps,
    check_labels,
    check_maps,
    check_not_negative,
    check_positive,
)
from lmf_jax.losses.class_weights import (
    balanced_weights,
    class_margins,
    effective_number_weights,
    inverse_frequency_weights,
)
from lmf_jax.losses.classification import (
    cross_entropy_loss,
    focal_loss,
    ldam_loss,
    logit_adjusted_loss,
)
from lmf_jax.losses.options import check_options
from lmf_jax.losses.segmentation import SEGMENTATION_LOSSES, segmentation_loss
from lmf_jax.losses.training_progress import Progress, has_reached

Form = Literal["released", "paper", "paper-v1"]
HeadName = Literal["linear", "cosine"]

LOSSES = {
    "ce": "cross entropy (CCE; Sadi et al. 2022, Eq. 1)",
    "wcce": "cross entropy weighted by inverse class frequency (Sadi et al. 2022, Eq. 2)",
    "bwcce": "balanced weighted cross entropy, weights sum to 1 (Sadi et al. 2022, Eq. 3)",
    "focal": "focal loss weighted by the margins (Lin et al. 2017; Sadi et al. 2022, Eq. 7)",
    "ldam": "label-distribution-aware margins (Cao et al. 2019; Sadi et al. 2022, Eq. 5)",
    "ldam-drw": "LDAM with deferred re-weighting by effective number (Cao et al. 2019)",
    "lmf": "alpha * LDAM + beta * focal (Sadi et al. 2022, Eq. 8)",
    "balanced-softmax": "softmax that knows the class counts (Ren et al. 2020)",
    "logit-adjustment": "logits shifted by tau * log prior (Menon et al. 2021)",
    "class-balanced": "cross entropy weighted by effective number (Cui et al. 2019)",
}
"""Every loss of classification by its name in :func:`make_objective`, with its source; they work on
label maps too, voxel by voxel. Those of segmentation are in ``SEGMENTATION_LOSSES``."""

COSINE_LOSSES = frozenset({"ldam", "ldam-drw", "lmf"})
"""The losses with a scale of their own, without which cosines in [-1, 1] cannot be learnt from."""


@dataclass(frozen=True, eq=False)  # by identity, so that jit can hash it
class Term:
    """One weighted mean, ``coefficient * sum(weight * value) / sum(weight)``."""

    coefficient: float
    loss: Callable[..., Float[Array, "..."]]
    """``loss(logits, labels, where=where)``: one value per example, or per sample."""
    class_weights: Float[Array, " classes"] | None = None
    """The weight of an example is that of its class; 1 if not given."""
    weights_from: float = 0.0
    """Share of the training, in [0, 1], that is over before the class weights apply."""
    per_sample: bool = False
    """Whether the loss gives one value per sample ``[B]``, and not one per label."""

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
            weights = jnp.where(has_reached(progress, self.weights_from), of_label, weights)
        return weights if where is None else jnp.where(where, weights, 0)


@dataclass(frozen=True, eq=False)  # by identity, so that jit can hash it
class Objective:
    """A loss over a batch: pure, differentiable, the same on any number of devices."""

    terms: tuple[Term, ...]
    """All per sample, or all per label."""
    num_classes: int

    @property
    def per_sample(self) -> bool:
        """Whether the losses give one value per sample; then the mask has one value for each."""
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
            labels: class ids ``[...]``, of the whole accumulated batch under accumulation.
            where: mask in the shape of ``labels`` or of its leading axes; ``[B]`` per sample.
            axis_name: the mapped axis to sum over.
            progress: as in :meth:`__call__`.

        Raises:
            TypeError, ValueError: as in :meth:`__call__`.
        """
        labels, where = (check_label_maps if self.per_sample else check_labels)(labels, where)
        sums = jnp.stack([jnp.sum(t.weights(labels, where, progress)) for t in self.terms])
        return sums if axis_name is None else jax.lax.psum(sums, axis_name)

    def __call__(
        self,
        logits: Float[Array, "*batch classes"],
        labels: Integer[Array, "*batch"],
        where: Bool[Array, "..."] | None = None,
        axis_name: str | None = None,
        *,
        denominators: Float[Array, " terms"] | None = None,
        progress: Progress = 1.0,
    ) -> Float[Array, ""]:
        """Return the batch loss or, with ``axis_name``, this device's share of it.

        ``psum`` of the shares is the loss of the global batch, ``psum`` of their gradients its
        gradient.

        Args:
            logits: ``[..., C]``.
            labels: class ids ``[...]``.
            where: mask in the shape of ``labels`` or of its leading axes, ``[B]`` per sample; a
                fully masked batch has loss 0.
            axis_name: the mapped axis that the batch is spread over.
            denominators: from :meth:`denominators`, where ``labels`` are a part of the batch only.
            progress: steps of the training that are over, or their share in [0, 1], which float32
                rounds; deferred re-weighting alone looks at it.

        Raises:
            TypeError: if logits are not floats, labels not integers or the mask not booleans.
            ValueError: if the shapes do not match, or the logits have another number of classes
                than the class counts that the objective was made for.
        """
        check = check_maps if self.per_sample else check_batch
        logits, labels, where = check(logits, labels, where)
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

    A loss of segmentation is averaged over the samples; in the paper's forms it is what its paper
    prints, see :mod:`lmf_jax.losses.segmentation`. A loss that has one form has it in each.

    An option that is None has its default; one that the loss does not have is refused, so that
    nobody believes that it changed the loss.

    Args:
        name: one of :data:`LOSSES` or of :data:`SEGMENTATION_LOSSES`.
        class_counts: training examples per class, ``[C]``, by class id; voxels in label maps.
        form: see above.
        head: ``"cosine"`` if the logits are cosines: the focal part then sees ``scale`` times them.
        alpha: weight of the LDAM part of LMF, at least 0; by default 1.
        beta: weight of the focal part of LMF, at least 0; by default 1.
        gamma: focusing parameter, at least 0; by default 1.5 in the losses of classification, and
            in each loss of segmentation its own. In Mixed Focal it is that of the focal part.
        delta: of a loss of segmentation: weight of what is missed in a Tversky index, or of the
            foreground in a focal loss, in [0, 1]; by default its own.
        weight: share of the overlap in Mixed and Unified Focal (of the focal part in the paper's
            forms) and of the cross entropy in combo, in [0, 1]; by default its own.
        background_weight: weight of the background in the cross entropy of combo, modified focal
            and Mixed Focal, in [0, 1], beside 1 less it for the foreground; by default its own.
        scale: scale of the logits in LDAM, above 0; by default 30, and 1 in the paper's forms with
            the linear head.
        max_margin: margin of the rarest class, above 0; by default 0.5.
        tau: strength of logit adjustment, at least 0; by default 1.
        effective_number_beta: in [0, 1), for ``"class-balanced"`` and ``"ldam-drw"``; by default
            0.9999.
        drw_start: share of the training after which ``"ldam-drw"`` re-weights, in [0, 1]; by
            default 0.8, as the authors re-weight from epoch 160 of 200 on.

    Raises:
        ValueError: if the name, the form or the head is unknown, a number is out of its range, or
            an option is given that the loss does not have.
        TypeError: if an option is no number.
    """
    _check_names(name, form, head)
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
    check_options(name, form, given)
    class_counts = check_class_counts(class_counts).copy()  # an array may change after this call
    num_classes = len(class_counts)
    if name in SEGMENTATION_LOSSES:
        as_printed: Literal["released", "paper"] = "released" if form == "released" else "paper"
        loss = segmentation_loss(name, num_classes, form=as_printed, **given)
        return Objective((Term(1.0, loss, per_sample=True),), num_classes)
    return Objective(_terms(name, class_counts, form, head, **given), num_classes)


def _terms(
    name: str,
    class_counts: ClassCounts,
    form: Form,
    head: HeadName,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.5,
    scale: float | None = None,
    max_margin: float = 0.5,
    tau: float = 1.0,
    effective_number_beta: float = 0.9999,
    drw_start: float = 0.8,
) -> tuple[Term, ...]:
    """Return the terms of a classification loss, see :func:`make_objective`."""
    scale = default_scale(name, form, head) if scale is None else scale
    check_not_negative(alpha=alpha, beta=beta, gamma=gamma, tau=tau)
    check_fraction(drw_start=drw_start)
    check_positive(scale=scale, max_margin=max_margin)
    margins = class_margins(class_counts, max_margin=max_margin)
    margin_loss = partial(ldam_loss, margins=margins, scale=scale)
    effective_weights = partial(
        effective_number_weights, class_counts, effective_number_beta=effective_number_beta
    )

    def weighted(class_weights: Float[Array, " classes"]) -> Term:
        if form == "released":
            return Term(1.0, cross_entropy_loss, class_weights)
        return Term(1.0, partial(cross_entropy_loss, class_weights=class_weights))

    def ldam(coefficient: float) -> Term:
        return Term(coefficient, margin_loss, margins if form == "released" else None)

    def focal(coefficient: float) -> Term:
        class_weights = None if form == "paper-v1" else margins
        loss = partial(focal_loss, class_weights=class_weights, gamma=gamma)
        return Term(coefficient, partial(_scaled, loss, scale) if head == "cosine" else loss)

    def adjusted(tau: float) -> Term:
        return Term(1.0, partial(logit_adjusted_loss, class_counts=class_counts, tau=tau))

    terms: dict[str, Callable[[], list[Term]]] = {
        "ce": lambda: [Term(1.0, cross_entropy_loss)],
        "wcce": lambda: [weighted(inverse_frequency_weights(class_counts))],
        "bwcce": lambda: [weighted(balanced_weights(class_counts))],
        "focal": lambda: [focal(1.0)],
        "ldam": lambda: [ldam(1.0)],
        "ldam-drw": lambda: [Term(1.0, margin_loss, effective_weights(), weights_from=drw_start)],
        "lmf": lambda: [ldam(alpha), focal(beta)],
        "balanced-softmax": lambda: [adjusted(tau=1.0)],
        "logit-adjustment": lambda: [adjusted(tau)],
        "class-balanced": lambda: [Term(1.0, cross_entropy_loss, effective_weights())],
    }
    return tuple(terms[name]())


def default_scale(name: str, form: Form, head: HeadName) -> float:
    """Return the scale of the logits in LDAM where none is given.

    Args:
        name: a loss with LDAM in it.
        form: see :func:`make_objective`.
        head: of the model.
    """
    as_printed = form != "released" and name != "ldam-drw" and head == "linear"
    return 1.0 if as_printed else 30.0


def _check_names(name: str, form: str, head: str) -> None:
    check_choice("loss", name, (*LOSSES, *SEGMENTATION_LOSSES))
    check_choice("form", form, get_args(Form))
    check_choice("head", head, get_args(HeadName))
    if head == "cosine" and name not in COSINE_LOSSES:
        raise ValueError(
            f"The cosine head was given with loss {name!r}; its logits need the scale that only "
            f"{', '.join(sorted(COSINE_LOSSES))} have: choose one of them or the linear head."
        )


def _scaled(
    loss: Callable[..., Array],
    scale: float,
    logits: Float[Array, "*batch classes"],
    labels: Integer[Array, "*batch"],
    *,
    where: Bool[Array, "..."] | None = None,
) -> Float[Array, "*batch"]:
    return loss(scale * logits, labels, where=where)
