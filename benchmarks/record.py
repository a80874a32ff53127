"""How a benchmark keeps what it measured: a table for people, JSON for everything else."""

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
    """Write the rows, with machine, versions and command, and print a table of them.

    Args:
        name: Of the benchmark; the file is ``results/<name>-<device>-<date>.json``.
        rows: One mapping a row, all with the same keys. They may be measured as they are asked for:
            each is written before the next, into ``<file>.partial`` until there are all.
        place: Stands for the device in the file's name, where the rows are of another.
        facts: What else belongs to the result.

    Returns:
        The file.
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
    """Return the processor's name; platform.processor() is empty on most Linux machines."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
