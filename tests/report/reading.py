"""Comparisons as `softcue-report` makes them, from records that a test writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir

from softcue.configs import CONFIG_PATH
from softcue.report.__main__ import read_request
from softcue.report.command import make_comparison, tables_of, two_run_request
from softcue.report.model import Comparison
from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder
from softcue.tables.table import Table


def leave(root: Path, records: Sequence[RunRecord]) -> Path:
    """Write the folders of runs."""
    for record in records:
        folder = RunFolder(root, record.run_id)
        folder.create()
        folder.write_record(record)
    return root


def read(*overrides: str, details: bool = False) -> Comparison:
    """The comparison of `softcue-report OVERRIDES`."""
    return make_comparison(_request(overrides), details=details)


def shown(*overrides: str) -> tuple[list[Table[Any]], list[str]]:
    """The tables and sentences of `softcue-report OVERRIDES`."""
    request = _request(overrides)
    return tables_of(request, make_comparison(request), "terminal")


def cells(table: Table[Any]) -> list[dict[str, str]]:
    """A table's rows as the terminal has them, by heading."""
    return [{column.heading: column.cell(row) for column in table.columns} for row in table.rows]


def _request(overrides: Sequence[str]) -> Any:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONFIG_PATH)):
        request = read_request(compose(config_name="report", overrides=list(overrides)))
    return two_run_request(request) if request.compare else request
