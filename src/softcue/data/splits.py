"""Which rows train, validate and test: a few rows, folds, or all; always stratified and seeded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import datasets
import numpy as np
from sklearn.model_selection import StratifiedKFold

from softcue.data.pool import Pool
from softcue.errors import DataError

Balance = Literal["natural", "equal"]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Three sets of labelled rows that share none."""

    train: datasets.Dataset
    validation: datasets.Dataset
    test: datasets.Dataset


class Splitter(Protocol):
    """A way to divide a pool."""

    def split(self, pool: Pool, classes: Sequence[str]) -> Parts:
        """Parts of the pool; raises a DataError if it has too few rows or a class is left out of training."""


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """A few rows to train on, the same test rows for every training seed.

    Test rows follow `test_seed` alone and come from the source's held-out rows if it has any;
    `num_test=None` takes all of those, or else all that training and validation leave. Validation
    and training rows follow `seed`. Training sets of one seed are nested: 16 rows are the first of 50.
    """

    num_train: int
    num_validation: int
    num_test: int | None
    balance: Balance
    seed: int
    test_seed: int

    def split(self, pool: Pool, classes: Sequence[str]) -> Parts:
        """Draw test rows, then validation rows, then training rows."""
        labels = pool.labelled["label"][:]
        rest = list(range(len(labels)))
        test: list[int] = []
        if pool.held_out is None and self.num_test is not None:
            test, rest = take(labels, rest, num_rows=self.num_test, seed=self.test_seed, part="test")
        validation, rest = take(labels, rest, num_rows=self.num_validation, seed=self.seed, part="validation")
        train, rest = take(
            labels, rest, num_rows=self.num_train, seed=self.seed, part="train", balance=self.balance
        )
        if pool.held_out is None and self.num_test is None:
            test = rest
        return _parts(pool, classes, train=train, validation=validation, test=self._test(pool, test))

    def _test(self, pool: Pool, drawn: list[int]) -> datasets.Dataset:
        if pool.held_out is None:
            return pool.labelled.select(sorted(drawn))
        if self.num_test is None:
            return pool.held_out
        labels = pool.held_out["label"][:]
        rows, _ = take(
            labels, list(range(len(labels))), num_rows=self.num_test, seed=self.test_seed, part="test"
        )
        return pool.held_out.select(sorted(rows))


@dataclass(frozen=True, kw_only=True)
class KFold:
    """Fold `fold` of `num_folds` is the test set; the rest, less `num_validation` rows, trains."""

    num_folds: int
    fold: int
    seed: int
    num_validation: int

    def split(self, pool: Pool, classes: Sequence[str]) -> Parts:
        """Divide the labelled rows; DataError if the source holds rows out, which no fold would use."""
        if pool.held_out is not None:
            raise DataError(
                "split=k_fold tests on the folds of data.source.path, and data.source.test_path would not be "
                "used. Set it to null, or use split=few_shot or all_labelled."
            )
        labels = pool.labelled["label"][:]
        rest, test = stratified_fold(labels, num_folds=self.num_folds, fold=self.fold, seed=self.seed)
        validation, train = take(
            labels, rest, num_rows=self.num_validation, seed=self.seed, part="validation"
        )
        return _parts(pool, classes, train=train, validation=validation, test=pool.labelled.select(test))


@dataclass(frozen=True, kw_only=True)
class FewShotFolds:
    """The training rows that `FewShot` draws, in folds: one validates, the others train; none tests.

    For choices that may look at nothing but the few labels there are. With the same `num_train`, `seed`,
    `test_seed` and `num_test`, a later `FewShot` run trains on all of them and tests on rows that no fold
    has seen, which are the source's held-out rows if it has any.
    """

    num_train: int
    num_test: int | None
    balance: Balance
    seed: int
    test_seed: int
    num_folds: int
    fold: int

    def split(self, pool: Pool, classes: Sequence[str]) -> Parts:
        """Draw the rows, then divide them."""
        few = FewShot(
            num_train=self.num_train,
            num_validation=0,
            num_test=self.num_test,
            balance=self.balance,
            seed=self.seed,
            test_seed=self.test_seed,
        ).split(pool, classes)
        rest, fold = stratified_fold(
            few.train["label"][:], num_folds=self.num_folds, fold=self.fold, seed=self.seed
        )
        return Parts(
            train=few.train.select(rest), validation=few.train.select(fold), test=few.test.select([])
        )


