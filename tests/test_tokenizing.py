"""Pieces of rows have the tokens that they have in a running text."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from softcue.backbone.embedded import dequantised, embedded_gguf
from softcue.tokenizing import Piece, RowTokenizer
from tests.integration.conftest import CACHE

SENTENCES = ["no complaint at all", "a complaint about the flight", "is it a complaint ?", "Say no , please"]


def trained(*, style: str) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer of a few sentences that marks words by "▁", like Llama 2's or newer ones."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    trainer = trainers.BpeTrainer(special_tokens=["<unk>", "<s>", "</s>", "<|user|>"], vocab_size=120)
    if style == "llama 2":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


@pytest.fixture(scope="module")
def embedded() -> PreTrainedTokenizerFast:
    tokenizer = AutoTokenizer.from_pretrained(dequantised(embedded_gguf(), CACHE))
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


def ids(tokenizer: PreTrainedTokenizerFast, text: str) -> list[int]:
    found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return found


def typed(text: str) -> list[Piece]:
    return [Piece(text=text, is_template=False)]


@pytest.mark.parametrize("style", ["llama 2", "metaspace"])
@pytest.mark.parametrize("text", [" complaint", " ?", " a complaint about"])
def test_text_that_continues_a_row_has_the_tokens_it_has_in_a_running_text(style: str, text: str) -> None:
    tokenizer = trained(style=style)
    before = ids(tokenizer, "no")
    whole = ids(tokenizer, f"no{text}")
    assert whole[: len(before)] == before
    rows = RowTokenizer(tokenizer)
    assert rows.encode(typed(text), starts_row=False).ids == whole[len(before) :]
    assert rows.text(text).ids == whole[len(before) :]


@pytest.mark.parametrize("style", ["llama 2", "metaspace"])
def test_text_that_starts_a_row_has_the_tokens_of_the_text_typed(style: str) -> None:
    tokenizer = trained(style=style)
    rows = RowTokenizer(tokenizer)
    expected = ids(tokenizer, "Say no")
    assert rows.encode(typed("Say no"), starts_row=True).ids == rows.text("Say no").ids == expected


def test_without_a_prefix_both_forms_are_the_text_typed(embedded: PreTrainedTokenizerFast) -> None:
    rows = RowTokenizer(embedded)
    for text in ("@united  why ? :( ", " Label :", "It’s 5\nhours"):
        for starts_row in (True, False):
            assert rows.encode(typed(text), starts_row=starts_row).ids == ids(embedded, text)


def test_the_name_of_a_special_token_in_a_text_is_its_characters(embedded: PreTrainedTokenizerFast) -> None:
    rows = RowTokenizer(embedded)
    text = "late <|im_end|> again<|endoftext|>"
    found = rows.encode(typed(text), starts_row=True)
    assert not set(found.ids) & set(embedded.all_special_ids)
    assert embedded.decode(found.ids) == text
    assert "".join(text[start:end] for start, end in found.spans) == text


@pytest.mark.parametrize("style", ["llama 2", "metaspace"])
def test_a_typed_special_token_changes_no_other_token(style: str) -> None:
    tokenizer = trained(style=style)
    rows = RowTokenizer(tokenizer)

    def encoded(text: str) -> list[int]:
        pieces = [
            Piece(text="Say <|user|>no", is_template=True),
            Piece(text=text, is_template=False),
            Piece(text="<|user|> please", is_template=True),
        ]
        return rows.encode(pieces, starts_row=True).ids

    special = tokenizer.convert_tokens_to_ids("<|user|>")
    assert isinstance(special, int)
    plain, found = encoded(" a"), encoded(" a</s>")
    last_special = len(plain) - plain[::-1].index(special) - 1
    assert found[:last_special] == plain[:last_special]
    assert found[last_special - len(plain) :] == plain[last_special:]


def test_two_texts_side_by_side_do_not_make_a_special_token(embedded: PreTrainedTokenizerFast) -> None:
    pieces = [Piece(text="late <|im_", is_template=False), Piece(text="end|> again", is_template=False)]
    found = RowTokenizer(embedded).encode(pieces, starts_row=True)
    assert not set(found.ids) & set(embedded.all_special_ids)
    assert embedded.decode(found.ids) == "late <|im_end|> again"


def test_a_special_token_of_the_template_stays_special_beside_a_typed_one(
    embedded: PreTrainedTokenizerFast,
) -> None:
    rows = RowTokenizer(embedded)
    pieces = [
        Piece(text="<|im_start|>user\n", is_template=True),
        Piece(text="hi <|im_start|>", is_template=False),
        Piece(text="<|im_end|>\n", is_template=True),
    ]
    found = rows.encode(pieces, starts_row=True)
    (start,), (end,) = ids(embedded, "<|im_start|>"), ids(embedded, "<|im_end|>")
    assert (found.ids.count(start), found.ids.count(end)) == (1, 1)
    assert found.ids[0] == start
    plain = [pieces[0], Piece(text="hi", is_template=False), pieces[2]]
    assert rows.encode(plain, starts_row=True).ids == ids(embedded, "<|im_start|>user\nhi<|im_end|>\n")
