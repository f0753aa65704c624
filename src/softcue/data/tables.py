"""Files to rows: CSV, TSV, JSONL and Parquet read as they stand, and RAFT's Parquet from the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import datasets
import pandas as pd
import pyarrow.parquet as pq
from huggingface_hub import constants, get_session, hf_hub_download
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    HTTPError,  # of httpx or httpx2, whichever this hub client uses
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
)

from softcue.errors import DataError

_HUB_TIMEOUT = 5.0  # seconds


def read_table(path: Path) -> pd.DataFrame:
    """A file's rows with nothing guessed: text stays text, and an empty cell of a CSV is ""."""
    if path.suffix not in _READERS:
        raise DataError(
            f"{path} ends in {path.suffix!r}; tables end in {sorted(_READERS)}. Convert or rename it."
        )
    if not path.is_file():
        raise DataError(f"{path} is not there; check data.source and the folder you run from.")
    return _READERS[path.suffix](path)


def read_raft_from_hub(subset: str, split: str) -> pd.DataFrame:
    """One split of ought/raft with class names for labels, "" for its class "Unlabeled"."""
    table = pq.read_table(_raft_file(f"{subset}/{split}/0000.parquet"))
    label = datasets.Features.from_arrow_schema(table.schema)["Label"]
    frame: pd.DataFrame = table.to_pandas().astype(object)
    frame["Label"] = frame["Label"].map(label.int2str).replace("Unlabeled", "")
    return frame


def _raft_file(filename: str) -> str:
    with suppress(LocalEntryNotFoundError):
        return _from_hub(filename, only_cached=True)
    try:
        # Asked first, since the client's own download would retry for half a minute.
        get_session().head(constants.ENDPOINT, timeout=_HUB_TIMEOUT)
        return _from_hub(filename, only_cached=False)
    except (HTTPError, OfflineModeIsEnabled, LocalEntryNotFoundError) as error:
        raise DataError(
            f"ought/raft/{filename} is not cached and cannot be had from {constants.ENDPOINT}; run "
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


def _read_csv(path: Path) -> pd.DataFrame:
    return _read_delimited(path, separator=",")


def _read_tsv(path: Path) -> pd.DataFrame:
    return _read_delimited(path, separator="\t")


def _read_delimited(path: Path, *, separator: str) -> pd.DataFrame:
    try:
        return pd.read_csv(path, sep=separator, dtype=object, keep_default_na=False)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise DataError(f"{path} cannot be read as {path.suffix}: {error}. Mend the file.") from error


def _read_jsonl(path: Path) -> pd.DataFrame:
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise DataError(f"{path} line {number} is not JSON: {error}. Write one object a line.") from error
    return pd.DataFrame(rows, dtype=object)


def _read_parquet(path: Path) -> pd.DataFrame:
    return pd.DataFrame(pq.read_table(path).to_pylist(), dtype=object)


_READERS: dict[str, Callable[[Path], pd.DataFrame]] = {
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
}
