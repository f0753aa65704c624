"""Run records as JSON: everything is read back, and nothing else is accepted as a record."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as effort
from hypothesis import strategies as st

from softcue.errors import RunError
from softcue.runs.record import (
    Failure,
    Git,
    Hardware,
    Parameters,
    PeakMemoryMb,
    RunRecord,
    Times,
    Training,
)

finite = st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(min_value=0, max_value=10**12)
names = st.text(max_size=12)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | finite | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=10,
)
times_of_day = st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat)
records = st.builds(
    RunRecord,
    run_id=names,
    status=st.sampled_from(["running", "complete", "failed"]),
    method=names,
    task=names,
    backbone=st.none() | names,
    dtype=st.none() | names,
    seed=st.integers(0, 2**32 - 1),
    data_fingerprint=names,
    started_at=times_of_day,
    finished_at=st.none() | times_of_day,
    error=st.none() | st.builds(Failure, type=names, message=names),
    metrics=st.dictionaries(names, st.dictionaries(names, st.none() | finite, max_size=3), max_size=3),
    num_rows=st.dictionaries(names, counts, max_size=3),
    num_cut=st.dictionaries(names, counts, max_size=3),
    parameters=st.none() | st.builds(Parameters, trainable=counts, shipped=counts, total=counts),
    training=st.none()
    | st.builds(
        Training,
        steps=counts,
        epochs=counts,
        monitor=st.none() | names,
        best_value=st.none() | finite,
        best_step=st.none() | counts,
    ),
    times=st.none() | st.builds(Times, setup_s=finite, train_s=finite, evaluate_s=finite, total_s=finite),
    peak_memory_mb=st.none()
    | st.builds(PeakMemoryMb, process=finite, above_start=finite, gpu=st.none() | finite),
    host=names,
    hardware=st.builds(
        Hardware, cpu=names, cores=counts, memory_gb=finite, gpu=st.none() | names, threads=counts
    ),
    git=st.none() | st.builds(Git, commit=names, dirty=st.booleans()),
    versions=st.dictionaries(names, names, max_size=3),
    settings=st.dictionaries(names, json_values, max_size=4),
)


@effort(max_examples=50, deadline=None)
@given(record=records)
def test_a_record_is_read_back_unchanged(record: RunRecord) -> None:
    assert RunRecord.from_json(record.to_json()) == record


def test_a_record_of_schema_1_is_written_as_it_was_read(record_json: str) -> None:
    assert RunRecord.from_json(record_json).to_json() == record_json


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_becomes_null(record: RunRecord, value: float) -> None:
    text = replace(record, metrics={"test": {"auroc": value}}).to_json()
    assert json.loads(text)["metrics"] == {"test": {"auroc": None}}


def test_an_unknown_schema_is_refused_with_both_versions(record_json: str) -> None:
    with pytest.raises(RunError, match=r"schema 2, and this softcue reads schema 1"):
        RunRecord.from_json(record_json.replace('"schema_version": 1', '"schema_version": 2'))


def _without_seed(record: dict[str, Any]) -> None:
    del record["seed"]


def _with_foreign_field(record: dict[str, Any]) -> None:
    record["hardware"]["colour"] = "green"


def _with_text_for_a_number(record: dict[str, Any]) -> None:
    record["metrics"]["test"]["accuracy"] = "0.8"


def _with_another_clock(record: dict[str, Any]) -> None:
    record["started_at"] = "2026-01-01T12:00:00"


def _with_unknown_status(record: dict[str, Any]) -> None:
    record["status"] = "nearly"


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (_without_seed, "seed"),
        (_with_foreign_field, r"hardware\.colour"),
        (_with_text_for_a_number, r"metrics\.test\.accuracy"),
        (_with_unknown_status, "status"),
        (_with_another_clock, "started_at: .*lacks its time zone"),
    ],
)
def test_a_record_that_is_not_exactly_ours_is_refused_naming_the_field(
    record_json: str, spoil: Any, named: str
) -> None:
    record = json.loads(record_json)
    spoil(record)
    with pytest.raises(RunError, match=rf"not a run record: {named}"):
        RunRecord.from_json(json.dumps(record))


@pytest.mark.parametrize("text", ["", "{", "[]", '"record"', "{}", b"\xff\xfe\x00"])
def test_text_that_is_not_a_record_is_refused(text: str | bytes) -> None:
    with pytest.raises(RunError, match="not a run record"):
        RunRecord.from_json(text)
