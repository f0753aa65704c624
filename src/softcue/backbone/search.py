"""Search for the text after each row: greedy, by sampling, or by beam search, for every engine alike.

An engine keeps the state of its hypotheses and gives the logits of their next tokens; the search chooses
which are continued, and how. Rows that end are not continued, so they leave the engine's batch.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor
from transformers.generation.logits_process import (
    LogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from softcue.contracts import Decoding, Ids

IMPOSSIBLE = -1e9
"""The score of a beam that only fills a place; transformers uses the same number."""


@dataclass(frozen=True, kw_only=True)
class Ending:
    """What completes a text: an end token, or the end of a stop string."""

    tokens: frozenset[int]
    stop: tuple[str, ...]
    decode: Callable[[Sequence[int]], str]

    def __call__(self, text: Ids) -> bool:
        """Whether a text is complete."""
        if text[-1] in self.tokens:
            return True
        return bool(self.stop) and any(stop in self.decode(text) for stop in self.stop)


class Continuation(ABC):
    """The state of an engine that continues rows token by token.

    N hypotheses are live. Each live row has the same number of them, and they follow each other.
    """

    @property
    @abstractmethod
    def first_logits_NV(self) -> Tensor:
        """Logits, in fp32, of each row's first token: one hypothesis a row."""

    @abstractmethod
    def extend(self, parents: Sequence[int], tokens: Sequence[int]) -> Tensor:
        """Continue hypothesis `parents[n]` with `tokens[n]`, and drop those without a child.

        Returns the logits [N, V] of the next tokens, in fp32.
        """


def search(
    continuation: Continuation, decoding: Decoding, *, rows: Sequence[int], ending: Ending
) -> list[list[int]]:
    """The tokens after each row, with the end token if it came; `rows` are the rows' numbers."""
    if decoding.num_beams > 1:
        return _beam_search(continuation, decoding, num_rows=len(rows), ending=ending)
    choose = _sampler(decoding, rows) if decoding.temperature > 0 else _most_likely
    return _one_by_one(continuation, decoding, choose, num_rows=len(rows), ending=ending)


Choose = Callable[[Tensor, Sequence[int]], list[int]]
"""The next token of each live row, from logits [N, V] and the rows' places in the batch."""


def _one_by_one(
    continuation: Continuation, decoding: Decoding, choose: Choose, *, num_rows: int, ending: Ending
) -> list[list[int]]:
    texts: list[list[int]] = [[] for _ in range(num_rows)]
    live = list(range(num_rows))
    logits_NV = continuation.first_logits_NV
    for step in range(1, decoding.max_new_tokens + 1):
        tokens = choose(logits_NV, live)
        for row, token in zip(live, tokens, strict=True):
            texts[row].append(token)
        parents = [at for at, row in enumerate(live) if not ending(tuple(texts[row]))]
        if not parents or step == decoding.max_new_tokens:
            break
        logits_NV = continuation.extend(parents, [tokens[at] for at in parents])
        live = [live[at] for at in parents]
    return texts


def _most_likely(logits_NV: Tensor, _: Sequence[int]) -> list[int]:
    return [int(token) for token in logits_NV.argmax(dim=1).tolist()]


def _sampler(decoding: Decoding, rows: Sequence[int]) -> Choose:
    """Sampling in which each row has random numbers of its own, whatever rows run beside it."""
    generators = [_generator(decoding.seed, row) for row in rows]
    warpers: list[LogitsProcessor] = [TemperatureLogitsWarper(decoding.temperature)]
    if decoding.top_k is not None:
        warpers.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p is not None:
        warpers.append(TopPLogitsWarper(decoding.top_p))

    def choose(logits_NV: Tensor, live: Sequence[int]) -> list[int]:
        for warper in warpers:
            logits_NV = warper(None, logits_NV)
        probability_NV = logits_NV.softmax(dim=1).cpu()
        return [
            int(torch.multinomial(own_V, 1, generator=generators[row]))
            for own_V, row in zip(probability_NV, live, strict=True)
        ]

    return choose


