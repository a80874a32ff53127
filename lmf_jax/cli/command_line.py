"""From the words of a command line to the settings of a run."""

import dataclasses
import os
import sys
from collections.abc import Sequence
from typing import Any

import tyro

from lmf_jax.cli.given_flags import check_given, given_flags
from lmf_jax.cli.parser import parse_in_one_line
from lmf_jax.config import Config


def parse_config(
    arguments: Sequence[str] | None = None, *, defaults: Config | None = None
) -> Config:
    """Return the settings that a command line asks for.

    Args:
        arguments: the words after the program's name; those of this process if not given.
        defaults: what holds where the command line is silent, such as the settings of a run to
            resume; the defaults of :class:`Config` if not given.

    Raises:
        UserError: if a flag is unknown, its value is not what the flag takes, or it was given and
            has no effect.
        SystemExit: with code 0, after printing the help that ``--help`` asks for.
    """
    words = sys.argv[1:] if arguments is None else arguments
    sections = Config.__bases__[::-1]
    groups = dataclasses.make_dataclass("Flags", [(s.__name__.lower(), s) for s in sections])
    before = [
        section() if defaults is None else _section(section, defaults) for section in sections
    ]
    flags = parse_in_one_line(
        lambda: tyro.cli(
            groups,
            prog="train.py",
            args=words,
            default=groups(*before),
            description="Train, test and report.",
            config=(tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone),
        ),
        sections,
        words,
    )
    given = [vars(section) for section in vars(flags).values()]
    values = {name: value for section in given for name, value in section.items()}
    values["run_dir"] = os.path.expanduser(values["run_dir"])
    kind, colon, path = (values["dataset"] or "").partition(":")
    if colon and path:  # a run can then be resumed from anywhere
        from data.registry import find_dataset  # opens no file

        spec = find_dataset(kind)
        paths = path.split(",", maxsplit=max(0, len(spec.paths) - 1) if spec else 0)
        absolute = (os.path.abspath(os.path.expanduser(part)) for part in paths)
        values["dataset"] = f"{kind}:{','.join(absolute)}"
    if values["pretrained"] not in ("none", "imagenet"):
        values["pretrained"] = os.path.abspath(os.path.expanduser(values["pretrained"]))
    config = Config(**values)
    if defaults is not None or not config.resume:  # else the settings of the run are still unknown
        check_given(config, given_flags(words))
    return config


def _section(section: type, config: Config | None) -> Any:
    if config is None:
        return section()
    names = [field.name for field in dataclasses.fields(section)]
    return section(**{name: getattr(config, name) for name in names})
