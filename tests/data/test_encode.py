"""Rows of text as rows of ids: order, cutting, labels, and the cache of encoded rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from softcue.data.columns import Columns
from softcue.data.encode import Encoder
from softcue.data.pool import Pool
from softcue.data.task import Task
from softcue.data.template import compose
from softcue.errors import ConfigError, DataError

_LONG = "Still no bag, and nobody answers. " * 340


def _encoder(
    task: Task,
    tokenizer: PreTrainedTokenizerFast,
    *,
    layout: str = "[soft:4]{input}[soft:2]",
    max_length: int | None = 40,
    max_positions: int = 2048,
) -> Encoder:
    template = compose(layout, task.template)
    return Encoder(
        template=template, task=task, tokenizer=tokenizer, max_length=max_length, max_positions=max_positions
    )


def _text(tokenizer: PreTrainedTokenizerFast, ids: Sequence[int]) -> str:
    text = tokenizer.decode([token for token in ids if token >= 0])
    assert isinstance(text, str)
    return text


def _small_tokenizer(
    *, bos: bool = False, normalizer: normalizers.Normalizer | None = None
) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(special_tokens=["<s>", "</s>"], initial_alphabet=alphabet, vocab_size=300)
    tokenizer.train_from_iterator(["Tweet text : hello Label : complaint"], trainer)
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def _colon_space_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer in which a colon and the space after it are one token."""
    vocabulary = {token: at for at, token in enumerate([*sorted(set("Label : no complaint")), ": "])}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE(vocabulary, [(":", " ")])))


def test_the_name_of_a_special_token_in_a_tweet_is_text(task: Task) -> None:
    tokenizer = _small_tokenizer(bos=True)
    encoder = _encoder(task, tokenizer, max_length=200)
    fields = {"Tweet text": "late </s> again <s>"}
    row = encoder.encode_row(fields)
    assert (row.ids.count(0), row.ids.count(1)) == (1, 0)
    tokens = tokenizer.convert_ids_to_tokens([token for token in row.ids if token >= 0])
    assert "lateĠ</s>ĠagainĠ<s>" in "".join(tokens)
    assert len(encoder.kinds(fields)) == len(row.ids)


def test_words_between_virtual_tokens_get_no_prefix(task: Task) -> None:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(special_tokens=["<unk>"], vocab_size=80)
    tokenizer.train_from_iterator(["Tweet text : hello Label : no complaint ?"] * 3, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer)
    encoder = _encoder(task, fast, layout="[soft:1]{input}[soft:1] ?[soft:1]", max_length=200)
    ids = encoder.encode_row({"Tweet text": "hello"}).ids
    between = ids[ids.index(-2) + 1 : ids.index(-3)]
    assert "".join(fast.convert_ids_to_tokens(between)) == "▁?"


def test_a_row_is_virtual_tokens_around_text(task: Task, tokenizer: PreTrainedTokenizerFast) -> None:
    row = _encoder(task, tokenizer).encode_row({"Tweet text": "My bag is lost"})
    words = tokenizer("Tweet text : My bag is lost Label :")["input_ids"]
    assert row.ids == [-1, -2, -3, -4, *words, -5, -6]
    assert not row.was_cut


def test_text_between_slots_is_one_string(task: Task, tokenizer: PreTrainedTokenizerFast) -> None:
    glued = replace(task, template="un{Tweet text}able[soft:1] so :")
    row = _encoder(glued, tokenizer, layout="{input}").encode_row({"Tweet text": "believ"})
    assert row.ids == [*tokenizer("unbelievable")["input_ids"], -1, *tokenizer(" so :")["input_ids"]]


@pytest.mark.parametrize(
    "layout", ["[soft:4]{input}", "{input}[soft:4]", "[soft:1] complaint[soft:1]{input}[soft:2]"]
)
def test_cutting_a_long_tweet_keeps_template_and_virtual_tokens(
    task: Task, tokenizer: PreTrainedTokenizerFast, layout: str
) -> None:
    encoder = _encoder(task, tokenizer, layout=layout)
    row = encoder.encode_row({"Tweet text": _LONG})
    text = _text(tokenizer, row.ids)
    assert row.was_cut
    assert "Tweet text : Still no bag" in text
    assert text.endswith(" Label :")
    assert [token for token in row.ids if token < 0] == [-1, -2, -3, -4]


