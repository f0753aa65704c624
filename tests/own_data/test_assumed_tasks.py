"""A table is enough: template, classes and label words come from its columns and labels."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from softcue.data.assumed import classes_of, template_of
from softcue.data.rows import TableRow
from softcue.data.tables import LoadedTable
from softcue.errors import DataError, SoftcueError
from softcue.plan import _say, prepare
from tests.composing import train_config
from tests.own_data.conftest import write_reviews
from tests.running import train_one


def table_of(columns: dict[str, list[object]]) -> LoadedTable:
    rows = zip(*columns.values(), strict=True)
    return LoadedTable(
        name="reviews.csv",
        columns=tuple(columns),
        rows=tuple(
            TableRow(f"reviews.csv line {line}", dict(zip(columns, row, strict=True)))
            for line, row in enumerate(rows, start=2)
        ),
    )


def test_a_table_alone_trains_and_says_in_three_lines_what_it_assumed(
    quick: list[str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="softcue.plan")
    _say.cache_clear()
    path = write_reviews(tmp_path, ("so, so", "it's “ok”"))
    record = train_one(train_config(*quick, "data=table", f"data.source.path={path}")).record()
    assert record is not None
    assert record.status == "complete"
    assert record.task == "reviews"
    assumed = [message for message in caplog.messages if "data.task" in message]
    assert len(assumed) == 3
    assert "'Text : {text} Label :'" in assumed[0]
    assert """2 classes are in column 'label': ["it's “ok”", 'so, so']""" in assumed[1]
    task = record.settings["data"]["task"]
    assert task["verbalizer"] == {name: name for name in task["classes"]}


def test_what_is_assumed_gives_the_same_run_as_the_same_task_written_out(
    quick: list[str], tmp_path: Path
) -> None:
    path = write_reviews(tmp_path, ("good", "bad"))
    table = [*quick, "data=table", f"data.source.path={path}"]
    written = [
        "data.task.name=reviews",
        "data.task.template='Text : {text} Label :'",
        "data.task.classes=[bad,good]",
        "data.task.verbalizer={bad: bad, good: good}",
    ]
    (assumed,), (explicit,) = prepare(train_config(*table)), prepare(train_config(*table, *written))
    assert assumed.folder.path == explicit.folder.path
    (own_words,) = prepare(train_config(*table, "data.task.verbalizer={bad: awful, good: great}"))
    assert own_words.settings["data"]["task"]["verbalizer"] == {"bad": "awful", "good": "great"}
    assert own_words.folder.path != explicit.folder.path


def test_all_columns_of_text_are_read_and_no_others() -> None:
    table = table_of(
        {
            "id": ["a b c", "d e f"],
            "title": ["A very good book", "Not worth reading"],
            "text": ["I read it in one night.", "我没有读完这本书"],
            "stars": ["5", "1"],
            "date": ["2024-01-01 10:00 h", "2024-01-02"],
            "sentiment": ["good", "bad"],
        }
    )
    found = template_of(table, ["sentiment"], id_column=None)
    assert found == "Title : {title} Text : {text} Sentiment :"


def test_short_texts_are_read_where_there_are_no_longer_ones() -> None:
    table = table_of({"word": ["yes!", "never"], "count": [1, 2], "label": ["good", "bad"]})
    assert template_of(table, ["label"], id_column=None) == "Word : {word} Label :"


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (["b", "A", "b", "", None], ["A", "b"]),
        ([10, 9, 10, 9], ["9", "10"]),
        (["2", "x", "10", "x"] * 2, ["10", "2", "x"]),
        ([True, False, True, False], ["false", "true"]),
    ],
)
def test_classes_are_the_labels_in_an_order_that_rows_do_not_change(
    labels: list[object], expected: list[str]
) -> None:
    for order in (labels, labels[::-1]):
        assert classes_of(table_of({"label": order}), label_column="label") == expected


MISTAKES: dict[str, tuple[dict[str, list[object]], str]] = {
    "a column of texts": (
        {"label": [f"text {at}" for at in range(9)]},
        r"has 9 different values in 9 rows.* data\.source\.label_column",
    ),
    "no such column": ({"text": ["a"]}, r"label_column is 'label', which reviews\.csv does not have"),
    "no label": ({"label": ["", None]}, r"'label' of reviews\.csv is empty"),
    "a stray space": ({"label": ["a", "b", "a "]}, r"line 4 has label 'a ', with spaces around class 'a'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_labels_that_are_no_classes_are_refused(mistake: str) -> None:
    columns, message = MISTAKES[mistake]
    with pytest.raises(DataError, match=message):
        classes_of(table_of(columns), label_column="label")


def test_a_table_without_text_is_refused_with_a_template_to_give() -> None:
    with pytest.raises(DataError, match=r"no column of text beside 'label' .* data\.task\.template"):
        template_of(table_of({"x": [1, 2], "label": ["a", "b"]}), ["label"], id_column=None)


def test_without_a_path_one_line_names_what_is_missing(quick: list[str]) -> None:
    with pytest.raises(
        SoftcueError, match=r"data\.source\.path has no default; .*missing: \['data.source.path'\]"
    ):
        prepare(train_config(*quick, "data=table", "dry=true"))


def test_a_label_in_the_form_of_an_interpolation_is_not_resolved(quick: list[str], tmp_path: Path) -> None:
    path = write_reviews(tmp_path, ("${oc.env:HOME}", "bad"))
    with pytest.raises(DataError, match=r"\$\{oc\.env:HOME\}.* which a config cannot hold"):
        prepare(train_config(*quick, "data=table", f"data.source.path={path}"))


def test_an_error_about_many_classes_shows_five(quick: list[str], tmp_path: Path) -> None:
    rows = [{"text": f"the text {at}", "label": f"c{at % 150:03}"} for at in range(600)]
    path = tmp_path / "many.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(SoftcueError, match=r"lacks \['c000', .* and 145 more") as caught:
        prepare(train_config(*quick, "data=table", f"data.source.path={path}", "data.task.verbalizer={x: x}"))
    assert len(str(caught.value)) < 300
