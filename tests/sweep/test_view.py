"""What the view shows: counts, times, the best runs, the running jobs and the failures."""

from __future__ import annotations

import io
import os
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from rich.console import Console

from softcue.runs.metrics import METRICS
from softcue.sweep.state import SweepFolder
from softcue.sweep.summary import TimeLeft, best_of_methods, time_left
from softcue.sweep.view import allocate_rows, view
from tests.sweep.folder import EXAMPLE, Folder

NOW = datetime.fromisoformat(EXAMPLE.started_at) + timedelta(seconds=40)


def _lines(
    folder: Folder, *, metric: str = "macro_f1", width: int = 80, height: int | None = None
) -> list[str]:
    snapshot = SweepFolder(folder.root).snapshot()
    console = Console(file=io.StringIO(), width=width, highlight=False)
    with console.capture() as captured:
        console.print(
            view(snapshot, now=NOW, part="test", metric=METRICS[metric], width=width, height=height)
        )
    return [line.rstrip() for line in captured.get().splitlines()]


def _time_left(folder: Folder) -> TimeLeft:
    snapshot = SweepFolder(folder.root).snapshot()
    return time_left(snapshot.remaining, snapshot.records, now=NOW)


def test_the_head_names_the_command_and_counts_the_jobs(folder: Folder) -> None:
    folder.plan("tfidf-0", "tfidf-1", "tfidf-2", "tfidf-3", "tfidf-4")
    folder.add("tfidf-0")
    folder.fail("tfidf-1", "the loss is nan")
    folder.add("tfidf-2", status="running")
    with folder.running("tfidf-3"):
        lines = _lines(folder, width=100)
    assert lines[1:5] == [
        "softcue-train -m experiment=quickstart seed=0,1,2",
        "█" * 20 + "×" * 20 + "▓" * 20 + "▒" * 20 + "░" * 20,
        "1 complete · 1 failed · 1 running · 1 interrupted · 1 pending of 5 jobs",
        "40 s since the first start · about 4 min 20 s remaining · 1 running now",
    ]


def test_the_bar_is_as_wide_as_asked_and_shows_a_state_of_few_jobs(folder: Folder) -> None:
    folder.plan(*(f"tfidf-{number}" for number in range(1000)))
    folder.add("tfidf-0")
    assert _lines(folder)[2] == "█" + "░" * 79


def test_the_best_of_every_method_comes_with_its_mean(folder: Folder) -> None:
    folder.plan("tfidf-0", "p-1", "p-2", "p-3")
    folder.add("tfidf-0", macro_f1=0.5)
    folder.add("p-1", macro_f1=0.6)
    folder.add("p-2", macro_f1=0.8)
    folder.add("p-3", macro_f1=0.9, status="running")
    assert _lines(folder)[6:9] == [
        "best by test macro_f1   best                 mean  its job",
        "p                      0.800  0.700 ± 0.141 (n=2)  seed=2",
        "tfidf                  0.500                0.500  seed=0",
    ]


def test_the_lowest_perplexity_is_the_best(folder: Folder) -> None:
    folder.add("p-0", macro_f1=9.0)
    folder.add("p-1", macro_f1=3.0)
    jobs = SweepFolder(folder.root).snapshot().jobs
    (best,) = best_of_methods(jobs, part="test", metric=METRICS["perplexity"])
    assert best.value == 3.0


def test_a_metric_that_no_run_has_is_named(folder: Folder) -> None:
    folder.add("tfidf-0", macro_f1=0.5)
    assert "no complete run has test auroc" in _lines(folder, metric="auroc")


def test_a_running_job_shows_how_far_it_has_trained(folder: Folder) -> None:
    folder.plan("p-0", "p-1")
    with folder.running("p-0", settings={"trainer": {"max_epochs": 10}}):
        table = _lines(folder)[6:]
        assert table == ["running   for  epoch  step  loss", "seed=0   40 s      –     –     –"]
        (folder.root / "p-0" / "metrics.csv").write_text("epoch,step,train/loss_step\n2,31,0.71234\n")
        table = _lines(folder)[6:]
        assert table == ["running   for  epoch  step   loss", "seed=0   40 s   3/10    31  0.712"]


def test_failures_are_listed_with_the_last_one_first_each_on_a_line(folder: Folder) -> None:
    folder.plan("p-0", "p-1")
    folder.fail("p-0", "the loss is nan at step 3:\n  lower optimizer.lr")
    folder.fail("p-1", "no memory")
    assert _lines(folder)[6:] == [
        "last failures  error",
        "seed=1         TrainingError: no memory",
        "seed=0         TrainingError: the loss is nan at step 3: lower optimizer.lr",
    ]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, None), (60, 40), (200, 50)])
