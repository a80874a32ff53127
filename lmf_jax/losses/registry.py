"""The registry of losses: each is registered beside its definition, under the name of ``--loss``.

``--loss``, its help, the checks of options and :func:`lmf_jax.losses.make_objective` all read the
registry, so a new loss is one function. A file outside the package registers its losses in the same
way, and must be imported before training starts::

    @register_loss(
        "smoothed-ce",
        task="classification",
        summary="cross entropy with label smoothing of 0.1",
        paper="Szegedy et al. 2016, arXiv 1512.00567",
    )
    def build_smoothed_cross_entropy(class_counts, config, head):
        return [Term(0.9, cross_entropy_loss), Term(0.1, uniform_cross_entropy)]
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np

from lmf_jax.losses.checks import check_choice
from lmf_jax.losses.loss_config import LOSS_OPTIONS, Form, HeadName, LossConfig
from lmf_jax.losses.term import Term

LMF_PAPER = "Sadi et al. 2022, arXiv 2212.12741"

Task = Literal["classification", "segmentation", "multilabel"]
Builder = Callable[[np.ndarray, LossConfig, HeadName], Sequence[Term]]
"""``build(class_counts, config, head)`` returns the terms of the objective. The counts are ``[C]``,
and ``[C, 2]`` in a multi-label loss: the negative and the positive examples of each label."""
LogitScale = Callable[[LossConfig, HeadName], float]
AnyFunction = TypeVar("AnyFunction", bound=Callable[..., Any])


@dataclass(frozen=True)
class LossSpec:
    """A registered loss."""

    name: str
    """The name that ``--loss`` and ``make_objective`` take."""
    task: Task
    """``"classification"``: one value per label, so also one per voxel of a label map;
    ``"segmentation"``: one value per label map; ``"multilabel"``: one value per label of an
    example. A multi-label loss may have the name of a loss of the other tasks."""
    summary: str
    """One line for the help."""
    paper: str
    """Short citation with arXiv number."""
    build: Builder
    options: tuple[str, ...] = ()
    """The fields of :class:`LossConfig` that the loss reads; any other is refused if given."""
    options_by_form: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The options in forms with other options."""
    logit_scale: LogitScale | None = None
    """Factor of the logits in the softmax that the loss trains; None: 1. Cosines in [-1, 1] can
    only be trained by a loss that scales them."""

    def options_in(self, form: Form) -> tuple[str, ...]:
        """Return the options that the loss has in a form."""
        return self.options_by_form.get(form, self.options)


_LOSSES: dict[tuple[bool, str], LossSpec] = {}
"""The losses by whether they are multi-label, and name."""


def register_loss(
    name: str,
    *,
    task: Task,
    summary: str,
    paper: str,
    options: Sequence[str] = (),
    options_by_form: Mapping[str, tuple[str, ...]] | None = None,
    logit_scale: LogitScale | None = None,
) -> Callable[[AnyFunction], AnyFunction]:
    """Return a decorator that registers the builder of a loss and leaves it as it is.

    Args:
        name: The name that ``--loss`` and ``make_objective`` take.
        task: ``"classification"``, ``"segmentation"`` or ``"multilabel"``.
        summary: One line for the help.
        paper: Short citation with arXiv number.
        options: The fields of :class:`LossConfig` that the builder reads.
        options_by_form: The options in forms with other options.
        logit_scale: See :class:`LossSpec`.

    Raises:
        ValueError: If an option is not in :data:`LOSS_OPTIONS`, or the name is taken by another
            builder.
    """
    for option in options:
        check_choice("option", option, LOSS_OPTIONS)

    def register(build: AnyFunction) -> AnyFunction:
        _add(
            LossSpec(
                name,
                task,
                summary,
                paper,
                build,
                tuple(options),
                options_by_form or {},
                logit_scale,
            )
        )
        return build

    return register


def register_segmentation_loss(
    name: str, *, summary: str, paper: str
) -> Callable[[AnyFunction], AnyFunction]:
    """Return a decorator that registers a function of label maps and leaves it as it is.

    The function is called ``(logits [B, *space, C], labels [B, *space], where=[B])`` and returns
    ``[B]``; the objective is the mean over the samples. Its keyword parameters that
    :class:`LossConfig` leaves to the loss, such as ``gamma`` and ``delta``, are its options, with
    its own defaults. A parameter ``form`` is given ``"released"`` or ``"paper"``.

    Args:
        name: The name that ``--loss`` and ``make_objective`` take.
        summary: One line for the help.
        paper: Short citation with arXiv number.

    Raises:
        ValueError: If the name is taken by another function.
    """
    open_options = [f.name for f in fields(LossConfig) if f.default is None]

    def register(loss: AnyFunction) -> AnyFunction:
        parameters = inspect.signature(loss).parameters
        options = tuple(option for option in open_options if option in parameters)

        def build(class_counts: np.ndarray, config: LossConfig, head: HeadName) -> Sequence[Term]:
            given = {option: getattr(config, option) for option in options}
            given = {option: value for option, value in given.items() if value is not None}
            if "form" in parameters:
                given["form"] = "released" if config.form == "released" else "paper"
            return [Term(1.0, partial(loss, **given), per_sample=True)]

        build.__module__, build.__qualname__ = loss.__module__, loss.__qualname__
        _add(LossSpec(name, "segmentation", summary, paper, build, options))
        return loss

    return register


def _add(spec: LossSpec) -> None:
    key = (spec.task == "multilabel", spec.name)
    known = _LOSSES.get(key)
    # A module that is loaded again registers the same function once more.
    if known is not None and _origin(known.build) != _origin(spec.build):
        raise ValueError(
            f"A loss named {spec.name!r} is registered by {_origin(known.build)}; choose another "
            "name."
        )
    _LOSSES[key] = spec


def _origin(build: Builder) -> str:
    return f"{build.__module__}.{build.__qualname__}"


def get_loss(name: str, task: Task | None = None) -> LossSpec:
    """Return the registered loss of a name.

    Args:
        name: The name of the loss.
        task: ``"multilabel"`` for a multi-label loss; by default one of the other tasks, whose
            losses have different names.

    Raises:
        ValueError: If no loss of the task has the name.
    """
    check_choice("loss", name, loss_names(task))
    return _LOSSES[task == "multilabel", name]


def registered_losses(task: Task | None = None) -> tuple[LossSpec, ...]:
    """Return the losses of a task; by default all but multi-label losses, classification first."""
    return tuple(
        spec
        for spec in sorted(_LOSSES.values(), key=lambda spec: spec.task)
        if (spec.task != "multilabel" if task is None else spec.task == task)
    )


def loss_names(task: Task | None = None) -> tuple[str, ...]:
    """Return the names of :func:`registered_losses`."""
    return tuple(spec.name for spec in registered_losses(task))


def losses_with(option: str, form: Form = "released", task: Task | None = None) -> tuple[str, ...]:
    """Return the names of the losses of :func:`registered_losses` that have an option."""
    return tuple(spec.name for spec in registered_losses(task) if option in spec.options_in(form))


def cosine_losses(task: Task | None = None) -> tuple[str, ...]:
    """Return the names of the losses of :func:`registered_losses` that can train a cosine head."""
    return tuple(spec.name for spec in registered_losses(task) if spec.logit_scale is not None)
