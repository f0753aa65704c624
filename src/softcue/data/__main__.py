"""`softcue-data init FILE`: write the YAML of a task from a table, to edit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from softcue.cli import print_error
from softcue.data.assumed import Assumed, assume
from softcue.data.sources import Table
from softcue.errors import ConfigError, SoftcueError, printable
from softcue.runs.atomic import write_atomic

_NEXT = """{path} holds the task {name}; edit it, then
  softcue-train --config-dir {folder} data={name} dry=true"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    given = _parser().parse_args(arguments)
    try:
        print(printable_lines(init(given)))
    except SoftcueError as error:
        raise print_error(error) from error


def init(given: argparse.Namespace) -> str:
    """Write the YAML; what to do next.

    Raises:
        SoftcueError: the table cannot be read, or the YAML exists.
    """
    source = Table(
        path=given.file,
        label_column=given.label_column,
        id_column=None,
        test_path=None,
        unlabelled_path=None,
        encoding=given.encoding,
        separator=given.separator,
    )
    assumed = assume(dict.fromkeys(("name", "template", "classes")), source)
    name = assumed.settings["name"]
    path = Path(given.output or Path("conf") / "data" / f"{name}.yaml")
    if path.exists() and not given.overwrite:
        raise ConfigError(f"{path} exists; give another --output, or replace it with --overwrite.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, task_yaml(source, assumed))
    return _NEXT.format(path=path, name=path.stem, folder=path.parent.parent)


def task_yaml(source: Table, assumed: Assumed) -> str:
    """A YAML of the group `data` that extends `table`."""
    task = assumed.settings
    reading = {
        "label_column": source.label_column,
        "encoding": source.encoding,
        "separator": source.separator,
    }
    defaults = {"label_column": "label", "encoding": "utf-8", "separator": None}
    own = {key: value for key, value in reading.items() if value != defaults[key]}
    return "\n".join(
        [
            f"# {printable(Path(source.path).name)}, as `softcue-data init` read it.",
            *("defaults:", "  - table", "  - _self_"),
            "# The task in words, for prompt=hard_prompt and prompt/initialiser=text.",
            'instruction: "Classify the text."',
            "task:",
            f"  name: {_quoted(task['name'])}",
            "  # The row as the model reads it; columns are in braces. The words for the class follow it.",
            f"  template: {_quoted(task['template'])}",
            "  # The classes as the label column spells them.",
            "  classes:",
            *(f"    - {_quoted(name)}" for name in task["classes"]),
            "  # The words for each class, such as {good: great, bad: awful}; null: the classes' names.",
            "  verbalizer: null",
            "source:",
            f"  path: {_quoted(source.path)}",
            *(f"  {key}: {_quoted(str(value))}" for key, value in own.items()),
            "",
        ]
    )


def printable_lines(text: str) -> str:
    """Lines in which data cannot change the terminal."""
    return "\n".join(map(printable, text.split("\n")))


def _quoted(text: str) -> str:
    """A YAML string in double quotes."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in escaped) + '"'


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="softcue-data",
        description="Write the YAML of a task from your own table, to edit: template, classes, words.",
        epilog="example: softcue-data init reviews.csv && softcue-train --config-dir conf data=reviews",
    )
    init_parser = parser.add_subparsers(required=True, metavar="init").add_parser(
        "init", help="read a table and write conf/data/<name>.yaml"
    )
    init_parser.add_argument("file", help="a .csv, .tsv, .json, .jsonl or .parquet file")
    init_parser.add_argument("--label-column", default="label", help="the column of labels (label)")
    init_parser.add_argument("--encoding", default="utf-8", help="of text formats, such as cp1252 (utf-8)")
    init_parser.add_argument("--separator", help="of CSV: comma, semicolon, tab or one character")
    init_parser.add_argument("--output", help="the YAML to write (conf/data/<name>.yaml)")
    init_parser.add_argument("--overwrite", action="store_true", help="replace the YAML if it exists")
    return parser


if __name__ == "__main__":
    main()
