"""The reader of tables that training and prediction share: values, bad rows, and positions to resume from."""

from __future__ import annotations

import json
import time
import tracemalloc
from collections.abc import Callable
from datetime import date
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softcue.data.rows import ReadPosition, TableRow, Values, text_of
from softcue.data.tables import open_table, read_table
from softcue.errors import ConfigError, DataError, SoftcueError


def read(path: Path, *, encoding: str = "utf-8", separator: str | None = None) -> list[TableRow]:
    with open_table(str(path), encoding=encoding, separator=separator) as reader:
        return list(reader)


def values(path: Path, *, encoding: str = "utf-8", separator: str | None = None) -> list[Values]:
    """The usable rows of a table."""
    return [row.values for row in read(path, encoding=encoding, separator=separator) if not row.problem]


def problems(path: Path) -> list[str]:
    """The unusable rows of a table, without its path."""
    return [f"{row.where} {row.problem}".removeprefix(f"{path} ") for row in read(path) if row.problem]


def written(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_a_row_is_named_by_the_line_on_which_it_starts(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", 'id,text\n1,"two\nlines"\n2,one\n\n3,"and\r\n\nthree"\n4,end')
    lines = [row.where.removeprefix(f"{path} ") for row in read(path)]
    assert lines == ["line 2", "line 4", "line 6", "line 9"]


def test_cells_are_read_as_they_stand(tmp_path: Path) -> None:
    path = written(tmp_path / "t.CSV", '\ufeffid,text\r\n007,"say ""no"",\r\nNA "\r\n,\r\n\r\n\n')
    assert values(path) == [{"id": "007", "text": 'say "no",\r\nNA '}, {"id": "", "text": ""}]


@pytest.mark.parametrize("mark", ["\u2028", "\u2029", "\x85", "\x0b", "\x0c", "\x1c", "\r"])
def test_a_mark_that_unicode_counts_as_a_line_break_is_text(tmp_path: Path, mark: str) -> None:
    written(tmp_path / "t.csv", f'n,text\n1,"a{mark}b"\n2,c\n')
    assert values(tmp_path / "t.csv") == [{"n": "1", "text": f"a{mark}b"}, {"n": "2", "text": "c"}]
    written(tmp_path / "t.jsonl", json.dumps({"text": f"a{mark}b"}, ensure_ascii=False) + "\n")
    assert values(tmp_path / "t.jsonl") == [{"text": f"a{mark}b"}]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("a,b\n1;2,3\n", {"a": "1;2", "b": "3"}),
        ("a;b\n1,5;2,5\n", {"a": "1,5", "b": "2,5"}),
        ("a\tb\n1,5\t2;5\n", {"a": "1,5", "b": "2;5"}),
        ('"a,b,c";d\n1;2\n', {"a,b,c": "1", "d": "2"}),
        ("text\nhello\n", {"text": "hello"}),
    ],
)
def test_the_separator_of_csv_is_the_one_that_the_header_uses(
    tmp_path: Path, content: str, expected: Values
) -> None:
    assert values(written(tmp_path / "t.csv", content)) == [expected]


@pytest.mark.parametrize(("separator", "character"), [("semicolon", ";"), ("tab", "\t"), ("|", "|")])
def test_a_separator_can_be_given(tmp_path: Path, separator: str, character: str) -> None:
    path = written(tmp_path / "t.csv", f"a,b{character}c\n1,2{character}3\n")
    assert values(path, separator=separator) == [{"a,b": "1,2", "c": "3"}]


@pytest.mark.parametrize("separator", ["", "||", '"', "\n"])
def test_an_impossible_separator_is_refused(tmp_path: Path, separator: str) -> None:
    path = written(tmp_path / "t.csv", "a\n")
    with pytest.raises(
        ConfigError, match=r"separator is .*; name comma, semicolon, tab or one other character"
    ):
        read(path, separator=separator)


@pytest.mark.parametrize("encoding", ["cp1252", "latin-1", "utf-16", "utf-16-le", "utf-8-sig", "utf-32"])
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "json"])
def test_an_encoding_can_be_given(tmp_path: Path, encoding: str, suffix: str) -> None:
    content = {"csv": "text\ncafé\nthé\n", "jsonl": '{"text": "café"}\n{"text": "thé"}\n'}
    array = '[{"text": "café"}, {"text": "thé"}]'
    path = written(tmp_path / f"t.{suffix}", content.get(suffix, array).encode(encoding))
    assert values(path, encoding=encoding) == [{"text": "café"}, {"text": "thé"}]


