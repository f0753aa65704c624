"""Generated texts: made from batches of rows, compared with references or with label words."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torchmetrics.text import CHRFScore, ROUGEScore, SacreBLEUScore, SQuAD

from softcue.backbone.base import Backbone
from softcue.contracts import Batch, Decoding, PromptBank

ROUGE_KEYS = ("rouge1", "rouge2", "rougeL")


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The text after each row, in the rows' order, and whether it ended by itself."""

    texts: tuple[str, ...]
    ended: tuple[bool, ...]

    @property
    def unfinished(self) -> float:
        """The share of texts that `max_new_tokens` cut."""
        return self.ended.count(False) / len(self.ended)

    def metrics(
        self, references: Sequence[Sequence[str]], *, answer_after: str | None = None
    ) -> dict[str, float]:
        """The metrics of texts in `softcue.runs.metrics`; each row has one reference or more.

        `exact_match` and `token_f1` compare as SQuAD does (Rajpurkar et al. 2016): without case, punctuation
        and articles, with the nearest reference. `bleu` is sacreBLEU's of the corpus (Post 2018), `chrf`
        chrF of characters up to 6 (Popović 2015), and the ROUGE are F1 against the best reference (Lin 2004).
        `answer_match`, with `answer_after`, compares the answers alone (Cobbe et al. 2021).
        """
        answers = SQuAD()
        answers.update(
            [{"prediction_text": text, "id": str(row)} for row, text in enumerate(self.texts)],
            [
                {"answers": {"answer_start": [0] * len(own), "text": list(own)}, "id": str(row)}
                for row, own in enumerate(references)
            ],
        )
        of_answers = {name: float(value) / 100 for name, value in answers.compute().items()}
        targets = [list(own) for own in references]
        rouge = ROUGEScore(rouge_keys=ROUGE_KEYS, accumulate="best")(list(self.texts), targets)
        found = {
            "exact_match": of_answers["exact_match"],
            "token_f1": of_answers["f1"],
            "bleu": float(SacreBLEUScore()(self.texts, targets)),
            **{key: float(rouge[f"{key}_fmeasure"]) for key in ROUGE_KEYS},
            "chrf": float(CHRFScore(n_word_order=0)(list(self.texts), targets)),
            "unfinished": self.unfinished,
        }
        return (
            found
            if answer_after is None
            else {**found, "answer_match": self._answers(references, answer_after)}
        )

    def _answers(self, references: Sequence[Sequence[str]], mark: str) -> float:
        """The share of texts whose answer is that of a reference; a text without an answer is wrong."""
        right = [
            (answer := answer_of(text, mark)) is not None and answer in {answer_of(one, mark) for one in own}
            for text, own in zip(self.texts, references, strict=True)
        ]
        return sum(right) / len(right)

    def label_metrics(self, labels: Sequence[str], words: Mapping[str, str]) -> dict[str, float]:
        """How often the text is the words of the row's class, and how often those of no class."""
        right = [text == words[label] for text, label in zip(self.texts, labels, strict=True)]
        strange = [text not in words.values() for text in self.texts]
        return {"label_match": sum(right) / len(right), "no_class": sum(strange) / len(strange)}


@torch.no_grad()
def generate(lm: Backbone, bank: PromptBank, batches: Iterable[Batch], decoding: Decoding) -> Generated:
    """Continue the rows of batches in any order; `Batch.row_B` are the rows' numbers."""
    bank = bank.to(lm.device)
    found: dict[int, tuple[str, bool]] = {}
    for batch in batches:
        tokens = lm.generate(bank, batch.to(lm.device), decoding)
        for row, own in zip(batch.row_B.tolist(), tokens, strict=True):
            text = lm.decode(own)
            is_whole = own[-1] in lm.end_tokens or any(stop in text for stop in decoding.stop)
            found[row] = before_stop(text, decoding.stop).strip(), is_whole
    in_order = [found[row] for row in sorted(found)]
    return Generated(texts=tuple(text for text, _ in in_order), ended=tuple(ended for _, ended in in_order))


def answer_of(text: str, mark: str) -> str | None:
    """What follows the last mark in a text, without spaces and the commas of numbers; None without one."""
    _, found, answer = text.rpartition(mark)
    return answer.strip().replace(",", "") if found else None


def before_stop(text: str, stop: Sequence[str]) -> str:
    """The text before the first stop string in it."""
    return text[: min([text.find(one) for one in stop if one in text], default=len(text))]
