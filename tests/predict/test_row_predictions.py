"""From a table to its predictions with any scorer: flat memory, and the same bytes however often killed."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softcue.errors import DataError, RunError
from softcue.predict.answering import Answering
from softcue.predict.opening import open_rows
from softcue.predict.output import PartialFile, Writing
from softcue.predict.predicting import Scored, Scorer, predict_rows
from softcue.predict.rows import Row

CLASSES = ("long", "short")
JOB = {"run": "r"}


@dataclass(frozen=True, kw_only=True)
class Length:
    """A text judged by its length."""

    label: str
    probabilities: dict[str, float]


def score(batch: Sequence[dict[str, str]]) -> list[Length]:
    """A scorer whose probabilities depend on the whole batch, as a real one's last digits do."""
    total = sum(len(row["text"]) for row in batch)
    shares = [len(row["text"]) / total for row in batch]
    return [
        Length(label=CLASSES[share < 0.05], probabilities={"long": share, "short": 1 - share})
        for share in shares
    ]


class Killed(BaseException):
    """What ends a process between two instructions."""


def predict_file(
    source: Path,
    target: Path,
    *,
    scorer: Scorer = score,
    kill_after: int | None = None,
    skips: bool = False,
    chunk_rows: int = 16,
) -> int:
    """`softcue-predict` with the cheap scorer, the number of skipped rows; killed in a chunk if wanted."""
    chunks = itertools.count()

    def mortal(batch: Sequence[dict[str, str]]) -> Sequence[Scored]:
        if next(chunks) == kill_after:
            raise Killed
        return scorer(batch)

    partial = PartialFile(target, job=JOB)
    with open_rows(str(source), source.suffix[1:]) as rows:
        form = target.suffix[1:]
        answering = answers(columns=rows.columns, free=form == "jsonl")
        progress = partial.left()
        assert progress is None or rows.go_on(progress.read)
        writing = Writing(form=form, columns=answering.answer_columns)
        num_skipped = 0 if progress is None else progress.skipped
        with partial.opened(progress) as output:
            if progress is None:
                output.write(writing.header())
            for bad in predict_rows(
                rows,
                mortal,
                answering=answering,
                writing=writing,
                output=output,
                chunk_rows=chunk_rows,
                skips=skips,
            ):
                num_skipped += len(bad)
                output.keep(rows, skipped=num_skipped)
            output.finish()
    return num_skipped


def answers(*, columns: tuple[str, ...], raft: bool = False, free: bool = False) -> Answering:
    return Answering(columns=columns, texts={"text": "text"}, classes=CLASSES, raft=raft, free=free)


def texts(num_rows: int) -> Iterator[str]:
    """Texts of many lengths, some on two lines."""
    for number in range(num_rows):
        yield f"tweet {number}, " + "\n".join(["so long"] * (number * 7 % 5 + 1))


