"""Records to groups, and groups to the cells of a table."""

from __future__ import annotations

import csv
import io
import math
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from softcue.report.columns import comparison
from softcue.report.groups import RunGroup, group_runs, unfinished
from softcue.runs.metrics import METRICS
from softcue.runs.record import RunRecord
from softcue.tables.render import csv_text
from softcue.tables.table import Table

MakeRun = Callable[..., RunRecord]
SHOWN = ("accuracy", "macro_f1", "auroc")


def test_report_and_runs_import_without_torch() -> None:
    rooms = "softcue.report.__main__, softcue.tables.render, softcue.runs.store, softcue.runs.provenance"
    heavy = "{'torch', 'lightning', 'transformers'}"
    check = f"import sys, {rooms}; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def table(
    runs: Sequence[RunRecord],
    *,
    part: str = "test",
    metrics: Sequence[str] = SHOWN,
    sort_by: str = "macro_f1",
) -> Table[RunGroup]:
    return comparison(
        group_runs(runs),
        title="airline",
        part=part,
        metrics=[METRICS[name] for name in metrics],
        sort_by=METRICS[sort_by],
    )


def cells(shown: Table[RunGroup]) -> list[list[str]]:
    return [[column.cell(row) for column in shown.columns] for row in shown.rows]


def labels(runs: Sequence[RunRecord]) -> list[str]:
    return [group.label for group in group_runs(runs)]


def test_one_run_is_one_row_of_plain_numbers(make_run: MakeRun) -> None:
    (row,) = cells(table([make_run("prompt_tuning", seed=1, macro_f1=0.8)]))
    assert row == ["prompt_tuning", "11,520", "0.812", "0.800", "–", "1 min 32 s", "1.9 GB"]


def test_seeds_of_one_method_share_a_row_of_mean_spread_and_count(make_run: MakeRun) -> None:
    runs = [make_run("prompt_tuning", seed=seed, macro_f1=f1) for seed, f1 in enumerate([0.7, 0.8, 0.9])]
    (group,) = group_runs(runs)
    macro_f1 = group.metric("test", "macro_f1")
    assert macro_f1 is not None
    assert macro_f1.mean == pytest.approx(0.8)
    assert macro_f1.std == pytest.approx(0.1)
    assert macro_f1.n == 3
    assert cells(table(runs))[0][3] == "0.800 ± 0.100 (n=3)"


def test_groups_of_one_method_are_named_by_the_settings_that_differ(make_run: MakeRun) -> None:
    runs = [
        make_run("prompt_tuning", seed=seed, macro_f1=0.8, prompt={"num_tokens": n, "init": "text"})
        for n in (5, 20)
        for seed in (0, 1)
    ]
    groups = group_runs([*runs, make_run("hard_prompt", seed=0, macro_f1=0.5)])
    assert [(group.label, len(group.records)) for group in groups] == [
        ("prompt_tuning, prompt.num_tokens=5", 2),
        ("prompt_tuning, prompt.num_tokens=20", 2),
        ("hard_prompt", 1),
    ]


def test_a_setting_that_only_some_groups_have_names_them(make_run: MakeRun) -> None:
    runs = [
        make_run("p_tuning", seed=0, macro_f1=0.8),
        make_run("p_tuning", seed=0, macro_f1=0.7, encoder=None),
    ]
    assert labels(runs) == ["p_tuning", "p_tuning, encoder=None"]


def test_a_thousand_runs_of_a_search_are_compared_in_under_two_seconds_of_processor_time(
    make_run: MakeRun,
) -> None:
    shared = {f"group_{i}": {f"setting_{j}": j / 7 for j in range(10)} for i in range(15)}
    runs = [make_run("p_tuning", seed=0, macro_f1=0.8, **shared, lr=lr / 1000) for lr in range(1000)]
    start = time.process_time()
    groups = group_runs(runs)
    assert time.process_time() - start < 2.0
    assert groups[7].label == "p_tuning, lr=0.007"


