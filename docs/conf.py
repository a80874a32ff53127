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
include_patterns = ["*.md", "docs/*.md", "docs/api/*", "data/**/README.md"]
include_patterns += ["benchmarks/README.md", "benchmarks/paper/tables/README.md"]
exclude_patterns = [".venv", "venv", "runs", "docs/_build"]
myst_heading_anchors = 3
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Reference"]
autodoc_member_order = "groupwise"
smartquotes = False  # would turn the dashes of a flag into one
html_theme = "furo"
html_title = "lmf-jax"
html_show_copyright = False


def _shorten_signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, *signature: str | None
) -> tuple[str, str] | None:
    """Show the types of functions as the source writes them, and those of classes below them.

    Evaluated shape types are long unions of array types.
    """
    if inspect.isclass(obj):
        parameters = inspect.signature(obj).parameters.values()
        names = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in parameters]
        return str(inspect.Signature(names)), ""
    if not inspect.isfunction(obj):
        return None
    [function] = ast.parse(textwrap.dedent(inspect.getsource(obj))).body
    assert isinstance(function, ast.FunctionDef)
    if what == "method":
        del function.args.args[:1]  # self
    returns = ast.unparse(function.returns) if function.returns else ""
    return f"({ast.unparse(function.args)})", returns


def _restore_colon(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Undo that Napoleon reads the words before a colon as the type of a field."""
    types = [line for line in lines if line.startswith(":type: ")]
    if what == "attribute" and types:
        lines.remove(types[0])
        lines[0] = f"{types[0].removeprefix(':type: ')}: {lines[0]}"


def _skip_undocumented(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Skip the fields of named tuples, which Python documents as "Alias for field number 0"."""
    is_field = (getattr(obj, "__doc__", None) or "").startswith("Alias for field number")
    return True if is_field else None


def setup(app: Sphinx) -> None:
    """Connect the functions of this file."""
    app.connect("autodoc-process-signature", _shorten_signature)
    app.connect("autodoc-process-docstring", _restore_colon, priority=600)  # after Napoleon
    app.connect("autodoc-skip-member", _skip_undocumented)
