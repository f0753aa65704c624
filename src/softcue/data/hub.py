"""RAFT's tables from the hub."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import datasets
import pyarrow.parquet as pq
from huggingface_hub import constants, get_session, hf_hub_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HTTPError,  # of httpx or httpx2, whichever this hub client uses
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from softcue.data.tables import LoadedTable, read_table
from softcue.errors import DataError

_HUB_TIMEOUT = 5.0  # seconds


def read_raft_from_hub(subset: str, split: str) -> LoadedTable:
    """One split of ought/raft with class names for labels, "" for its class "Unlabeled"."""
    file = Path(_raft_file(f"{subset}/{split}/0000.parquet"))
    names = datasets.Features.from_arrow_schema(pq.read_schema(file))["Label"].names
    table = read_table(file)
    label = {str(index): "" if name == "Unlabeled" else name for index, name in enumerate(names)}
    rows = [
        row._replace(values={**row.values, "Label": label[str(row.values["Label"])]}) for row in table.rows
    ]
    return replace(table, rows=tuple(rows))


def _raft_file(filename: str) -> str:
    with suppress(LocalEntryNotFoundError):
        return _from_hub(filename, only_cached=True)
    try:
        # Checked first, since the client's own download would retry for half a minute.
        get_session().head(constants.ENDPOINT, timeout=_HUB_TIMEOUT)
        return _from_hub(filename, only_cached=False)
    except (HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise DataError(
            f"ought/raft/{filename} is not cached and cannot be fetched from {constants.ENDPOINT}; run "
            "experiment=quickstart (data=airline_complaints backbone=smollm2_135m), which needs no network, "
            "or give a copy of RAFT with data.source.folder=..."
        ) from error


def _from_hub(filename: str, *, only_cached: bool) -> str:
    return hf_hub_download(
        "ought/raft",
        filename,
        repo_type="dataset",
        revision="refs/convert/parquet",
        local_files_only=only_cached,
    )
