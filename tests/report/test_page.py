"""The page as text: complete, escaped, without anything from elsewhere, and small."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any, Literal

import numpy as np
import pytest

from softcue.report.model import BestOfK, Caution, Claim, Comparison
from softcue.report.page.examples import example_data
from softcue.report.page.grids import cells_grid, doublings, trials_grid
from softcue.report.page.render import first_claims, page, script_json
from softcue.runs.metrics import METRICS
from tests.report.comparisons import make_comparison, make_rows, make_task

HOSTILE = "<img src=x onerror=alert(1)></script><script>alert(2)</script>"


class Elements(HTMLParser):
    """The elements of a page with their attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def hostile() -> tuple[Comparison, str]:
    """A comparison in which every text that can come from elsewhere is markup, and its page."""
    task = make_task(
        [(HOSTILE, {HOSTILE: HOSTILE}), ("tfidf", {HOSTILE: "b"})],
        seeds=2,
        task=HOSTILE,
        rows=make_rows(20, classes=(HOSTILE, "no complaint"), first_text=HOSTILE),
    )
    task = replace(
        task,
        claims=(Claim(text=HOSTILE, metric="macro_f1", cells=(), kind="ahead"),),
        cautions=(Caution(kind=HOSTILE, text=HOSTILE),),
    )
    comparison = replace(make_comparison(task), notes=(HOSTILE,), sources=(HOSTILE,))
    return comparison, page(comparison)


def test_no_text_of_a_record_becomes_markup(hostile: tuple[Comparison, str]) -> None:
    elements = Elements(hostile[1]).found
    assert [tag for tag, _ in elements if tag in ("img", "iframe", "object", "embed", "base", "form")] == []
    assert [attributes.get("type") for tag, attributes in elements if tag == "script"] == [
        "application/json",
        None,
    ]
    assert [name for _, attributes in elements for name in attributes if name.startswith("on")] == []


def test_a_page_names_nothing_outside_itself(hostile: tuple[Comparison, str]) -> None:
    addresses = [
        value
        for tag, attributes in Elements(hostile[1]).found
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "action", "data") and value is not None
    ]
    assert [address for address in addresses if not address.startswith(("#", "data:,"))] == []


