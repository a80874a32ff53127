"""Lines of the terminal on a prepared dataset of volumes."""

from pathlib import Path

from data.builders.images import SKIPPED_FILE
from data.builders.unused_files import non_case_lines
from data.datasets.volumes.layout import find_own_volumes, remark_lines
from data.datasets.volumes.plan import parse_plan
from data.names import parse_volumes_name
from data.prepared.volumes import PreparedVolumes


def volume_lines(prepared: PreparedVolumes, name: str, raw_dir: Path | None) -> list[str]:
    """Return the voxels of each class, the plan of the user's volumes, and remarks on files.

    Args:
        prepared: The dataset.
        name: Its name, as given on the command line.
        raw_dir: Folder of a download, for remarks on files that are not used; None for none.
    """
    counts = prepared.voxel_counts
    width = max(map(len, prepared.spec.class_names))
    lines = [
        f"{class_name:{width}}{voxels:14d} voxels in {cases} of {len(counts)} cases"
        for class_name, voxels, cases in zip(
            prepared.spec.class_names, counts.sum(0), (counts > 0).sum(0), strict=True
        )
    ]
    skipped = prepared.folder / SKIPPED_FILE
    if skipped.exists():
        lines.append(f"{len(skipped.read_bytes().splitlines())} cases left out: {skipped}")
    raw = parse_volumes_name(name).raw
    if prepared.spec.plan is not None and raw is not None:
        lines += [parse_plan(prepared.spec.plan).line, *prepared.patient_lines]
        lines += remark_lines(find_own_volumes(raw))
    if raw_dir is not None:
        lines += non_case_lines(raw_dir, prepared.spec.find_cases(raw_dir), [])
    return lines
