"""Which loss has which option: what a loss does not have is refused and not ignored."""

from collections.abc import Iterable

from lmf_jax.losses.segmentation import SEGMENTATION_LOSSES, segmentation_options

CLASSIFICATION_OPTIONS: dict[str, tuple[str, ...]] = {
    "ce": (),
    "wcce": (),
    "bwcce": (),
    "focal": ("gamma", "max_margin"),
    "ldam": ("scale", "max_margin"),
    "ldam-drw": ("scale", "max_margin", "effective_number_beta", "drw_start"),
    "lmf": ("alpha", "beta", "gamma", "scale", "max_margin"),
    "balanced-softmax": (),
    "logit-adjustment": ("tau",),
    "class-balanced": ("effective_number_beta",),
}
"""The options of every loss of classification; those of segmentation are the parameters of their
functions. The form and the head are no options of a loss: one with a single form has it in each."""


def options_of(name: str, form: str = "released") -> tuple[str, ...]:
    """Return the options of :func:`lmf_jax.losses.make_objective` that a loss has.

    Args:
        name: of the loss.
        form: see :func:`lmf_jax.losses.make_objective`; focal has no margins in ``"paper-v1"``.
    """
    if name in SEGMENTATION_LOSSES:
        return segmentation_options(name)
    options = CLASSIFICATION_OPTIONS[name]
    if name == "focal" and form == "paper-v1":
        return tuple(option for option in options if option != "max_margin")
    return options


def losses_with(option: str, form: str = "released") -> list[str]:
    """Return the names of the losses that have an option."""
    names = (*CLASSIFICATION_OPTIONS, *SEGMENTATION_LOSSES)
    return [name for name in names if option in options_of(name, form)]


def check_options(name: str, form: str, given: Iterable[str]) -> None:
    """Refuse an option that the loss does not have.

    Args:
        name: of the loss.
        form: see :func:`options_of`.
        given: names of the options that were given.

    Raises:
        ValueError: names the loss, the option and the losses that have it.
    """
    for option in given:
        if option not in options_of(name, form):
            of_form = f" in form {form!r}" if option in options_of(name) else ""
            raise ValueError(
                f"{option} was given with loss {name!r}{of_form}, which does not have it; leave it "
                f"out, or choose a loss that has it: {', '.join(losses_with(option, form))}."
            )