def test_a_byte_of_another_encoding_is_named_with_line_offset_and_way_out(tmp_path: Path) -> None:
    content = "\ufeffid,text\n1,thé\n".encode() + b'2,"on two\nlines: caf\xe9"\n3,fine\n'
    path = written(tmp_path / "t.csv", content)
    assert problems(path) == [
        f"line 3 is not utf-8 (byte 0xe9 at offset {content.index(0xE9, 20)}); name its encoding, as in "
        "encoding=cp1252 or utf-16"
    ]
    assert [row["id"] for row in values(path)] == ["1", "3"]


@pytest.mark.parametrize(
    ("content", "line"), [(b"text\nhello\n", 1), ("text\nhello\n".encode("utf-16") + b"\x97", 3)]
)
def test_bytes_that_are_no_utf_16_are_an_error_of_the_file(tmp_path: Path, content: bytes, line: int) -> None:
    path = written(tmp_path / "t.csv", content)
    with pytest.raises(DataError, match=rf"t\.csv line {line} is not utf-16 \(.*\); name its encoding"):
        read(path, encoding="utf-16")


def test_an_unknown_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="encoding is 'utf-9'; name one that Python knows"):
        read(written(tmp_path / "t.csv", "a\n"), encoding="utf-9")


def test_each_kind_of_bad_line_is_named_and_costs_no_other(tmp_path: Path) -> None:
    content = (
        b'id\ttext\n1\tgood\n2\n3\ta\tb\n4\t\xff\xfe\n5\t"stray\n6\tgood\n7\t"two\nlines \xff"\n8\tgood\n'
    )
    path = written(tmp_path / "t.tsv", content)
    way_out = "; name its encoding, as in encoding=cp1252 or utf-16"
    assert problems(path) == [
        "line 3 has 1 cells where the header has 2",
        "line 4 has 3 cells where the header has 2",
        f"line 5 is not utf-8 (byte 0xff at offset {content.index(0xFF)}){way_out}",
        "line 6 cannot be read ('\t' expected after '\"')",
        f"line 8 is not utf-8 (byte 0xff at offset {content.rindex(0xFF)}){way_out}",
    ]
    assert [row["id"] for row in values(path)] == ["1", "6", "8"]


def test_a_quote_that_never_closes_costs_its_own_line_only(tmp_path: Path) -> None:
    lines = "".join(f"{number},good\n" for number in range(2, 120_000))
    rows = read(written(tmp_path / "t.csv", f'id,text\n1,"open\n{lines}'))
    assert [row.problem for row in rows[:2]] == [
        "cannot be read (field larger than field limit (1048576))",
        None,
    ]
    assert len(rows) == 119_999


def test_each_kind_of_bad_json_line_is_named(tmp_path: Path) -> None:
    lines = [
        '{"text": "good"}',
        '{"text": "cut',
        "[1]",
        "",
        '{"text": "\\ud83d"}',
        '{"a": 1, "a": 2}',
        '{"text": 1}',
    ]
    path = written(tmp_path / "t.jsonl", "\n".join(lines))
    assert problems(path) == [
        "line 2 is not JSON (Unterminated string starting at character 10)",
        "line 3 is a JSON list, not an object",
        "line 5 holds half a character (a lone surrogate)",
        "line 6 has several values for 'a'",
    ]
    assert read(path)[-1] == TableRow(f"{path} line 7", {"text": 1})


@pytest.mark.parametrize("levels", [*range(900, 1000, 7), 100_000])
def test_json_of_any_depth_is_read_and_can_be_written_or_is_a_bad_row(tmp_path: Path, levels: int) -> None:
    path = written(tmp_path / "t.jsonl", '{"a": 1}\n{"a": ' + "[" * levels + "]" * levels + "}\n")
    deep = read(path)[1]
    assert deep.problem in (None, "is nested too deeply")
    assert len(text_of(deep.values.get("a"))) == (0 if deep.problem else 2 * levels)


