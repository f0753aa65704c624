"""RAFT's tables from the hub."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq

from softcue.data.tables import LoadedTable, read_table
from softcue.errors import DataError
from softcue.hub import HubError, HubRepo

RAFT = HubRepo(name="ought/raft", kind="dataset", revision="refs/convert/parquet")


def read_raft_from_hub(subset: str, split: str) -> LoadedTable:
    """One split of ought/raft with class names for labels, "" for its class "Unlabeled".

    Raises:
        DataError: the hub does not give it, or it is damaged.
    """
    import datasets  # takes a second, which other data need not wait

    file = _raft_file(f"{subset}/{split}/0000.parquet")
    try:
        table = read_table(file)
        names = datasets.Features.from_arrow_schema(pq.read_schema(file))["Label"].names
        label = {str(index): "" if name == "Unlabeled" else name for index, name in enumerate(names)}
        rows = [
            row._replace(values={**row.values, "Label": label[str(row.values["Label"])]})
            for row in table.rows
        ]
    except (DataError, AttributeError, KeyError, ValueError) as error:
        raise DataError(
            f"{file}, from {RAFT.name} on the hub, is damaged or another table ({error}); delete it to fetch "
            "it again."
        ) from error
    return replace(table, rows=tuple(rows))


def _raft_file(name: str) -> Path:
    try:
        return RAFT.cached(name) or RAFT.fetch(lambda _: [name])[0]
    except HubError as error:
        raise DataError(
            f"{error}. Without the hub, run experiment=quickstart (data=airline_complaints "
            "backbone=smollm2_135m), or give a copy of RAFT with data.source.folder=FOLDER."
        ) from error
