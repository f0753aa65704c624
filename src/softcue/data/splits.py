"""Which rows train, validate and test: a few rows, folds, or all; always stratified and seeded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np

from softcue.data.columns import Columns
from softcue.data.pool import Pool
from softcue.errors import ConfigError, DataError

Balance = Literal["natural", "equal"]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Three disjoint sets of labelled rows."""

    train: Columns
    validation: Columns
    test: Columns


class Splitter(Protocol):
    """A way to divide a pool."""

    def split(self, pool: Pool, classes: Sequence[str]) -> Parts:
        """Divide the pool.

        Raises:
            DataError: it has too few rows, or no training row of a class.
        """


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """A few rows to train on, with the same test rows for every training seed.

    Test rows depend on `test_seed` only and come from the source's held-out rows if it has any;
    `num_test=None` takes all of those, or else all rows that training and validation do not use.
    Validation and training rows depend on `seed`. Training sets of one seed are nested: 16 rows are the
    first of 50.
    """

    num_train: int
    num_validation: int
    num_test: int | None
    balance: Balance
    seed: int
    test_seed: int

    def split(self, pool: Pool, classes: Sequence[str]) -> Parts:
        """Draw test rows, then validation rows, then training rows."""
        labels = pool.labelled["label"]
        rest = list(range(len(labels)))
        test: list[int] = []
        if pool.held_out is None and self.num_test is not None:
            test, rest = draw(labels, rest, num_rows=self.num_test, seed=self.test_seed, part="test")
        validation, rest = draw(labels, rest, num_rows=self.num_validation, seed=self.seed, part="validation")
        train, rest = draw(
            labels, rest, num_rows=self.num_train, seed=self.seed, part="train", balance=self.balance
        )
        if pool.held_out is None and self.num_test is None:
            test = rest
        return _parts(pool, classes, train=train, validation=validation, test=self._test(pool, test))

    def _test(self, pool: Pool, drawn: list[int]) -> Columns:
        if pool.held_out is None:
            return pool.labelled.select(sorted(drawn))
        if self.num_test is None:
            return pool.held_out
        labels = pool.held_out["label"]
        rows, _ = draw(
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
                "split=k_fold tests on its own folds, and the rows of data.source.test_path (or test_split) "
                "would not be used. Set that to null, or use split=few_shot or all_labelled."
            )
        labels = pool.labelled["label"]
        rest, test = stratified_fold(labels, num_folds=self.num_folds, fold=self.fold, seed=self.seed)
        validation, train = draw(
            labels, rest, num_rows=self.num_validation, seed=self.seed, part="validation"
        )
        return _parts(pool, classes, train=train, validation=validation, test=pool.labelled.select(test))


@dataclass(frozen=True, kw_only=True)
class FewShotFolds:
    """The training rows that `FewShot` draws, in folds: one validates, the others train; none tests.

    For choices that may use only the few labelled rows. With the same `num_train`, `seed`, `test_seed`
    and `num_test`, a later `FewShot` run trains on all of them and tests on rows that are in no fold, which
    are the source's held-out rows if it has any.
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
            few.train["label"], num_folds=self.num_folds, fold=self.fold, seed=self.seed
        )
        return Parts(
            train=few.train.select(rest), validation=few.train.select(fold), test=few.test.select([])
        )


@dataclass(frozen=True, kw_only=True)
class AllLabelled:
    """All labelled rows train, less `num_validation`; the source's held-out rows, if any, test."""

    num_validation: int
    seed: int

    def split(self, pool: Pool, classes: Sequence[str]) -> Parts:
        """Divide the labelled rows in two."""
        labels = pool.labelled["label"]
        validation, train = draw(
            labels, list(range(len(labels))), num_rows=self.num_validation, seed=self.seed, part="validation"
        )
        test = pool.labelled.select([]) if pool.held_out is None else pool.held_out
        return _parts(pool, classes, train=train, validation=validation, test=test)


def stratified_fold(
    labels: Sequence[str], *, num_folds: int, fold: int, seed: int
) -> tuple[list[int], list[int]]:
    """The indices of all rows outside a fold, and those of the fold."""
    if num_folds < 2:
        raise DataError(f"split.num_folds is {num_folds}; choose 2 folds or more, or split=few_shot.")
    if not 0 <= fold < num_folds:
        raise DataError(f"split.fold is {fold}; choose one from 0 to {num_folds - 1}.")
    rarest, count = Counter(labels).most_common()[-1]
    if count < num_folds:
        raise DataError(
            f"split.num_folds is {num_folds}; class {rarest!r} has {count} rows, and every fold "
            "needs one. Use fewer folds or split=few_shot."
        )
    from sklearn.model_selection import StratifiedKFold  # takes seconds to import

    folds = StratifiedKFold(num_folds, shuffle=True, random_state=seed)
    rest, held_out = list(folds.split(np.zeros(len(labels)), labels))[fold]
    return rest.tolist(), held_out.tolist()


def draw(
    labels: Sequence[str],
    rows: Sequence[int],
    *,
    num_rows: int,
    seed: int,
    part: str,
    balance: Balance = "natural",
) -> tuple[list[int], list[int]]:
    """The first `num_rows` of a stratified order of `rows`, and the others in their given order."""
    if num_rows < 0:
        raise DataError(f"split.num_{part} is {num_rows}; set it to 0 or more.")
    if num_rows > len(rows):
        raise DataError(
            f"split.num_{part} is {num_rows}; {len(rows)} labelled rows are left for it. Ask for fewer rows."
        )
    own_labels = [labels[row] for row in rows]
    drawn = stratified_order(own_labels, num_rows=num_rows, seed=seed, balance=balance)
    if len(drawn) < num_rows:
        raise DataError(
            f"split.num_{part} is {num_rows} with equal classes; {len(drawn)} can be drawn before a class "
            "runs out. Ask for fewer rows or set split.balance=natural."
        )
    others = set(range(len(rows))) - set(drawn)
    return [rows[at] for at in drawn], [rows[at] for at in sorted(others)]


def stratified_order(labels: Sequence[str], *, num_rows: int, seed: int, balance: Balance) -> list[int]:
    """The first `num_rows` positions of an order in which every beginning holds the classes' shares.

    Each step takes the next of a class's shuffled rows, from the class that is furthest below its
    share. With equal shares the order ends when a class runs out.
    """
    if balance not in get_args(Balance):
        raise ConfigError(f"split.balance is {balance!r}; choose {' or '.join(get_args(Balance))}.")
    counts = Counter(labels)
    queues = _shuffled_by_class(labels, generator=np.random.default_rng(seed))
    share = {
        name: 1 / len(counts) if balance == "equal" else counts[name] / len(labels) for name in sorted(counts)
    }
    taken: Counter[str] = Counter()
    order: list[int] = []
    while len(order) < num_rows:
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
    pool: Pool, classes: Sequence[str], *, train: list[int], validation: list[int], test: Columns
) -> Parts:
    labels = pool.labelled["label"]
    absent = set(labels) - {labels[row] for row in train}
    for name in classes:
        if name in absent:
            raise DataError(
                f"class {name!r} is absent from the {len(train)} training rows, though the table has it. "
                "Ask for more training rows, fewer of the others, or set split.balance=equal."
            )
    return Parts(train=pool.labelled.select(train), validation=pool.labelled.select(validation), test=test)
