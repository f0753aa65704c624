"""From records to cells, columns and cautions."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from softcue.errors import ConfigError, RunError
from softcue.runs.record import RunRecord
from softcue.tables.render import csv_text
from tests.report.reading import cells, leave, read, shown

MakeRun = Callable[..., RunRecord]


def test_report_runs_and_statistics_import_without_torch() -> None:
    rooms = (
        "softcue.report.__main__, softcue.report.command, softcue.tables.render, softcue.runs.store, "
        "softcue.statistics.estimates"
    )
    heavy = "{'torch', 'lightning', 'transformers'}"
    check = f"import sys, {rooms}; assert not {heavy} & set(sys.modules), {heavy} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_seeds_of_one_method_are_one_row_with_the_t_interval_of_their_mean(
    tmp_path: Path, make_run: MakeRun
) -> None:
    scores = [0.6, 0.7, 0.8]
    runs = [make_run("prompt_tuning", seed=seed, macro_f1=f1) for seed, f1 in enumerate(scores)]
    (task,) = read(f"runs={leave(tmp_path, runs)}").tasks
    (cell,) = task.cells
    score = cell.scores["macro_f1"]
    assert score.n == 3
    assert [score.mean, score.std] == pytest.approx([0.7, 0.1])
    assert score.interval is not None
    expected = stats.ttest_1samp(scores, 0).confidence_interval(0.95)
    assert (score.interval.low, score.interval.high) == pytest.approx((expected.low, expected.high))
    (table,), _ = shown(f"runs={tmp_path}")
    (row,) = cells(table)
    assert " ".join(row["macro-F1"].split()) == "0.700 ± 0.100 [0.452, 0.948]"


def test_an_interval_ends_where_scores_end(tmp_path: Path, make_run: MakeRun) -> None:
    runs = [make_run("prompt_tuning", seed=seed, macro_f1=f1) for seed, f1 in enumerate([0.7, 0.8, 0.9])]
    (task,) = read(f"runs={leave(tmp_path, runs)}").tasks
    interval = task.cells[0].scores["macro_f1"].interval
    assert interval is not None
    expected = stats.ttest_1samp([0.7, 0.8, 0.9], 0).confidence_interval(0.95)
    assert expected.high > 1
    assert (interval.low, interval.high) == pytest.approx((expected.low, 1))


def test_one_run_is_a_row_of_plain_numbers(tmp_path: Path, make_run: MakeRun) -> None:
    leave(tmp_path, [make_run("prompt_tuning", seed=1, macro_f1=0.8)])
    (table,), _ = shown(f"runs={tmp_path}")
    (row,) = cells(table)
    assert (row["method"], row["accuracy"], row["macro-F1"], row["AUROC"]) == (
        "prompt_tuning",
        "0.812",
        "0.800",
        "–",
    )


def test_settings_that_differ_within_a_method_are_columns_of_their_own(
    tmp_path: Path, make_run: MakeRun
) -> None:
    runs = [
        replace(
            make_run("prompt_tuning", seed=seed, macro_f1=0.8, prompt={"num_tokens": n, "init": "text"}),
            run_id=f"prompt_tuning-{n:06x}{seed:06x}",
        )
        for n in (5, 20)
        for seed in (0, 1)
    ]
    leave(tmp_path, [*runs, make_run("hard_prompt", seed=0, macro_f1=0.5)])
    (table,), _ = shown(f"runs={tmp_path}")
    assert [(row["method"], row["num_tokens"], row["runs"]) for row in cells(table)] == [
        ("prompt_tuning", "5", "2"),
        ("prompt_tuning", "20", "2"),
        ("hard_prompt", "–", "1"),
    ]


def test_settings_without_effect_do_not_part_the_seeds(tmp_path: Path, make_run: MakeRun) -> None:
    declared = {"_identity_": {"paths": "no_effect", "callbacks.last": "no_effect"}}
    folders = [
        {"paths": {"run": run}, "callbacks": {"last": {"dirpath": run}}, **declared} for run in ("a", "b")
    ]
    runs = [make_run("p_tuning", seed=seed, macro_f1=0.8, **folder) for seed, folder in enumerate(folders)]
    (task,) = read(f"runs={leave(tmp_path, runs)}").tasks
    assert [len(cell.runs) for cell in task.cells] == [2]


def test_runs_that_start_from_a_run_of_their_own_seed_can_be_one_row_paired_by_seed(
    tmp_path: Path, make_run: MakeRun
) -> None:
    begun = [
        make_run("xprompt", seed=seed, macro_f1=0.7 + seed / 50, prompt={"source": f"runs/{seed}"})
        for seed in range(3)
    ]
    others = [make_run("prompt_tuning", seed=seed, macro_f1=0.6 + seed / 100) for seed in range(3)]
    (task,) = read(f"runs={leave(tmp_path, [*begun, *others])}").tasks
    assert [len(cell.runs) for cell in task.cells] == [1, 1, 1, 3]
    (task,) = read(f"runs={tmp_path}", "repeated=[seed,'*.seed',prompt.source]").tasks
    assert [len(cell.runs) for cell in task.cells] == [3, 3]
    (pair,) = task.pairs
    assert (pair.paired, pair.n) == (True, 3)


def test_draws_that_several_seeds_share_stay_a_part_of_the_replicate(
    tmp_path: Path, make_run: MakeRun
) -> None:
    runs = [make_run("prompt_tuning", seed=seed, macro_f1=0.7) for seed in range(4)]
    for run in runs:
        run.settings["split"]["seed"] = run.seed // 2
    (task,) = read(f"runs={leave(tmp_path, runs)}").tasks
    assert [run.replicate["split.seed"] for run in task.cells[0].runs] == ["0", "0", "1", "1"]


def test_runs_on_other_data_are_never_averaged(tmp_path: Path, make_run: MakeRun) -> None:
    run = make_run("prompt_tuning", seed=0, macro_f1=0.8)
    other = replace(make_run("prompt_tuning", seed=1, macro_f1=0.8), data_fingerprint="new")
    (task,) = read(f"runs={leave(tmp_path, [run, other])}").tasks
    assert [len(cell.runs) for cell in task.cells] == [1, 1]


def test_tasks_are_never_ranked_against_each_other(tmp_path: Path, make_run: MakeRun) -> None:
    runs = [make_run("a", seed=0, macro_f1=0.9), replace(make_run("b", seed=0, macro_f1=0.1), task="other")]
    tables, _ = shown(f"runs={leave(tmp_path, runs)}")
    assert [[row["method"] for row in cells(table)] for table in tables] == [["a"], ["b"]]


def test_the_best_comes_first_by_the_metrics_direction_and_a_missing_one_last(
    tmp_path: Path, make_run: MakeRun
) -> None:
    scores = {"a": 0.5, "b": None, "c": 0.9, "d": 0.5}
    runs = [make_run(method, seed=0, macro_f1=score) for method, score in scores.items()]
    for record, value in zip(runs, (3.0, 2.0, 4.0, 5.0), strict=True):
        record.metrics["test"]["perplexity"] = value
    leave(tmp_path, runs)
    (by_f1,) = read(f"runs={tmp_path}").tasks
    assert [cell.method for cell in by_f1.cells] == ["c", "a", "d", "b"]
    (by_perplexity,) = read(f"runs={tmp_path}", "sort_by=perplexity").tasks
    assert [cell.method for cell in by_perplexity.cells] == ["b", "a", "c", "d"]


def test_csv_holds_one_value_a_cell(tmp_path: Path, make_run: MakeRun) -> None:
    runs = [make_run("prompt_tuning", seed=seed, macro_f1=f1) for seed, f1 in enumerate([0.7, 0.8])]
    tables, _ = shown(f"runs={leave(tmp_path, runs)}")
    (line,) = csv.DictReader(io.StringIO(csv_text(tables, [], 80)))
    assert float(line["macro_f1"]) == pytest.approx(0.75)
    assert float(line["macro_f1_std"]) == pytest.approx(np.std([0.7, 0.8], ddof=1))
    assert (line["macro_f1_n"], line["auroc"], line["auroc_n"]) == ("2", "", "0")
    assert float(line["train_s"]) == 92.0


def test_a_failed_a_running_and_a_damaged_run_are_listed_and_left_out(
    tmp_path: Path, make_run: MakeRun, failed_run: RunRecord
) -> None:
    running = replace(make_run("prefix_tuning", seed=0, macro_f1=None), status="running")
    leave(tmp_path, [make_run("a", seed=0, macro_f1=0.1), failed_run, running])
    damaged = tmp_path / "damaged" / "record.json"
    damaged.parent.mkdir()
    damaged.write_text("{")
    found = read(f"runs={tmp_path}")
    assert [cell.method for cell in found.tasks[0].cells] == ["a"]
    notes = "\n".join(found.notes)
    assert "failed: p_tuning, seed 2" in notes
    assert "running: prefix_tuning, seed 0" in notes
    assert "damaged/record.json cannot be read" in notes


def test_a_filter_keeps_what_fits_and_names_what_there_is(tmp_path: Path, make_run: MakeRun) -> None:
    runs = [make_run(method, seed=0, macro_f1=0.5) for method in ("p_tuning", "prompt_tuning", "tfidf")]
    leave(tmp_path, runs)
    (task,) = read(f"runs={tmp_path}", "where={method: 'p*_tuning'}").tasks
    assert sorted(cell.method for cell in task.cells) == ["p_tuning", "prompt_tuning"]
    with pytest.raises(ConfigError, match=r"where\.method is \['lora'\], which no run fits; there are"):
        read(f"runs={tmp_path}", "where={method: lora}")


def test_a_report_over_nothing_says_where_it_looked(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"looked for record\.json there and one folder below"):
        read(f"runs={tmp_path}")


def test_versions_budgets_and_choices_on_test_rows_are_cautioned_against(
    tmp_path: Path, make_run: MakeRun
) -> None:
    runs = [
        replace(make_run("a", seed=seed, macro_f1=0.5, lr=lr), run_id=f"a-{number:012x}")
        for number, (seed, lr) in enumerate([(0, 1), (1, 1), (0, 2), (1, 2)])
    ]
    other = make_run("b", seed=0, macro_f1=0.6)
    versions = {**other.versions, "torch": "1.0"}
    found = read(f"runs={leave(tmp_path, [*runs, replace(other, versions=versions)])}")
    by_kind = {caution.kind: caution.text for caution in found.all_cautions}
    assert "torch differs" in by_kind["versions"]
    assert by_kind["budget"] == "unequal numbers of settings were tried: b 1, a 2."
    assert "the best of several settings on test rows is too good" in by_kind["selection"]
    assert "b lacks runs that others have" in by_kind["missing"]


def test_other_peoples_scores_stand_beside_ours_with_wilsons_interval(
    tmp_path: Path, make_run: MakeRun
) -> None:
    leave(tmp_path / "runs", [make_run("prompt_tuning", seed=0, macro_f1=0.7)])
    theirs = tmp_path / "theirs.csv"
    theirs.write_text(
        "method,task,metric,score,rows\ngpt3,airline_complaints,accuracy,0.8,400\nlora,,accuracy,0.7,\n"
    )
    found = read(f"runs={tmp_path / 'runs'}", f"theirs={theirs}", "sort_by=accuracy")
    (task,) = found.tasks
    by_method = {cell.method: cell for cell in task.cells}
    assert by_method["gpt3"].theirs
    assert not by_method["prompt_tuning"].theirs
    interval = by_method["gpt3"].scores["accuracy"].interval
    assert interval is not None
    expected = stats.binomtest(320, 400).proportion_ci(method="wilson")
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high))
    assert by_method["lora"].scores["accuracy"].interval is None


def test_seeds_of_other_people_are_one_row_with_the_means_of_what_they_cost(tmp_path: Path) -> None:
    (tmp_path / "theirs.csv").write_text(
        "method,seed,score,rows,rank,train_s,gpu_memory_mb\n"
        "lora,0,0.80,400,8,100,7000\nlora,1,0.84,400,8,120,\nlora,0,0.70,400,2,50,5000\n"
    )
    tables, _ = shown("runs=null", f"theirs={tmp_path / 'theirs.csv'}", "sort_by=accuracy", "show=[cells]")
    assert [
        (row["rank"], row["runs"], row["training time"], row["peak GPU memory"]) for row in cells(tables[0])
    ] == [("8", "2", "1 min 50 s", "7.0 GB"), ("2", "1", "50 s", "5.0 GB")]


def test_a_result_of_pefts_method_comparison_is_read_as_it_is_published(tmp_path: Path) -> None:
    def result(name: str, accuracy: float) -> str:
        return json.dumps(
            {
                "run_info": {"experiment_name": name, "train_config": {"seed": 0}},
                "train_info": {
                    "status": "success",
                    "num_trainable_params": 61440,
                    "file_size": 245848,
                    "train_time": 1700.5,
                    "accelerator_memory_max": 22.0e9,
                    "metrics": [{"train loss": 1.0}, {"test accuracy": accuracy}],
                },
            }
        )

    (tmp_path / "one.json").write_text(result("ptuning/llama-3.2-3B-default", 461 / 1319))
    (tmp_path / "two.json").write_text(result("prompt_tuning/llama-3.2-3B-sample_vocab", 453 / 1319))
    leave(tmp_path / "runs", [])
    found = read(f"runs={tmp_path / 'none'}", f"theirs={tmp_path}", "sort_by=accuracy", "metrics=[accuracy]")
    (task,) = found.tasks
    assert [cell.method for cell in task.cells] == ["ptuning", "prompt_tuning"]
    (pair,) = task.pairs
    pooled = (461 + 453) / 2638
    z = (461 - 453) / 1319 / np.sqrt(pooled * (1 - pooled) * 2 / 1319)
    assert pair.p == pytest.approx(2 * stats.norm.sf(z), abs=0.01)
    assert pair.distinguishable is False


def test_a_published_number_is_set_beside_ours_with_its_tolerance(tmp_path: Path, make_run: MakeRun) -> None:
    leave(tmp_path / "runs", [make_run("prompt_tuning", seed=0, macro_f1=0.7)])
    paper = tmp_path / "paper.csv"
    paper.write_text(
        "task,method,metric,paper,tolerance,source\n"
        "airline_complaints,prompt_tuning,macro_f1,0.72,0.05,Table 1\n"
        "airline_complaints,prompt_tuning,accuracy,0.72,0.05,Table 1\n"
    )
    (table,), _ = shown(f"runs={tmp_path / 'runs'}", "show=[paper]", f"paper={paper}")
    assert [row.verdict for row in table.rows] == ["within", "outside"]


@pytest.mark.slow
def test_a_thousand_runs_of_a_search_are_compared_in_seconds_of_processor_time(
    tmp_path: Path, make_run: MakeRun
) -> None:
    shared = {f"group_{i}": {f"setting_{j}": j / 7 for j in range(10)} for i in range(15)}
    runs = [
        replace(make_run("p_tuning", seed=0, macro_f1=0.8, **shared, lr=lr / 1000), run_id=f"p-{lr:012x}")
        for lr in range(1000)
    ]
    leave(tmp_path, runs)
    start = time.process_time()
    (task,) = read(f"runs={tmp_path}").tasks
    assert time.process_time() - start < 10.0
    assert task.settings == ("lr",)
    assert len(task.cells) == 1000
