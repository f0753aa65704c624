"""A complete run's record, as schema 1 wrote it."""

from __future__ import annotations

from pathlib import Path

import pytest

from softcue.runs.record import RunRecord


@pytest.fixture
def record_json() -> str:
    return (Path(__file__).parent / "record_v1.json").read_text()


@pytest.fixture
def record(record_json: str) -> RunRecord:
    return RunRecord.from_json(record_json)
