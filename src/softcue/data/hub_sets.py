"""Sets of the hub, from the Parquet files that it makes of every set: no code of the set runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq
from huggingface_hub import constants, scan_cache_dir
from huggingface_hub.errors import CacheNotFound

from softcue.data.frames import loaded_table
from softcue.data.pool import Pool, make_pool, pick_examples
from softcue.data.tables import LoadedTable
from softcue.data.task import Task
from softcue.errors import DataError, listed
from softcue.hub import HubError, HubRepo

REVISION = "refs/convert/parquet"


@dataclass(frozen=True, kw_only=True)
class HubSet:
    """A set of the hub: `split` holds the rows to divide, `test_split` rows that are held out for testing.

    `subset` is one of the set's configurations; None for its only one. `label_column` is None for a text
    task, which names its own columns. A row's id is its split and number,
    or is in `id_column`.
    """

    repo: str
    subset: str | None
    split: str
    test_split: str | None
    label_column: str | None
    id_column: str | None

    def load(self, task: Task) -> Pool:
        """Rows without a label, such as those of class -1, are unlabelled."""
        pick = partial(pick_examples, task=task, id_column=self.id_column, label_column=self.label_column)
        examples = pick(self.table())
        held_out = None if self.test_split is None else pick(self._read(self.test_split))
        return make_pool(
            task,
            labelled=[example for example in examples if example.is_labelled],
            held_out=held_out,
            unlabelled=[example for example in examples if not example.is_labelled],
            where=self.repo,
        )

    def table(self) -> LoadedTable:
        """The rows of `split`, with class names for labels."""
        return self._read(self.split)

    @property
    def _place(self) -> HubRepo:
        return HubRepo(name=self.repo, kind="dataset", revision=REVISION)

    def _read(self, split: str) -> LoadedTable:
        table = _read_files(self._place, self._names(split))
        return loaded_table(table, name=f"{self.repo.rpartition('/')[2]}.{split}")

    def _names(self, split: str) -> list[str]:
        """The split's files, named subset/split/number.parquet."""
        parts = [name.split("/") for name in _all_names(self._place) if name.endswith(".parquet")]
        subsets = sorted({found[0] for found in parts if len(found) == 3})
        subset = subsets[0] if self.subset is None and len(subsets) == 1 else self.subset
        if subset not in subsets:
            raise DataError(
                f"data.source.subset is {self.subset}, and {self.repo} has {listed(subsets)}; name one."
            )
        splits = sorted({found[1] for found in parts if found[0] == subset})
        if split not in splits:
            raise DataError(
                f"{self.repo} has no split {split!r}; it has {listed(splits)}. Name one of these."
            )
        return sorted("/".join(found) for found in parts if found[:2] == [subset, split])


def _all_names(repo: HubRepo) -> Sequence[str]:
    try:
        return repo.names()
    except HubError as error:
        if names := _cached_names(repo.name):
            return names
        raise _not_given(error) from error


def _cached_names(repo: str) -> list[str]:
    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return []
    files = [
        file.file_path.relative_to(revision.snapshot_path).as_posix()
        for one in repos
        if (one.repo_id, one.repo_type) == (repo, "dataset")
        for revision in one.revisions
        if REVISION in revision.refs
        for file in revision.files
    ]
    return sorted(files)


def _read_files(repo: HubRepo, names: Sequence[str]) -> pa.Table:
    try:
        files = [repo.cached(name) or repo.fetch(partial(_only, name))[0] for name in names]
    except HubError as error:
        raise _not_given(error) from error
    try:
        return pa.concat_tables([pq.read_table(file) for file in files])
    except (pa.ArrowException, OSError) as error:
        raise DataError(
            f"{repo.name} from the hub is damaged ({error}); delete {files[0].parent} to fetch it again."
        ) from error


def _only(name: str, _: Sequence[str]) -> list[str]:
    return [name]


def _not_given(error: HubError) -> DataError:
    return DataError(
        f"{error}. Check data.source.repo, or give a table of your own with data=table data.source.path=FILE."
    )
