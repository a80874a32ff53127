"""Search for texts in everything that a program wrote, also in compressed and encoded parts."""

import base64
import gzip
import io
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import tensorstore
from array_record.python.array_record_module import ArrayRecordReader

_ENCODINGS = ("utf-8", "utf-16-le", "utf-32-le")
_PNG = b"\x89PNG\r\n\x1a\n"


def texts_in(folder: Path, texts: Iterable[str]) -> list[str]:
    """Return ``<file>: <text>`` of each text in the name or the contents of a file below a folder.

    Case does not count. Zip and npz, gzip, texts of PNG, base64, ArrayRecord and OCDBT are
    unpacked.
    """
    texts = list(texts)
    found = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        contents = [name.encode(errors="surrogateescape"), *_contents(path)]
        hits = sorted({hit for content in contents for hit in texts_in_bytes(content, texts)})
        found += [f"{name}: {hit}" for hit in hits]
    return found


def texts_in_bytes(content: bytes, texts: Iterable[str]) -> set[str]:
    """Return the texts that occur in these bytes or in what they contain."""
    texts = list(texts)
    return {text for part in _parts(content) for text in texts if _is_in(part, text)}


def _is_in(content: bytes, text: str) -> bool:
    """Search a text; one of digits has neither a digit nor a point beside it, unlike in a float."""
    if text.isdigit():
        return re.search(rf"(?<![\d.]){text}(?!\d)".encode(), content) is not None
    lower = content.lower()
    return any(text.lower().encode(encoding) in lower for encoding in _ENCODINGS)


def _contents(path: Path) -> Iterator[bytes]:
    """Yield the contents of a file, and those of a database when its main file is met."""
    if not path.is_file():
        return
    yield path.read_bytes()
    if ".array_record" in path.name:
        reader = ArrayRecordReader(str(path))
        yield from reader.read_all()
        reader.close()
    if path.name == "manifest.ocdbt":
        spec = {"driver": "ocdbt", "base": f"file://{path.parent}/"}
        store = tensorstore.KvStore.open(spec).result()
        for key in store.list().result():
            yield key
            yield store[key]


def _parts(content: bytes) -> Iterator[bytes]:
    """Yield bytes, and whatever is packed in them."""
    yield content
    if content.startswith(b"PK\x03\x04"):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for name in archive.namelist():
                yield name.encode()
                yield from _parts(archive.read(name))
    elif content.startswith(b"\x1f\x8b"):
        yield from _parts(gzip.decompress(content))
    elif content.startswith(_PNG):
        yield from _texts_of_png(content)
    for encoded in re.findall(rb"[A-Za-z0-9+/]{32,}={0,2}", content):
        if len(encoded) % 4 == 0:
            yield from _parts(base64.b64decode(encoded))


def _texts_of_png(content: bytes) -> Iterator[bytes]:
    """Yield the compressed texts, which begin after one of the zeros in their chunk."""
    place = len(_PNG)
    while place + 8 <= len(content):
        size, kind = int.from_bytes(content[place : place + 4]), content[place + 4 : place + 8]
        chunk = content[place + 8 : place + 8 + size]
        place += 12 + size
        if kind in (b"zTXt", b"iTXt"):
            for zero in re.finditer(b"\0", chunk):
                try:
                    yield zlib.decompress(chunk[zero.end() :])
                except zlib.error:
                    continue
