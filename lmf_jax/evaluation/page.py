"""The page of a report: a self-contained HTML file, with its figures inside it."""

import base64
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from lmf_jax.errors import UserError
from lmf_jax.evaluation.formatting import (
    format_count,
    format_duration,
    format_fraction,
    format_range,
    format_ratio,
    format_setting,
)
from lmf_jax.runs.files import Finished

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def save_figures(folder: Path, figures: Mapping[str, "Figure"]) -> dict[str, dict[str, Any]]:
    """Save each figure as PNG in a folder.

    Args:
        folder: where; it is made if it is not there.
        figures: by the name of their file, without its ending.

    Returns:
        For the template: the ``png`` of each figure in base64 and its ``width`` in inches.

    Raises:
        UserError: if something else stands where the folder should.
    """
    from lmf_jax.evaluation.figures import save_figure

    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is no folder; remove it, and the report can be written.")
    folder.mkdir(exist_ok=True)
    saved = {}
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        path.unlink(missing_ok=True)
        save_figure(figure, path)
        png = base64.b64encode(path.read_bytes()).decode("ascii")
        saved[name] = {"png": png, "width": figure.get_figwidth()}
    return saved


def render_page(
    template: str, run: Finished, figures: Mapping[str, Mapping[str, Any]], **values: Any
) -> str:
    """Return the HTML of a report.

    Args:
        template: its file in this folder.
        run: what the page is of.
        figures: from :func:`save_figures`.
        values: what else the template needs.
    """
    # Imported here because training prints its table without any need of it.
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = resources.files("lmf_jax.evaluation")
    # Class names and settings are text from outside: autoescape keeps them text.
    environment = Environment(
        loader=FunctionLoader(lambda name: folder.joinpath(name).read_text("utf-8")),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        fraction=format_fraction,
        interval=format_range,
        count=format_count,
        ratio=format_ratio,
        setting=format_setting,
        time=format_duration,
    )
    speeds = [entry["images_per_second"] for entry in run.timing if entry["images_per_second"]]
    return environment.get_template(template).render(
        run=run,
        figures=figures,
        seconds=sum(entry["seconds"] for entry in run.timing),
        images_per_second=median(speeds) if speeds else None,
        **values,
    )


def write_page(run_dir: Path, html: str) -> Path:
    """Write ``report.html`` into the folder of a run, and return its path.

    It is there whole or not at all: the report before is better than half a report.
    """
    path = run_dir / "report.html"
    temporary = path.with_name("report.tmp.html")
    temporary.unlink(missing_ok=True)  # a link there may lead anywhere
    temporary.write_text(html, encoding="utf-8")
    os.replace(temporary, path)
    return path
