"""The page and the plots on disk."""

from __future__ import annotations

from pathlib import Path

import pytest

from softcue.errors import RunError
from softcue.report.files import write_plots
from tests.report.comparisons import make_comparison, make_rows, make_task


@pytest.mark.slow
def test_every_plot_is_an_svg_and_a_png_named_by_its_task_where_there_are_several(tmp_path: Path) -> None:
    one = make_task([("prompt_tuning", {})], seeds=1, rows=make_rows(20), task="a/b")
    other = make_task([("prompt_tuning", {})], seeds=1, rows=make_rows(20), task="c")
    missing = write_plots(make_comparison(one, other), tmp_path / "plots")
    names = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert names == sorted(
        f"{task}-{plot}.{form}"
        for task in ("a_b", "c")
        for plot in ("forest", "best_of_trials", "learning_curves", "calibration", "confusion")
        for form in ("svg", "png")
    )
    assert "not drawn: c-differences: fewer than two methods were compared" in missing
    assert missing[0].startswith("not drawn: critical_difference: mean ranks need five tasks")


@pytest.mark.slow
def test_a_plot_that_has_room_for_the_best_settings_alone_is_named(tmp_path: Path) -> None:
    grid = [("p_tuning", {"prompt.learning_rate": str(rate)}) for rate in range(7)]
    notes = write_plots(make_comparison(make_task(grid, seeds=1, rows=make_rows(20))), tmp_path / "plots")
    assert "drawn in part: confusion: The best 6 of 7 settings." in notes


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="file/plots cannot be written"):
        write_plots(make_comparison(), tmp_path / "file" / "plots")
