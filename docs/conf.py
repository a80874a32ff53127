"""Sphinx settings; build with ``python -m sphinx -W -c docs . docs/_build`` from the root."""

import ast
import inspect
import sys
import textwrap
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))  # data/ is not installed

project = "lmf-jax"
author = "The lmf-jax authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
# The source is the whole checkout, so that links between README.md, docs/ and the pages of the
# datasets are the same on the site and in the repository, and a broken one is a warning.
root_doc = "docs/index"
include_patterns = ["*.md", "docs/*.md", "docs/api/*", "data/**/README.md", "benchmarks/README.md"]
exclude_patterns = [".venv", "venv", "runs", "docs/_build"]
myst_heading_anchors = 3
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_custom_sections = ["Reference"]
autodoc_member_order = "groupwise"
html_theme = "furo"
html_title = "lmf-jax"
html_show_copyright = False


def _show_types_as_written(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, *signature: str | None
) -> tuple[str, str] | None:
    """Replace evaluated shape types, which are long unions, by those of the source."""
    if not inspect.isfunction(obj):
        return None
    [function] = ast.parse(textwrap.dedent(inspect.getsource(obj))).body
    assert isinstance(function, ast.FunctionDef)
    if what == "method":
        del function.args.args[:1]  # self
    returns = ast.unparse(function.returns) if function.returns else ""
    return f"({ast.unparse(function.args)})", returns


def setup(app: Sphinx) -> None:
    """Connect the hook of this file."""
    app.connect("autodoc-process-signature", _show_types_as_written)
