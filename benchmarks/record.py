"""Records of benchmark results: a Markdown table on the terminal, and a JSON file."""

import json
import os
import platform
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from lmf_jax.runs.folder import versions

RESULTS = Path(__file__).parent / "results"


def record(
    name: str, rows: Iterable[Mapping[str, Any]], *, place: str | None = None, **facts: Any
) -> Path:
    """Write the rows, with machine, versions and command, and print their table.

    Args:
        name: The name of the benchmark; the file is ``results/<name>-<device>-<date>.json``.
        rows: Mappings with the same keys. An iterator may measure them: each is written before the
            next is requested, to ``<file>.partial`` until all are there.
        place: Replaces the device in the name of the file.
        facts: Further entries of the file.

    Returns:
        The path of the file.
    """
    device = jax.devices()[0]
    result: dict[str, Any] = {
        "benchmark": name,
        "command": shlex.join(["python", "-m", f"benchmarks.{name}", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "device": device.device_kind,
            "devices": jax.device_count(),
        },
        "versions": versions(),
        **facts,
        "rows": [],
    }
    RESULTS.mkdir(exist_ok=True)
    place = place or device.device_kind.replace(" ", "-")
    path = RESULTS / f"{name}-{place}-{result['date']}.json"
    partial = path.with_name(f"{path.name}.partial")
    for row in rows:
        result["rows"].append(row)
        partial.write_text(json.dumps(result, indent=2) + "\n")
    partial.replace(path)
    print(table(result["rows"]))
    print(f"written to {path}")
    return path


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = [list(rows[0]), ["---"] * len(rows[0])]
    lines += [[_cell(value) for value in row.values()] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _cell(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _processor() -> str:
    """Return the name of the processor; ``platform.processor()`` is empty on most Linux systems."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
