"""The stored predictions of runs, aligned by row."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from softcue.errors import RunError
from softcue.report.model import RunPredictions, TaskRows


class RowTable:
    """The rows of one task, numbered as the runs' files bring them; two data versions share no row."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, str], int] = {}
        self._targets: list[int] = []
        self._texts: dict[int, str] = {}
        self._known: list[tuple[str, pa.ChunkedArray, NDArray[np.int64], NDArray[np.int64]]] = []
        self.classes: tuple[str, ...] = ()

    def read(self, path: Path, *, fingerprint: str) -> RunPredictions | None:
        """Read a run's predictions of classes; None if it has written texts, which have no classes.

        Raises:
            RunError: the file is no table of predictions, or one of other classes.
        """
        try:
            names = [name for name in pq.read_schema(path).names if name != "text"]
            if "references" in names:
                return None
            table = _read(path, names)
            return self._aligned(table, fingerprint=fingerprint)
        except (OSError, pa.ArrowException, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise RunError(f"{path} cannot be read: {reason:.200}") from error

    def read_texts(self, path: Path, *, fingerprint: str) -> None:
        """Add the texts of rows that predictions have named; runs of softcue 0.1.0 have stored none."""
        if "text" not in pq.read_schema(path).names:
            return
        table = _read(path, ["id", "text"])
        for name, text in zip(*(table[column].to_pylist() for column in ("id", "text")), strict=True):
            number = self._numbers.get((fingerprint, name))
            if number is not None:
                self._texts.setdefault(number, text)

    def rows(self) -> TaskRows | None:
        """All rows so far; None if there are none."""
        if not self._numbers:
            return None
        return TaskRows(
            ids=tuple(name for _, name in self._numbers),
            texts=tuple(self._texts.get(number) for number in range(len(self._numbers))),
            target_N=np.array(self._targets, dtype=np.int64),
            classes=self.classes,
        )

    def _aligned(self, table: pa.Table, *, fingerprint: str) -> RunPredictions:
        names = tuple(name[2:-1] for name in table.column_names if re.fullmatch(r"p\(.*\)", name, re.DOTALL))
        if not self.classes:
            self.classes = names
        if sorted(names) != sorted(self.classes):
            raise ValueError(f"its classes are {list(names)}, and other runs' {list(self.classes)}")
        row_B, order_B = self._numbered(table, fingerprint)
        probability_BC = np.stack([table[f"p({name})"].to_numpy() for name in self.classes], axis=1)
        return RunPredictions(
            row_B=row_B,
            predicted_B=self._indices(table["predicted"])[order_B],
            probability_BC=probability_BC[order_B].astype(float),
            nll_B=table["nll"].to_numpy()[order_B].astype(float),
        )

    def _numbered(self, table: pa.Table, fingerprint: str) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The rows' numbers, ascending, and the order that makes them so."""
        ids = table["id"]
        for known_fingerprint, known_ids, row_B, order_B in self._known:
            if known_fingerprint == fingerprint and known_ids.equals(ids):
                return row_B, order_B
        target_B = self._indices(table["label"])
        for name, target in zip(ids.to_pylist(), target_B.tolist(), strict=True):
            if self._numbers.setdefault((fingerprint, name), len(self._targets)) == len(self._targets):
                self._targets.append(target)
        unsorted_B = np.array([self._numbers[fingerprint, name] for name in ids.to_pylist()], dtype=np.int64)
        order_B = np.argsort(unsorted_B, kind="stable")
        self._known.append((fingerprint, ids, unsorted_B[order_B], order_B))
        return unsorted_B[order_B], order_B

    def _indices(self, column: pa.ChunkedArray) -> NDArray[np.int64]:
        """Class indices of names; -1 for null."""
        found = pc.index_in(column, value_set=pa.array(self.classes, type=pa.string()))
        if found.null_count > column.null_count:
            raise ValueError("it names a class that has no probability")
        return np.asarray(pc.fill_null(found, -1).to_numpy()).astype(np.int64)


def _read(path: Path, columns: list[str]) -> pa.Table:
    # pyarrow.parquet.read_table reads folders and filters too, for which it imports pandas.
    with pq.ParquetFile(path) as file:
        return file.read(columns)
