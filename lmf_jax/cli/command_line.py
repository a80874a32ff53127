"""Parse the command line of ``train.py`` into a configuration."""

import os
import sys
from collections.abc import Sequence
from dataclasses import make_dataclass
from typing import Any

import tyro

from lmf_jax.cli.given_flags import check_given, given_flags
from lmf_jax.cli.help import help_sections
from lmf_jax.cli.parser import parse_in_one_line
from lmf_jax.config import Config

OLD_FLAGS = {"--normalisation": "--normalization"}
"""Flags of earlier versions, which stay accepted."""


def parse_config(
    arguments: Sequence[str] | None = None, *, defaults: Config | None = None
) -> Config:
    """Return the settings that a command line asks for.

    Args:
        arguments: The words after the program's name; those of this process if not given.
        defaults: The settings where the command line is silent, such as those of a run to resume;
            the defaults of :class:`Config` if not given.

    Raises:
        UserError: If a flag is unknown, its value is not what the flag takes, or it was given and
            has no effect.
        SystemExit: With code 0, after printing the help that ``--help`` or ``--help-all`` asks for.
    """
    words = [_current(word) for word in (sys.argv[1:] if arguments is None else arguments)]
    sections = help_sections(words) or [
        (name, section if defaults is None else type(getattr(defaults, name)))
        for name, section in Config.section_types().items()
    ]
    flags = _parse(words, dict(sections), defaults)
    settings = {name: v for section in vars(flags).values() for name, v in vars(section).items()}
    config = Config.of(**settings | _absolute_paths(settings))
    if defaults is not None or not config.run.resume:  # else the run's settings are not known yet
        check_given(config, given_flags(words))
    return config


def _current(word: str) -> str:
    flag, equals, value = word.partition("=")
    return f"{OLD_FLAGS.get(flag.replace('_', '-'), flag)}{equals}{value}"


def _parse(words: Sequence[str], sections: dict[str, Any], defaults: Config | None) -> Any:
    flags = make_dataclass("Flags", list(sections.items()))
    if defaults is None:
        default = flags(**{name: section() for name, section in sections.items()})
    else:
        default = flags(**{name: getattr(defaults, name) for name in sections})
    return parse_in_one_line(
        lambda: tyro.cli(
            flags,
            prog="train.py",
            args=["--help" if word == "--help-all" else word for word in words],
            default=default,
            description="Train, test and report.",
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone),
        ),
        sections.values(),
        words,
    )


def _absolute_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that hold paths, from the root: a run can be resumed from anywhere."""
    paths = {"run_dir": os.path.expanduser(settings["run_dir"])}
    kind, colon, path = (settings["dataset"] or "").partition(":")
    if colon and path:
        from data.registry import find_dataset  # opens no file

        spec = find_dataset(kind)
        parts = path.split(",", maxsplit=max(0, len(spec.paths) - 1) if spec else 0)
        absolute = (os.path.abspath(os.path.expanduser(part)) for part in parts)
        paths["dataset"] = f"{kind}:{','.join(absolute)}"
    if settings["pretrained"] not in ("none", "imagenet"):
        paths["pretrained"] = os.path.abspath(os.path.expanduser(settings["pretrained"]))
    return paths
