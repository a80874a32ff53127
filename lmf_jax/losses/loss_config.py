"""The choice of a loss and its options, shared by ``make_objective`` and the command line."""

from dataclasses import dataclass, fields
from typing import Literal

Form = Literal["released", "paper", "paper-v1"]
HeadName = Literal["linear", "cosine"]


@dataclass(frozen=True)
class LossConfig:
    """The name of a loss and a value for every option.

    A loss reads the options that it has and ignores the others. None leaves the default to the
    loss.
    """

    loss: str = "lmf"
    """The loss, by its name in the registry."""
    form: Form = "released"
    """How the losses of the LMF paper are averaged: as its code does, as it is printed, or as its
    first version is printed."""
    alpha: float = 1.0
    """lmf: weight of the LDAM part."""
    beta: float = 1.0
    """lmf: weight of the focal part."""
    gamma: float | None = None
    """Focusing parameter (default: 1.5 in focal and lmf; in segmentation losses, that of their
    papers)."""
    delta: float | None = None
    """Segmentation losses: weight of false negatives against false positives, or of the foreground
    against the background (default: that of their papers)."""
    weight: float | None = None
    """combo, mixed-focal and unified focal losses: weight of their first part (default: that of
    their papers)."""
    background_weight: float | None = None
    """combo, modified-focal, mixed-focal: weight of the background against the other classes."""
    scale: float | None = None
    """ldam, ldam-drw, lmf: scale of the logits (default: 30 as released, and with the cosine head;
    1 as printed, and of several labels)."""
    max_margin: float = 0.5
    """ldam, ldam-drw, focal, lmf: margin of the rarest class."""
    tau: float = 1.0
    """logit-adjustment: strength."""
    effective_number_beta: float = 0.9999
    """class-balanced, ldam-drw and --sampling effective-number: beta of the effective number."""
    drw_start: float = 0.8
    """ldam-drw: fraction of training after which classes are re-weighted."""


LOSS_OPTIONS = tuple(f.name for f in fields(LossConfig) if f.name not in ("loss", "form"))
"""The options of all losses; every loss has some of them, see ``LossSpec.options``."""
