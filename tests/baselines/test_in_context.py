"""The labelled rows in front of a row: which ones, in what order, how many; and their ids."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np
import pytest
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics.pairwise import cosine_similarity

from softcue.baselines.in_context import InContext
from softcue.build.backbone import build_backbone
from softcue.build.data import build_data
from softcue.contracts import PromptBank
from softcue.evaluation.scoring import Scoring
from softcue.training.in_context import InContextLearner
from tests.baselines.conftest import Compose
from tests.tiny import plain_log_likelihood, tiny_model

LABELLED = ["red apple", "green apple", "blue sky", "grey sky today"]


def chooser(*, num_rows: int | None = None, order: Literal["seed", "nearest"] = "seed") -> InContext:
    return InContext(num_rows=num_rows, order=order, separator="w9", seed=3)


def test_the_seed_draws_one_order_for_all_rows() -> None:
    ranking_BN = chooser().ranking(LABELLED, ["x", "y"])
    assert (
        ranking_BN[0].tolist() == ranking_BN[1].tolist() == np.random.default_rng(3).permutation(4).tolist()
    )


def test_the_nearest_are_those_of_the_highest_cosine_and_the_nearest_comes_last() -> None:
    texts = ["a green apple", "sky"]
    nearest = chooser(order="nearest", num_rows=2)
    ranking_BN = nearest.ranking(LABELLED, texts)
    vectorizer = TfidfVectorizer(sublinear_tf=True).fit(LABELLED)
    cosine_BN = cosine_similarity(vectorizer.transform(texts), vectorizer.transform(LABELLED))
    assert [row[0] for row in ranking_BN] == cosine_BN.argmax(axis=1).tolist()
    assert nearest.chosen(ranking_BN[0], [1, 1, 1, 1], budget=9)[-1] == 1


def test_as_many_rows_as_fit_the_budget() -> None:
    ranking = np.array([2, 0, 3, 1])
    assert chooser().chosen(ranking, [5, 1, 4, 2], budget=11) == [2, 0, 3]
    assert chooser().chosen(ranking, [5, 1, 4, 2], budget=10) == [2, 0]
    assert chooser().chosen(ranking, [5, 1, 4, 2], budget=3) == []
    assert chooser(num_rows=1).chosen(ranking, [5, 1, 4, 2], budget=11) == [2]


@pytest.fixture
def learner(compose: Compose) -> InContextLearner:
    return in_context(compose)


def in_context(compose: Compose, *overrides: str) -> InContextLearner:
    config = compose("prompt=baseline/in_context", 'prompt.method.separator="w9"', *overrides)
    lm, data = build_backbone(config), build_data(config)
    data.encode(lm.tokenizer, lm.spec.max_positions, padded=lm.takes_padded_rows)
    method = config.prompt.method
    rows = InContext(
        num_rows=method.num_rows, order=method.order, separator=method.separator, seed=method.seed
    )
    return InContextLearner(lm=lm, chooser=rows, data=data, device=torch.device("cpu"))


def parts_of(ids: list[int], separator: int = 9) -> list[list[int]]:
    """The rows of a context, without their separators, and the row itself."""
    parts: list[list[int]] = [[]]
    for token in ids:
        if token == separator:
            parts.append([])
        else:
            parts[-1].append(token)
    return parts


@pytest.mark.parametrize("order", ["seed", "nearest"])
def test_the_context_is_exactly_labelled_training_rows_and_never_test_rows(
    compose: Compose, order: str
) -> None:
    learner = in_context(compose, f"prompt.method.order={order}")
    (data,) = learner.data.tasks.values()
    labelled = {(*example.ids, *example.choices[example.target]) for example in data.examples("train")}
    for example in learner.in_context(data, "test"):
        *context, own = parts_of(list(example.ids))
        assert {tuple(one) for one in context} == labelled
        assert own == list(data.examples("test")[example.row].ids)


def test_the_scores_are_those_of_a_plain_forward_of_the_whole_text(learner: InContextLearner) -> None:
    (data,) = learner.data.tasks.values()
    rows = learner.predict(data, "test", [Scoring(per_token=False)])[0]
    examples = sorted(learner.in_context(data, "test"), key=lambda example: example.row)
    model = tiny_model("llama")
    with torch.no_grad():
        expected_BC = plain_log_likelihood(
            model, PromptBank(), [list(example.ids) for example in examples], data.choices
        ).softmax(dim=1)
    assert torch.allclose(rows.probability_BC, expected_BC, atol=1e-5)


def test_a_long_training_set_is_cut_to_the_models_context(
    compose: Compose, monkeypatch: pytest.MonkeyPatch
) -> None:
    learner = in_context(compose)
    (data,) = learner.data.tasks.values()
    longest = max(len(example.ids) for example in data.examples("test"))
    monkeypatch.setattr(learner.lm, "spec", replace(learner.lm.spec, max_positions=longest + 1 + 12))
    for example in learner.in_context(data, "test"):
        assert len(example.ids) + 1 <= longest + 1 + 12
        assert len(parts_of(list(example.ids))) > 1
