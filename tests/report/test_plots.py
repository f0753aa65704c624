"""Every plot draws what the records hold, or says what they lack; what it draws is checked as numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from softcue.report.model import Comparison, Curve, RunPredictions
from softcue.report.plots.costs import pareto_front
from softcue.report.plots.curves import on_one_grid
from softcue.report.plots.registry import FOREST, PLOTS, RANKS, Drawing, drawings
from softcue.report.plots.rows import confusion, reliability
from softcue.report.plots.scores import setting_number
from softcue.report.plots.style import COLUMN, PAGE, as_file, as_inline_svg, looks, styled
from softcue.runs.metrics import METRICS
from tests.report.comparisons import make_comparison, make_ranks, make_rows, make_task

LENGTHS = [("prompt_tuning", {"prompt.layout": f"[soft:{n}]{{input}}"}) for n in (5, 20, 100)]


@contextmanager
def drawn(comparison: Comparison) -> Iterator[dict[str, Drawing]]:
    with styled():
        yield {one.plot.name: one for one in drawings(comparison, COLUMN)}


def bare() -> Comparison:
    """Scores alone, as other people's results have them."""
    task = make_task(seeds=1)
    runs = {cell.key: replace(cell.runs[0], predictions=None, curves=()) for cell in task.cells}
    cells = tuple(replace(cell, runs=(runs[cell.key],), cost=type(cell.cost)()) for cell in task.cells)
    return make_comparison(replace(task, cells=cells, rows=None, pairs=(), best_of_k=()))


@pytest.mark.slow
def test_every_plot_is_drawn_from_records_that_hold_what_it_needs() -> None:
    grid = [
        ("prompt_tuning", {"prompt.layout": layout, "split.num_train": labels, "prompt.learning_rate": rate})
        for layout in ("[soft:5]{input}", "[soft:20]{input}")
        for labels in ("16", "64")
        for rate in ("0.01", "0.3")
    ]
    with drawn(make_comparison(make_task(grid, seeds=2), make_task(seeds=2), ranks=make_ranks())) as plots:
        missing = {name: one.reason for name, one in plots.items() if one.task == "" and one.figure is None}
    assert missing == {}
    with drawn(make_comparison(make_task(grid, seeds=2))) as plots:
        assert {name for name, one in plots.items() if one.figure is None} == set()
        assert set(plots) == {plot.name for plot in PLOTS}


def test_a_plot_that_the_records_do_not_allow_says_what_they_lack() -> None:
    with drawn(bare()) as plots:
        reasons = {name: one.reason for name, one in plots.items() if one.figure is None}
    assert reasons == {
        "score_by_prompt_length": "number of virtual tokens does not vary within a method",
        "score_by_labels": "number of labels does not vary within a method",
        "score_by_learning_rate": "learning rate does not vary within a method",
        "best_of_trials": "no method has several settings with scores on validation rows",
        "differences": "fewer than two methods were compared",
        "learning_curves": "no run's folder holds a learning curve (metrics.csv)",
        "score_by_trainable_parameters": "fewer than two methods have macro-F1 and trainable parameters",
        "score_by_shipped_bytes": "fewer than two methods have macro-F1 and shipped bytes",
        "score_by_training_time": "fewer than two methods have macro-F1 and training time (s)",
        "score_by_memory": "fewer than two methods have macro-F1 and peak memory (MB)",
        "score_by_gpu_memory": "fewer than two methods have macro-F1 and peak GPU memory (MB)",
        "calibration": "no run has stored predictions of labelled rows",
        "confusion": "no run has stored predictions of labelled rows",
    }


def test_mean_ranks_are_drawn_where_the_statistics_have_them() -> None:
    two = (make_task(), make_task(task="second"))
    with drawn(make_comparison(*two)) as plots:
        assert plots[RANKS.name].reason == (
            "mean ranks need five tasks that the same methods ran on, not these 2"
        )


def test_a_setting_varies_along_the_axis_and_carries_its_own_numbers() -> None:
    comparison = make_comparison(make_task(LENGTHS, seeds=2))
    with drawn(comparison) as plots:
        figure = plots["score_by_prompt_length"].figure
        assert figure is not None
        (line,) = figure.axes[0].lines
    mean = {
        cell.settings["prompt.layout"]: cell.scores["macro_f1"].mean for cell in comparison.tasks[0].cells
    }
    expected = [(n, mean[f"[soft:{n}]{{input}}"]) for n in (5, 20, 100)]
    assert line.get_xydata() == pytest.approx(np.array(expected))


@pytest.mark.parametrize(
    ("text", "number"),
    [("0.03", 0.03), ("[soft:5]{input}[soft:3]", 8.0), ("[soft:20]{input}", 20.0), ("text", None)],
)
def test_a_settings_number_is_its_value_or_the_virtual_tokens_of_a_layout(
    text: str, number: float | None
) -> None:
    assert setting_number(text) == number


def test_the_pareto_front_has_no_point_that_another_beats_for_less() -> None:
    points = [(3.0, 0.9), (1.0, 0.5), (2.0, 0.4), (2.0, 0.7), (4.0, 0.9), (1.0, 0.6)]
    assert pareto_front(points, METRICS["macro_f1"]) == [(1.0, 0.6), (2.0, 0.7), (3.0, 0.9)]
    assert pareto_front(points, METRICS["perplexity"]) == [(1.0, 0.5), (2.0, 0.4)]


def test_the_best_of_trials_is_drawn_by_their_number_on_both_kinds_of_rows() -> None:
    comparison = make_comparison()
    (found,) = comparison.tasks[0].best_of_k
    with drawn(comparison) as plots:
        figure = plots["best_of_trials"].figure
        assert figure is not None
        shown, validation = figure.axes[0].lines
    assert shown.get_xydata() == pytest.approx(np.array([(1, 0.6), (2, 0.68), (3, 0.7)]))
    assert np.asarray(validation.get_ydata()) == pytest.approx(found.validation)


