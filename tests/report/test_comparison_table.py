"""Records to rows and rows to cells."""

from __future__ import annotations

import csv
import io
import math
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from softcue.report.render import cells, csv_text, duration, markdown, memory, terminal_text
from softcue.report.table import Statistic, comparison_rows, statistic, unfinished
from softcue.runs.record import RunRecord

MakeRun = Callable[..., RunRecord]


def test_report_and_runs_import_without_torch() -> None:
    rooms = "softcue.report.__main__, softcue.report.render, softcue.runs.store, softcue.runs.provenance"
    heavy = "{'torch', 'lightning', 'transformers'}"
    check = f"import sys, {rooms}; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_one_run_is_one_row_of_plain_numbers(make_run: MakeRun) -> None:
    (row,) = comparison_rows([make_run("prompt_tuning", seed=1, macro_f1=0.8)], part="test")
    assert cells(row) == ("prompt_tuning", "11,520", "0.812", "0.800", "–", "1 min 32 s", "1.9 GB")


def test_seeds_of_one_method_share_a_row_of_mean_spread_and_count(make_run: MakeRun) -> None:
    runs = [make_run("prompt_tuning", seed=seed, macro_f1=f1) for seed, f1 in enumerate([0.7, 0.8, 0.9])]
    (row,) = comparison_rows(runs, part="test")
    assert row.runs == 3
    assert row.macro_f1 is not None
    assert row.macro_f1.mean == pytest.approx(0.8)
    assert row.macro_f1.std == pytest.approx(0.1)
    assert row.macro_f1.n == 3
    assert cells(row)[3] == "0.800 ± 0.100 (n=3)"


def test_a_seed_without_the_metric_is_not_counted_as_zero() -> None:
    assert statistic([0.5, None, 1.0]) == Statistic(mean=0.75, std=math.sqrt(0.125), n=2)
    assert statistic([None]) is None


def test_rows_of_one_method_are_told_apart_by_the_settings_that_differ(make_run: MakeRun) -> None:
    runs = [
        make_run("prompt_tuning", seed=seed, macro_f1=0.8, prompt={"num_tokens": n, "init": "text"})
        for n in (5, 20)
        for seed in (0, 1)
    ]
    rows = comparison_rows([*runs, make_run("hard_prompt", seed=0, macro_f1=0.5)], part="test")
    assert [(row.label, row.runs) for row in rows] == [
        ("prompt_tuning, prompt.num_tokens=5", 2),
        ("prompt_tuning, prompt.num_tokens=20", 2),
        ("hard_prompt", 1),
    ]


def test_a_setting_that_only_some_rows_have_tells_them_apart(make_run: MakeRun) -> None:
    runs = [
        make_run("p_tuning", seed=0, macro_f1=0.8),
        make_run("p_tuning", seed=0, macro_f1=0.7, encoder=None),
    ]
    assert [row.label for row in comparison_rows(runs, part="test")] == ["p_tuning", "p_tuning, encoder=None"]


def test_a_thousand_runs_of_a_search_are_compared_in_under_two_seconds(make_run: MakeRun) -> None:
    shared = {f"group_{i}": {f"setting_{j}": j / 7 for j in range(10)} for i in range(15)}
    runs = [make_run("p_tuning", seed=0, macro_f1=0.8, **shared, lr=lr / 1000) for lr in range(1000)]
    start = time.perf_counter()
    rows = comparison_rows(runs, part="test")
    assert time.perf_counter() - start < 2.0
    assert rows[7].label == "p_tuning, lr=0.007"


def test_settings_without_effect_do_not_part_the_seeds(make_run: MakeRun) -> None:
    folders = [{"paths": {"run": run}, "callbacks": {"last": {"dirpath": run}}} for run in ("a", "b")]
    runs = [make_run("p_tuning", seed=seed, macro_f1=0.8, **folder) for seed, folder in enumerate(folders)]
    assert [row.runs for row in comparison_rows(runs, part="test")] == [2]


def test_runs_on_other_data_are_never_averaged(make_run: MakeRun) -> None:
    run = make_run("prompt_tuning", seed=0, macro_f1=0.8)
    rows = comparison_rows([run, replace(run, data_fingerprint="new", seed=1)], part="test")
    assert [row.label for row in rows] == [
        "prompt_tuning, data_fingerprint=9f86d081884c7d65",
        "prompt_tuning, data_fingerprint=new",
    ]


