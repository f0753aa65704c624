"""What is shown of a look: counts, times, the best, what runs and what failed."""

from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from rich.console import Console

from softcue.sweep.state import SweepFolder
from softcue.sweep.summary import TimeLeft, best_of_methods, time_left
from softcue.sweep.view import shares, view
from tests.watch.conftest import EXAMPLE, Folder

NOW = datetime.fromisoformat(EXAMPLE.started_at) + timedelta(seconds=40)


def _lines(
    folder: Folder, *, metric: str = "macro_f1", width: int = 80, height: int | None = None
) -> list[str]:
    look = SweepFolder(folder.root).look()
    console = Console(file=io.StringIO(), width=width, highlight=False)
    with console.capture() as captured:
        console.print(view(look, now=NOW, part="test", metric=metric, width=width, height=height))
    return [line.rstrip() for line in captured.get().splitlines()]


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
        "1 complete · 1 failed · 1 running · 1 cut off · 1 left of 5 jobs",
        "40 s since the first start · about 4 min 20 s left · 1 running now",
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
    heading = "best by test macro_f1  runs   best  mean           its job"
    table = _lines(folder)[6:9]
    assert table == [
        heading,
        "p                         2  0.800  0.700 ± 0.141  seed=2",
        "tfidf                     1  0.500  0.500          seed=0",
    ]


def test_of_perplexity_the_least_is_the_best(folder: Folder) -> None:
    folder.add("p-0", macro_f1=9.0)
    folder.add("p-1", macro_f1=3.0)
    (best,) = best_of_methods(SweepFolder(folder.root).look(), part="test", metric="perplexity")
    assert best.best == 3.0


def test_a_metric_that_no_run_has_is_named(folder: Folder) -> None:
    folder.add("tfidf-0", macro_f1=0.5)
    assert "no complete run has test f1" in _lines(folder, metric="f1")


def test_a_running_job_shows_how_far_it_is(folder: Folder) -> None:
    folder.plan("p-0", "p-1")
    with folder.running("p-0", settings={"trainer": {"max_epochs": 10}}):
        table = _lines(folder)[6:]
        assert table == ["running   for  epoch  step  loss", "seed=0   40 s      –     –     –"]
        (folder.root / "p-0" / "metrics.csv").write_text("epoch,step,train/loss_step\n2,31,0.71234\n")
        table = _lines(folder)[6:]
        assert table == ["running   for  epoch  step   loss", "seed=0   40 s   3/10    31  0.712"]


def test_failures_come_last_first_each_on_a_line(folder: Folder) -> None:
    folder.plan("p-0", "p-1")
    folder.fail("p-0", "the loss is nan at step 3:\n  lower optimizer.lr")
    folder.fail("p-1", "no memory")
    assert _lines(folder)[6:] == [
        "last failures  error",
        "seed=1         TrainingError: no memory",
        "seed=0         TrainingError: the loss is nan at step 3: lower optimizer.lr",
    ]


@pytest.mark.parametrize(("width", "height"), [(80, 24), (80, None), (60, 40), (200, 50)])
def test_long_words_are_cut_and_nothing_is_wrapped(folder: Folder, width: int, height: int | None) -> None:
    """Thirty methods with a job each of three kinds, all with words that fit no terminal."""
    names = [f"a_method_of_a_long_name_{number}-{kind}" for number in range(30) for kind in range(3)]
    folder.plan(*names, words=[f"prompt.initialiser.text='{f'word {name}' * 20}'" for name in names])
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


def test_words_that_all_jobs_share_are_left_out(folder: Folder) -> None:
    folder.plan("p-0", "p-1", words=["text='a b=1' n=1 lr=0.1", "text='c b=1' n=1 lr=0.2"])
    folder.add("p-0", macro_f1=0.5)
    assert _lines(folder)[7].endswith("  text='a b=1' lr=0.1")


def test_the_time_left_is_shared_by_the_jobs_that_run(folder: Folder) -> None:
    """Of 100 s each: one is left, and two run that started 40 s ago."""
    folder.plan("p-0", "p-1", "p-2", "p-3")
    folder.add("p-0")
    with folder.running("p-1"), folder.running("p-2"):
        left = time_left(SweepFolder(folder.root).look(), now=NOW)
    assert left == TimeLeft(seconds=(100 + 60 + 60) / 2, all_known=True)


def test_the_time_left_goes_by_method_and_is_more_with_an_unknown_one(folder: Folder) -> None:
    assert EXAMPLE.times is not None
    folder.plan("p-0", "q-0", "p-1", "q-1", "r-1")
    folder.add("p-0")
    folder.add("q-0", times=replace(EXAMPLE.times, total_s=300.0))
    assert time_left(SweepFolder(folder.root).look(), now=NOW) == TimeLeft(seconds=400.0, all_known=False)
    assert "more than 6 min 40 s left" in _lines(folder)[4]


def test_packed_runs_take_the_time_of_one(folder: Folder) -> None:
    folder.plan(["p-0", "p-1"], ["p-2", "p-3"])
    folder.add("p-0")
    folder.add("p-1")
    assert time_left(SweepFolder(folder.root).look(), now=NOW).seconds == 100.0


def test_before_a_run_is_finished_the_time_left_is_not_known(folder: Folder) -> None:
    folder.plan("p-0")
    assert _lines(folder)[4] == "no job has started · time left not known yet · none running now"


def test_rows_are_dealt_out_in_turn() -> None:
    assert shares([9, 2, 9], 9) == [4, 2, 3]
    assert shares([1, 2, 0], 9) == [1, 2, 0]
