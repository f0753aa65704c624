"""The order of training rows: what it depends on, and what length groups and mixtures make of it."""

from __future__ import annotations

from collections import Counter

import pytest
import torch

from softcue.data.order import EpochShuffle, LengthGrouping, LoopPosition, MixtureShuffle

SIZES = [8, 32, 160]


def test_the_order_follows_from_seed_and_epoch() -> None:
    def order(seed: int, epoch: int) -> list[int]:
        sampler = EpochShuffle(num_rows=50, seed=seed)
        sampler.set_epoch(epoch)
        return list(sampler)

    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in range(3)}) == 6
    assert sorted(order(0, 1)) == list(range(50))


def test_length_grouped_batches_hold_rows_of_similar_length() -> None:
    lengths = torch.randint(5, 60, (203,), generator=torch.Generator().manual_seed(0)).tolist()

    def order(seed: int, epoch: int) -> list[int]:
        grouping = LengthGrouping(lengths=lengths, batch_size=8)
        sampler = EpochShuffle(num_rows=203, seed=seed, grouping=grouping)
        sampler.set_epoch(epoch)
        return list(sampler)

    def spread(rows: list[int]) -> int:
        batches = [rows[start : start + 8] for start in range(0, len(rows), 8)]
        return sum(int(max(lengths[r] for r in b) - min(lengths[r] for r in b)) for b in batches)

    plain = EpochShuffle(num_rows=203, seed=0)
    assert spread(order(0, 0)) < spread(list(plain)) / 3
    assert order(0, 3) == order(0, 3)
    assert len({tuple(order(seed, epoch)) for seed in (0, 1) for epoch in range(3)}) == 6
    assert sorted(order(0, 1)) == list(range(203))


def test_a_position_skips_the_rows_that_were_seen_in_its_epoch() -> None:
    whole, resumed = (EpochShuffle(num_rows=50, seed=0) for _ in range(2))
    whole.set_epoch(2)
    resumed.start_at(LoopPosition(epoch=2, batches=3, rank=0, num_processes=1), batch_size=8)
    resumed.set_epoch(2)
    assert list(resumed) == list(whole)[24:]
    whole.set_epoch(3)
    resumed.set_epoch(3)
    assert list(resumed) == list(whole)


def test_processes_share_the_rows_and_take_equally_many() -> None:
    shares = []
    for rank in range(4):
        position = LoopPosition(epoch=0, batches=0, rank=rank, num_processes=4)
        shares.append(list(EpochShuffle(num_rows=50, seed=0).start_at(position, batch_size=8)))
    assert {len(share) for share in shares} == {13}
    assert {row for share in shares for row in share} == set(range(50))


def taken(temperature: float, *, seed: int = 0, epoch: int = 0) -> list[int]:
    sampler = MixtureShuffle(sizes=SIZES, temperature=temperature, seed=seed)
    sampler.set_epoch(epoch)
    return list(sampler)


def by_task(rows: list[int]) -> list[int]:
    counts = Counter(0 if row < 8 else 1 if row < 40 else 2 for row in rows)
    return [counts[task] for task in range(3)]


def test_temperature_one_takes_every_row_once() -> None:
    assert sorted(taken(1.0)) == list(range(sum(SIZES)))


@pytest.mark.parametrize("temperature", [0.5, 2.0, 5.0])
def test_a_tasks_share_is_its_size_to_the_power_of_one_over_the_temperature(temperature: float) -> None:
    weights = [size ** (1 / temperature) for size in SIZES]
    expected = [sum(SIZES) * weight / sum(weights) for weight in weights]
    assert by_task(taken(temperature)) == pytest.approx(expected, abs=1)
    assert len(taken(temperature)) == sum(SIZES)


def test_a_high_temperature_takes_all_tasks_and_the_rows_of_each_equally_often() -> None:
    rows = taken(1e6)
    assert by_task(rows) == pytest.approx([67, 67, 66], abs=1)
    times = Counter(row for row in rows if row < 8)
    assert max(times.values()) - min(times.values()) <= 1


def test_the_order_of_a_mixture_follows_from_seed_and_epoch() -> None:
    assert taken(2.0, epoch=3) == taken(2.0, epoch=3)
    assert taken(2.0, epoch=3) != taken(2.0, epoch=2)
    assert taken(2.0, seed=1) != taken(2.0, seed=0)