def test_the_best_macro_f1_stands_first_and_a_missing_one_last(make_run: MakeRun) -> None:
    scores = {"a": 0.5, "b": None, "c": 0.9, "d": 0.5}
    runs = [make_run(method, seed=0, macro_f1=score) for method, score in scores.items()]
    assert [row.method for row in comparison_rows(runs, part="test")] == ["c", "a", "d", "b"]


def test_only_complete_runs_have_a_row_and_the_others_one_line_each(
    make_run: MakeRun, failed_run: RunRecord
) -> None:
    running = replace(make_run("prefix_tuning", seed=0, macro_f1=None), status="running")
    assert comparison_rows([failed_run, running], part="test") == []
    assert unfinished([make_run("a", seed=0, macro_f1=0.1), failed_run, running]) == [
        "failed: p_tuning, seed 2 (p_tuning-000000000002): "
        "TrainingError: the loss is nan at step 12: lower optimizer.lr",
        "running: prefix_tuning, seed 0 (prefix_tuning-000000000000), started 2026-11-23T03:15:00+00:00",
    ]


def test_a_part_that_was_not_evaluated_has_no_numbers(make_run: MakeRun) -> None:
    (row,) = comparison_rows([make_run("prompt_tuning", seed=0, macro_f1=0.8)], part="validation")
    assert cells(row)[2:5] == ("–", "–", "–")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (92, "1 min 32 s"),
        (3599.7, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(("megabytes", "words"), [(812.4, "812 MB"), (999.7, "1.0 GB"), (1900, "1.9 GB")])
def test_memory_reads_as_people_say_it(megabytes: float, words: str) -> None:
    assert memory(megabytes) == words


def test_csv_holds_unrounded_numbers_and_leaves_missing_ones_empty(make_run: MakeRun) -> None:
    runs = [make_run("prompt_tuning", seed=seed, macro_f1=f1) for seed, f1 in enumerate([0.7, 0.8])]
    (line,) = csv.DictReader(io.StringIO(csv_text(comparison_rows(runs, part="test"))))
    assert (line["method"], line["runs"], line["trainable"]) == ("prompt_tuning", "2", "11520")
    assert float(line["macro_f1"]) == pytest.approx(0.75)
    assert float(line["macro_f1_std"]) == pytest.approx(0.1 / math.sqrt(2))
    assert (line["macro_f1_n"], line["auroc"], line["auroc_n"]) == ("2", "", "0")
    assert float(line["train_s"]) == 92.0


def test_markdown_is_one_table_with_its_title_and_notes(make_run: MakeRun) -> None:
    rows = comparison_rows([make_run("prompt_tuning", seed=1, macro_f1=0.8)], part="test")
    assert markdown(rows, title="airline", notes=["failed: x"]) == (
        "**airline**\n\n"
        "| method | trainable parameters | accuracy | macro-F1 | AUROC | training time | peak memory |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |\n"
        "| prompt_tuning | 11,520 | 0.812 | 0.800 | – | 1 min 32 s | 1.9 GB |\n\n"
        "- failed: x\n"
    )


def test_the_terminal_shows_every_cell_and_the_notes_beneath(make_run: MakeRun) -> None:
    rows = comparison_rows([make_run("prompt_tuning", seed=1, macro_f1=0.8)], part="test")
    text = terminal_text(rows, title="airline · test", notes=["failed: [x]"], width=110)
    assert all(cell in text for cell in cells(rows[0]))
    assert text.startswith("airline · test")
    assert text.endswith("\nfailed: [x]\n")


def test_a_narrow_terminal_cuts_no_number(make_run: MakeRun) -> None:
    runs = [make_run("prompt_tuning", seed=seed, macro_f1=f1) for seed, f1 in enumerate([0.7, 0.8])]
    text = terminal_text(comparison_rows(runs, part="test"), title="airline", notes=[], width=40)
    assert all(shown in text for shown in ("prompt_tuning", "0.750 ± 0.071", "(n=2)", "1 min 32 s", "1.9 GB"))


def test_names_with_brackets_are_shown_as_they_are(make_run: MakeRun) -> None:
    runs = [make_run("p_tuning", seed=0, macro_f1=0.8, layout=layout) for layout in ("[soft:5]", "[red]")]
    text = terminal_text(comparison_rows(runs, part="test"), title="[b]", notes=[], width=140)
    assert all(shown in text for shown in ("layout=[soft:5]", "layout=[red]", "[b]"))
