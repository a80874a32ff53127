"""Correct probabilities for another frequency of the classes than in the validation images."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Num


def shift_priors(
    logits: Float[np.ndarray, "n classes"], ratios: Float[np.ndarray, " classes"]
) -> Float[np.ndarray, "n classes"]:
    """Return logits whose softmax is proportional to ``p_c * ratios_c``, in float64.

    If the images of a class look the same at both frequencies, the probabilities are correct at the
    new one (Saerens et al., "Adjusting the Outputs of a Classifier to New a Priori Probabilities",
    2002, Eq. 4).

    Args:
        logits: Calibrated logits ``[n, C]``, with the softmax ``p``.
        ratios: New frequency of each class over that in the validation images ``[C]``, positive.
    """
    return logits.astype(np.float64) + np.log(ratios)


def prior_ratios(
    prevalences: Mapping[str, float],
    class_names: Sequence[str],
    counts: Num[np.ndarray, " classes"],
) -> Float[np.ndarray, " classes"]:
    """Return the new frequency of each class over its frequency in the validation images.

    Args:
        prevalences: New frequency of some classes by name. The others share the rest in proportion
            to their frequency in the validation images.
        class_names: The ``C`` names by class id.
        counts: Number of validation images of each class ``[C]``.

    Returns:
        The ratios ``[C]``, positive.

    Raises:
        ValueError: If a class is unknown or has no validation image, a value is not in (0, 1), or
            the values leave too much or too little for the other classes.
    """
    for name, value in prevalences.items():
        if name not in class_names:
            raise ValueError(f"There is no class {name}; the classes are {', '.join(class_names)}.")
        if not 0 < value < 1:
            raise ValueError(f"The prevalence of {name} is {value:g}; expected a number in (0, 1).")
        if not counts[class_names.index(name)]:
            raise ValueError(
                f"The prevalence of {name} cannot be changed: it has no validation image to "
                "calibrate with."
            )
    frequencies = np.asarray(counts, np.float64) / counts.sum()
    given = np.array([name in prevalences for name in class_names])
    total, others = sum(prevalences.values()), frequencies[~given].sum()
    if others == 0 and abs(total - 1) > 1e-6:
        raise ValueError(
            f"The prevalences of all classes with validation images sum to {total:g}; expected 1."
        )
    if others > 0 and total >= 1:
        rest = ", ".join(name for name in class_names if name not in prevalences)
        raise ValueError(
            f"The prevalences sum to {total:g} and leave nothing for {rest}; expected less than 1."
        )
    ratios = np.full(len(given), (1 - total) / others if others else 1.0)
    ratios[given] = [prevalences[name] for name in class_names if name in prevalences]
    ratios[given] /= frequencies[given]
    return ratios
