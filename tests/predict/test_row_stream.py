"""Tables read row by row: lines, bad rows, and places to go on from."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from softcue.errors import DataError
from softcue.predict.opening import open_rows
from softcue.predict.rows import BadRow, Row


def read(path: Path) -> list[Row | BadRow]:
    with open_rows(str(path), path.suffix[1:]) as rows:
        return list(rows)


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def bad(path: Path) -> list[str]:
    """The bad rows of a table, its path left out."""
    return [
        f"{row.where} {row.reason}".removeprefix(f"{path} ") for row in read(path) if isinstance(row, BadRow)
    ]


def test_a_row_is_named_by_the_line_on_which_it_starts(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", 'id,text\n1,"two\nlines"\n2,one\n\n3,"and\r\n\nthree"\n4,end')
    assert [row.where.removeprefix(f"{path} ") for row in read(path)] == [
        "line 2",
        "line 4",
        "line 6",
        "line 9",
    ]


def test_cells_are_read_as_they_stand(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", '\ufeffid,text\r\n007,"say ""no"",\r\nNA "\r\n,\r\n')
    assert [row.values for row in read(path) if isinstance(row, Row)] == [
        {"id": "007", "text": 'say "no",\r\nNA '},
        {"id": "", "text": ""},
    ]


def test_each_kind_of_bad_line_is_named_and_costs_no_other(tmp_path: Path) -> None:
    path = written(
        tmp_path / "t.tsv",
        b'id\ttext\n1\tgood\n2\n3\ta\tb\n4\t\xff\xfe\n5\t"stray\n6\tgood\n7\t"two\nlines \xff"\n8\tgood\n',
    )
    assert bad(path) == [
        "line 3 has 1 cells where the header has 2",
        "line 4 has 3 cells where the header has 2",
        "line 5 is not UTF-8",
        "line 6 cannot be read ('\t' expected after '\"')",
        "line 8 is not UTF-8",
    ]
    assert [row.values["id"] for row in read(path) if isinstance(row, Row)] == ["1", "6", "8"]


def test_a_quote_that_never_closes_costs_its_own_line_only(tmp_path: Path) -> None:
    path = written(
        tmp_path / "t.csv", 'id,text\n1,"open\n' + "".join(f"{n},good\n" for n in range(2, 30_000))
    )
    rows = read(path)
    assert [type(row) for row in rows[:2]] == [BadRow, Row]
    assert len(rows) == 29_999


def test_each_kind_of_bad_json_line_is_named(tmp_path: Path) -> None:
    lines = ['{"text": "good"}', '{"text": "cut', "[1]", "", '{"text": "\\ud83d"}', '{"text": 1}']
    path = written(tmp_path / "t.jsonl", "\n".join(lines))
    assert bad(path) == [
        "line 2 is not JSON (Unterminated string starting at character 10)",
        "line 3 is a JSON list, not an object",
        "line 5 holds half a character (a lone surrogate)",
    ]
    assert read(path)[-1] == Row(where=f"{path} line 6", values={"text": 1})


def test_jsonl_takes_its_columns_from_the_first_object(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl", '\ufeffbroken\n\n{"a": 1, "b": 2}\n{"c": 3}\n')
    with open_rows(str(path), "jsonl") as rows:
        assert rows.columns == ("a", "b")
        assert [row.where.removeprefix(f"{path} ") for row in rows] == ["line 1", "line 3", "line 4"]


@pytest.fixture(params=["csv", "tsv", "jsonl", "parquet"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Twelve rows, some bad, in each format."""
    path = tmp_path / f"t.{request.param}"
    if request.param == "parquet":
        pq.write_table(pa.table({"text": [f"row {n}" for n in range(12)]}), path, row_group_size=5)
        return path
    header, row = {
        "csv": ("id,text\n", '{},"a\nb"\n'),
        "tsv": ("id\ttext\n", '{}\t"a\r\nb"\r\n'),
        "jsonl": ("", '{{"id": {}, "text": "a"}}\n\n'),
    }[request.param]
    return written(path, header + "".join(row.format(n) if n % 4 else "bad\n" for n in range(1, 13)))


def test_any_row_can_be_gone_on_from(table: Path) -> None:
    form = table.suffix[1:]
    whole = read(table)
    assert len(whole) == 12
    for num_rows in range(13):
        with open_rows(str(table), form) as rows:
            stream = iter(rows)
            for _ in range(num_rows):
                next(stream)
            place = rows.place
        with open_rows(str(table), form) as rows:
            assert rows.go_on(place)
            assert list(rows) == whole[num_rows:]
            assert rows.place.rows == 12


def test_a_change_before_the_place_is_noticed(table: Path) -> None:
    form = table.suffix[1:]
    with open_rows(str(table), form) as rows:
        next(iter(rows))
        place = rows.place
    content = table.read_bytes()
    at = content.index(b"a" if form != "parquet" else b"row 0") + 1
    table.write_bytes(content[:at] + b"x" + content[at + 1 :])
    with open_rows(str(table), form) as rows:
        assert not rows.go_on(place)


def test_lines_may_change_behind_the_place(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "text\ngood\nbad,bad\n")
    with open_rows(str(path), "csv") as rows:
        next(iter(rows))
        place = rows.place
    written(path, "text\ngood\nmended\nappended\n")
    with open_rows(str(path), "csv") as rows:
        assert rows.go_on(place)
        assert [row.values for row in rows if isinstance(row, Row)] == [
            {"text": "mended"},
            {"text": "appended"},
        ]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", r"t\.csv has no header \(it is empty\); its first line must name its columns"),
        ("t.csv", "a,b,a\n", r"t\.csv has several columns 'a'; rename all but one"),
        ("t.csv", b"\xff\xfea\x00\n", r"t\.csv line 1 is not UTF-8; save the file as UTF-8"),
        ("t.jsonl", "[]\n", r"t\.jsonl has no JSON object in its first 1000 lines; write one a line"),
        ("t.parquet", "text\n", r"t\.parquet cannot be read as Parquet"),
    ],
)
def test_a_table_without_columns_says_so(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(DataError, match=message):
        read(path)


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.csv is not there; check input"):
        read(tmp_path / "gone.csv")
