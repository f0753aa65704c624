"""The comparison of the committed sweep, against a plain computation from its files with pandas and scipy."""

from __future__ import annotations

import json
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from softcue.report.model import Comparison
from softcue.tables.render import terminal
from tests.report.reading import read, shown

RUNS = Path(__file__).parents[2] / "experiments" / "sweeps" / "runs"


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return read(f"runs={RUNS}")


@pytest.fixture(scope="module")
def by_method() -> dict[str, dict[int, pd.DataFrame]]:
    """Predictions of each method and seed, in the order of the rows' ids."""
    found: dict[str, dict[int, pd.DataFrame]] = {}
    for path in RUNS.glob("*/record.json"):
        record = json.loads(path.read_text())
        table = pd.read_parquet(path.with_name("predictions_test.parquet")).sort_values("id")
        found.setdefault(record["method"], {})[record["seed"]] = table
    return found


def macro_f1(table: pd.DataFrame) -> float:
    return float(f1_score(table["label"], table["predicted"], average="macro"))


def test_means_and_deviations_are_those_of_the_predictions(
    comparison: Comparison, by_method: dict[str, dict[int, pd.DataFrame]]
) -> None:
    (task,) = comparison.tasks
    for cell in task.cells:
        scores = [macro_f1(table) for table in by_method[cell.method].values()]
        assert cell.scores["macro_f1"].mean == pytest.approx(np.mean(scores))
        assert cell.scores["macro_f1"].std == pytest.approx(np.std(scores, ddof=1))


def test_a_paired_difference_adds_the_variance_of_runs_and_of_the_rows_they_share(
    comparison: Comparison, by_method: dict[str, dict[int, pd.DataFrame]]
) -> None:
    """The oracle resamples rows with scikit-learn; the seeds' test rows differ, so rows are those of each."""
    (task,) = comparison.tasks
    assert len(task.pairs) == 6
    for pair in task.pairs:
        first, second = (by_method[task.by_key[key].method] for key in (pair.first, pair.second))
        seeds = sorted(first)
        differences = [macro_f1(first[seed]) - macro_f1(second[seed]) for seed in seeds]
        assert pair.n == len(seeds)
        assert pair.difference == pytest.approx(np.mean(differences))
        assert pair.p_seeds is None or 0 < pair.p_seeds <= 1
        spread = stats.t.interval(0.95, 4, loc=np.mean(differences), scale=stats.sem(differences))
        assert pair.interval is not None
        # Rows can only add to what the seeds show.
        assert pair.interval.high - pair.interval.low > 0.8 * (spread[1] - spread[0])


def test_holm_is_that_of_its_definition(comparison: Comparison) -> None:
    (task,) = comparison.tasks
    pairs = sorted(task.pairs, key=lambda pair: pair.p or 0.0)
    highest = 0.0
    for rank, pair in enumerate(pairs):
        assert pair.p is not None
        highest = max(highest, min(1.0, pair.p * (len(pairs) - rank)))
        assert pair.p_holm == pytest.approx(highest)
        assert pair.distinguishable is (highest < 0.05)


def test_sentences_claim_what_is_distinguishable_and_no_more(comparison: Comparison) -> None:
    (task,) = comparison.tasks
    ahead = {claim.cells for claim in task.claims if claim.kind == "ahead"}
    assert ahead == {(pair.better, pair.second) for pair in task.pairs if pair.distinguishable}


def test_two_single_runs_are_compared_by_mcnemars_exact_test(
    by_method: dict[str, dict[int, pd.DataFrame]],
) -> None:
    runs = {
        record["method"]: path.parent.name
        for path in RUNS.glob("*/record.json")
        if (record := json.loads(path.read_text()))["seed"] == 0
    }
    for one, other in list(combinations(["prompt_tuning", "p_tuning", "tfidf"], 2)):
        comparison = read(f"runs={RUNS}", f"compare=[{runs[one]},{runs[other]}]")
        ((pair,),) = (task.pairs for task in comparison.tasks)
        tables = [by_method[name][0] for name in (one, other)]
        right = [(table["label"] == table["predicted"]).to_numpy() for table in tables]
        only = sorted([int((right[0] & ~right[1]).sum()), int((~right[0] & right[1]).sum())])
        assert pair.mcnemar is not None
        assert sorted([pair.mcnemar.only_first, pair.mcnemar.only_second]) == only
        assert pair.mcnemar.p == pytest.approx(stats.binomtest(only[0], sum(only)).pvalue)
        _, notes = shown(f"runs={RUNS}", f"compare=[{runs[one]},{runs[other]}]")
        assert notes


@pytest.mark.parametrize("report", ["default", "pairs"])
def test_at_80_columns_every_value_of_a_table_is_whole(report: str) -> None:
    tables, _ = shown(f"runs={RUNS}", f"report={report}")
    text = terminal(tables, [], 80)
    assert max(map(len, text.splitlines())) <= 80
    words = text.split()
    for table in tables:
        for column in table.columns:
            for row in table.rows:
                assert set(column.cell(row).split()) <= set(words)