def test_a_plot_without_room_for_all_settings_says_how_many_there_are() -> None:
    grid = [("p_tuning", {"prompt.learning_rate": str(rate)}) for rate in range(10)]
    with drawn(make_comparison(make_task(grid, seeds=1, rows=make_rows(12)))) as plots:
        notes = {name: one.note for name, one in plots.items() if one.note}
    assert notes == {
        "differences": "The best 8 of 10 settings.",
        "learning_curves": "The best 8 of 10 settings.",
        "calibration": "The best 6 of 10 settings.",
        "confusion": "The best 6 of 10 settings.",
    }


def test_confusion_is_scikit_learns_over_all_runs() -> None:
    rows = make_rows(80, classes=("a", "b", "c"))
    (cell,) = make_task([("prompt_tuning", {})], seeds=3, rows=rows).cells
    predicted = [run.predictions.predicted_B for run in cell.runs if run.predictions]
    expected = confusion_matrix(np.tile(rows.target_N, 3), np.concatenate(predicted), normalize="true")
    assert confusion(cell, rows) == pytest.approx(expected)


def test_reliability_is_the_mean_confidence_and_accuracy_of_full_bins() -> None:
    rows = make_rows(40)
    (cell,) = make_task([("prompt_tuning", {})], seeds=1, rows=rows).cells
    # Confidence .65 on thirty rows of which 20 are right, .95 on five right ones, and unlabelled rows.
    labels = np.array([0] * 35 + [-1] * 5)
    confidence = np.array([0.65] * 30 + [0.95] * 5 + [0.65] * 5)
    probability = np.stack([confidence, 1 - confidence], axis=1)
    probability[:10] = probability[:10, ::-1]
    predictions = RunPredictions(
        row_B=np.arange(40),
        predicted_B=probability.argmax(axis=1),
        probability_BC=probability,
        nll_B=np.zeros(40),
    )
    cell = replace(cell, runs=(replace(cell.runs[0], predictions=predictions),))
    mean, accuracy = reliability(cell, replace(rows, target_N=labels))
    assert mean == pytest.approx([0.65])
    assert accuracy == pytest.approx([20 / 30])


def test_curves_meet_on_the_steps_that_all_reach() -> None:
    first = Curve(name="train/loss", step_S=np.array([0.0, 10, 20]), value_S=np.array([4.0, 2, 1]))
    second = Curve(name="train/loss", step_S=np.array([0.0, 5, 10]), value_S=np.array([3.0, 2, 2]))
    step, value = on_one_grid([first, second])
    assert step.tolist() == [0, 5, 10]
    assert value.tolist() == [[4, 3, 2], [3, 2, 2]]


def test_cells_keep_apart_by_colour_and_marker_until_there_are_more_than_colours() -> None:
    few = make_task(LENGTHS, seeds=1).cells
    assert len({(look.colour, look.marker) for look in looks(few).values()}) == 3
    many = [(f"method_{n % 2}", {"prompt.learning_rate": str(n)}) for n in range(10)]
    cells = make_task(many, seeds=1, rows=make_rows(4)).cells
    assert len({look.colour for look in looks(cells).values()}) == 2


def test_settings_are_named_by_the_last_part_of_their_path_where_that_is_unambiguous() -> None:
    (cell,) = make_task([("p", {"prompt.lr": "1", "optimizer.lr": "2"})], seeds=1).cells
    assert cell.label == "p, prompt.lr=1, optimizer.lr=2"
    assert replace(cell, settings={"prompt.lr": "1"}).label == "p, lr=1"
    of_a_class = {"prompt.method.initialiser._target_": "Saved"}
    assert replace(cell, settings=of_a_class).label == "p, initialiser=Saved"


def test_the_same_comparison_is_drawn_to_the_same_bytes() -> None:
    def svg() -> bytes:
        comparison = make_comparison()
        return as_file(FOREST.draw(comparison, comparison.tasks[0], COLUMN), form="svg")

    with styled():
        assert svg() == svg()


@pytest.mark.parametrize("width", [COLUMN, PAGE])
def test_names_stay_text_in_a_plot_and_nothing_leaves_the_figure(width: float) -> None:
    name = "$x_1 <b>&amp; prompt_tuning, a name that is much longer than a column is wide"
    comparison = make_comparison(make_task([(name, {}), ("tfidf", {})], seeds=1))
    with styled():
        figure = FOREST.draw(comparison, comparison.tasks[0], width)
        svg = as_inline_svg(figure, prefix="t", label='"><script>')
        boxes: list[Any] = [text.get_window_extent() for text in figure.axes[0].get_yticklabels()]
    assert "<b>" not in svg
    assert "<script>" not in svg
    assert "$x_1 &lt;b&gt;&amp;amp;" in svg
    assert min(box.x0 for box in boxes) >= -1


def test_an_inline_svg_takes_the_pages_colours_and_keeps_its_ids_to_itself() -> None:
    comparison = make_comparison()
    with styled():
        svg = as_inline_svg(FOREST.draw(comparison, comparison.tasks[0], COLUMN), prefix="t7", label="Scores")
    assert re.findall(r"#[0-9a-f]{6}\b", svg) == []
    assert "var(--ink)" in svg
    ids = re.findall(r' id="([^"]*)"', svg)
    assert len(set(ids)) == len(ids)
    assert all(one.startswith("t7-") for one in ids)
    used = re.findall(r'(?:url\(#|href="#)([^")]*)', svg)
    assert set(used) <= set(ids)
