"""Facts on the loss of a run: its formula, its source and its options."""

import importlib
import inspect
from dataclasses import replace
from typing import Any

from lmf_jax.documents.facts import Block, sentence
from lmf_jax.documents.run_files import DocumentedRun
from lmf_jax.evaluation.formatting import format_setting
from lmf_jax.losses.registry import LossSpec, get_loss, loss_names

Blocks = tuple[Block, ...]

_LDAM = (
    "-log(exp(scale (z_y - margin_y)) / "
    "(exp(scale (z_y - margin_y)) + sum_{j != y} exp(scale z_j)))"
)
_FOCAL = "-margin_y (1 - p_y)^gamma log p_y"
_EFFECTIVE_NUMBER = "w_j = C u_j / sum_i u_i, u_j = (1 - beta) / (1 - beta^n_j)"

FORMULAS = {
    "ce": "-log p_y",
    "wcce": "-w_y log p_y, w_j = N / (C n_j)",
    "bwcce": "-w_y log p_y, w_j = (1 - n_j / N) / (C - 1)",
    "focal": _FOCAL,
    "ldam": _LDAM,
    "ldam-drw": f"{_LDAM}, later weighted by {_EFFECTIVE_NUMBER}",
    "lmf": f"alpha LDAM + beta focal, LDAM = {_LDAM}, focal = {_FOCAL}",
    "balanced-softmax": "-log(n_y exp(z_y) / sum_j n_j exp(z_j))",
    "logit-adjustment": "-log(exp(a_y) / sum_j exp(a_j)), a_j = z_j + tau log(n_j / N)",
    "class-balanced": f"-w_y log p_y, {_EFFECTIVE_NUMBER}",
}
"""The loss of one example; :func:`loss` explains the symbols."""
FOCAL_WITHOUT_WEIGHTS = "-(1 - p_y)^gamma log p_y"
"""The focal part in the form ``paper-v1``."""
SYMBOLS = {
    "p_y": "p the softmax of the logits",
    "z_": "z the logits",
    "n_": "n_j the number of training {} of class j",
    "N": "N the number of all training {}",
    "C": "C the number of classes",
    "margin_": "margin_j a constant over the fourth root of the number of training {} of class j",
}
"""Explanations of the parts of a formula."""

FORMS = {
    "released": "released (averaged as in the code of the authors of LMF)",
    "paper": "paper (averaged as printed in the paper on LMF)",
    "paper-v1": "paper-v1 (averaged as printed in the first version of the paper on LMF)",
}
FORMS_OF_SEGMENTATION = {
    "released": "released (as the code of its authors computes it)",
    "paper": "paper (as its paper prints it)",
}
WITH_FORMS = ("wcce", "bwcce", "focal", "ldam", "lmf")
"""Classification losses whose average depends on the form."""

OPTIONS = {
    "alpha": "alpha (weight of the LDAM part)",
    "beta": "beta (weight of the focal part)",
    "gamma": "gamma (focusing parameter)",
    "scale": "scale (of the logits)",
    "max_margin": "max_margin (margin of the rarest class)",
    "tau": "tau (strength of the adjustment)",
    "effective_number_beta": "effective_number_beta (beta of the effective number)",
    "drw_start": "drw_start (fraction of training after which classes are weighted)",
    "delta": "delta (weight of false negatives, or of the foreground)",
    "weight": "weight (of the first part)",
    "background_weight": "background_weight (weight of the background)",
}


def loss(run: DocumentedRun) -> Blocks:
    """State the loss, its formula, its form and the values of its options."""
    name = run.setting("loss")
    spec = get_loss(name) if name in loss_names() else None
    fact = run.config.fact("config", "loss", show=lambda name: _describe(name, spec))
    return (
        *sentence("Loss: {}.", fact),
        *_formula(run),
        *_form(run, spec),
        *(block for option in _options(run, spec) for block in _option(run, spec, option)),
    )


def _describe(name: str, spec: LossSpec | None) -> str:
    # A loss may be registered by a file that is not imported here.
    return name if spec is None else f"{name}, {spec.summary} ({spec.paper})"


def _formula(run: DocumentedRun) -> Blocks:
    formula = FORMULAS.get(run.setting("loss"))
    if formula is None:
        return ()
    if run.setting("form") == "paper-v1":
        formula = formula.replace(_FOCAL, FOCAL_WITHOUT_WEIGHTS)
    unit = run.classified
    symbols = [text.format(f"{unit}s") for symbol, text in SYMBOLS.items() if symbol in formula]
    return sentence(
        f"Loss of one {unit}: {{}}, where y is the true class, {', '.join(symbols)}.",
        replace(run.config.tell(formula, "config", "loss"), is_code=True),
    )


def _form(run: DocumentedRun, spec: LossSpec | None) -> Blocks:
    has_form = spec is not None and (
        spec.name in WITH_FORMS or "form" in inspect.signature(_function(spec)).parameters
    )
    if not has_form:
        return ()
    forms = FORMS_OF_SEGMENTATION if spec and spec.task == "segmentation" else FORMS
    show = run.config.fact("config", "form", show=lambda form: forms.get(form, form))
    return sentence("Form of the loss: {}.", show)


def _options(run: DocumentedRun, spec: LossSpec | None) -> tuple[str, ...]:
    return () if spec is None else spec.options_in(run.setting("form") or "released")


def _option(run: DocumentedRun, spec: LossSpec | None, option: str) -> Blocks:
    value = run.setting(option)
    if value is None and spec is not None:
        value = default_option(spec, option, run)
    if value is None or option not in run.config.get("config"):
        return ()
    shown = run.config.tell(format_setting(value), "config", option)
    return sentence(f"Option {OPTIONS.get(option, option)}: {{}}.", shown)


def default_option(spec: LossSpec, option: str, run: DocumentedRun) -> Any:
    """Return the value of an option that the run left to the loss; None if it is unknown.

    Args:
        spec: The loss.
        option: The name of the option.
        run: The run, whose form and head decide the scale.
    """
    if option == "scale":
        is_printed = run.setting("form") != "released" and run.setting("head") == "linear"
        return 1.0 if is_printed and spec.name != "ldam-drw" else 30.0
    if option == "gamma" and spec.task == "classification":
        return 1.5
    parameter = inspect.signature(_function(spec)).parameters.get(option)
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def _function(spec: LossSpec) -> Any:
    """Return the function of a segmentation loss, or the builder of another."""
    module = importlib.import_module(spec.build.__module__)
    return getattr(module, spec.build.__qualname__, spec.build)


TOPICS = {"loss": loss}
