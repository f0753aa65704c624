"""`softcue-report`: a comparison of the run records under a folder, printed or written to a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import hydra
from omegaconf import DictConfig

from softcue.cli import run_app
from softcue.configs import CONFIG_PATH
from softcue.errors import RunError
from softcue.report.columns import comparison
from softcue.report.groups import group_runs, unfinished
from softcue.runs.metrics import metric_named
from softcue.runs.record import RunRecord
from softcue.runs.store import list_records
from softcue.tables.render import expect_format, write_tables


@hydra.main(version_base="1.3", config_path=str(CONFIG_PATH), config_name="report")
@run_app
def main(settings: DictConfig) -> None:
    """Write the comparison of all runs under a folder."""
    expect_format(settings.format)
    metrics, sort_by = [metric_named(name) for name in settings.metrics], metric_named(settings.sort_by)
    root = Path(settings.runs)
    listing = list_records(root)
    notes = [*unfinished(listing.records), *(f"unreadable: {problem}" for problem in listing.problems)]
    groups = group_runs(listing.records)
    if not groups:
        raise RunError(_nothing(root, notes))
    title = _title(listing.records, part=settings.part)
    table = comparison(groups, title=title, part=settings.part, metrics=metrics, sort_by=sort_by)
    write_tables([table], form=settings.format, output=settings.output, notes=notes)


def _title(records: Sequence[RunRecord], *, part: str) -> str:
    """Task, backbone and part; a baseline has no backbone."""
    tasks = sorted({record.task for record in records})
    backbones = sorted({record.backbone for record in records if record.backbone is not None})
    return " · ".join(words for words in (", ".join(tasks), ", ".join(backbones), part) if words)


def _nothing(root: Path, notes: Sequence[str]) -> str:
    if notes:
        return f"no run under {root} is complete. " + "; ".join(notes)
    return f"no run records under {root}: give the folder that holds them, as in runs=runs/demo."


if __name__ == "__main__":
    main()
