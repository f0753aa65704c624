"""Signs of failed training in what a run leaves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from softcue.runs.record import RunRecord
from softcue.runs.store import RunFolder
from softcue.runs.symptoms import flat_loss, of_files, one_class, rate_at_edge, shared_label_tokens


def predict(folder: Path, predicted: Sequence[str], labels: Sequence[str] = ("no", "yes", "no")) -> Path:
    run = RunFolder(folder.parent, folder.name)
    run.create()
    run.write_predictions(part="test", columns={"predicted": predicted, "label": labels})
    return folder


def curve(folder: Path, losses: Sequence[float]) -> Path:
    """An epoch of two steps for each loss, of which the second line holds the epoch's mean."""
    lines = [f"{at},{2 * at},,1.0\n{at},{2 * at + 1},{loss},\n" for at, loss in enumerate(losses)]
    (folder / "metrics.csv").write_text("epoch,step,train/loss,train/loss_step\n" + "".join(lines))
    return folder


def test_one_class_for_all_test_rows_is_a_sign(tmp_path: Path, record: RunRecord) -> None:
    found = one_class(predict(tmp_path / "a", ["yes"] * 3), record)
    other = one_class(predict(tmp_path / "b", ["no", "yes", "yes"]), record)
    assert found is not None
    assert other is not None
    assert (found.is_found, found.measured) == (True, "'yes' for 3 of 3 test rows")
    assert (other.is_found, other.measured) == (False, "'yes' for 2 of 3 test rows")
    assert "objective=choice" in found.way_out
    alike = one_class(predict(tmp_path / "c", ["yes"] * 3, ["yes"] * 3), record)
    assert alike is not None
    assert not alike.is_found


@pytest.mark.parametrize(
    ("losses", "is_found", "way_out"),
    [
        ([2.0, 1.99, 1.98], True, "prompt.learning_rate=3"),  # ten times the run's 0.3
        ([2.0, 1.0, 2.5], True, "prompt.learning_rate=0.03"),
        ([2.0, 1.5, 1.0], False, "prompt.learning_rate=3"),
    ],
)
def test_a_loss_that_does_not_fall_is_a_sign(
    tmp_path: Path, record: RunRecord, losses: Sequence[float], is_found: bool, way_out: str
) -> None:
    sign = flat_loss(curve(tmp_path, losses), record)
    assert sign is not None
    assert (sign.is_found, sign.way_out) == (is_found, way_out)


def test_a_search_without_a_rate_is_told_to_search_longer(tmp_path: Path, record: RunRecord) -> None:
    settings = {**record.settings, "optimizer": {"sigma": 1.0}}
    sign = flat_loss(curve(tmp_path, [2.0, 2.0]), replace(record, settings=settings))
    assert sign is not None
    assert sign.way_out == "a larger trainer.max_epochs"


def test_what_a_run_does_not_have_is_not_checked(tmp_path: Path, record: RunRecord) -> None:
    assert of_files(tmp_path, record) == []
    assert flat_loss(curve(tmp_path, [2.0]), record) is None
    assert flat_loss(curve(tmp_path, [2.0, 2.0]), replace(record, training=None)) is None


def tried(root: Path, record: RunRecord, scores: dict[float, list[float]]) -> Path:
    """Complete runs that differ in rate and seed; the folder of one."""
    for rate, values in scores.items():
        for seed, value in enumerate(values):
            settings = {**record.settings, "seed": seed, "optimizer": {**OPTIMIZER, "lr": rate}}
            folder = RunFolder(root, f"run-{rate}-{seed}")
            folder.create()
            folder.write_record(replace(record, settings=settings, metrics={"test": {"macro_f1": value}}))
    return root / "run"


OPTIMIZER = {"betas": [0.9, 0.999]}


def at_rate(record: RunRecord, rate: float) -> RunRecord:
    return replace(record, settings={**record.settings, "optimizer": {**OPTIMIZER, "lr": rate}})


@pytest.mark.parametrize(
    ("rate", "scores", "is_found", "way_out"),
    [
        (0.1, {0.01: [0.4, 0.5], 0.1: [0.7]}, True, "prompt.learning_rate=0.3"),
        (0.01, {0.01: [0.7], 0.1: [0.4]}, True, "prompt.learning_rate=0.00333333"),
        (0.1, {0.01: [0.4], 0.1: [0.7], 1.0: [0.5]}, False, "prompt.learning_rate=0.1"),
        (0.01, {0.01: [0.4], 0.1: [0.7], 1.0: [0.5]}, True, "prompt.learning_rate=0.1"),
    ],
)
def test_the_best_rate_at_the_edge_of_those_tried_is_a_sign(
    tmp_path: Path,
    record: RunRecord,
    rate: float,
    scores: dict[float, list[float]],
    is_found: bool,
    way_out: str,
) -> None:
    sign = rate_at_edge(tried(tmp_path, record, scores), at_rate(record, rate))
    assert sign is not None
    assert (sign.is_found, sign.way_out) == (is_found, way_out)


def test_runs_that_differ_in_more_than_their_rate_do_not_count(tmp_path: Path, record: RunRecord) -> None:
    folder = tried(tmp_path, record, {0.1: [0.7]})
    other = replace(record, settings={**record.settings, "prompt": {"num_tokens": 5}})
    tried(tmp_path, other, {0.01: [0.9]})
    assert rate_at_edge(folder, at_rate(record, 0.1)) is None


def test_tokens_that_begin_every_label_are_a_sign() -> None:
    shared = shared_label_tokens(((7, 8, 1), (7, 8), (7, 8, 2)), ("a b c", "a b", "a b d"))
    assert (shared.is_found, shared.measured) == (True, "2 at the start of all labels (a b c, a b, a b d)")
    assert not shared_label_tokens(((7,), (8, 7)), ("a", "b a")).is_found