def make_csv(path: Path, num_rows: int) -> Path:
    with path.open("w", newline="") as file:
        rows = ({"id": number, "text": text} for number, text in enumerate(texts(num_rows)))
        writer = csv.DictWriter(file, ["id", "text"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def make_jsonl(path: Path, num_rows: int) -> Path:
    path.write_text("".join(json.dumps({"text": text, "n": [1]}) + "\n" for text in texts(num_rows)))
    return path


def make_parquet(path: Path, num_rows: int) -> Path:
    pq.write_table(pa.table({"text": list(texts(num_rows))}), path, row_group_size=max(num_rows // 10, 50))
    return path


MAKE: dict[str, Callable[[Path, int], Path]] = {"csv": make_csv, "jsonl": make_jsonl, "parquet": make_parquet}


@pytest.mark.parametrize("target", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("source", MAKE)
def test_a_prediction_killed_anywhere_ends_in_the_same_bytes(
    tmp_path: Path, source: str, target: str
) -> None:
    table = MAKE[source](tmp_path / f"t.{source}", 100)
    whole, killed = tmp_path / f"whole.{target}", tmp_path / f"killed.{target}"
    predict_file(table, whole)
    # The first process begins, each later one does two chunks and dies in the next.
    for kill_after in (0, 2, 2, 2):
        with pytest.raises(Killed):
            predict_file(table, killed, kill_after=kill_after)
        assert not killed.exists()
    predict_file(table, killed)
    assert killed.read_bytes() == whole.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {table.name, whole.name, killed.name}


def test_bytes_behind_the_last_safe_point_are_written_anew(tmp_path: Path) -> None:
    table = make_csv(tmp_path / "t.csv", 40)
    whole, killed = tmp_path / "whole.csv", tmp_path / "killed.csv"
    predict_file(table, whole)
    with pytest.raises(Killed):
        predict_file(table, killed, kill_after=2)
    with (tmp_path / "killed.csv.part").open("ab") as part:
        part.write(b"half a row,")
    predict_file(table, killed)
    assert killed.read_bytes() == whole.read_bytes()


def test_a_bad_row_ends_it_with_the_rows_before_written(tmp_path: Path) -> None:
    table = make_csv(tmp_path / "t.csv", 40)
    table.write_text(table.read_text().replace('18,"tweet 18', '18,7,"tweet 18'))
    with pytest.raises(DataError, match=r"t\.csv line 56 has 3 cells where the header has 2; mend it and"):
        predict_file(table, tmp_path / "out.csv")
    with (tmp_path / "out.csv.part").open(newline="") as part:
        assert [row["id"] for row in csv.DictReader(part)] == [str(number) for number in range(18)]


@pytest.mark.parametrize("skips", [True, False])
def test_what_goes_on_after_a_bad_row_is_what_a_prediction_at_once_gives(tmp_path: Path, skips: bool) -> None:
    table = make_csv(tmp_path / "t.csv", 40)
    good = table.read_text()
    table.write_text(good.replace('18,"tweet 18', '18,7,"tweet 18'))
    with pytest.raises(DataError):
        predict_file(table, tmp_path / "out.csv")
    if not skips:
        table.write_text(good)
    assert predict_file(table, tmp_path / "out.csv", skips=skips) == int(skips)
    predict_file(table, tmp_path / "at_once.csv", skips=skips)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "at_once.csv").read_bytes()


def test_skipped_rows_are_counted_across_processes(tmp_path: Path) -> None:
    table = make_csv(tmp_path / "t.csv", 60)
    table.write_text(table.read_text().replace("\n3,", "\n3,3,").replace("\n50,", "\n50,50,"))
    with pytest.raises(Killed):
        predict_file(table, tmp_path / "out.csv", kill_after=2, skips=True)
    assert predict_file(table, tmp_path / "out.csv", skips=True) == 2


def test_another_job_is_refused_a_partial_output(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        predict_file(make_csv(tmp_path / "t.csv", 40), tmp_path / "out.csv", kill_after=1)
    with pytest.raises(
        RunError, match=r"out\.csv\.part was left .* its run is 'r', and here it is 's'.*overwrite=true"
    ):
        PartialFile(tmp_path / "out.csv", job={"run": "s"}).left()


def test_the_input_stands_before_what_is_added_in_its_own_order(tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text('z,text,a\n1,"a\rb, ""c""",\n')
    predict_file(table, tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_bytes() == (
        b'z,text,a,predicted,p(long),p(short)\n1,"a\rb, ""c""",,long,1.0,0.0\n'
    )


def test_jsonl_keeps_types_and_keys_of_its_own(tmp_path: Path) -> None:
    table = tmp_path / "t.jsonl"
    table.write_text('{"text": "é", "n": 1.50, "on": null}\n{"more": [true], "text": "e"}\n')
    predict_file(table, tmp_path / "out.jsonl")
    added = '"predicted": "long", "p(long)": 0.5, "p(short)": 0.5}\n'
    assert (tmp_path / "out.jsonl").read_text() == (
        f'{{"text": "é", "n": 1.5, "on": null, {added}{{"more": [true], "text": "e", {added}'
    )


def test_values_that_are_no_text_become_cells(tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    row = {"text": "é", "day": date(2026, 1, 2), "on": True, "none": None, "list": ["é"], "n": 2}
    pq.write_table(pa.Table.from_pylist([row]), table)
    predict_file(table, tmp_path / "out.tsv")
    cells = (tmp_path / "out.tsv").read_text().splitlines()[1].split("\t")
    assert cells[:6] == ["é", "2026-01-02", "true", "", '"[""é""]"', "2"]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"n": 1}, "has no 'text'"),
        ({"text": " \n"}, "has no text in 'text'"),
        ({"text": None}, "has no text in 'text'"),
        ({"text": "a", "m": 1}, "has 'm', which is none of the first row's columns"),
    ],
)
def test_a_row_that_cannot_be_predicted_says_why(values: dict[str, object], reason: str) -> None:
    checked = answers(columns=("text", "n")).checked(Row(where="line 7", values=values))
    assert f"{checked.where} {getattr(checked, 'reason', '')}" == f"line 7 {reason}"


def test_of_several_columns_one_may_be_empty_as_in_training() -> None:
    answering = Answering(
        columns=("a", "b"), texts={"A": "a", "B": "b"}, classes=CLASSES, raft=False, free=False
    )
    row = Row(where="line 2", values={"a": "", "b": 3})
    assert answering.checked(row) == row
    assert answering.fields(row) == {"A": "", "B": "3"}


def test_raft_gets_a_label_for_a_row_without_text_too() -> None:
    answering = answers(columns=("text", "ID"), raft=True)
    row = Row(where="line 2", values={"text": "", "ID": "50"})
    assert answering.checked(row) == row
    assert answering.answer(row, label="long", probabilities={"long": 1.0}) == {"ID": "50", "Label": "long"}


@pytest.mark.parametrize(
    ("columns", "raft", "message"),
    [
        (("body",), False, r"reads column 'text', and t\.csv has no 'text' among \['body'\]. Name the one"),
        (("text", "p(long)"), False, r"t\.csv has a column 'p\(long\)', as the predictions will; rename"),
        (("text", "id"), True, r"format=raft writes the ids in column 'ID', and t\.csv has \['text', 'id'\]"),
    ],
)
def test_columns_that_do_not_do_say_so(columns: tuple[str, ...], raft: bool, message: str) -> None:
    with pytest.raises(DataError, match=message):
        answers(columns=columns, raft=raft).check(where="t.csv")


@pytest.mark.parametrize("source", MAKE)
def test_memory_stays_flat_over_100_000_rows(tmp_path: Path, source: str) -> None:
    table = MAKE[source](tmp_path / f"t.{source}", 100_000)
    resident: list[int] = []
    process = psutil.Process()

    def watched(batch: Sequence[dict[str, str]]) -> list[Length]:
        resident.append(process.memory_info().rss)
        return score(batch)

    predict_file(table, tmp_path / "out.jsonl", scorer=watched, chunk_rows=1000)
    first, whole = max(resident[:10]), max(resident)
    print(f"{source}: {first / 1e6:.1f} MB over 10,000 rows, {whole / 1e6:.1f} MB over 100,000")
    # The rows alone, held as dicts, are 40 MB.
    assert whole - first < 10e6
    with (tmp_path / "out.jsonl").open() as lines:
        assert sum(1 for _ in lines) == 100_000