def test_settings_without_effect_do_not_part_the_seeds(make_run: MakeRun) -> None:
    declared = {"_identity_": {"paths": "no_effect", "callbacks.last": "no_effect"}}
    folders = [
        {"paths": {"run": run}, "callbacks": {"last": {"dirpath": run}}, **declared} for run in ("a", "b")
    ]
    runs = [make_run("p_tuning", seed=seed, macro_f1=0.8, **folder) for seed, folder in enumerate(folders)]
    assert [len(group.records) for group in group_runs(runs)] == [2]


def test_runs_on_other_data_are_never_averaged(make_run: MakeRun) -> None:
    run = make_run("prompt_tuning", seed=0, macro_f1=0.8)
    assert labels([run, replace(run, data_fingerprint="new", seed=1)]) == [
        "prompt_tuning, data_fingerprint=9f86d081884c7d65",
        "prompt_tuning, data_fingerprint=new",
    ]


def test_the_best_macro_f1_comes_first_and_a_missing_one_last(make_run: MakeRun) -> None:
    scores = {"a": 0.5, "b": None, "c": 0.9, "d": 0.5}
    runs = [make_run(method, seed=0, macro_f1=score) for method, score in scores.items()]
    assert [group.method for group in table(runs).rows] == ["c", "a", "d", "b"]


def test_the_lowest_perplexity_comes_first(make_run: MakeRun) -> None:
    runs = [
        replace(make_run(method, seed=0, macro_f1=0.5), metrics={"test": {"perplexity": value}})
        for method, value in {"a": 3.0, "b": 2.0, "c": 4.0}.items()
    ]
    shown = table(runs, metrics=["perplexity"], sort_by="perplexity")
    assert [row[0] for row in cells(shown)] == ["b", "a", "c"]
    assert [column.heading for column in shown.columns][2:3] == ["perplexity"]


def test_only_complete_runs_are_grouped_and_each_other_run_has_a_line(
    make_run: MakeRun, failed_run: RunRecord
) -> None:
    running = replace(make_run("prefix_tuning", seed=0, macro_f1=None), status="running")
    assert group_runs([failed_run, running]) == []
    assert unfinished([make_run("a", seed=0, macro_f1=0.1), failed_run, running]) == [
        "failed: p_tuning, seed 2 (p_tuning-000000000002): "
        "TrainingError: the loss is nan at step 12: lower optimizer.lr",
        "running: prefix_tuning, seed 0 (prefix_tuning-000000000000), started 2026-11-23T03:15:00+00:00",
    ]


def test_a_part_that_was_not_evaluated_has_no_numbers(make_run: MakeRun) -> None:
    (row,) = cells(table([make_run("prompt_tuning", seed=0, macro_f1=0.8)], part="validation"))
    assert row[2:5] == ["–", "–", "–"]


def test_csv_has_each_statistic_with_its_deviation_and_count(make_run: MakeRun) -> None:
    runs = [make_run("prompt_tuning", seed=seed, macro_f1=f1) for seed, f1 in enumerate([0.7, 0.8])]
    (line,) = csv.DictReader(io.StringIO(csv_text([table(runs)], [], 80)))
    assert (line["method"], line["trainable"]) == ("prompt_tuning", "11520")
    assert float(line["macro_f1"]) == pytest.approx(0.75)
    assert float(line["macro_f1_std"]) == pytest.approx(0.1 / math.sqrt(2))
    assert (line["macro_f1_n"], line["auroc"], line["auroc_n"]) == ("2", "", "0")
    assert float(line["train_s"]) == 92.0


def test_the_caption_explains_deviations_where_there_are_any(make_run: MakeRun) -> None:
    runs = [make_run("prompt_tuning", seed=seed, macro_f1=0.8) for seed in (0, 1)]
    assert table(runs[:1]).caption == ""
    assert table(runs).caption.startswith("Over seeds: mean ± sample standard deviation")
