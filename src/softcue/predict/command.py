"""A prediction from its settings: read, predict and write, from where an earlier process stopped."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import islice, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from softcue.cli import say
from softcue.data.rows import Columns, TableReader, TableRow, text_of
from softcue.data.tables import open_table
from softcue.errors import ConfigError, DataError, RunError, printable
from softcue.predict.output import PartialOutput, Progress
from softcue.predict.schema import SEPARATORS, OutputSchema, RowWriter
from softcue.predict.settings import PredictSettings

if TYPE_CHECKING:
    from softcue.trained import TrainedPrompt

Scorer = Callable[[Sequence[dict[str, str]]], Iterable[Mapping[str, float] | str]]
"""From rows, given by the template's columns, to the probability of each class, or to a text."""


def predict_table(settings: PredictSettings) -> None:
    """Predict the class of every row of a table; raises a SoftcueError for what the user can fix."""
    partial = None if settings.output == "-" else PartialOutput(Path(settings.output))
    if partial:
        partial.check(overwrite=settings.overwrite)
    with ExitStack() as stack:
        if partial and not settings.dry:
            stack.enter_context(partial.locked())
        reader = stack.enter_context(_input(settings))
        # Imports torch, which an error in the settings or the table need not wait for.
        from softcue.trained import load

        prompt = load(settings.run, task=settings.task)
        schema = _schema(settings, prompt, reader.columns)
        schema.check(where=settings.input)
        job = _job(settings, prompt)
        try:
            progress = _progress(settings, partial, job, reader)
        except RunError:
            if not settings.overwrite:
                raise
            progress, reader = None, stack.enter_context(_input(settings))
        if settings.dry:
            say(_plan(settings, schema, progress), to=sys.stderr)
            return
        if partial and not (progress and partial.is_renamed):
            stack.enter_context(partial.opened(job, progress, reader.position))
        num_skipped = _predict(settings, prompt, schema, reader, partial, progress)
        if partial:
            partial.finish()
    counts = f"{reader.num_rows - num_skipped} rows predicted, {num_skipped} skipped"
    say(f"{'stdout' if partial is None else settings.output}: {counts}", to=sys.stderr)


def _predict(
    settings: PredictSettings,
    prompt: TrainedPrompt,
    schema: OutputSchema,
    reader: TableReader,
    partial: PartialOutput | None,
    progress: Progress | None,
) -> int:
    """Write the rows behind `progress`; the number of rows skipped, those of earlier processes included."""
    writer = RowWriter(
        form=settings.output_format, columns=schema.output_columns, escape_formulas=settings.escape_formulas
    )
    write = _write_stdout if partial is None else partial.write
    num_skipped = progress.skipped if progress else 0
    if not progress:
        write(writer.header())
    console = Console(stderr=True)
    columns = ("{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Bar(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task("predict", total=reader.size)
        for skipped in predict_rows(
            reader,
            _scorer(prompt, batch_size=settings.batch_size),
            schema=schema,
            writer=writer,
            write=write,
            chunk_rows=settings.chunk_rows,
            skip_bad=settings.on_bad_row == "skip",
        ):
            for row in skipped:
                console.out(printable(f"skipped: {row.where} {row.problem}"), highlight=False)
            num_skipped += len(skipped)
            if partial is not None:
                partial.save(reader.position, skipped=num_skipped)
            bar.update(task, completed=reader.done)
    return num_skipped


def _scorer(prompt: TrainedPrompt, *, batch_size: int) -> Scorer:
    if prompt.writes_texts:
        return lambda rows: prompt.generate(rows, batch_size=batch_size)
    return lambda rows: [row.probabilities for row in prompt.predict(rows, batch_size=batch_size)]


def predict_rows(
    rows: Iterator[TableRow],
    score: Scorer,
    *,
    schema: OutputSchema,
    writer: RowWriter,
    write: Callable[[bytes], None],
    chunk_rows: int,
    skip_bad: bool,
) -> Iterator[list[TableRow]]:
    """Write the predictions of the remaining rows, in chunks; yield the unusable rows of each chunk.

    Raises:
        DataError: a row cannot be used and `skip_bad` is false. The rows before it are written by then.
    """
    checked = map(schema.checked, rows)
    # Chunks depend on the input alone, so a resumed prediction forms the same batches: the same bytes.
    while chunk := list(islice(checked, chunk_rows)):
        bad = [row for row in chunk if row.problem]
        before = chunk if skip_bad else takewhile(lambda row: not row.problem, chunk)
        good = [row for row in before if not row.problem]
        scored = score([schema.fields(row) for row in good])
        write(writer.rows(map(schema.output_row, good, scored)))
        if bad and not skip_bad:
            raise DataError(
                f"{bad[0].where} {bad[0].problem}; fix it and start again, or leave such rows out with "
                "on_bad_row=skip."
            )
        yield bad


def _write_stdout(content: bytes) -> None:
    if sys.stdout.isatty():
        say(content.decode(errors="replace").removesuffix("\n"))
        return
    sys.stdout.buffer.write(content)
    sys.stdout.buffer.flush()


def _input(settings: PredictSettings) -> AbstractContextManager[TableReader]:
    return open_table(
        settings.input,
        stdin_format=settings.stream_format,
        encoding=settings.encoding,
        separator=settings.separator,
    )


def _schema(settings: PredictSettings, prompt: TrainedPrompt, columns: Columns) -> OutputSchema:
    names = prompt.template.columns
    if settings.column is not None and len(names) != 1:
        raise ConfigError(
            f"column={settings.column} is for prompts that read one column, and this one reads "
            f"{list(names)}; rename the columns of {settings.input}."
        )
    if settings.format == "raft" and prompt.writes_texts:
        raise ConfigError(f"format=raft writes labels, and {settings.run} was trained to write texts.")
    return OutputSchema(
        columns=columns,
        texts={name: name if settings.column is None else str(settings.column) for name in names},
        classes=prompt.task.classes,
        raft=settings.format == "raft",
        free_columns=settings.output_format not in SEPARATORS,
    )


def _job(settings: PredictSettings, prompt: TrainedPrompt) -> dict[str, str]:
    """All that decides the output beside the content of the input."""
    named = {
        key: text_of(getattr(settings, key))
        for key in ("column", "format", "encoding", "separator", "escape_formulas")
    }
    return {"run": f"{prompt.record.run_id} of {prompt.record.finished_at}, {prompt.task.name}", **named}


def _progress(
    settings: PredictSettings, partial: PartialOutput | None, job: dict[str, str], reader: TableReader
) -> Progress | None:
    """The progress of an earlier process with these very rows, behind which `reader` then is."""
    if partial is None or (settings.input == "-" and settings.overwrite):
        return None
    partial.check(overwrite=settings.overwrite)
    progress = partial.progress(job)
    if progress and not reader.resume_from(progress.read):
        raise partial.foreign(f"the rows of {settings.input} that it holds have changed")
    if partial.is_renamed and next(reader, None) is not None:
        raise partial.existing()
    return progress


def _plan(settings: PredictSettings, schema: OutputSchema, progress: Progress | None) -> str:
    """A line each for run, input, output and progress."""
    read = ", ".join(f"{source!r} as {{{name}}}" for name, source in schema.texts.items())
    lines = (
        f"run: {settings.run}, " + (f"classes {', '.join(schema.classes)}" if schema.classes else "texts"),
        f"input: {settings.input}, columns {', '.join(schema.columns)}; reads {read}",
        f"output: {settings.output}, columns {', '.join(schema.output_columns)}",
        f"rows done before: {progress.read.rows if progress else 0}",
    )
    return "\n".join(lines)
