"""The declared metrics."""

from __future__ import annotations

import math

import pytest

from softcue.errors import ConfigError
from softcue.runs.metrics import METRICS, Statistic, metric_named, part_and_metric, statistic


def test_the_best_value_ranks_first_and_a_missing_one_last() -> None:
    values = [0.5, None, 0.9, 0.1]
    assert sorted(values, key=METRICS["auroc"].rank) == [0.9, 0.5, 0.1, None]
    assert sorted(values, key=METRICS["perplexity"].rank) == [0.1, 0.5, 0.9, None]


def test_perplexity_has_significant_digits_as_it_has_no_bound() -> None:
    assert METRICS["perplexity"].text(1.23456e300) == "1.235e+300"
    assert METRICS["macro_f1"].text(0.81249) == "0.812"


def test_a_metric_by_class_is_named_with_its_class() -> None:
    metric = metric_named("f1/no complaint")
    assert (metric.name, metric.title) == ("f1/no complaint", "F1 no complaint")
    assert part_and_metric("validation/f1/a/b") == ("validation", metric_named("f1/a/b"))


@pytest.mark.parametrize("name", ["f1", "accuracy/x", "f1/", "loss", ""])
def test_an_unknown_metric_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ConfigError, match="is not a metric; choose one of accuracy, macro_f1, "):
        metric_named(name)


def test_a_value_that_is_missing_does_not_count_as_zero() -> None:
    assert statistic([0.5, None, 1.0]) == Statistic(mean=0.75, std=math.sqrt(0.125), n=2)
    assert statistic([0.5]) == Statistic(mean=0.5, std=None, n=1)
    assert statistic([None]) is None
