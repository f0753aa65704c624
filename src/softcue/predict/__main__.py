"""`softcue-predict`: a table of any size → its rows, with the class of each and the probabilities."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, MofNCompleteColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from softcue.cli import run_app
from softcue.configs import CONFIG_PATH
from softcue.errors import ConfigError, RunError
from softcue.predict.answering import Answering
from softcue.predict.opening import INPUT_FORMATS, TEXT_FORMATS, open_rows
from softcue.predict.output import PartialFile, Progress, Stdout, Writing
from softcue.predict.parquet import ParquetRows
from softcue.predict.predicting import predict_rows
from softcue.predict.rows import Rows

if TYPE_CHECKING:
    from softcue.trained import TrainedPrompt


@hydra.main(version_base="1.3", config_path=str(CONFIG_PATH), config_name="predict")
@run_app
def main(settings: DictConfig) -> None:
    """Predict the class of every row of a table."""
    try:
        predict_table(settings)
    except BrokenPipeError as error:
        # Who reads our stdout has enough, as `head` does: end without a word, as other programs do.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(141) from error


def predict_table(settings: DictConfig) -> None:
    """Read, predict and write, from where an earlier process was stopped if there was one."""
    _check(settings)
    with ExitStack() as stack:
        rows = stack.enter_context(open_rows(settings.input, _input_form(settings)))
        # Imports torch, for which a mistake in what was given need not wait.
        from softcue.trained import load

        finished = load(settings.run, task=settings.task)
        answering = _answering(settings, finished, rows)
        partial = _partial(settings, finished)
        progress = None if partial is None else _progress(settings, partial, rows)
        if settings.dry:
            print(_plan(settings, answering, progress), file=sys.stderr)
            return
        output = Stdout() if partial is None else stack.enter_context(partial.opened(progress))
        writing = Writing(form=_output_form(settings), columns=answering.answer_columns)
        if progress is None:
            output.write(writing.header())
        bar = stack.enter_context(_bar(rows))
        task = bar.add_task("predict", total=rows.size, completed=rows.done)
        num_skipped = 0 if progress is None else progress.skipped
        for skipped in predict_rows(
            rows,
            lambda texts: finished.predict(texts, batch_size=settings.batch_size),
            answering=answering,
            writing=writing,
            output=output,
            chunk_rows=settings.chunk_rows,
            skips=settings.on_bad_row == "skip",
        ):
            for bad in skipped:
                bar.console.out(f"skipped: {bad.where} {bad.reason}", highlight=False)
            num_skipped += len(skipped)
            output.keep(rows, skipped=num_skipped)
            bar.update(task, completed=rows.done)
        output.finish()
    num_predicted = rows.num_rows - num_skipped
    where = "stdout" if partial is None else settings.output
    print(f"{where}: {num_predicted} rows predicted, {num_skipped} skipped", file=sys.stderr)


def _check(settings: DictConfig) -> None:
    """Find what is wrong with the settings, before anything is loaded."""
    if settings.on_bad_row not in ("fail", "skip"):
        raise ConfigError(f"on_bad_row is {settings.on_bad_row!r}; choose fail or skip.")
    if settings.format not in (None, "raft", *TEXT_FORMATS):
        raise ConfigError(f"format is {settings.format!r}; choose one of {', '.join(TEXT_FORMATS)}, raft.")
    for key in ("batch_size", "chunk_rows"):
        if not (isinstance(settings[key], int) and settings[key] >= 1):
            raise ConfigError(f"{key} is {settings[key]!r}; give a whole number from 1 up.")
    if settings.format == "raft" and _output_form(settings) != "csv":
        raise ConfigError(f"output is {settings.output}, and format=raft writes CSV; name it *.csv.")
    if settings.format in TEXT_FORMATS and "-" not in (settings.input, settings.output):
        raise ConfigError(
            f"format={settings.format} says what stdin or stdout holds, and neither is used; files say it by "
            "their suffix."
        )
    _input_form(settings)
    _output_form(settings)
    if settings.output != "-" and Path(settings.output).exists() and not settings.overwrite:
        raise RunError(f"{settings.output} exists; choose another output, or replace it with overwrite=true.")


def _input_form(settings: DictConfig) -> str:
    return _form(settings, "input", INPUT_FORMATS)


def _output_form(settings: DictConfig) -> str:
    return _form(settings, "output", TEXT_FORMATS)


def _form(settings: DictConfig, key: str, possible: Sequence[str]) -> str:
    name = settings[key]
    if name == "-":
        return settings.format if settings.format in TEXT_FORMATS else "csv"
    form = Path(name).suffix.removeprefix(".").lower()
    if form not in possible:
        suffixes = ", ".join(f".{known}" for known in possible)
        raise ConfigError(f"{key} is {name}; its suffix must be one of {suffixes}. Convert or rename it.")
    return form


def _answering(settings: DictConfig, finished: TrainedPrompt, rows: Rows) -> Answering:
    columns = finished.template.columns
    if settings.column is not None and len(columns) != 1:
        raise ConfigError(
            f"column={settings.column} is for prompts that read one column, and this one reads "
            f"{list(columns)}; rename the columns of {settings.input}."
        )
    answering = Answering(
        columns=rows.columns,
        texts={name: settings.column or name for name in columns},
        classes=finished.task.classes,
        raft=settings.format == "raft",
        free=_output_form(settings) == "jsonl",
    )
    answering.check(where=settings.input)
    return answering


def _partial(settings: DictConfig, finished: TrainedPrompt) -> PartialFile | None:
    if settings.output == "-":
        return None
    job = {
        "run": f"{finished.record.run_id} of {finished.record.finished_at}, {finished.task.name}",
        "column": settings.column or "",
        "input format": _input_form(settings),
        "format": settings.format if settings.format == "raft" else _output_form(settings),
    }
    return PartialFile(Path(settings.output), job=job)


def _progress(settings: DictConfig, partial: PartialFile, rows: Rows) -> Progress | None:
    """How far an earlier process came with these very rows, which are then at that place."""
    if settings.input == "-":
        return None
    start = rows.place
    try:
        progress = partial.left()
        if progress is not None and not rows.go_on(progress.read):
            raise partial.foreign(f"the rows of {settings.input} that it holds have changed")
    except RunError:
        if not settings.overwrite:
            raise
        rows.go_on(start)
        return None
    return progress


def _plan(settings: DictConfig, answering: Answering, progress: Progress | None) -> str:
    """What would be predicted, in a line each."""
    read = ", ".join(f"{source!r} as {{{name}}}" for name, source in answering.texts.items())
    return "\n".join(
        (
            f"run: {settings.run}, classes {', '.join(answering.classes)}",
            f"input: {settings.input}, columns {', '.join(answering.columns)}; reads {read}",
            f"output: {settings.output}, columns {', '.join(answering.answer_columns)}",
            f"rows done before: {0 if progress is None else progress.read.rows}",
        )
    )


def _bar(rows: Rows) -> Bar:
    console = Console(stderr=True)
    amount = MofNCompleteColumn() if isinstance(rows, ParquetRows) else DownloadColumn()
    return Bar(
        "{task.description}",
        BarColumn(),
        amount,
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


if __name__ == "__main__":
    main()