def test_json_lines_take_their_columns_from_the_first_object(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl", '\ufeffbroken\n\n{"a": 1, "b": 2}\n{"c": 3}\n')
    with open_table(str(path)) as reader:
        assert reader.columns == ("a", "b")
        lines = [row.where.removeprefix(f"{path} ") for row in reader]
    assert lines == ["line 1", "line 3", "line 4"]


@pytest.mark.parametrize("layout", [None, 2])
@pytest.mark.parametrize("mark", ["", "\ufeff\n "])
def test_a_json_file_holds_an_array_or_lines(tmp_path: Path, layout: int | None, mark: str) -> None:
    rows = [{"text": f"row {number}, ]", "n": {"a": [number]}} for number in range(3000)]
    array = written(tmp_path / "a.json", f"{mark}{json.dumps(rows, indent=layout)}\n\n")
    lines = written(tmp_path / "b.json", "".join(f"{json.dumps(row)}\n" for row in rows))
    assert values(array) == values(lines) == rows
    assert read(array)[-1].where == f"{array} row 3000"
    assert read(lines)[-1].where == f"{lines} line 3000"


def test_a_bad_item_of_a_json_array_costs_no_other(tmp_path: Path) -> None:
    path = written(tmp_path / "t.json", '[{"a": 1}, 7, {"a": "\\ud83d"}, {"a": 2}]')
    assert problems(path) == [
        "row 2 is a JSON int, not an object",
        "row 3 holds half a character (a lone surrogate)",
    ]
    assert values(path) == [{"a": 1}, {"a": 2}]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('[{"a": 1}, {"a": }]', "row 2 and what follows cannot be read (Expecting value)"),
        ('[{"a": 1}, {"a": 2', "row 2 and what follows cannot be read (Expecting ',' delimiter)"),
        ('[{"a": 1}', "row 2 and what follows cannot be read (Expecting value)"),
        ('[{"a": 1, "a": 2}]', "row 1 and what follows cannot be read (has several values for 'a')"),
        ('[{"a": 1}]\n[{"a": 2}]', "has text behind its array"),
        ("[]", "has no JSON object in its first 1000 rows"),
    ],
)
def test_a_json_array_that_breaks_off_is_an_error_of_the_file(
    tmp_path: Path, content: str, message: str
) -> None:
    path = written(tmp_path / "t.json", content)
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value).startswith(f"{path} {message}")


def test_a_broken_json_array_is_not_read_into_memory(tmp_path: Path) -> None:
    path = written(tmp_path / "t.json", '[{"a": 1}, {"a": }, ' + '{"a": 2}, ' * 2_000_000)
    tracemalloc.start()
    with pytest.raises(DataError, match="row 2 and what follows cannot be read"):
        read(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8e6 < path.stat().st_size


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("07", "07"),
        ("", ""),
        (None, ""),
        (float("nan"), ""),
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (-1.5, "-1.5"),
        (1.0, "1.0"),
        (["é", None], '["é", null]'),
        ({"a": 1}, '{"a": 1}'),
        (date(2026, 1, 2), "2026-01-02"),
        (Decimal("1.50"), "1.50"),
    ],
)
def test_a_value_becomes_text_in_one_way(value: object, text: str) -> None:
    assert text_of(value) == text


def write_csv(path: Path) -> Path:
    return written(path, "id,text\n" + "".join(f'{n},"a\nb"\n' if n % 4 else "bad\n" for n in range(1, 13)))


def write_jsonl(path: Path) -> Path:
    return written(
        path, "".join(f'{{"id": {n}, "text": "a"}}\n\n' if n % 4 else "bad\n" for n in range(1, 13))
    )


def write_array(path: Path) -> Path:
    return written(path, json.dumps([{"id": n, "text": "a"} if n % 4 else n for n in range(1, 13)]))


def write_parquet(path: Path) -> Path:
    pq.write_table(pa.table({"text": [f"a {n}" for n in range(12)]}), path, row_group_size=5)
    return path


WRITE: dict[str, Callable[[Path], Path]] = {
    "csv": write_csv,
    "jsonl": write_jsonl,
    "json": write_array,
    "parquet": write_parquet,
}


