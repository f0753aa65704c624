"""The folder in which the documentation's commands run: the files and runs that they name."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from docs.fill import ROOT
from softcue.data.pool import Pool, load_once
from softcue.data.sources import AirlineComplaints, AirlineSummaries, TweetTopic
from softcue.data.task import Task
from tests.docs.commands import Call
from tests.entry_points import run_script

HASH = "0123456789ab"
"""In the documentation, the hash of every run's folder."""
NUM_TWEETS = 1500


def run_entry_point(call: Call, *, cwd: Path) -> str:
    """Run a console script in this process; its output.

    Raises:
        AssertionError: it ends with an exit code other than 0.
    """
    done = run_script(call.program, *call.arguments, cwd=cwd, stdin=call.stdin, merged=True)
    assert done.returncode == 0, f"{call.program} {' '.join(call.arguments)}: {done.stdout}"
    return done.stdout


@contextmanager
def fewer_tweets() -> Iterator[None]:
    """Keep the first of a task's embedded tweets in memory: a hundred jobs would read and split them all."""
    with pytest.MonkeyPatch.context() as patch:
        for source in (AirlineComplaints, AirlineSummaries, TweetTopic):
            load, pools = source.load, dict[str, Pool]()

            def kept(self: object, task: Task, load: Any = load, pools: dict[str, Pool] = pools) -> Pool:
                key = f"{self} {task}"
                if key not in pools:
                    pool = load(self, task)
                    first = range(min(NUM_TWEETS, len(pool.labelled)))
                    pools[key] = replace(pool, labelled=pool.labelled.select(first))
                return pools[key]

            patch.setattr(source, "load", kept)
        load_once.cache_clear()
        yield
    # Later tests of this process read all rows again.
    load_once.cache_clear()


def make_workspace(folder: Path, *, backbone: Path, cache: Path) -> None:
    """Train the runs that the pages name, on a tiny model, and write the tables that they read."""
    _write_tables(folder)
    common = [
        *("backbone=local", f"backbone.path={backbone}", "backbone.name=tiny", f"paths.cache={cache}"),
        *("trainer.max_epochs=1", "callbacks.progress_bar=null", "trainer.enable_progress_bar=false"),
    ]
    few = ["split.num_train=6", "split.num_test=4"]
    quick = ["experiment=quickstart", *few]
    for method in ("prompt_tuning", "prefix_tuning", "p_tuning"):
        train(folder, [*quick, f"prompt={method}", *common])
    several = ["data=tweet_topics", "prompt=multitask", "split=few_shot", "split.balance=equal"]
    train(folder, [*several, *few, *common])
    _copy_records(folder)


def train(folder: Path, overrides: Sequence[str]) -> None:
    """Train a run and give its folder the name that the documentation uses."""
    before = set((folder / "runs").glob("*"))
    run_entry_point(Call(program="softcue-train", arguments=tuple(overrides), stdin=b""), cwd=folder)
    (run,) = set((folder / "runs").glob("*")) - before
    method = run.name.rpartition("-")[0]
    record = json.loads((run / "record.json").read_text())
    (run / "record.json").write_text(json.dumps({**record, "run_id": f"{method}-{HASH}"}))
    run.rename(run.with_name(f"{method}-{HASH}"))


def _write_tables(folder: Path) -> None:
    rows = [(f"text number {number}", "good" if number % 2 else "bad") for number in range(60)]
    (folder / "reviews.csv").write_text("text,label\n" + "".join(f"{text},{label}\n" for text, label in rows))
    articles = "".join(
        f"This is article {number}. It has two sentences.,summary {number}\n" for number in range(60)
    )
    (folder / "articles.csv").write_text(f"article,summary\n{articles}")
    (folder / "tweets.csv").write_text("text\n" + "".join(f"{text}\n" for text, _ in rows[:4]))
    (folder / "tweets.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text, _ in rows[:4]))
    (folder / "test_unlabeled.csv").write_text("ID,Tweet text\n50,one text\n51,\n")
    raft = folder / "raft" / "overruling"
    raft.mkdir(parents=True)
    labels = ("overruling", "not overruling")
    sentences = "".join(f"sentence {number},{labels[number % 2]},{number}\n" for number in range(50))
    (raft / "train.csv").write_text(f"Sentence,Label,ID\n{sentences}")
    (raft / "test_unlabeled.csv").write_text("Sentence,ID\na sentence,50\n")


def _copy_records(folder: Path) -> None:
    """The committed records where the pages have them, and some where a reader's own sweep would be."""
    for name in ("*/*/*/record.json", "*/*/*/predictions_*.parquet", "*/*.csv"):
        for file in (ROOT / "experiments").glob(name):
            _copy(file, folder / file.relative_to(ROOT))
    for record in (ROOT / "experiments" / "quickstart" / "runs").glob("*/record.json"):
        for root in ("runs/demo", "runs/methods_x_seeds", "experiments/precision/runs"):
            _copy(record, folder / root / record.parent.name / record.name)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
