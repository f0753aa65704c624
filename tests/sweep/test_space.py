"""Spaces in Hydra's syntax for sweeps, and points drawn from them."""

from __future__ import annotations

import numpy as np
import pytest

from softcue.errors import ConfigError
from softcue.sweep.space import Interval, Options, parse_space, points, split_space


def test_intervals_choices_and_ranges_are_read() -> None:
    space = parse_space(
        {
            "optimizer.lr": "tag(log, interval(0.001, 1))",
            "prompt.dropout": "interval(0, 0.5)",
            "prompt.layout": 'choice("[soft:5]{input}", "[soft:9]{input}")',
            "data.batch_size": "range(4, 7)",
        }
    )
    assert space["optimizer.lr"] == Interval(low=0.001, high=1, log=True)
    assert space["prompt.dropout"] == Interval(low=0, high=0.5, log=False)
    layouts = space["prompt.layout"]
    assert isinstance(layouts, Options)
    assert len(layouts.values) == 2
    assert space["data.batch_size"] == Options(values=("4", "5", "6"))


@pytest.mark.parametrize("text", ["0.1", "interval(1, 0.1)", "tag(log, interval(0, 1))"])
def test_a_setting_without_several_values_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^optimizer.lr="):
        parse_space({"optimizer.lr": text})


def test_a_logarithmic_interval_has_its_geometric_mean_in_the_middle() -> None:
    interval = Interval(low=0.001, high=10, log=True)
    assert [interval.at(u) for u in (0.0, 0.5, 1.0)] == ["0.001", "0.1", "10"]


@pytest.mark.parametrize("sampler", ["sobol", "random"])
def test_points_follow_from_the_seed_and_fill_the_space(sampler: str) -> None:
    space = parse_space({"a": "interval(0, 1)", "b": "choice(x, y)"})
    drawn = points(space, count=64, sampler=sampler, seed=3)
    assert drawn == points(space, count=64, sampler=sampler, seed=3)
    assert drawn != points(space, count=64, sampler=sampler, seed=4)
    counts, _ = np.histogram([float(point["a"]) for point in drawn], bins=4, range=(0, 1))
    assert {point["b"] for point in drawn} == {"x", "y"}
    # Sobol points are balanced over the quarters; random ones are not.
    assert set(counts) == {16} if sampler == "sobol" else set(counts) != {16}


def test_fewer_points_are_the_first_of_more() -> None:
    space = parse_space({"a": "interval(0, 1)"})
    assert (
        points(space, count=3, sampler="sobol", seed=0) == points(space, count=4, sampler="sobol", seed=0)[:3]
    )


def test_an_unknown_sampler_is_named() -> None:
    with pytest.raises(ConfigError, match="is 'grid'; choose sobol or random"):
        points(parse_space({"a": "interval(0, 1)"}), count=2, sampler="grid", seed=0)


def test_arguments_with_several_values_are_the_searched_ones() -> None:
    several, single = split_space(["seed=1", "a.b=choice(1,2)", "c=tag(log, interval(1, 2))", "+d=e"])
    assert several == {"a.b": "choice(1,2)", "c": "tag(log, interval(1, 2))"}
    assert single == ["seed=1", "+d=e"]
