"""Write a report: a self-contained HTML file with embedded figures."""

import base64
import os
from collections.abc import Mapping
from functools import partial
from importlib import resources
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from lmf_jax.errors import UserError
from lmf_jax.evaluation.formatting import (
    format_count,
    format_difference,
    format_duration,
    format_fraction,
    format_percent,
    format_range,
    format_ratio,
    format_setting,
)
from lmf_jax.runs.files import RunFiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_page(
    run_dir: Path, run: RunFiles, template: str, figures: Mapping[str, "Figure"], **values: Any
) -> Path:
    """Write ``figures/*.png`` and ``report.html`` into the folder of a run.

    The report is replaced atomically: an old report is better than half of a new one.

    Args:
        run_dir: The folder of the run.
        run: Its contents.
        template: Path of the template in this package.
        figures: Figures by the name of their file, without the suffix.
        values: Other variables of the template.

    Returns:
        The path of ``report.html``.

    Raises:
        UserError: If ``figures`` exists and is not a folder.
    """
    html = _render(run, template, _save_figures(run_dir / "figures", figures), values)
    path = run_dir / "report.html"
    temporary = path.with_name("report.tmp.html")
    temporary.unlink(missing_ok=True)  # A symbolic link here could point anywhere.
    temporary.write_text(html, encoding="utf-8")
    os.replace(temporary, path)
    return path


def _save_figures(folder: Path, figures: Mapping[str, "Figure"]) -> dict[str, dict[str, Any]]:
    """Save each figure as PNG; return its ``png`` in base64 and its ``width`` in inches."""
    from lmf_jax.evaluation.figures import save_figure

    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UserError(f"{folder} is not a folder; remove it and write the report again.")
    folder.mkdir(exist_ok=True)
    saved = {}
    for name, figure in figures.items():
        path = folder / f"{name}.png"
        path.unlink(missing_ok=True)
        save_figure(figure, path)
        png = base64.b64encode(path.read_bytes()).decode("ascii")
        saved[name] = {"png": png, "width": figure.get_figwidth()}
    return saved


def _render(
    run: RunFiles,
    template: str,
    figures: Mapping[str, Mapping[str, Any]],
    values: Mapping[str, Any],
) -> str:
    # Imported here because training prints its table without jinja2.
    from jinja2 import Environment, FunctionLoader, StrictUndefined

    folder = resources.files("lmf_jax.evaluation")
    # Class names and settings are untrusted text; autoescape keeps them text.
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
        difference=format_difference,
        differences=partial(format_range, format_value=format_difference),
        percent=format_percent,
        percents=partial(format_range, format_value=format_percent),
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
