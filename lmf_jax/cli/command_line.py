"""Parse the command line of ``train.py`` into a configuration."""

import os
import sys
from collections.abc import Sequence
from dataclasses import make_dataclass
from typing import Any

import tyro

from lmf_jax.cli.flag_types import FLAG_TYPES
from lmf_jax.cli.given_flags import check_given, given_flags
from lmf_jax.cli.help import help_sections
from lmf_jax.cli.parser import parse_in_one_line, replace_old_flags
from lmf_jax.config import Config

OLD_FLAGS = {"--normalisation": "--normalization"}
"""Flags of earlier versions that are still accepted."""


def parse_config(
    arguments: Sequence[str] | None = None, *, defaults: Config | None = None
) -> Config:
    """Return the settings of a command line.

    Args:
        arguments: The command line after the name of the program (default: that of this process).
        defaults: The settings that are not given, such as those of a run to resume (default: those
            of :class:`Config`).

    Raises:
        UserError: If a flag is unknown, has an invalid value, or is given without effect.
        SystemExit: With code 0, after printing the help for ``--help`` or ``--help-all``.
    """
    words = replace_old_flags(sys.argv[1:] if arguments is None else arguments, OLD_FLAGS)
    sections = help_sections(words) or [
        (name, section if defaults is None else type(getattr(defaults, name)))
        for name, section in Config.section_types().items()
    ]
    flags = _parse(words, dict(sections), defaults)
    settings = {name: v for section in vars(flags).values() for name, v in vars(section).items()}
    config = Config.of(**settings | _absolute_paths(settings))
    if defaults is not None or not config.run.resume:  # else the run's settings are still to read
        check_given(config, given_flags(words))
    return config


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
            registry=FLAG_TYPES,
        ),
        sections.values(),
        words,
    )


def _absolute_paths(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings with paths as absolute paths: a run can be resumed from any folder."""
    paths = {"run_dir": os.path.expanduser(settings["run_dir"])}
    kind, colon, path = (settings["dataset"] or "").partition(":")
    if colon and path:
        from data.registry import find_dataset  # opens no file

        spec = find_dataset(kind)
        parts = path.split(",", maxsplit=max(0, len(spec.paths) - 1) if spec else 0)
        absolute = (os.path.abspath(os.path.expanduser(part)) for part in parts)
        paths["dataset"] = f"{kind}:{','.join(absolute)}"
    pretrained = settings["pretrained"]
    if pretrained not in (None, "none", "imagenet") and "://" not in pretrained:
        paths["pretrained"] = os.path.abspath(os.path.expanduser(pretrained))
    return paths
