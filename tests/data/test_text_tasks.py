"""Tasks whose rows are followed by a text: their columns, tokens, cuts and refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedTokenizerFast

from softcue.data.assumed import assume
from softcue.data.labels import TargetEncoder, TargetPlace
from softcue.data.pool import Pool
from softcue.data.prompt_data import PromptData
from softcue.data.run_data import Batching
from softcue.data.sources import AirlineSummaries, Table
from softcue.data.splits import AllLabelled, FewShot, KFold, Splitter
from softcue.data.task import TextTarget, TextTask
from softcue.errors import ConfigError, DataError, SoftcueError
from softcue.tokenizing import RowTokenizer

ARTICLES: list[dict[str, Any]] = [
    {"id": "a", "article": "One bag is lost.", "summary": "A lost bag", "other": ["Bag lost", ""]},
    {"id": "b", "article": "Two planes are late.", "summary": "Late planes", "other": []},
    {"id": "c", "article": "Nobody knows.", "summary": "", "other": None},
    {"id": "d", "article": "All is well, and everyone is home.", "summary": "All well", "other": "Fine"},
]
SUMMARIES = TextTask(
    name="summaries", template="Article : {article} Summary :", target=TextTarget(column=("summary", "other"))
)


def table(path: Path, *, test_path: Path | None = None) -> Table:
    return Table(
        path=str(path),
        label_column=None,
        id_column="id",
        test_path=None if test_path is None else str(test_path),
        unlabelled_path=None,
        encoding="utf-8",
        separator=None,
    )


@pytest.fixture
def articles(tmp_path: Path) -> Table:
    path = tmp_path / "articles.json"
    path.write_text(json.dumps(ARTICLES))
    return table(path)


def test_a_test_row_without_a_text_to_score_is_refused_by_its_line(articles: Table, tmp_path: Path) -> None:
    (tmp_path / "test.json").write_text(json.dumps(ARTICLES[:1] + ARTICLES[2:3]))
    source = table(tmp_path / "articles.json", test_path=tmp_path / "test.json")
    with pytest.raises(DataError, match=r"test\.json.* has no text in \['summary', 'other'\]"):
        source.load(SUMMARIES)


def data_of(
    source: Table, *, max_target_length: int | None = 8, splitter: Splitter | None = None
) -> PromptData:
    return PromptData(
        source=source,
        task=SUMMARIES,
        layout="[soft:2]{input}",
        splitter=splitter or AllLabelled(num_validation=0, seed=0),
        batching=Batching(
            batch_size=2, eval_batch_size=2, padding="longest", order="shuffled", seed=0, num_workers=0
        ),
        max_length=24,
        cache_dir=None,
        max_target_length=max_target_length,
    )


def test_all_texts_of_the_named_columns_are_references(articles: Table) -> None:
    pool: Pool = articles.load(SUMMARIES)
    assert [json.loads(texts) for texts in pool.labelled["references"]] == [
        ["A lost bag", "Bag lost"],
        ["Late planes"],
        ["All well", "Fine"],
    ]
    assert pool.unlabelled["id"] == ["c"]


def test_the_first_reference_and_the_end_token_follow_a_row(
    articles: Table, tokenizer: PreTrainedTokenizerFast
) -> None:
    data = data_of(articles)
    data.encode(tokenizer, 2048, padded=False)
    examples = data.examples("train")
    texts = [tokenizer.decode(list(example.choices[0])) for example in examples]
    assert sorted(texts) == [
        f"{text}{tokenizer.eos_token}" for text in (" A lost bag", " All well", " Late planes")
    ]
    assert [(example.target, len(example.choices)) for example in examples] == [(0, 1)] * 3
    assert [(one.target, one.choices) for one in data.examples("unlabelled")] == [
        (-1, ((tokenizer.eos_token_id,),))
    ]


def test_long_targets_are_cut_before_the_end_token_and_counted(
    articles: Table, tokenizer: PreTrainedTokenizerFast
) -> None:
    data = data_of(articles, max_target_length=3)
    data.encode(tokenizer, 2048, padded=False)
    targets = [example.choices[0] for example in data.examples("train")]
    assert all(len(target) <= 3 and target[-1] == tokenizer.eos_token_id for target in targets)
    rows = RowTokenizer(tokenizer)
    whole = [len(rows.text(f" {texts[0]}").ids) + 1 for texts in data.references("train")]
    assert data.num_cut_targets == {"train": sum(length > 3 for length in whole), "validation": 0, "test": 0}
    assert max(whole) > 3


def test_rows_leave_room_for_the_longest_text(articles: Table, tokenizer: PreTrainedTokenizerFast) -> None:
    data = data_of(articles, max_target_length=14)
    data.encode(tokenizer, 2048, padded=False)
    assert data.encoder.max_row_length == 24 - 14 + 2
    assert max(len(example.ids) for example in data.examples("train")) <= data.encoder.max_row_length
    assert data.num_cut["train"] > 0


@pytest.mark.parametrize(
    "splitter",
    [
        FewShot(num_train=2, num_validation=1, num_test=None, balance="equal", seed=0, test_seed=0),
        KFold(num_folds=3, fold=1, seed=0, num_validation=0),
    ],
)
def test_every_split_divides_texts(articles: Table, splitter: Splitter) -> None:
    data = data_of(articles, splitter=splitter)
    data.load()
    parts = [name for part in ("train", "validation", "test") for name in data.ids(part)]
    assert sorted(parts) == ["a", "b", "d"] or sorted(parts) == ["a", "b", "d"][: len(parts)]


def test_tweets_are_summed_up_by_verdict_and_airline() -> None:
    task = TextTask(name="airlines", template="{Tweet text} :", target=TextTarget(column="summary"))
    pool = AirlineSummaries(min_confidence=0.6).load(task)
    by_airline = {"@united": "to United", "@jetblue": "to JetBlue", "@southwestair": "to Southwest"}
    checked = 0
    for text, references in zip(pool.labelled["Tweet text"], pool.labelled["references"], strict=True):
        (summary,) = json.loads(references)
        handles = [handle for handle in by_airline if handle in text.casefold()]
        if len(handles) == 1 and text.casefold().startswith(handles[0]):
            assert summary.endswith(by_airline[handles[0]])
            checked += 1
    assert checked > 1000


def test_a_template_is_assumed_from_the_columns_that_are_no_target(articles: Table) -> None:
    task = {"name": None, "template": None, "target": {"column": ["summary", "other"]}}
    assert assume(task, articles).settings == {
        "name": "articles",
        "template": "Article : {article} Summary :",
    }


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (
            {"column": "article"},
            r"data\.task\.target\.column is 'article', and the template reads \['article'\]",
        ),
        ({"column": []}, r"data\.task\.target is .*give the column of the texts"),
        ({"columns": "summary"}, r"data\.task\.target is .*give the column of the texts"),
        ({"column": "summary", "answer_after": ""}, r"data\.task\.target is .*answer_after if the texts"),
    ],
)
def test_targets_that_are_none_are_refused(target: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TextTask(name="t", template="{article} :", target=target)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("headline", r"data\.task\.target\.column is 'headline', which articles\.json does not have"),
        ("empty", r"articles\.json has no text in \['empty'\]; training needs some\. Fill the column"),
    ],
)
def test_a_column_that_is_missing_or_empty_is_refused(tmp_path: Path, column: str, message: str) -> None:
    path = tmp_path / "articles.json"
    path.write_text(json.dumps([{**row, "empty": ""} for row in ARTICLES]))
    task = TextTask(name="t", template="{article} :", target=TextTarget(column=column))
    with pytest.raises(DataError, match=message):
        table(path).load(task)


def test_a_text_needs_a_length_and_an_end_token(tokenizer: PreTrainedTokenizerFast) -> None:
    rows = RowTokenizer(tokenizer)
    cases: list[tuple[int | None, int | None, str]] = [
        (None, 0, r"data\.max_target_length is None"),
        (1, 0, r"data\.max_target_length is 1"),
        (9, None, r"this backbone's tokenizer has none"),
    ]
    for max_length, end_token, message in cases:
        with pytest.raises(SoftcueError, match=message):
            TargetEncoder(rows, place=TargetPlace(before=":"), max_length=max_length, end_token=end_token)
