"""Write results.json: what a first run on a table of one's own takes, in keystrokes and in seconds.

The table is of tweets on a topic that no setting of softcue was chosen on, written as anybody would have
it: a column of text and a column of labels. The seconds are those of the terminal's lines.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd

from softcue.data.sources import TOPICS
from softcue.data.tweets import Tweet, read_tweets, without_repeats
from softcue.runs.provenance import hardware, versions
from softcue.runs.store import list_records

HERE = Path(__file__).parent
ROWS = 150
COMMAND = "softcue-train data=table data.source.path={table} backbone=smollm2_135m"
WORDS = "softcue-train data=table data.source.path={table} backbone=smollm2_135m prompt=baseline/tfidf"
LINES = {"first_epoch": "epoch 1 of"}


def write_table(topic: str, path: Path) -> None:
    """Draw rows on the topic, as many of each sentiment where there are enough, and write them."""
    pattern = TOPICS[topic]
    tweets = [tweet for tweet in without_repeats(read_tweets(0.65)) if pattern.search(tweet.text)]
    by_label: dict[str, list[Tweet]] = {}
    for tweet in tweets:
        by_label.setdefault(tweet.sentiment, []).append(tweet)
    random = np.random.default_rng(0)
    each = ROWS // len(by_label)
    drawn = [
        tweets[at]
        for tweets in by_label.values()
        for at in random.permutation(len(tweets))[: min(each, len(tweets))]
    ]
    frame = pd.DataFrame({"text": [tweet.text for tweet in drawn], "label": [one.sentiment for one in drawn]})
    frame.sample(frac=1, random_state=0).to_csv(path, index=False)


def run(command: str, folder: Path) -> dict[str, float]:
    """Run a command there; seconds from its start to lines of its output and to its end."""
    program, *arguments = command.split()
    began, found = time.perf_counter(), dict[str, float]()
    with subprocess.Popen(
        [str(Path(sys.executable).parent / program), *arguments],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            now = round(time.perf_counter() - began, 1)
            print(f"{now:7.1f}  {line}", end="")
            found.setdefault("first_line", now)
            for name, words in LINES.items():
                if words in line:
                    found.setdefault(name, now)
    if process.returncode:
        raise SystemExit(f"{command} ended with exit code {process.returncode}")
    return found | {"whole": round(time.perf_counter() - began, 1)}


def measure(topic: str) -> dict[str, object]:
    """A first run on the topic's table, and the same with TF-IDF for comparison."""
    table = f"{topic}.csv"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_table(topic, folder / table)
        seconds = run(COMMAND.format(table=table), folder)
        run(WORDS.format(table=table), folder)
        records = list_records(folder / "runs").records
    return {
        "table": table,
        "command": COMMAND.format(table=table),
        "keystrokes": len(COMMAND.format(table=table)) + 1,
        "seconds": seconds,
        "macro_f1": {record.method: round(record.metric("test", "macro_f1") or 0, 3) for record in records},
        "rows": records[0].num_rows,
    }


def main() -> None:
    """Measure, and write the record."""
    found = {
        "runs": [measure("self_driving_cars")],
        "cpu": hardware(threads=1, gpu=None).cpu,
        "softcue": versions()["softcue"],
    }
    (HERE / "results.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
