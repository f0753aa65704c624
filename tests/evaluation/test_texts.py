"""The metrics of generated texts on cases counted by hand."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from softcue.contracts import Batch, Decoding, PromptBank
from softcue.evaluation.texts import Generated, before_stop, generate
from softcue.runs.metrics import METRICS
from tests.tiny import batch_of, tiny_lm


def generated(*texts: str, ended: Sequence[bool] | None = None) -> Generated:
    return Generated(texts=texts, ended=tuple(ended or (True,) * len(texts)))


def test_texts_are_compared_without_case_punctuation_and_articles() -> None:
    found = generated("The late plane!", "a bag", "no answer").metrics(
        [["late plane"], ["lost bag"], ["nothing at all"]]
    )
    assert found["exact_match"] == pytest.approx(1 / 3)
    # "bag" is the only word of its text, and one of the reference's two: F1 = 2 · 1 · ½ / 1½.
    assert found["token_f1"] == pytest.approx((1 + 2 / 3 + 0) / 3)


def test_rouge_counts_words_pairs_and_the_longest_common_order() -> None:
    found = generated("the cat sat on the mat").metrics([["the cat lay on a mat"]])
    # Common words: the (once), cat, on, mat: 4 of 6 and 6. Pairs: "the cat" alone, of 5 and 5.
    assert found["rouge1"] == pytest.approx(4 / 6)
    assert found["rouge2"] == pytest.approx(1 / 5)
    assert found["rougeL"] == pytest.approx(4 / 6)


def test_the_nearest_reference_counts() -> None:
    found = generated("a lost bag of mine today").metrics([["something else", "a lost bag of mine today"]])
    assert [found[name] for name in ("exact_match", "token_f1", "bleu", "rougeL", "chrf")] == pytest.approx(
        [1.0] * 5
    )


def test_bleu_is_that_of_the_corpus_with_a_penalty_for_short_texts() -> None:
    # All n-grams of five words are in the reference of six: BLEU = exp(1 - 6 / 5).
    found = generated("one two three four five").metrics([["one two three four five six"]])
    assert found["bleu"] == pytest.approx(2.718281828 ** (1 - 6 / 5))


def test_an_answer_is_what_follows_the_last_mark() -> None:
    texts = generated("so 2 #### 1,002", "#### 3 or #### 4", "5", "#### 6.")
    found = texts.metrics([["#### 1002"], ["#### 3", "#### 4"], ["#### 5"], ["#### 6"]], answer_after="####")
    assert found["answer_match"] == 0.5
    assert "answer_match" not in texts.metrics([["a"]] * 4)


def test_an_empty_text_has_no_score() -> None:
    found = generated("", ended=[False]).metrics([["a late plane"]])
    assert found.pop("unfinished") == 1.0
    assert set(found.values()) == {0.0}


def test_a_generated_label_counts_if_it_is_the_words_of_its_class() -> None:
    words = {"good": "great", "bad": "awful"}
    found = generated("great", "great", "good", "awful stuff").label_metrics(
        ["good", "bad", "good", "bad"], words
    )
    assert found == {"label_match": 0.25, "no_class": 0.5}


def test_every_metric_is_declared_under_what_it_needs() -> None:
    texts = generated("a").metrics([["a"]], answer_after="#")
    labels = generated("a").label_metrics(["x"], {"x": "a"})
    declared: dict[str, set[str]] = {}
    for metric in METRICS.values():
        declared.setdefault(metric.needs, set()).add(metric.name)
    assert (declared["generated texts"], declared["generated labels"]) == (set(texts), set(labels))


def test_a_text_ends_before_the_first_stop_string() -> None:
    assert before_stop("one. two; three", (";", ".")) == "one"
    assert before_stop("one two", (";",)) == "one two"


def test_texts_are_in_the_order_of_their_rows() -> None:
    lm = tiny_lm("llama")
    batch = batch_of([[5, 6, 7], [8, 9], [10, 11, 12, 13]], ((20,),))
    decoding = Decoding(
        max_new_tokens=4,
        num_beams=1,
        length_penalty=1.0,
        early_stopping=False,
        temperature=0.0,
        top_k=None,
        top_p=None,
        seed=0,
        stop=(),
    )
    parts: list[Batch] = [batch.select([2]), batch.select([0, 1])]
    texts = generate(lm, PromptBank(), parts, decoding)
    alone = [lm.decode(tokens) for tokens in lm.generate(PromptBank(), batch, decoding)]
    assert list(texts.texts) == alone
    ends = [tokens[-1] in lm.end_tokens for tokens in lm.generate(PromptBank(), batch, decoding)]
    assert list(texts.ended) == ends
