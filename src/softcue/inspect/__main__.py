"""`softcue-inspect`: tables about a trained prompt, and optionally a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from softcue.cli import hydra_app
from softcue.errors import ConfigError
from softcue.runs.atomic import write_atomic
from softcue.runs.symptoms import Symptom
from softcue.tables.render import expect_format, write_tables
from softcue.tables.table import Column, Table

PICTURES = ("png", "svg")


@hydra_app("inspect")
def main(settings: DictConfig) -> None:
    """Write what a run's prompt is near, how far it moved and what attends to it."""
    _check(settings)
    # Imported after the check: torch takes seconds to import.
    from softcue.inspect.reading import read
    from softcue.inspect.tables import full_table, tables
    from softcue.trained import load

    prompt = load(settings.run, task=settings.task)
    if settings.why:
        from softcue.inspect.why import why

        found = why(prompt, prompt=settings.prompt, num_rows=settings.rows)
        write_tables([symptoms_table(found, settings.run)], form=settings.format, output=settings.output)
        return
    reading = read(prompt, prompt=settings.prompt, num_nearest=settings.nearest, num_rows=settings.rows)
    shown = [full_table(reading)] if settings.format == "csv" else tables(reading)
    write_tables(shown, form=settings.format, output=settings.output, notes=reading.notes)
    if settings.plot is not None:
        from softcue.inspect.plot import draw

        path = Path(settings.plot)
        write_atomic(path, draw(reading, form=path.suffix[1:]))


def symptoms_table(symptoms: Sequence[Symptom], run: str) -> Table[Symptom]:
    """A line for each check; the setting to try stands beside what was found."""
    return Table(
        title=f"Why might {run} not learn?",
        columns=(
            Column("check", lambda symptom: symptom.name),
            Column("measured", lambda symptom: symptom.measured),
            Column("", lambda symptom: "look here" if symptom.is_found else "", name="is_found"),
            Column("try", lambda symptom: symptom.way_out if symptom.is_found else ""),
        ),
        rows=symptoms,
    )


def _check(settings: DictConfig) -> None:
    expect_format(settings.format)
    for name in ("nearest", "rows"):
        if settings[name] < 1:
            raise ConfigError(f"{name} is {settings[name]}; give a whole number from 1 up.")
    if settings.plot is not None and Path(settings.plot).suffix[1:] not in PICTURES:
        raise ConfigError(f"plot is {settings.plot!r}; end its name in .png or .svg.")


if __name__ == "__main__":
    main()