def _generator(seed: int, row: int) -> torch.Generator:
    digest = hashlib.sha256(f"{seed} {row}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:4]))


@dataclass(kw_only=True)
class _RowBeams:
    """The beam search of one row: its running beams, and its best complete texts, with their scores."""

    running: list[tuple[float, Ids]] = field(default_factory=lambda: [(0.0, ())])
    complete: list[tuple[float, Ids]] = field(default_factory=list)
    is_settled: bool = False
    """Whether nothing can change the complete texts any more."""

    def step(
        self, candidates: Sequence[tuple[float, int, int]], decoding: Decoding, ending: Ending
    ) -> tuple[list[int], list[int]]:
        """Take the best candidates (score, beam, token); return the running beams' parents and tokens.

        As transformers: the best `num_beams` candidates may complete, and the best of those that do not
        end are the next beams.
        """
        width, length = decoding.num_beams, len(self.running[0][1]) + 1
        texts = [(*self.running[beam][1], token) for _, beam, token in candidates]
        is_last = length == decoding.max_new_tokens
        ends = [is_last or ending(text) for text in texts]
        # By score alone, and stable: of equals, the earlier text stays ahead.
        complete = self.complete + [
            (score / length**decoding.length_penalty, text)
            for (score, _, _), text, end in list(zip(candidates, texts, ends, strict=True))[:width]
            if end
        ]
        self.complete = sorted(complete, key=lambda scored: -scored[0])[:width]
        kept = sorted(range(len(candidates)), key=lambda at: ends[at])[:width]
        self.running = [(candidates[at][0] + IMPOSSIBLE * ends[at], texts[at]) for at in kept]
        self.is_settled = all(ends) or self._cannot_improve(length, decoding)
        return [candidates[at][1] for at in kept], [candidates[at][2] for at in kept]

    def _cannot_improve(self, length: int, decoding: Decoding) -> bool:
        if len(self.complete) < decoding.num_beams:
            return False
        if decoding.early_stopping is True:
            return True
        if decoding.early_stopping == "never" and decoding.length_penalty > 0:
            length = decoding.max_new_tokens
        best_running = self.running[0][0] / float(length**decoding.length_penalty)
        return best_running <= self.complete[-1][0]


def _beam_search(
    continuation: Continuation, decoding: Decoding, *, num_rows: int, ending: Ending
) -> list[list[int]]:
    """Beam search as transformers' `generate` does it, in which each row ends by itself."""
    beams = [_RowBeams() for _ in range(num_rows)]
    live = list(range(num_rows))
    logits_NV = continuation.first_logits_NV
    while True:
        width = len(logits_NV) // len(live)
        # Enough that `num_beams` of them do not end, whichever end tokens the others have.
        count = max(2, 1 + len(ending.tokens)) * decoding.num_beams
        candidates = _best_candidates(logits_NV, [beams[row] for row in live], count)
        parents: list[int] = []
        tokens: list[int] = []
        for at, row in enumerate(live):
            own_parents, own_tokens = beams[row].step(candidates[at], decoding, ending)
            if not beams[row].is_settled:
                parents += [at * width + beam for beam in own_parents]
                tokens += own_tokens
        live = [row for row in live if not beams[row].is_settled]
        if not live:
            return [list(row.complete[0][1]) for row in beams]
        logits_NV = continuation.extend(parents, tokens)


def _best_candidates(
    logits_NV: Tensor, rows: Sequence[_RowBeams], count: int
) -> list[list[tuple[float, int, int]]]:
    """The best continuations of each row's beams: (score, beam, token), the best first."""
    vocab_size = logits_NV.shape[1]
    score_N = torch.tensor([score for row in rows for score, _ in row.running], device=logits_NV.device)
    score_NV = logits_NV.log_softmax(dim=1) + score_N[:, None]
    score_RX = score_NV.view(len(rows), -1)
    best_RK, index_RK = score_RX.topk(min(count, score_RX.shape[1]), dim=1)
    return [
        [(score, index // vocab_size, index % vocab_size) for score, index in zip(*own, strict=True)]
        for own in zip(best_RK.tolist(), index_RK.tolist(), strict=True)
    ]
