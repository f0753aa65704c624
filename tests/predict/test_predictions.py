"""From a table to its predictions with any scorer: flat memory, and the same bytes however often killed."""

from __future__ import annotations

import csv
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import date
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softcue.data.rows import TableRow
from softcue.data.tables import open_table
from softcue.errors import DataError, RunError
from softcue.predict.command import Scorer, predict_rows
from softcue.predict.output import PartialOutput
from softcue.predict.schema import OutputSchema, RowWriter
from tests.cases import slow_but

CLASSES = ("long", "short")
JOB = {"run": "r"}


def score(batch: Sequence[dict[str, str]]) -> list[Mapping[str, float]]:
    """Probabilities that depend on the whole batch, as a real scorer's last digits do."""
    total = sum(len(row["text"]) for row in batch)
    shares = [len(row["text"]) / total for row in batch]
    return [{"long": share, "short": 1 - share} for share in shares]


class KilledError(BaseException):
    """The end of a process between two instructions."""


def predict_file(
    source: Path,
    target: Path,
    *,
    scorer: Scorer = score,
    kill_after: int | None = None,
    skip_bad: bool = False,
    chunk_rows: int = 16,
    escape_formulas: bool = False,
) -> int:
    """Predict with the cheap scorer and count skipped rows; die in a chunk if `kill_after` is given."""
    chunks = itertools.count()

    def mortal(batch: Sequence[dict[str, str]]) -> Sequence[Mapping[str, float] | str]:
        if next(chunks) == kill_after:
            raise KilledError
        return [row for row in scorer(batch) if not isinstance(row, str)]

    partial = PartialOutput(target)
    with ExitStack() as stack:
        reader = stack.enter_context(open_table(str(source)))
        form = target.suffix[1:]
        schema = schema_of(reader.columns, free_columns=form == "jsonl")
        progress = partial.progress(JOB)
        assert progress is None or reader.resume_from(progress.read)
        num_skipped = 0 if progress is None else progress.skipped
        writer = RowWriter(form=form, columns=schema.output_columns, escape_formulas=escape_formulas)
        stack.enter_context(partial.locked())
        stack.enter_context(partial.opened(JOB, progress, reader.position))
        if progress is None:
            partial.write(writer.header())
        for bad in predict_rows(
            reader,
            mortal,
            schema=schema,
            writer=writer,
            write=partial.write,
            chunk_rows=chunk_rows,
            skip_bad=skip_bad,
        ):
            num_skipped += len(bad)
            partial.save(reader.position, skipped=num_skipped)
        partial.finish()
    return num_skipped


def schema_of(columns: tuple[str, ...], *, raft: bool = False, free_columns: bool = False) -> OutputSchema:
    return OutputSchema(
        columns=columns, texts={"text": "text"}, classes=CLASSES, raft=raft, free_columns=free_columns
    )


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


def make_json(path: Path, num_rows: int) -> Path:
    path.write_text(json.dumps([{"text": text, "n": [1]} for text in texts(num_rows)]))
    return path


def make_parquet(path: Path, num_rows: int) -> Path:
    pq.write_table(pa.table({"text": list(texts(num_rows))}), path, row_group_size=max(num_rows // 10, 50))
    return path


MAKE: dict[str, Callable[[Path, int], Path]] = {
    "csv": make_csv,
    "jsonl": make_jsonl,
    "json": make_json,
    "parquet": make_parquet,
}


@pytest.mark.parametrize("target", ["csv", "tsv", "jsonl"])
@pytest.mark.parametrize("source", MAKE)
def test_a_prediction_killed_anywhere_ends_in_the_same_bytes(
    tmp_path: Path, source: str, target: str
) -> None:
    table = MAKE[source](tmp_path / f"t.{source}", 100)
    whole, killed = tmp_path / f"whole.{target}", tmp_path / f"killed.{target}"
    predict_file(table, whole)
    # The first process only begins, each later one does two chunks and dies in the next.
    for kill_after in (0, 2, 2, 2):
        with pytest.raises(KilledError):
            predict_file(table, killed, kill_after=kill_after)
        assert not killed.exists()
    predict_file(table, killed)
    assert killed.read_bytes() == whole.read_bytes()
    assert {path.name for path in tmp_path.iterdir()} == {table.name, whole.name, killed.name}


def test_bytes_behind_the_last_safe_point_are_written_again(tmp_path: Path) -> None:
    table = make_csv(tmp_path / "t.csv", 40)
    whole, killed = tmp_path / "whole.csv", tmp_path / "killed.csv"
    predict_file(table, whole)
    with pytest.raises(KilledError):
        predict_file(table, killed, kill_after=2)
    with (tmp_path / "killed.csv.part").open("ab") as part:
        part.write(b"half a row,")
    predict_file(table, killed)
    assert killed.read_bytes() == whole.read_bytes()


def test_a_bad_row_ends_it_with_the_rows_before_written(tmp_path: Path) -> None:
    table = make_csv(tmp_path / "t.csv", 40)
    table.write_text(table.read_text().replace('18,"tweet 18', '18,7,"tweet 18'))
    with pytest.raises(DataError, match=r"t\.csv line 56 has 3 cells where the header has 2; fix it and"):
        predict_file(table, tmp_path / "out.csv")
    with (tmp_path / "out.csv.part").open(newline="") as part:
        assert [row["id"] for row in csv.DictReader(part)] == [str(number) for number in range(18)]


@pytest.mark.parametrize("skip_bad", [True, False])
def test_resuming_after_a_bad_row_gives_the_output_of_one_process(tmp_path: Path, skip_bad: bool) -> None:
    table = make_csv(tmp_path / "t.csv", 40)
    good = table.read_text()
    table.write_text(good.replace('18,"tweet 18', '18,7,"tweet 18'))
    with pytest.raises(DataError):
        predict_file(table, tmp_path / "out.csv")
    if not skip_bad:
        table.write_text(good)
    assert predict_file(table, tmp_path / "out.csv", skip_bad=skip_bad) == int(skip_bad)
    predict_file(table, tmp_path / "at_once.csv", skip_bad=skip_bad)
    assert (tmp_path / "out.csv").read_bytes() == (tmp_path / "at_once.csv").read_bytes()


def test_skipped_rows_are_counted_across_processes(tmp_path: Path) -> None:
    table = make_csv(tmp_path / "t.csv", 60)
    table.write_text(table.read_text().replace("\n3,", "\n3,3,").replace("\n50,", "\n50,50,"))
    with pytest.raises(KilledError):
        predict_file(table, tmp_path / "out.csv", kill_after=2, skip_bad=True)
    assert predict_file(table, tmp_path / "out.csv", skip_bad=True) == 2


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


@pytest.mark.parametrize("target", ["csv", "tsv"])
@pytest.mark.parametrize("escape_formulas", [True, False])
def test_formulas_are_escaped_if_wanted_and_nothing_else_is(
    tmp_path: Path, target: str, escape_formulas: bool
) -> None:
    formulas = ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1"]
    harmless = ["a=1", "1-1", " =1", "'=1", "", "\n=1"]
    rows = [{"text": "x", "=cell": cell} for cell in (*formulas, *harmless)]
    (tmp_path / "t.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    predict_file(tmp_path / "t.jsonl", tmp_path / f"out.{target}", escape_formulas=escape_formulas)
    mark = "'" if escape_formulas else ""
    with (tmp_path / f"out.{target}").open(newline="") as file:
        written = list(csv.DictReader(file, delimiter={"csv": ",", "tsv": "\t"}[target]))
    assert [row[f"{mark}=cell"] for row in written] == [*(f"{mark}{cell}" for cell in formulas), *harmless]


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"n": 1}, "has no 'text'"),
        ({"text": " \n"}, "has no text in 'text'"),
        ({"text": None}, "has no text in 'text'"),
        ({"text": "a", "m": 1}, "has 'm', which is none of the first row's columns"),
        ({"text": "a", "predicted": 1}, "has 'predicted', which is none of the first row's columns"),
    ],
)
def test_a_row_that_cannot_be_predicted_has_a_reason(values: dict[str, object], reason: str) -> None:
    assert schema_of(("text", "n")).checked(TableRow("line 7", values)) == TableRow("line 7", values, reason)


