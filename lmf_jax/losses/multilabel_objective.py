"""The objective of multi-label classification: a loss, its weights and how a batch is averaged.

A value belongs to a label of an example. The denominator of a term is the number of labels present
or the sum of their weights, over all examples and labels of the global batch.
"""

from dataclasses import dataclass

from jax.typing import ArrayLike

from lmf_jax.losses.checks import ClassCounts
from lmf_jax.losses.label_vectors import check_label_batch, check_label_vectors
from lmf_jax.losses.label_weights import check_label_counts
from lmf_jax.losses.loss_config import Form, HeadName, LossConfig
from lmf_jax.losses.objective import Objective, check_options, check_term, find_loss


@dataclass(frozen=True, eq=False)  # by identity, so that jit can hash it
class MultilabelObjective(Objective):
    """A batch loss of labels ``[..., C]`` that are 0, 1 or -1 for a missing one.

    It is called as an :class:`lmf_jax.losses.Objective`; the mask has the shape of the labels or of
    their leading axes, and missing labels count in no sum.
    """

    def _check_labels(self, labels: ArrayLike, where: ArrayLike | None) -> tuple:
        return check_label_vectors(labels, where)

    def _check_batch(self, logits: ArrayLike, labels: ArrayLike, where: ArrayLike | None) -> tuple:
        return check_label_batch(logits, labels, where)


def make_multilabel_objective(
    name: str,
    positive_counts: ClassCounts,
    negative_counts: ClassCounts,
    *,
    form: Form = "released",
    head: HeadName = "linear",
    alpha: float | None = None,
    beta: float | None = None,
    gamma: float | None = None,
    scale: float | None = None,
    max_margin: float | None = None,
    tau: float | None = None,
    effective_number_beta: float | None = None,
    drw_start: float | None = None,
) -> MultilabelObjective:
    """Make the objective of a multi-label loss for a training set with these counts.

    The form averages the losses of the LMF paper as :func:`lmf_jax.losses.make_objective` does:
    ``"released"`` weights LDAM by the margins, divides by the sum of the weights and has scale 30;
    in ``"paper"`` LDAM has scale 1 and no weights; in ``"paper-v1"`` the focal part has none
    either. A loss that has one form has it in each.

    An option that is None has its default. An option that the loss does not have is refused,
    because it would have no effect.

    Args:
        name: One of ``lmf_jax.losses.loss_names("multilabel")``.
        positive_counts: Training examples with each label, ``[C]``.
        negative_counts: Training examples without each label, ``[C]``; missing labels count in
            neither.
        form: See above.
        head: ``"cosine"`` if the logits are cosines, which the focal part then scales as LDAM does.
        alpha: Weight of the LDAM part of LMF, at least 0; by default 1.
        beta: Weight of the focal part of LMF, at least 0; by default 1.
        gamma: Focusing parameter, at least 0, of the negative labels in ``"asl"`` and ``"ral"``; by
            default 1.5 in ``"focal"`` and ``"lmf"``, and that of its paper in another loss.
        scale: Scale of the logits in LDAM, above 0; by default 30, and 1 in the paper's forms with
            the linear head.
        max_margin: The largest margin of all labels, above 0; by default 0.5.
        tau: Strength of logit adjustment, at least 0; by default 1.
        effective_number_beta: In [0, 1), for ``"ldam-drw"``; by default 0.9999.
        drw_start: Fraction of training after which ``"ldam-drw"`` re-weights, in [0, 1]; by
            default 0.8.

    Raises:
        ValueError: If the name, the form or the head is unknown, a number is out of its range, an
            option is given that the loss does not have, or the loss needs examples with and
            without every label and there are none.
        TypeError: If an option is not a number.
    """
    options = {
        "alpha": alpha,
        "beta": beta,
        "gamma": gamma,
        "scale": scale,
        "max_margin": max_margin,
        "tau": tau,
        "effective_number_beta": effective_number_beta,
        "drw_start": drw_start,
    }
    given = {option: value for option, value in options.items() if value is not None}
    check_options(find_loss(name, form, head, "multilabel"), form, given)
    config = LossConfig(name, form, **given)
    return build_multilabel_objective(config, positive_counts, negative_counts, head=head)


def build_multilabel_objective(
    config: LossConfig,
    positive_counts: ClassCounts,
    negative_counts: ClassCounts,
    *,
    head: HeadName = "linear",
) -> MultilabelObjective:
    """Return the objective that a configuration describes.

    Options that the loss does not have are ignored; :func:`make_multilabel_objective` refuses them.

    Args:
        config: The loss and a value for every option.
        positive_counts: Training examples with each label, ``[C]``.
        negative_counts: Training examples without each label, ``[C]``.
        head: As in :func:`make_multilabel_objective`.

    Raises:
        ValueError: If a name is unknown or a number is out of its range.
        TypeError: If an option is not a number.
    """
    spec = find_loss(config.loss, config.form, head, "multilabel")
    counts = check_label_counts(positive_counts, negative_counts)
    terms = tuple(spec.build(counts, config, head))
    shape = (2, len(counts))
    for term in terms:
        check_term(spec.name, term, shape, shape)
    return MultilabelObjective(terms, len(counts))
