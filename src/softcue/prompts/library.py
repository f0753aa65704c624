"""A library of trained prompts, and which of them are nearest to one (SPoT, Vu et al. 2022, section 3.2).

A prompt stands for its task: tasks are as similar as the cosine of their prompts' averages over virtual
tokens ("cosine similarity of average tokens", arXiv 2110.07904).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor
from torch.nn.functional import cosine_similarity

from softcue.contracts import PromptBank
from softcue.errors import ConfigError
from softcue.formats.peft import flattened
from softcue.formats.prompt_file import PromptFile
from softcue.formats.source import PromptSource
from softcue.prompts.saved_prompt import expect_same_in_all_rows, open_source


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One prompt of a library."""

    path: str
    member: int
    """Which of the prompts at `path`."""
    source: PromptSource

    @property
    def place(self) -> tuple[Path, int]:
        """The same for every way to write the path of one prompt."""
        path = Path(self.path).resolve()
        return (path.parent if path.is_file() else path), self.member

    @property
    def bank(self) -> PromptBank:
        """The prompt alone; raises RunError for a damaged file, ConfigError for one that looks at the row."""
        bank = self.source.bank().member(self.member)
        expect_same_in_all_rows(bank, self.path)
        return bank

    @property
    def task(self) -> str | None:
        """The task that it was trained for, or all tasks of its run; None if the file does not say."""
        return self.source.metadata.get("task") if isinstance(self.source, PromptFile) else None


@dataclass(frozen=True, kw_only=True)
class Match:
    """A prompt of a library, and how similar its task is to that of the query."""

    entry: Entry
    cosine: float


def entries(path: str, *, key: str) -> list[Entry]:
    """Every prompt at a path; raises RunError if there is none."""
    source = open_source(path, where=f"{key}={path}")
    return [Entry(path=path, member=member, source=source) for member in range(source.shape.num_prompts)]


def ranked(query: Entry, library: Sequence[Entry]) -> list[Match]:
    """The library's prompts, the most similar first, without the query itself.

    Raises:
        ConfigError: a prompt of another form or for another model.
    """
    wanted, matches = task_vector(query.bank), []
    for entry in library:
        if entry.place == query.place:
            continue
        alike = [(each.source.shape.sizes, each.source.shape.first_layer) for each in (entry, query)]
        if alike[0] != alike[1] or not same_model(entry, query):
            raise ConfigError(
                f"{entry.path} was trained for {entry.source.made_for} ({entry.source.shape.sizes}), and "
                f"{query.path} for {query.source.made_for} ({query.source.shape.sizes}); only prompts of one "
                "model and form, which enter at one layer, can be compared."
            )
        cosine = float(cosine_similarity(wanted, task_vector(entry.bank), dim=0))
        matches.append(Match(entry=entry, cosine=cosine))
    return sorted(matches, key=lambda match: -match.cosine)


def same_model(one: Entry, other: Entry) -> bool:
    """Whether two prompts name one model; a PEFT adapter names its model in another way than a run."""
    names = [each.source.made_for for each in (one, other) if isinstance(each.source, PromptFile)]
    return len(set(names)) < 2


def task_vector(bank: PromptBank) -> Tensor:
    """The mean of a prompt's virtual tokens: embeddings, or the keys and values of all layers."""
    if bank.keys_TLHPK is not None and bank.values_TLHPK is not None:
        return flattened(bank.keys_TLHPK[0], bank.values_TLHPK[0]).mean(dim=0)
    assert bank.embeddings_TPD is not None, "a saved prompt has virtual tokens"
    return bank.embeddings_TPD[0].mean(dim=0)