def test_a_cut_row_and_its_longest_label_fill_the_limit(
    task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    for max_length in range(12, 60):
        encoder = _encoder(task, tokenizer, max_length=max_length)
        ids = encoder.encode_row({"Tweet text": _LONG}).ids
        num_text = sum(token >= 0 for token in ids)
        assert max_length - 2 <= num_text + max(map(len, encoder.choices)) <= max_length
        assert len(ids) <= encoder.max_row_length


def test_more_virtual_tokens_cut_no_more_text(task: Task, tokenizer: PreTrainedTokenizerFast) -> None:
    rows = [
        _encoder(task, tokenizer, layout=layout).encode_row({"Tweet text": _LONG})
        for layout in ("{input}", "[soft:100]{input}")
    ]
    assert rows[1].ids[100:] == rows[0].ids


def test_the_longest_column_is_cut_first(task: Task, tokenizer: PreTrainedTokenizerFast) -> None:
    both = replace(task, template="{Title} : {Body} Label :")
    row = _encoder(both, tokenizer).encode_row({"Title": "A short title", "Body": _LONG})
    assert _text(tokenizer, row.ids).startswith("A short title : Still")
    row = _encoder(both, tokenizer).encode_row({"Title": _LONG, "Body": _LONG})
    halves = _text(tokenizer, row.ids).split(" : ")
    assert [half.count("Still no bag, and") for half in halves] == [2, 2]


def test_text_of_many_bytes_is_cut_between_characters(task: Task, tokenizer: PreTrainedTokenizerFast) -> None:
    row = _encoder(task, tokenizer).encode_row({"Tweet text": "🛫🧳" * 300})
    assert row.was_cut
    assert "\ufffd" not in _text(tokenizer, row.ids)


def test_blank_text_that_alone_has_no_tokens_is_cut_too(task: Task) -> None:
    """A tokenizer that strips texts gives line breaks tokens only between other words."""
    encoder = _encoder(task, _small_tokenizer(normalizer=normalizers.Strip()))
    row = encoder.encode_row({"Tweet text": "\n" * 500})
    assert row.was_cut
    assert row.ids == encoder.encode_row({"Tweet text": ""}).ids


def test_without_a_limit_the_context_is_the_limit(task: Task, tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = _encoder(task, tokenizer, max_length=None, max_positions=100)
    assert len(encoder.encode_row({"Tweet text": _LONG}).ids) <= 98
    assert encoder.max_length == 94


def test_after_virtual_tokens_a_label_has_the_tokens_it_has_in_a_running_text(
    task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    choices = [_encoder(task, tokenizer, layout=layout).choices for layout in ("{input}", "{input}[soft:2]")]
    assert choices[0] == choices[1]


def test_label_tokens_include_the_leading_space(task: Task, tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = _encoder(task, tokenizer)
    assert [_text(tokenizer, tokens) for tokens in encoder.choices] == [" complaint", " no complaint"]
    assert len(encoder.choices[0]) == 1


def test_a_row_and_its_label_are_the_tokens_of_the_whole_text(
    task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    encoder = _encoder(task, tokenizer, layout="[soft:3]{input}")
    ids = encoder.encode_row({"Tweet text": "Lost bag"}).ids
    whole = tokenizer("Tweet text : Lost bag Label : no complaint")["input_ids"]
    assert [*ids[3:], *encoder.choices[1]] == whole


def test_an_end_token_follows_every_label_if_the_task_asks_for_it(
    task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    encoder = _encoder(replace(task, end_token=True), tokenizer)
    assert [tokens[-1] for tokens in encoder.choices] == [tokenizer.eos_token_id] * 2


def test_the_first_text_gets_the_begin_token_and_no_text_the_end_token(task: Task) -> None:
    encoder = _encoder(task, _small_tokenizer(bos=True), layout="[soft:2]Now[soft:1]{input}", max_length=90)
    ids = encoder.encode_row({"Tweet text": "hello"}).ids
    assert ids[:3] == [-1, -2, 0]
    assert ids.count(0) == 1
    assert 1 not in ids


def test_rows_that_cannot_fit_are_refused_with_both_numbers(
    task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    with pytest.raises(ConfigError, match=r"prompt\.layout .* 3000 virtual tokens.* context is 2048"):
        _encoder(task, tokenizer, layout="[soft:3000]{input}")
    with pytest.raises(DataError, match=r"data\.task\.template is 7 tokens before any text; .* 4 fit"):
        _encoder(task, tokenizer, max_length=6)


def test_labels_with_the_same_tokens_are_refused(task: Task) -> None:
    shouted = replace(task, verbalizer={"complaint": "Yes", "no complaint": "yes"})
    with pytest.raises(
        ConfigError, match=r"data\.task\.verbalizer gives class 'complaint' the tokens .* another"
    ):
        _encoder(shouted, _small_tokenizer(normalizer=normalizers.Lowercase()))


def test_a_label_that_shares_a_token_with_the_template_is_refused(task: Task) -> None:
    with pytest.raises(ConfigError, match="'complaint' has no tokens of its own after ' Label :'"):
        _encoder(task, _colon_space_tokenizer(), layout="{input}")


def test_an_end_token_that_the_tokenizer_lacks_is_refused(task: Task) -> None:
    with pytest.raises(ConfigError, match="this backbone's tokenizer has no end token"):
        _encoder(replace(task, end_token=True), _small_tokenizer())


def test_encoded_rows_are_read_from_the_cache(
    tmp_path: Path,
    task: Task,
    tokenizer: PreTrainedTokenizerFast,
    tweets: Pool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    rows = tweets.labelled.select(range(20))
    first = _encoder(task, tokenizer).encode_dataset(rows, cache_dir=str(tmp_path), part="train")
    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode_row", None)
        assert _encoder(task, tokenizer).encode_dataset(rows, cache_dir=str(tmp_path), part="train") == first
    shorter = _encoder(task, tokenizer, max_length=20)
    assert shorter.encode_dataset(rows, cache_dir=str(tmp_path), part="train") != first
    assert len(list((tmp_path / "encoded").glob("*.rows"))) == 2


def test_a_damaged_cache_of_encoded_rows_is_named_set_aside_and_made_again(
    tmp_path: Path,
    task: Task,
    tokenizer: PreTrainedTokenizerFast,
    tweets: Pool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows, encoder = tweets.labelled.select(range(5)), _encoder(task, tokenizer)
    first = encoder.encode_dataset(rows, cache_dir=str(tmp_path), part="train")
    (file,) = (tmp_path / "encoded").iterdir()
    whole = file.read_bytes()
    for at in (0, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        caplog.clear()
        assert encoder.encode_dataset(rows, cache_dir=str(tmp_path), part="train") == first
        assert f"{file} is damaged or another program's" in caplog.text
        assert file.read_bytes() == whole
    assert sorted(path.suffix for path in file.parent.iterdir()) == [".rows", ".set_aside"]


def test_rows_are_encoded_where_the_cache_cannot_be_written(
    tmp_path: Path,
    task: Task,
    tokenizer: PreTrainedTokenizerFast,
    tweets: Pool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "encoded").touch()
    rows, encoder = tweets.labelled.select(range(5)), _encoder(task, tokenizer)
    expected = encoder.encode_dataset(rows, cache_dir=None, part="train")
    assert encoder.encode_dataset(rows, cache_dir=str(tmp_path), part="train") == expected
    assert "encoded rows are not kept" in caplog.text


def test_an_empty_table_encodes_to_no_rows(
    tmp_path: Path, task: Task, tokenizer: PreTrainedTokenizerFast
) -> None:
    empty = Columns(by_name={"id": [], "Tweet text": []})
    for cache_dir in (None, str(tmp_path)):
        assert _encoder(task, tokenizer).encode_dataset(empty, cache_dir=cache_dir, part="test") == []