@pytest.fixture(params=WRITE)
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Twelve rows, some of them bad, in each format."""
    return WRITE[request.param](tmp_path / f"t.{request.param}")


def position_after(table: Path, num_rows: int) -> ReadPosition:
    with open_table(str(table)) as reader:
        for _ in range(num_rows):
            next(reader)
        return reader.position


def test_reading_resumes_behind_any_row(table: Path) -> None:
    whole = read(table)
    assert len(whole) == 12
    for num_rows in range(13):
        position = position_after(table, num_rows)
        with open_table(str(table)) as reader:
            assert reader.resume_from(position)
            assert list(reader) == whole[num_rows:]
            assert reader.num_rows == 12


def test_a_change_before_the_position_is_noticed(table: Path) -> None:
    position = position_after(table, 1)
    if table.suffix == ".parquet":
        pq.write_table(pa.table({"text": ["x", *(f"a {n}" for n in range(1, 12))]}), table)
    else:
        head, rest = table.read_text().split("1", maxsplit=1)
        table.write_text(f"{head}1{rest.replace('a', 'x', 1)}")
    with open_table(str(table)) as reader:
        assert not reader.resume_from(position)


def test_a_table_that_ends_before_the_position_has_changed(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "text\none\ntwo\n")
    position = position_after(path, 2)
    with open_table(str(written(path, "text\none\n"))) as reader:
        assert not reader.resume_from(position)


def test_rows_may_change_behind_the_position(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "text\ngood\nbad,bad\n")
    position = position_after(path, 1)
    written(path, "text\ngood\nfixed\nappended\n")
    with open_table(str(path)) as reader:
        assert reader.resume_from(position)
        assert [row.values for row in reader] == [{"text": "fixed"}, {"text": "appended"}]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", r"t\.csv has no header \(it is empty\); name the columns there"),
        ("t.csv", "a,b,a\n", r"t\.csv has several columns 'a'; rename all but one"),
        (
            "t.csv",
            b"\xff\xfea\x00\n",
            r"t\.csv line 1 is not utf-8 \(byte 0xff at offset 0\); name its encoding",
        ),
        ("t.jsonl", "[]\n", r"t\.jsonl has no JSON object in its first 1000 rows; write one a line"),
        ("t.parquet", "text\n", r"t\.parquet cannot be read as Parquet"),
        ("t.xls", "", r"t\.xls should end in one of \.csv, \.tsv, \.json, \.jsonl, \.parquet; convert"),
    ],
)
def test_a_table_without_columns_is_refused(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(SoftcueError, match=message):
        read(path)


def test_a_parquet_file_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    twice = pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["a", "a"])
    pq.write_table(twice, tmp_path / "t.parquet")
    with pytest.raises(DataError, match="several columns 'a'"):
        read(tmp_path / "t.parquet")


def test_damage_within_a_parquet_file_is_an_error_of_the_file(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pq.write_table(pa.table({"text": [f"row {n}" for n in range(10_000)]}), path, compression="zstd")
    content = bytearray(path.read_bytes())
    content[1000:9000] = bytes(8000)
    written(path, bytes(content))
    with pytest.raises(DataError, match=r"t\.parquet cannot be read as Parquet"):
        read(path)


def test_a_missing_file_is_named_with_the_folder(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"gone\.csv is not there; check the path and the folder you run from"
    ):
        read(tmp_path / "gone.csv")


def test_a_wide_header_takes_time_in_proportion(tmp_path: Path) -> None:
    def seconds(num_columns: int) -> float:
        header = ",".join(f"column {n}" for n in range(num_columns))
        path = written(tmp_path / "t.csv", f"{header}\n{',' * (num_columns - 1)}\n")
        start = time.process_time()
        assert len(read_table(path).columns) == num_columns
        return time.process_time() - start

    # A quadratic check of 160,000 columns would take minutes; the ratio of the sizes is 16.
    assert seconds(160_000) < 100 * seconds(10_000) + 1


def test_a_loaded_table_has_the_columns_of_all_its_rows(tmp_path: Path) -> None:
    path = written(tmp_path / "t.jsonl", '{"a": 1}\n{"b": 2}\n')
    assert read_table(path).columns == ("a", "b")


def test_loading_stops_at_the_first_bad_row(tmp_path: Path) -> None:
    path = written(tmp_path / "t.csv", "a,b\n1,2\n3\n")
    with pytest.raises(DataError, match=r"t\.csv line 3 has 1 cells where the header has 2\. Fix the row or"):
        read_table(path)


@given(content=st.binary(max_size=200), suffix=st.sampled_from(["csv", "tsv", "json", "jsonl", "parquet"]))
def test_of_any_bytes_every_row_is_read_or_has_a_problem(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    path = written(tmp_path_factory.getbasetemp() / f"fuzz.{suffix}", content)
    try:
        rows = read(path)
    except SoftcueError:
        return
    assert [row for row in rows if row.problem and row.values] == []


@given(
    lines=st.lists(st.text(alphabet='[]{}":,\\u d8a1\n\ttrufalsen\x00\ud800é', max_size=40), max_size=6),
    suffix=st.sampled_from(["csv", "json", "jsonl"]),
)
def test_whatever_is_read_can_be_written(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], suffix: str
) -> None:
    content = "\n".join(['{"a": 1}' if suffix == "jsonl" else "a", *lines]).encode(errors="surrogatepass")
    path = written(tmp_path_factory.getbasetemp() / f"write.{suffix}", content)
    try:
        rows = read(path)
    except SoftcueError:
        return
    for row in rows:
        for name, value in row.values.items():
            f"{name}{text_of(value)}".encode()
