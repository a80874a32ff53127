"""Arguments of several commands."""

from typing import Annotated

import tyro

RunDir = Annotated[
    str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN", help="The folder of a run.")
]
