"""`softcue-prompts`: trained prompts by the similarity of their tasks to one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import DictConfig, ListConfig

from softcue.cli import hydra_app
from softcue.errors import RunError
from softcue.tables.render import expect_format, write_tables
from softcue.tables.table import Column, Table, number

if TYPE_CHECKING:
    from softcue.prompts.library import Match


@hydra_app("prompts")
def main(settings: DictConfig) -> None:
    """List a library's prompts, the nearest to the query first."""
    expect_format(settings.format)
    query, several = settings.query, settings.library
    paths = list(several) if isinstance(several, ListConfig) else in_folder(Path(several))
    # Imported after the check: torch takes seconds to import.
    from softcue.prompts.library import entries, ranked, same_model

    first = entries(query, key="query")[0]
    library = [entry for path in paths for entry in entries(path, key="library")]
    sizes = first.source.shape.sizes
    alike = [entry for entry in library if entry.source.shape.sizes == sizes and same_model(entry, first)]
    left = len(library) - len(alike)
    notes = [f"Left out, as they are for another model or of another form: {left}."] if left else []
    matches = ranked(first, alike)
    write_tables([table(matches, query)], form=settings.format, output=settings.output, notes=notes)


def in_folder(root: Path) -> list[str]:
    """The folders under `root` that hold a prompt, by name; raises RunError if there is none."""
    found = sorted(str(path.parent) for path in root.glob("*/prompt.safetensors"))
    if not found:
        raise RunError(f"library={root} has no trained prompts below it; give a folder of complete runs.")
    return found


def table(matches: list[Match], query: str) -> Table[Match]:
    """A line for each prompt."""
    columns: list[Column[Match]] = [
        Column("prompt", lambda match: match.entry.path),
        number("member", lambda match: match.entry.member),
        Column("task", lambda match: match.entry.task),
        number("tokens", lambda match: match.entry.source.shape.num_tokens),
        number("cosine", lambda match: match.cosine, "{:.3f}".format),
    ]
    return Table(title=f"Prompts by the similarity of their tasks to {query}", columns=columns, rows=matches)


if __name__ == "__main__":
    main()