def test_long_lines_end_in_an_ellipsis_and_are_not_wrapped(
    folder: Folder, width: int, height: int | None
) -> None:
    """Thirty methods with a complete, a failed and a running job each, with labels that fit no terminal."""
    names = [f"a_method_of_a_long_name_{number}-{kind}" for number in range(30) for kind in range(3)]
    folder.plan(*names, labels=[f"prompt.initialiser.text='{f'word {name}' * 20}'" for name in names])
    for name in names[::3]:
        folder.add(name, macro_f1=0.5)
    for name in names[1::3]:
        folder.fail(name, "[bold]the loss is nan " * 20)
    for name in names[2::3]:
        folder.add(name, status="running")
        (folder.root / name / "run.lock").mkdir()
    lines = _lines(folder, width=width, height=height)
    assert max(map(len, lines)) <= width
    assert len(lines) <= (height or 60)
    rows = [line for line in lines if line.startswith("a_method")]
    assert rows
    assert all("…" in line and "0.500" in line for line in rows)
    assert sum(line.startswith("and ") for line in lines) == 3


def test_labels_omit_the_settings_that_all_jobs_share(folder: Folder) -> None:
    folder.plan("p-0", "p-1", labels=["text='a b=1' n=1 lr=0.1", "text='c b=1' n=1 lr=0.2"])
    folder.add("p-0", macro_f1=0.5)
    assert _lines(folder)[7].endswith("  text='a b=1' lr=0.1")


def test_the_time_remaining_is_divided_by_the_running_jobs(folder: Folder) -> None:
    """Each takes 100 s: one is pending, and two started 40 s ago."""
    folder.plan("p-0", "p-1", "p-2", "p-3")
    folder.add("p-0")
    with folder.running("p-1"), folder.running("p-2"):
        left = _time_left(folder)
    assert left == TimeLeft(seconds=(100 + 60 + 60) / 2, all_known=True)


def test_the_time_remaining_is_the_methods_and_a_lower_bound_with_an_unknown_method(folder: Folder) -> None:
    assert EXAMPLE.times is not None
    folder.plan("p-0", "q-0", "p-1", "q-1", "r-1")
    folder.add("p-0")
    folder.add("q-0", times=replace(EXAMPLE.times, total_s=300.0))
    assert _time_left(folder) == TimeLeft(seconds=400.0, all_known=False)
    assert "more than 6 min 40 s remaining" in _lines(folder)[4]


def test_jointly_trained_runs_take_the_time_of_one(folder: Folder) -> None:
    folder.plan(["p-0", "p-1"], ["p-2", "p-3"])
    folder.add("p-0")
    folder.add("p-1")
    assert _time_left(folder).seconds == 100.0


def test_before_a_run_is_complete_the_time_remaining_is_not_known(folder: Folder) -> None:
    folder.plan("p-0")
    assert _lines(folder)[4] == "no job has started · time remaining not known yet · none running now"


def test_tables_get_rows_in_turn() -> None:
    assert allocate_rows([9, 2, 9], 9) == [4, 2, 3]
    assert allocate_rows([1, 2, 0], 9) == [1, 2, 0]


def test_an_ended_sweep_names_the_command_that_writes_its_page_and_then_the_page(folder: Folder) -> None:
    folder.plan("tfidf-0", "tfidf-1")
    folder.add("tfidf-0", macro_f1=0.5)
    assert "page" not in " ".join(_lines(folder))
    folder.fail("tfidf-1", "the loss is nan")
    page = folder.root / "report.html"
    command = f"softcue-report runs={folder.root} page={page}"
    assert _lines(folder, width=400)[-1] == f"the comparison as a page: {command}"
    # Nothing of it is cut in a narrow terminal.
    assert command.replace(" ", "") in "".join(_lines(folder, width=60)).replace(" ", "")
    page.touch()
    assert _lines(folder, width=400)[-1] == f"the comparison as a page: {page}"


def test_a_page_that_is_older_than_the_last_run_is_to_be_written_again(folder: Folder) -> None:
    folder.plan("tfidf-0")
    page = folder.root / "report.html"
    page.touch()
    os.utime(page, (0, 0))
    folder.add("tfidf-0", macro_f1=0.5)
    assert _lines(folder, width=400)[-1].endswith(f"page={page}")
