"""Everything that weakens a comparison is said, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from softcue.report.model import Caution
from softcue.runs.record import RunRecord, Training
from tests.report.reading import leave, read

MakeRun = Callable[..., RunRecord]


def cautions(root: Path, records: Sequence[RunRecord]) -> list[tuple[str, str]]:
    """The kind and text of each caution about runs, apart from those about few runs and rows."""
    found: Sequence[Caution] = read(f"runs={leave(root, records)}").all_cautions
    return [(one.kind, one.text) for one in found if one.kind not in ("runs", "rows")]


def two(make_run: MakeRun, **of_second: Any) -> list[RunRecord]:
    """A run each of two methods, the second one's record changed."""
    return [make_run("a", seed=0, macro_f1=0.6), replace(make_run("b", seed=0, macro_f1=0.5), **of_second)]


def test_runs_that_agree_in_everything_are_not_cautioned_against(tmp_path: Path, make_run: MakeRun) -> None:
    assert cautions(tmp_path, two(make_run)) == []


@pytest.mark.parametrize(
    ("changed", "kind", "words"),
    [
        ({"dtype": "bfloat16"}, "dtype", "dtype differs: float32 (a); bfloat16 (b)."),
        ({"engine": "plain"}, "engine", "engine differs: stream (a); plain (b)."),
        ({"backbone": "gpt2"}, "backbone", "backbone differs: smollm2_135m (a); gpt2 (b)."),
        ({"data_fingerprint": "other"}, "data", "data differs: "),
        ({"num_rows": {"train": 16, "test": 400}}, "data", "training rows differs: 50 (a); 16 (b)."),
    ],
)
def test_what_differs_between_methods_is_named_with_its_values(
    tmp_path: Path, make_run: MakeRun, changed: dict[str, Any], kind: str, words: str
) -> None:
    first, second = two(make_run)
    rows = {"train": 50, "test": 400}
    records = [replace(first, engine="stream", num_rows=rows)]
    records.append(replace(second, **{"engine": "stream", "num_rows": rows} | changed))
    ((found, text),) = cautions(tmp_path, records)
    assert found == kind
    assert text.startswith(words)


def test_another_processor_is_named(tmp_path: Path, make_run: MakeRun) -> None:
    first, second = two(make_run)
    second = replace(second, hardware=replace(second.hardware, cpu="a quicker one"))
    ((kind, text),) = cautions(tmp_path, [first, second])
    assert (kind, text) == ("hardware", f"cpu differs: {first.hardware.cpu} (a); a quicker one (b).")


def test_settings_of_data_split_and_model_that_differ_between_methods_are_named(
    tmp_path: Path, make_run: MakeRun
) -> None:
    records = [
        make_run("a", seed=0, macro_f1=0.5, data={"max_length": 64}, scoring={"name": "sum"}),
        make_run("b", seed=0, macro_f1=0.5, data={"max_length": 128}, scoring={"name": "mean"}),
    ]
    ((kind, text),) = cautions(tmp_path, records)
    assert kind == "settings"
    assert text == "methods differ in more than the method: data.max_length; scoring.name."


def test_a_checkpoint_kept_by_the_test_rows_is_named(tmp_path: Path, make_run: MakeRun) -> None:
    training = Training(steps=9, epochs=3, monitor="test/macro_f1", best_value=0.6, best_step=6)
    ((kind, text),) = cautions(tmp_path, two(make_run, training=training))
    assert (kind, text) == (
        "selection",
        "1 run kept the checkpoint that was best on the test rows themselves.",
    )


def test_few_runs_and_few_rows_are_named_with_what_they_hide(tmp_path: Path, make_run: MakeRun) -> None:
    records = [
        replace(make_run(method, seed=seed, macro_f1=0.5), num_rows={"test": 25})
        for method, seeds in (("a", 3), ("b", 1))
        for seed in range(seeds)
    ]
    texts = [one.text for one in read(f"runs={leave(tmp_path, records)}").all_cautions]
    assert "one run each, so that other seeds may change the order: b." in texts
    assert "fewer than 5 runs, so that intervals are wide: a." in texts
    assert "scored on 25 rows: differences below 0.20 are within the noise of rows." in texts


def test_records_of_an_earlier_softcue_stand_beside_later_ones(tmp_path: Path, make_run: MakeRun) -> None:
    """The first lacks the fields that the format got later; of those, none is taken for a difference."""
    later = make_run("b", seed=0, macro_f1=0.6)
    early = json.loads(make_run("a", seed=0, macro_f1=0.5).to_json())
    del early["engine"], early["num_cut"], early["training"]["resumes"], early["training"]["joint"]
    found = read(f"runs={leave(tmp_path, [RunRecord.from_json(json.dumps(early)), later])}")
    assert [cell.method for cell in found.tasks[0].cells] == ["b", "a"]
    assert [one.kind for one in found.all_cautions if one.kind == "engine"] == []


def test_a_foreign_record_and_one_of_a_later_schema_are_listed_and_left_out(
    tmp_path: Path, make_run: MakeRun
) -> None:
    good = make_run("a", seed=0, macro_f1=0.5)
    leave(tmp_path, [good])
    for name, text in (
        ("foreign", '{"accuracy": 0.9}'),
        ("later", good.to_json().replace('"schema_version": 1', '"schema_version": 9')),
        ("truncated", good.to_json()[:200]),
    ):
        (tmp_path / name).mkdir()
        (tmp_path / name / "record.json").write_text(text)
    found = read(f"runs={tmp_path}")
    assert [len(cell.runs) for cell in found.tasks[0].cells] == [1]
    notes = {note.split("/record.json")[0].rpartition("/")[2]: note for note in found.notes}
    assert set(notes) == {"foreign", "later", "truncated"}
    assert all(note.startswith("unreadable: ") for note in notes.values())
    assert "schema 9, and this softcue reads schema 1" in notes["later"]
