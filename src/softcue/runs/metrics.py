"""The metrics of a run, each declared once, and the mean of a number over runs."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from statistics import fmean, stdev
from typing import Literal

from softcue.errors import ConfigError

Needs = Literal["class probabilities", "generated texts", "generated labels", "likelihoods"]
"""What a metric is computed from: the first three need classes, texts to write, and classes with
`data.decoding`; likelihoods of the right label or text need a language model."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A metric's name in records, its title in tables, which direction is better, and its number format.

    A metric `by_class` is recorded for each class, under names such as `f1/complaint`. No value lies beyond
    `least` and `most`.
    """

    name: str
    title: str
    higher_is_better: bool
    needs: Needs = "class probabilities"
    number_format: str = ".3f"
    by_class: bool = False
    least: float = 0
    most: float = 1

    def text(self, value: float) -> str:
        """A value as tables show it."""
        return format(value, self.number_format)

    def rank(self, value: float | None) -> float:
        """Sort key: the best value first, None last."""
        if value is None:
            return math.inf
        return -value if self.higher_is_better else value


METRICS = {
    metric.name: metric
    for metric in (
        Metric(name="accuracy", title="accuracy", higher_is_better=True),
        Metric(name="macro_f1", title="macro-F1", higher_is_better=True),
        Metric(name="f1", title="F1", higher_is_better=True, by_class=True),
        Metric(name="auroc", title="AUROC", higher_is_better=True),
        Metric(name="calibration_error", title="calibration error", higher_is_better=False),
        # The user's own, as in own/mcc; higher is taken to be better.
        Metric(name="own", title="own", higher_is_better=True, by_class=True, least=-math.inf, most=math.inf),
        # Without a bound, so significant digits.
        Metric(
            name="perplexity",
            title="perplexity",
            higher_is_better=False,
            needs="likelihoods",
            number_format=".4g",
            least=1,
            most=math.inf,
        ),
        Metric(name="exact_match", title="exact match", higher_is_better=True, needs="generated texts"),
        Metric(name="token_f1", title="token F1", higher_is_better=True, needs="generated texts"),
        Metric(name="bleu", title="BLEU", higher_is_better=True, needs="generated texts"),
        Metric(name="rouge1", title="ROUGE-1", higher_is_better=True, needs="generated texts"),
        Metric(name="rouge2", title="ROUGE-2", higher_is_better=True, needs="generated texts"),
        Metric(name="rougeL", title="ROUGE-L", higher_is_better=True, needs="generated texts"),
        Metric(name="chrf", title="chrF", higher_is_better=True, needs="generated texts"),
        Metric(name="answer_match", title="answer match", higher_is_better=True, needs="generated texts"),
        Metric(name="unfinished", title="unfinished", higher_is_better=False, needs="generated texts"),
        Metric(name="label_match", title="label match", higher_is_better=True, needs="generated labels"),
        Metric(name="no_class", title="no class", higher_is_better=False, needs="generated labels"),
    )
}


def metric_named(name: str) -> Metric:
    """The declaration of a metric by its name in records, such as `macro_f1` or `f1/complaint`.

    Raises:
        ConfigError: no metric has this name.
    """
    family, _, of_class = name.partition("/")
    metric = METRICS.get(family)
    if metric is None or metric.by_class != bool(of_class):
        names = ", ".join(f"{one.name}/<class>" if one.by_class else one.name for one in METRICS.values())
        raise ConfigError(f"{name!r} is not a metric; choose one of {names}.")
    return replace(metric, name=name, title=f"{metric.title} {of_class}") if of_class else metric


def part_and_metric(path: str) -> tuple[str, Metric]:
    """The two halves of a path such as `validation/macro_f1`.

    Raises:
        ConfigError: no metric has this name.
    """
    part, _, name = path.partition("/")
    return part, metric_named(name)


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """The mean of `n` numbers and their sample standard deviation, None for a single number."""

    mean: float
    std: float | None
    n: int


def statistic(values: Iterable[float | None]) -> Statistic | None:
    """Mean and deviation of the values that are not None; None if all are."""
    present = [value for value in values if value is not None]
    if not present:
        return None
    return Statistic(mean=fmean(present), std=stdev(present) if len(present) > 1 else None, n=len(present))