@dataclass(frozen=True, kw_only=True)
class AllLabelled:
    """All labelled rows train, less `num_validation`; the test set is what the source holds out, or empty."""

    num_validation: int
    seed: int

    def split(self, pool: Pool, classes: Sequence[str]) -> Parts:
        """Divide the labelled rows in two."""
        labels = pool.labelled["label"][:]
        validation, train = take(
            labels, list(range(len(labels))), num_rows=self.num_validation, seed=self.seed, part="validation"
        )
        test = pool.labelled.select([]) if pool.held_out is None else pool.held_out
        return _parts(pool, classes, train=train, validation=validation, test=test)


def stratified_fold(
    labels: Sequence[str], *, num_folds: int, fold: int, seed: int
) -> tuple[list[int], list[int]]:
    """All rows but a fold's, and the fold's."""
    if not 0 <= fold < num_folds:
        raise DataError(f"split.fold is {fold}; it runs from 0 to {num_folds - 1}. Choose one of these.")
    rarest, count = Counter(labels).most_common()[-1]
    if count < num_folds:
        raise DataError(
            f"split.num_folds is {num_folds}; class {rarest!r} has {count} rows, and every fold "
            "needs one. Use fewer folds or split=few_shot."
        )
    folds = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    rest, held_out = list(folds.split(np.zeros(len(labels)), labels))[fold]
    return rest.tolist(), held_out.tolist()


def take(
    labels: Sequence[str],
    rows: Sequence[int],
    *,
    num_rows: int,
    seed: int,
    part: str,
    balance: Balance = "natural",
) -> tuple[list[int], list[int]]:
    """The first `num_rows` of a stratified order of `rows`, and the rest in their given order."""
    if num_rows > len(rows):
        raise DataError(
            f"split.num_{part} is {num_rows}; {len(rows)} labelled rows are left for it. Ask for fewer rows."
        )
    taken = stratified_order([labels[row] for row in rows], seed=seed, balance=balance)[:num_rows]
    if len(taken) < num_rows:
        raise DataError(
            f"split.num_{part} is {num_rows} with equal classes; {len(taken)} can be drawn before a class "
            "runs out. Ask for fewer rows or set split.balance=natural."
        )
    left = set(range(len(rows))) - set(taken)
    return [rows[at] for at in taken], [rows[at] for at in sorted(left)]


def stratified_order(labels: Sequence[str], *, seed: int, balance: Balance) -> list[int]:
    """Positions in an order whose every beginning holds the classes in their shares.

    Each step takes the next of a class's shuffled rows, from the class that lies furthest behind its
    share. With equal shares the order ends when a class runs out.
    """
    counts = Counter(labels)
    queues = _shuffled_by_class(labels, generator=np.random.default_rng(seed))
    share = {
        name: 1 / len(counts) if balance == "equal" else counts[name] / len(labels) for name in sorted(counts)
    }
    taken: Counter[str] = Counter()
    order: list[int] = []
    while len(order) < len(labels):
        behind = max(share, key=lambda name: share[name] * (len(order) + 1) - taken[name])
        if taken[behind] == counts[behind]:
            break
        order.append(queues[behind][taken[behind]])
        taken[behind] += 1
    return order


def _shuffled_by_class(labels: Sequence[str], *, generator: np.random.Generator) -> Mapping[str, list[int]]:
    positions: dict[str, list[int]] = {name: [] for name in sorted(set(labels))}
    for at, name in enumerate(labels):
        positions[name].append(at)
    return {name: generator.permutation(rows).tolist() for name, rows in positions.items()}


def _parts(
    pool: Pool, classes: Sequence[str], *, train: list[int], validation: list[int], test: datasets.Dataset
) -> Parts:
    labels = pool.labelled["label"][:]
    absent = set(labels) - {labels[row] for row in train}
    for name in classes:
        if name in absent:
            raise DataError(
                f"class {name!r} is absent from the {len(train)} training rows, though the table has it. "
                "Ask for more training rows, fewer of the others, or set split.balance=equal."
            )
    return Parts(train=pool.labelled.select(train), validation=pool.labelled.select(validation), test=test)
