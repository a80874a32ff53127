"""Optional packages: an import that fails names the extra that has the package."""

from collections.abc import Iterator
from contextlib import contextmanager

from lmf_jax.errors import UserError

OWN_PACKAGES = ("lmf_jax", "data", "benchmarks")
"""Packages of the checkout, which no extra installs."""


class MissingPackageError(UserError, ModuleNotFoundError):
    """A package that only an extra installs is missing."""


@contextmanager
def extra_packages(extra: str, *, needed_by: str) -> Iterator[None]:
    """Name the extra if an import in the ``with`` block fails.

    Args:
        extra: The extra that installs the packages.
        needed_by: The module or command that imports them.

    Raises:
        MissingPackageError: If a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in OWN_PACKAGES or isinstance(error, MissingPackageError):
            raise
        missing = MissingPackageError(
            f"{needed_by} needs the package {package}, which is not installed; run "
            f"pip install 'lmf-jax[{extra}]', or pip install -e '.[{extra}]' in the checkout."
        )
        missing.name = package
        raise missing from error