def test_the_policy_allows_this_pages_script_alone(hostile: tuple[Comparison, str]) -> None:
    policy = next(
        attributes["content"]
        for tag, attributes in Elements(hostile[1]).found
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    )
    (script,) = re.findall(r"<script>(.*?)</script>", hostile[1], flags=re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")
    assert f"script-src 'sha256-{digest}'; " in policy


@pytest.mark.slow
def test_the_same_comparison_gives_the_same_page(hostile: tuple[Comparison, str]) -> None:
    assert page(hostile[0]) == hostile[1]


def test_script_json_reads_back_and_cannot_end_its_element() -> None:
    value = {"text": f"{HOSTILE} <!-- \u2028 \ud83d\ude00"}
    assert "<" not in script_json(value)
    assert json.loads(script_json(value)) == value


def decoded(text: str, *shape: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.frombuffer(base64.b64decode(text), dtype=np.uint8).reshape(shape)


def test_examples_hold_each_runs_prediction_and_each_cells_mean_probabilities() -> None:
    rows = make_rows(30, classes=("a", "b", "c"))
    task = make_task([("prompt_tuning", {})], seeds=2, rows=rows)
    data = example_data(task)
    assert data is not None
    (cell,) = data["cells"]
    of_runs = [run.predictions for run in task.cells[0].runs if run.predictions]
    runs = decoded(cell["runs"], 2, 30, 2)
    assert runs[:, :, 0].tolist() == [one.predicted_B.tolist() for one in of_runs]
    assert runs[:, :, 1] / 255 == pytest.approx(np.stack([one.confidence_B for one in of_runs]), abs=0.002)
    top = decoded(cell["top"], 30, 3, 2)
    mean = np.mean([one.probability_BC for one in of_runs], axis=0)
    assert np.take_along_axis(mean, top[:, :, 0].astype(int), axis=1) == pytest.approx(
        top[:, :, 1] / 255, abs=0.002
    )
    assert (np.diff(top[:, :, 1].astype(int), axis=1) <= 0).all()


def test_a_row_that_a_run_did_not_predict_is_marked_as_absent() -> None:
    task = make_task([("prompt_tuning", {})], seeds=1, rows=make_rows(5))
    (cell,) = task.cells
    whole = cell.runs[0].predictions
    assert whole is not None
    part = replace(
        whole,
        row_B=whole.row_B[1:],
        predicted_B=whole.predicted_B[1:],
        probability_BC=whole.probability_BC[1:],
        nll_B=whole.nll_B[1:],
    )
    cells = (replace(cell, runs=(replace(cell.runs[0], predictions=part),)),)
    data = example_data(replace(task, cells=cells))
    assert data is not None
    assert decoded(data["cells"][0]["runs"], 5, 2)[:, 0].tolist().index(255) == 0
    assert decoded(data["cells"][0]["top"], 5, 2, 2)[0, :, 0].tolist() == [255, 255]


def test_a_prediction_takes_less_than_four_bytes() -> None:
    grid = [("p_tuning", {"prompt.learning_rate": str(rate)}) for rate in range(4)]
    data = example_data(make_task(grid, seeds=5, rows=make_rows(200)))
    assert data is not None
    assert len(script_json(data["cells"])) / (4 * 5 * 200) < 4


def test_without_stored_predictions_there_are_no_examples() -> None:
    task = make_task(seeds=1)
    cells = tuple(
        replace(cell, runs=tuple(replace(run, predictions=None) for run in cell.runs)) for cell in task.cells
    )
    assert example_data(replace(task, cells=cells, rows=None)) is None


def test_the_first_screen_keeps_room_for_what_is_not_settled() -> None:
    def claim(kind: Literal["ahead", "undecided"], number: int) -> Claim:
        return Claim(text=f"{kind} {number}", metric="macro_f1", cells=(), kind=kind)

    ahead, undecided = [claim("ahead", n) for n in range(9)], [claim("undecided", n) for n in range(3)]
    claims = first_claims([*ahead, *undecided])
    assert [*claims.shown] == [*ahead[:4], *undecided[:2]]
    assert [*claims.more] == [*ahead[4:], *undecided[2:]]
    assert [*first_claims(undecided).shown] == undecided


def test_the_first_screen_is_about_methods_before_it_is_about_their_settings() -> None:
    def ahead_of(key: str) -> Claim:
        return Claim(text=key, metric="macro_f1", cells=("p-1", key), kind="ahead")

    method_of = {f"{method}-{number}": method for method in "pqr" for number in range(1, 5)}
    claims = [ahead_of(key) for key in ("p-2", "p-3", "p-4", "q-1", "q-2", "r-1", "r-2")]
    shown = [claim.text for claim in first_claims(claims, method_of).shown]
    assert shown == ["q-1", "r-1", "q-2", "r-2", "p-2", "p-3"]


@pytest.mark.slow
def test_the_page_says_which_plots_leave_settings_out_and_that_pairs_are_those_with_the_best() -> None:
    grid = [("p_tuning", {"prompt.learning_rate": str(rate)}) for rate in range(9)]
    task = replace(make_task(grid, seeds=1, rows=make_rows(12)), all_pairs=False)
    text = page(make_comparison(task))
    assert "<figcaption>The best 8 of 9 settings. Row less column." in text
    assert "<summary>Each setting against the best, with its tests</summary>" in text


def test_the_page_has_the_expected_best_of_1_2_4_and_all_trials() -> None:
    found = BestOfK(
        task="airline_complaints",
        method="p_tuning",
        metric="macro_f1",
        trials=5,
        validation=(0.5, 0.6, 0.65, 0.68, 0.7),
        shown=(0.5, 0.58, 0.62, 0.64, 0.66),
    )
    comparison = make_comparison(replace(make_task(seeds=1), best_of_k=(found,)))
    lines = trials_grid(comparison, comparison.tasks[0]).lines
    assert [[entry.text for entry in line[1:]] for line in lines] == [
        ["1", "0.500", "0.500"],
        ["2", "0.600", "0.580"],
        ["4", "0.680", "0.640"],
        ["5", "0.700", "0.660"],
    ]


@pytest.mark.parametrize(("count", "kept"), [(1, [1]), (2, [1, 2]), (5, [1, 2, 4, 5]), (8, [1, 2, 4, 8])])
def test_counts_are_doubled_up_to_all(count: int, kept: list[int]) -> None:
    assert doublings(count) == kept


def test_a_column_without_a_single_value_is_not_shown() -> None:
    comparison = make_comparison(make_task(seeds=1))
    shown = [heading.text for heading in cells_grid(comparison, comparison.tasks[0]).headings]
    assert "AUROC" not in shown
    with_auroc = replace(comparison, metrics=(METRICS["auroc"], METRICS["macro_f1"]))
    shown = [heading.text for heading in cells_grid(with_auroc, with_auroc.tasks[0]).headings]
    assert shown[:4] == ["method", "runs", "macro-F1", "against the best"]
