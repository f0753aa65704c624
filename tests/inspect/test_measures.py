"""Each formula against a case worked out by hand or torch's own function."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cosine_similarity

from softcue.inspect.measures import (
    drift,
    nearest,
    norms,
    percentiles,
    quantiles,
    similar_others,
    similarity,
)


def test_the_nearest_words_have_the_highest_cosine_whatever_their_norm() -> None:
    embedding_VD = torch.tensor([[9.0, 0.0], [0.0, 0.1], [1.0, 1.0], [-1.0, 0.0], [0.0, 0.0]])
    ids, cosines = nearest(torch.tensor([[2.0, 1.0]]), embedding_VD, count=3)
    assert ids.tolist() == [[2, 0, 1]]
    torch.testing.assert_close(cosines[0], torch.tensor([3 / 10**0.5, 2 / 5**0.5, 1 / 5**0.5]))


def test_a_vocabulary_in_parts_and_in_bfloat16_gives_the_same_as_whole_in_float32(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("softcue.inspect.measures.ROWS_AT_ONCE", 7)
    generator = torch.Generator().manual_seed(0)
    embedding_VD = torch.randn(50, 8, generator=generator).bfloat16()
    vectors_PD = torch.randn(4, 8, generator=generator)
    cosine_PV = cosine_similarity(vectors_PD[:, None], embedding_VD.float()[None], dim=2)
    ids, cosines = nearest(vectors_PD, embedding_VD, count=5)
    torch.testing.assert_close(cosines, cosine_PV.sort(dim=1, descending=True).values[:, :5])
    torch.testing.assert_close(cosine_PV.gather(1, ids), cosines)
    torch.testing.assert_close(norms(embedding_VD), embedding_VD.float().norm(dim=1))


def test_a_percentile_is_the_share_of_smaller_norms() -> None:
    norm_V = torch.tensor([4.0, 1.0, 3.0, 2.0])
    assert percentiles(torch.tensor([0.5, 2.5, 9.0]), norm_V).tolist() == [0, 50, 100]


def test_quantiles_are_the_last_dimension() -> None:
    low, middle, high = quantiles(torch.arange(101.0)[None].expand(3, -1)).unbind(dim=1)
    assert (low.tolist(), middle.tolist(), high.tolist()) == ([5] * 3, [50] * 3, [95] * 3)


def test_drift_is_distance_and_cosine() -> None:
    moved = drift(torch.tensor([[3.0, 4.0], [1.0, 2.0]]), torch.tensor([[3.0, 0.0], [1.0, 2.0]]))
    torch.testing.assert_close(moved.distance, torch.tensor([4.0, 0.0]))
    torch.testing.assert_close(moved.cosine, torch.tensor([0.6, 1.0]))


def test_the_most_similar_token_is_another() -> None:
    similarity_PP = similarity(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 5.0], [5.0, 6.0]]))
    others, cosines = zip(*similar_others(similarity_PP), strict=True)
    assert others == (1, 3, 3, 1)
    assert cosines[0] == pytest.approx(0.5**0.5)
    torch.testing.assert_close(similarity_PP.diagonal(), torch.ones(4))
    assert similar_others(torch.ones(1, 1)) == [(None, None)]
