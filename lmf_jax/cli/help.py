"""The help of ``train.py``: the flags that apply, with their defaults.

``--help`` shows the common flags of the task and the options of the loss; ``--help-all`` shows
every flag. Both read ``--task``, ``--dataset`` and ``--loss`` from the same command line.
"""

import ast
import dataclasses
import inspect
import re
import textwrap
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_type_hints

import tyro

from lmf_jax.config import Config, LossConfig, ResolvedConfig, format_size
from lmf_jax.config.recipes import RECIPES
from lmf_jax.config.task_settings import TASK_SETTINGS
from lmf_jax.losses.registry import registered_losses

HELP_FLAGS = ("-h", "--help", "--help-all")

_DEFAULT_IN_TEXT = re.compile(r" \(default: .*?\)")


def help_sections(words: Sequence[str]) -> list[tuple[str, type]]:
    """Return the sections with the flags that the help shows; none without a help flag.

    Args:
        words: The command line after the name of the program.
    """
    if not set(words) & set(HELP_FLAGS):
        return []
    config = _resolved(words)
    show_all = "--help-all" in words
    return [
        (name, _shown_section(section, config, show_all))
        for name, section in Config.section_types().items()
    ]


def _resolved(words: Sequence[str]) -> ResolvedConfig:
    """Return the settings for the task, dataset and loss of a command line."""
    given = {}
    for word, following in zip(words, [*words[1:], ""], strict=True):
        flag, equals, value = word.partition("=")
        given[flag] = value if equals else following
    task = given.get("--task", "classification")
    task = task if task in TASK_SETTINGS else "classification"
    losses = TASK_SETTINGS[task].loss_names()
    loss = given.get("--loss")
    config = Config.of(
        task=task,
        dataset=given.get("--dataset"),
        loss=loss if loss in losses else "lmf",
    )
    from data.registry import default_settings  # opens no file

    return config.resolve(default_settings(config.dataset_name))


def _dataset_text(text: str, task: str, show_all: bool) -> str:
    """Return the help of ``--dataset``: its text, and the registered datasets of the task."""
    from data.registry import registered_datasets  # opens no file

    lines = [text]
    for spec in registered_datasets().values():
        if show_all or spec.task == task:
            lines.append(f"{spec.form}: {spec.summary}.")
    return "\n".join(lines)


def _shown_section(section: type, config: ResolvedConfig, show_all: bool) -> type:
    """Return a section in which every flag has its help or is hidden."""
    texts, hints = field_texts(section), get_type_hints(section)
    values = config.settings()
    fields: dict[str, Any] = {}
    annotations: dict[str, Any] = {}
    for setting in dataclasses.fields(section):
        argument = _argument(
            setting.name, texts[setting.name], values[setting.name], config.data.task, show_all
        )
        is_shown = show_all or _applies(section, setting, config)
        marks = (argument,) if is_shown else (argument, tyro.conf.Suppress)
        annotations[setting.name] = Annotated[(hints[setting.name], *marks)]
        fields[setting.name] = setting.default
    summary = str(section.__doc__).splitlines()[0]
    body = {**fields, "__annotations__": annotations, "__doc__": summary}
    return dataclasses.dataclass(frozen=True)(type(section.__name__, (section,), body))


def _applies(section: type, setting: "dataclasses.Field[Any]", config: ResolvedConfig) -> bool:
    """Return whether the short help shows a flag."""
    if section is LossConfig:
        loss = TASK_SETTINGS[config.data.task].get_loss(config.loss.loss)
        options = loss.options_in(config.loss.form)
        return setting.name in ("loss", "form", *options)
    tasks = setting.metadata["tasks"]
    return setting.metadata["common"] and (not tasks or config.data.task in tasks)


def _argument(name: str, text: str, value: Any, task: str, show_all: bool) -> Any:
    """Return the help and the metavar of a flag, with the default that holds."""
    if name == "dataset":
        text = _dataset_text(text, task, show_all)
    if name == "loss":
        usable = [TASK_SETTINGS[task].get_loss(n) for n in TASK_SETTINGS[task].loss_names()]
        losses = {s.name: f"{s.summary} ({s.paper})" for s in usable}
        for s in registered_losses() if show_all else ():
            losses.setdefault(s.name, f"{s.summary} ({s.paper}) (--task {s.task})")
        return _choice("The loss:", losses, value)
    if name == "model":
        from lmf_jax.models.registry import registered_models  # loads Flax

        models = [
            s for s in registered_models() if show_all or s.task == TASK_SETTINGS[task].models
        ]
        summaries = {s.name: f"{s.summary}, as in {s.source}" for s in models}
        return _choice("The architecture:", summaries, value)
    if name == "recipe":
        summaries = {known: recipe.summary for known, recipe in RECIPES.items()}
        return _choice(text, summaries, value)
    if name == "image_size":
        value = format_size(value)
    if value in (None, ""):  # the text names the origin of the default
        return tyro.conf.arg(help=text, help_behavior_hint="")
    return tyro.conf.arg(help=_DEFAULT_IN_TEXT.sub("", text), help_behavior_hint=_default(value))


def _choice(title: str, summaries: Mapping[str, str], value: str) -> Any:
    lines = [title, *(f"{name}: {summary}." for name, summary in summaries.items())]
    return tyro.conf.arg(
        help="\n".join(lines),
        metavar=f"{{{','.join(summaries)}}}",
        help_behavior_hint=_default(value),
    )


def _default(value: Any) -> str:
    if isinstance(value, bool):
        value = "on" if value else "off"
    return f"(default: {f'{value:.6g}' if isinstance(value, float) else value})"


def field_texts(section: type) -> dict[str, str]:
    """Return the text below each field of a dataclass in one line."""
    [body] = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    assert isinstance(body, ast.ClassDef)
    texts = {}
    for statement, following in zip(body.body, body.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            value = following.value if isinstance(following, ast.Expr) else None
            assert isinstance(value, ast.Constant), f"{statement.target.id} has no text"
            texts[statement.target.id] = " ".join(str(value.value).split())
    return texts
