"""Every addition that the page on extending shows trains a run, and leaves what the page says."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from docs.fill import ROOT
from softcue.plan import folder_of
from softcue.runs.record import RunRecord
from tests.docs.commands import Call, calls, commands
from tests.docs.test_commands import write_examples
from tests.docs.workspace import fewer_tweets, run_entry_point
from tests.integration.conftest import CACHE
from tests.own_data.conftest import write_reviews
from tests.report.reading import read
from tests.tiny_backbone import save_tiny_backbone

PAGE = ROOT / "docs" / "extending.md"
TRAINING = [one.text for one in commands(PAGE) if one.text.startswith("softcue-train")]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("work")
    save_tiny_backbone(folder / "model", CACHE)
    write_reviews(folder, ("good", "bad"))
    write_examples(PAGE, folder)
    with fewer_tweets():
        yield folder


def train(work: Path, command: str) -> Path:
    """Run a command of the page on a tiny model; the run's folder."""
    call = calls(command, cwd=work, scratch=work)
    given = [one for one in call.arguments if not one.startswith("backbone=")]
    few = ["split.num_train=4", "split.num_test=4"] if "experiment=quickstart" in given else []
    quick = [
        *("backbone=local", f"backbone.path={work / 'model'}", "trainer.max_epochs=2", *few),
        *(f"paths.runs={work / 'runs'}", f"paths.cache={CACHE}"),
    ]
    before = set((work / "runs").glob("*"))
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(work)
        run_entry_point(Call(program=call.program, arguments=(*given, *quick), stdin=b""), cwd=work)
    (made,) = set((work / "runs").glob("*")) - before
    return made


def record_of(folder: Path) -> RunRecord:
    return RunRecord.from_json((folder / "record.json").read_bytes())


def with_words(*words: str) -> str:
    (command,) = [one for one in TRAINING if all(word in one for word in words)]
    return command


def columns(folder: Path) -> set[str]:
    with (folder / "metrics.csv").open(newline="") as file:
        return set(next(csv.reader(file)))


def test_a_method(work: Path) -> None:
    parameters = record_of(train(work, with_words("prompt=repeated"))).parameters
    assert parameters is not None
    assert parameters.shipped == 20 * parameters.trainable


@pytest.mark.slow
def test_a_callback_by_yaml_logs_and_changes_no_id(work: Path) -> None:
    folder = train(work, with_words("callbacks=with_norm"))
    assert "prompt/norm" in columns(folder)
    record = record_of(folder)
    del record.settings["callbacks"]["norm"]
    assert folder_of(record.settings, record.data_fingerprint).path.name == folder.name


@pytest.mark.slow
def test_a_callback_on_the_command_line(work: Path) -> None:
    assert record_of(train(work, with_words("+callbacks.timer"))).status == "complete"


@pytest.mark.slow
def test_a_metric_is_in_the_record_the_curve_and_the_report(work: Path) -> None:
    folder = train(work, with_words("experiment=with_mcc"))
    assert "own/mcc" in record_of(folder).metrics["test"]
    assert "validation/own/mcc" in columns(folder)
    (task,) = read(f"runs={folder}", "sort_by=own/mcc", "metrics=[own/mcc]").tasks
    assert "own/mcc" in task.cells[0].scores


@pytest.mark.slow
def test_a_metric_on_the_command_line(work: Path) -> None:
    assert "own/mcc" in record_of(train(work, with_words("+metrics.mcc._partial_"))).metrics["test"]


def test_a_scheduler_and_an_optimizer_by_yaml(work: Path) -> None:
    settings = record_of(train(work, with_words("scheduler=restarts"))).settings
    assert settings["optimizer"]["_target_"] == "torch.optim.SGD"


def test_a_scheduler_on_the_command_line(work: Path) -> None:
    assert record_of(train(work, with_words("CosineAnnealingLR"))).status == "complete"


def test_data_and_a_split(work: Path) -> None:
    record = record_of(train(work, with_words("data=films")))
    assert (record.task, record.num_rows["train"], record.num_rows["test"]) == ("films", 4, 2)


def test_every_command_of_the_page_that_trains_is_run_here() -> None:
    asked = re.findall(r"with_words\(([^)]+)\)\)", Path(__file__).read_text())
    assert {with_words(*re.findall(r'"([^"]+)"', words)) for words in asked} == set(TRAINING)
