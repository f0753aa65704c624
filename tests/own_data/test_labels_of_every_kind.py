"""Labels of every scalar type, from the table through training to what a run leaves behind."""

from __future__ import annotations

from pathlib import Path

import pytest

import softcue
from softcue.export.adapter import load_all, peft_files
from tests.docs.commands import Call
from tests.docs.workspace import run_entry_point
from tests.own_data.conftest import Compose, write_reviews
from tests.report.reading import read
from tests.running import train_one

KINDS = {
    "numbers": ("[0,1]", "{0: poor, 1: fine}", ("0", "1"), ("0", "1")),
    "numbers and text": ("[0,other]", "{0: poor, other: fine}", ("0", "other"), ("0", "other")),
    "booleans": ("[true,false]", "{true: fine, false: poor}", ("True", "no"), ("true", "false")),
    "yes and a number": ("[yes,2.5]", "{yes: fine, 2.5: poor}", ("yes", "2.5"), ("yes", "2.5")),
}
"""Classes and verbalizer as on the command line, labels as in the file, and the names of the classes."""


@pytest.mark.parametrize("kind", KINDS)
def test_labels_of_a_kind_reach_record_report_card_and_predictions(
    kind: str, own_table: Compose, tmp_path: Path
) -> None:
    classes, verbalizer, labels, names = KINDS[kind]
    config = own_table(
        f"data.source.path={write_reviews(tmp_path, labels)}",
        f"data.task.classes={classes}",
        f"data.task.verbalizer={verbalizer}",
    )
    folder = train_one(config)
    record = folder.record()
    assert record is not None
    assert record.status == "complete", record.error
    assert {name for name in record.metrics["test"] if name.startswith("f1/")} == {f"f1/{n}" for n in names}
    (task,) = read(f"runs={folder.path.parent}").tasks
    assert [cell.method for cell in task.cells] == ["prompt_tuning"]
    card = peft_files(load_all(str(folder.path), task=None), name="reviews")["README.md"].decode()
    assert all(words in card for words in ("| poor |", "| fine |"))
    prediction = softcue.load(folder.path).predict("the text of a review")
    assert tuple(prediction.probabilities) == names
    assert train_one(config).path == folder.path


def test_a_sweep_over_classes_that_are_no_text_reads_its_jobs(tmp_path: Path, own_command: list[str]) -> None:
    path = write_reviews(tmp_path, ("0", "other"))
    task = ["data.task.classes=[0,other]", "data.task.verbalizer={0: poor, other: fine}"]
    call = ["-m", *own_command, f"data.source.path={path}", *task, "seed=0,1", "dry=true"]
    shown = run_entry_point(Call(program="softcue-train", arguments=tuple(call), stdin=b""), cwd=tmp_path)
    assert "0 of 2 jobs are complete" in shown
