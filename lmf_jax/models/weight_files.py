"""Files of pretrained weights: download, checksums, and safe readers that run no pickle."""

import hashlib
import os
import subprocess
import sys
import tempfile
import urllib.parse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from lmf_jax.errors import UserError
from lmf_jax.models.registry import registered_models
from lmf_jax.models.torch_file import read_state_dict
from lmf_jax.npz import read_arrays

Tensors = dict[str, np.ndarray]
"""Tensors by the name that the file gives them."""

IMAGENET_URL = "https://download.pytorch.org/models"
LARGEST_WEIGHTS = 2**30
"""Limit of the bytes of all tensors in a file, and of a file that is downloaded: five times the
largest model in float64."""

RESPONSE_SECONDS = 60
"""Time limit for an answer of a server, and for each part of a file."""

KERAS_READER = Path(__file__).with_name("keras_file.py")
"""The program that reads Keras' HDF5; it is not imported, because it loads h5py."""

KERAS_SECONDS = 120
"""Time limit for reading an HDF5 file."""

WEIGHTS_DIR = "~/.cache/lmf-jax/weights"


def weights_path(source: str, model: str) -> Path:
    """Return the file of weights that ``--pretrained`` names.

    Args:
        source: ``"imagenet"`` for torchvision's, which are downloaded once; the https address of a
            file, which is downloaded once too; or a file.
        model: Name of the model.

    Raises:
        UserError: If the weights cannot be downloaded, see :func:`fetch_imagenet_weights` and
            :func:`fetch_weights`.
    """
    if source == "imagenet":
        return fetch_imagenet_weights(model)
    return fetch_weights(source) if is_address(source) else Path(source)


def is_address(source: str) -> bool:
    """Return whether ``--pretrained`` names an address instead of a file."""
    return "://" in source