def test_of_several_columns_one_may_be_empty_as_in_training() -> None:
    schema = OutputSchema(
        columns=("a", "b"), texts={"A": "a", "B": "b"}, classes=CLASSES, raft=False, free_columns=False
    )
    row = TableRow("line 2", {"a": "", "b": 3})
    assert schema.checked(row) == row
    assert schema.fields(row) == {"A": "", "B": "3"}


def test_raft_gets_a_label_for_a_row_without_text_too() -> None:
    schema = schema_of(("text", "ID"), raft=True)
    row = TableRow("line 2", {"text": "", "ID": "50"})
    assert schema.checked(row) == row
    assert schema.output_row(row, {"short": 0.4, "long": 0.6}) == {"ID": "50", "Label": "long"}


@pytest.mark.parametrize(
    ("columns", "raft", "message"),
    [
        (
            ("body",),
            False,
            r"reads column 'text', and t\.csv has no 'text' \(columns: \['body'\]\). Name the column",
        ),
        (
            tuple("abcdefg"),
            False,
            r"\(columns: \['a', 'b', 'c', 'd', 'e'\] and 2 more\)",
        ),
        (("text", "p(long)"), False, r"t\.csv has a column 'p\(long\)', as the predictions will; rename"),
        (
            ("text", "id"),
            True,
            r"the ids in column 'ID', which t\.csv does not have \(columns: \['text', 'id'\]",
        ),
    ],
)
def test_columns_that_do_not_fit_are_refused(columns: tuple[str, ...], raft: bool, message: str) -> None:
    with pytest.raises(DataError, match=message):
        schema_of(columns, raft=raft).check(where="t.csv")


def test_another_job_is_refused_a_partial_output(tmp_path: Path) -> None:
    with pytest.raises(KilledError):
        predict_file(make_csv(tmp_path / "t.csv", 40), tmp_path / "out.csv", kill_after=1)
    with pytest.raises(
        RunError,
        match=r"out\.csv\.part belongs to another prediction: its run is 'r', not 's'.*overwrite=true",
    ):
        PartialOutput(tmp_path / "out.csv").progress({"run": "s"})


@pytest.mark.parametrize("source", slow_but(["csv"], MAKE))
def test_memory_stays_flat_over_60_000_rows(tmp_path: Path, source: str) -> None:
    table = MAKE[source](tmp_path / f"t.{source}", 60_000)
    resident: list[int] = []
    process = psutil.Process()

    def watched(batch: Sequence[dict[str, str]]) -> list[Mapping[str, float]]:
        resident.append(process.memory_info().rss)
        return score(batch)

    predict_file(table, tmp_path / "out.jsonl", scorer=watched, chunk_rows=1000)
    first, whole = max(resident[:10]), max(resident)
    print(f"{source}: {first / 1e6:.1f} MB over 10,000 rows, {whole / 1e6:.1f} MB over 60,000")
    # The rows alone, held as dicts, are 24 MB.
    assert whole - first < 10e6
    with (tmp_path / "out.jsonl").open() as lines:
        assert sum(1 for _ in lines) == 60_000
