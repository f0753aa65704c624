"""The benchmark's rows: 16 embedded tweets as long as RAFT's, under RAFT's template."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import datasets
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from softcue.backbone.embedded import dequantised, embedded_gguf
from softcue.contracts import Choices
from softcue.data.sources import AirlineComplaints
from softcue.data.task import Task

NUM_ROWS, RAFT_LENGTHS = 16, range(14, 44)
CLASSES = {"complaint": "complaint", "no complaint": "no complaint"}


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Rows of token ids, the label that follows each, and all classes' labels."""

    tokenizer: PreTrainedTokenizerFast
    rows: list[list[int]]
    labels: list[tuple[int, ...]]
    choices: Choices


def workload() -> Workload:
    """16 tweets to any airline, drawn with a seed, whose rows are as long as RAFT's (14 to 43 tokens)."""
    folder = dequantised(embedded_gguf(), Path.home() / ".cache" / "softcue")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    task = Task(
        name="airline_complaints",
        template="Tweet text : {Tweet text} Label :",
        classes=tuple(CLASSES),
        verbalizer=CLASSES,
        end_token=False,
    )
    tweets = AirlineComplaints(min_confidence=0.6).load(task).labelled
    drawn = datasets.Dataset.from_list(list(tweets.rows())).shuffle(seed=0).select(range(200))
    encoded = [(tokenizer.encode(f"Tweet text : {row['Tweet text']} Label :"), row["label"]) for row in drawn]
    fitting = [(ids, label) for ids, label in encoded if len(ids) in RAFT_LENGTHS][:NUM_ROWS]
    choices = {name: tuple(tokenizer.encode(f" {name}")) for name in CLASSES}
    return Workload(
        tokenizer=tokenizer,
        rows=[ids for ids, _ in fitting],
        labels=[choices[label] for _, label in fitting],
        choices=tuple(choices.values()),
    )


def classes_77(tokenizer: PreTrainedTokenizerFast) -> Choices:
    """77 labels of 2 to 5 words that share beginnings, as the intents of banking_77 do."""
    topics = (
        "card",
        "transfer",
        "top up",
        "cash withdrawal",
        "exchange rate",
        "identity check",
        "direct debit",
    )
    events = (
        "not working",
        "declined",
        "pending",
        "reverted",
        "charged a fee",
        "charged twice",
        "not received",
        "wrong amount",
        "limit",
        "cancelled",
        "arrival time",
    )
    return tuple(tuple(tokenizer.encode(f" {topic} {event}")) for topic in topics for event in events)