def describe_weights(source: str, model: str) -> dict[str, str] | None:
    """Return the identity of the weights, independent of their folder, for the record of a run.

    Args:
        source: As in :func:`weights_path`, or ``"none"``.
        model: Name of the model.

    Returns:
        The name of the ``file`` and its ``sha256``; None for random weights.

    Raises:
        UserError: If there is no such file.
    """
    if source == "none":
        return None
    path = weights_path(source, model)
    try:
        with path.open("rb") as file:
            return {"file": path.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    except OSError as error:
        raise UserError(f"The weights {path} cannot be read: {error.strerror}.") from error


def fetch_imagenet_weights(
    model: str, *, url: str = IMAGENET_URL, folder: str | Path = WEIGHTS_DIR
) -> Path:
    """Download torchvision's ImageNet weights of a model once, and check their hash every time.

    Args:
        model: Name of the model.
        url: Address of the folder of the files.
        folder: Local folder of downloaded files.

    Raises:
        UserError: If the model has no such weights, the download fails, or the hash differs from
            the one in the file's name.
    """
    published = {spec.name: spec.torchvision for spec in registered_models() if spec.torchvision}
    if model not in published:
        raise UserError(
            f"There are no torchvision weights for {model}; give --pretrained FILE, or --model "
            f"{', '.join(published)}."
        )
    name = published[model].imagenet_file
    path = Path(folder).expanduser() / name
    if path.exists():
        _check_hash(path, name)
    else:
        _download(f"{url}/{name}", path, check=_check_hash)
    return path


def fetch_weights(address: str, *, folder: str | Path = WEIGHTS_DIR) -> Path:
    """Download a file of weights once, and print its SHA-256.

    The file keeps its name. It lies in a folder named after the address, because many files are
    called ``model.safetensors``.

    Args:
        address: An address ``https://``, whose path ends with the name of the file.
        folder: Local folder of downloaded files.

    Raises:
        UserError: If the address is of another kind or has a password, or the download fails.
    """
    name = _name_in(address)
    subfolder = hashlib.sha256(address.encode()).hexdigest()[:8]
    path = Path(folder).expanduser() / subfolder / name
    if not path.exists():
        _download(address, path, check=_print_hash, https_only=True)
    return path


def _name_in(address: str) -> str:
    """Return the name of the file at an address, which is checked."""
    try:
        parts = urllib.parse.urlsplit(address)
        is_https = parts.scheme == "https" and bool(parts.hostname)
    except ValueError:
        is_https = False
    if not is_https:
        raise UserError(f"--pretrained is {address}; expected a file, or an address https://.")
    if "@" in parts.netloc:
        raise UserError(
            "The address in --pretrained has a user name or password, which the run would record; "
            "download the file, and give --pretrained FILE."
        )
    name = PurePosixPath(urllib.parse.unquote(parts.path)).name
    if PurePosixPath(name).suffix not in _READERS or "\0" in name:
        raise UserError(
            f"--pretrained is {address}; expected the address of a file that ends with "
            f"{', '.join(_READERS)}."
        )
    return name


def _print_hash(path: Path, name: str) -> None:
    import pooch

    print(f"downloaded {name}, SHA-256 {pooch.file_hash(str(path))}")


def _download(
    address: str,
    path: Path,
    *,
    check: Callable[[Path, str], None],
    https_only: bool = False,
) -> None:
    """Download a file, and put it into its place at once when it is whole and checked."""
    import pooch  # loads an HTTP client, which few runs need
    import requests

    pooch.get_logger().setLevel("WARNING")
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    downloader = partial(_write_response, https_only=https_only)
    try:
        pooch.retrieve(address, None, fname=part.name, path=path.parent, downloader=downloader)
        check(part, path.name)
        os.replace(part, path)
    except (requests.RequestException, ValueError) as error:
        raise UserError(
            f"{path.name} cannot be downloaded ({type(error).__name__}); fetch {address} where "
            f"there is a network, and put it into {path.parent}."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def _write_response(address: str, file: str, _pooch: Any, *, https_only: bool) -> None:
    """Write what an address answers to a file, up to the limit of its size."""
    import requests

    hooks = {"response": _refuse_plain_redirect} if https_only else {}
    with requests.get(address, stream=True, timeout=RESPONSE_SECONDS, hooks=hooks) as response:
        response.raise_for_status()
        size = 0
        with open(file, "wb") as output:
            for block in response.iter_content(2**20):
                size += len(block)
                if size > LARGEST_WEIGHTS:
                    raise UserError(
                        f"{address} has more than {LARGEST_WEIGHTS} bytes, the limit of a file of "
                        "weights; give another --pretrained."
                    )
                output.write(block)


def _refuse_plain_redirect(response: Any, **_: Any) -> None:
    """Refuse to be sent from https to http, where anyone may change the file."""
    target = urllib.parse.urljoin(response.url, response.headers.get("location", ""))
    if response.is_redirect and not target.startswith("https://"):
        raise UserError(
            f"{response.url} leads to {target}, which is not https; download the file, and give "
            "--pretrained FILE."
        )


def _check_hash(path: Path, name: str) -> None:
    import pooch

    found, expected = pooch.file_hash(str(path)), name.rpartition("-")[2].partition(".")[0]
    if not found.startswith(expected):
        raise UserError(
            f"{path} is not {name}: its SHA-256 begins with {found[:8]}; remove it and fetch it "
            "again."
        )


def read_tensors(path: Path) -> Tensors:
    """Read every tensor of a file, without running a pickle.

    References to other files are refused, and so are sizes above ``LARGEST_WEIGHTS``.

    Args:
        path: A file whose suffix is its format: ``.safetensors``; ``.npz`` without objects; ``.h5``
            of Keras, whose weights get the names ``<layer>/<weight>``; ``.pth`` or ``.pt`` with a
            state dict, as ``torch.save`` writes it.

    Returns:
        The tensors by name, in float32 or float64.

    Raises:
        UserError: If there is no such file, or it cannot be read.
    """
    if path.suffix not in _READERS:
        raise UserError(
            f"{path} is not a file of weights; expected one that ends with {', '.join(_READERS)}."
        )
    if not path.is_file():
        raise UserError(f"There is no file {path}; give --pretrained imagenet or a file.")
    try:
        return {
            name: _at_least_float32(name, tensor)
            for name, tensor in _READERS[path.suffix](path).items()
        }
    except UserError:
        raise
    except Exception as error:  # libraries raise many kinds for a broken file
        reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
        raise UserError(
            f"{path} cannot be read as weights ({reason}); fetch or export it again."
        ) from error


def _read_safetensors(path: Path) -> Mapping[str, Any]:
    from safetensors.numpy import load_file

    return load_file(path)


def _read_npz(path: Path) -> Mapping[str, Any]:
    return read_arrays(path, largest=LARGEST_WEIGHTS)


def _read_keras(path: Path) -> Mapping[str, Any]:
    """Read Keras' HDF5 in a subprocess, because HDF5 may loop or crash on a bad file."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "weights.npz"
        command: list[str | Path] = [sys.executable, KERAS_READER, path, copy, str(LARGEST_WEIGHTS)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=KERAS_SECONDS)
        except subprocess.TimeoutExpired:
            raise ValueError(f"HDF5 takes longer than {KERAS_SECONDS} seconds") from None
        if done.returncode:
            lines = done.stderr.strip().splitlines()
            raise ValueError(lines[-1] if lines else f"HDF5 ended with code {done.returncode}")
        return read_arrays(copy, largest=LARGEST_WEIGHTS)


def _read_torch(path: Path) -> Mapping[str, Any]:
    return read_state_dict(path, largest=LARGEST_WEIGHTS)


_READERS: dict[str, Callable[[Path], Mapping[str, Any]]] = {
    ".safetensors": _read_safetensors,
    ".npz": _read_npz,
    ".h5": _read_keras,
    ".pth": _read_torch,
    ".pt": _read_torch,
}


def _at_least_float32(name: str, tensor: np.ndarray) -> np.ndarray:
    if tensor.dtype.kind not in "fiub" and tensor.dtype.name != "bfloat16":
        raise ValueError(f"{name} is of {tensor.dtype}")
    return tensor if tensor.dtype == np.float64 else tensor.astype(np.float32)
