"""Trained prompts inspected: their start, their nearest tokens, and the choice among several."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf
from torch.nn.functional import cosine_similarity

from softcue.build.prompted import build_prompt
from softcue.contracts import PromptBank
from softcue.errors import ConfigError, RunError
from softcue.formats.prompt_file import load_bank
from softcue.inspect.measures import Drift
from softcue.inspect.reading import Embeddings, Prefix, Reading, read
from softcue.trained import TrainedPrompt, load
from tests.inspect.conftest import TrainFast

METHODS = ["cpt", "p_tuning_lstm", "prefix_tuning", "prefix_tuning_projected"]


def reading(trained: TrainedPrompt, prompt: int = 0) -> Reading:
    return read(trained, prompt=prompt, num_nearest=5, num_rows=3)


def drifts(of: Reading) -> list[Drift]:
    if isinstance(of.own, Embeddings):
        assert of.own.drift_P is not None
        return [of.own.drift_P]
    found = [of.own.keys.drift_P, of.own.keys.drift_LP, of.own.values.drift_P, of.own.values.drift_LP]
    return [drift for drift in found if drift is not None]


def start_of(trained: TrainedPrompt) -> PromptBank:
    """The start as training builds it, from the run's config."""
    settings = OmegaConf.load(trained.folder / "config.yaml")
    assert isinstance(settings, DictConfig)
    with torch.no_grad():
        bank: PromptBank = build_prompt(settings, trained.lm.spec, trained.template)().detach()
    return bank


@pytest.mark.parametrize("method", METHODS)
def test_a_prompt_trained_at_no_learning_rate_has_not_drifted(train_fast: TrainFast, method: str) -> None:
    of = reading(load(train_fast(f"prompt={method}", "prompt.learning_rate=0")))
    assert drifts(of)
    for drift in drifts(of):
        torch.testing.assert_close(drift.distance, torch.zeros_like(drift.distance), rtol=0, atol=0)
        torch.testing.assert_close(drift.cosine, torch.ones_like(drift.cosine))


def test_the_drift_of_a_trained_prompt_is_its_distance_from_the_start(train_fast: TrainFast) -> None:
    trained = load(train_fast("prompt=p_tuning"))
    now, start = trained.bank.embeddings_TPD, start_of(trained).embeddings_TPD
    assert now is not None
    assert start is not None
    (drift,) = drifts(reading(trained))
    assert drift.distance.min() > 0
    torch.testing.assert_close(drift.distance, (now - start)[0].square().sum(dim=1).sqrt())
    torch.testing.assert_close(drift.cosine, cosine_similarity(now[0], start[0], dim=1))


def test_a_prompt_of_labelled_rows_has_not_left_its_balls(train_fast: TrainFast) -> None:
    radii = [f"prompt.method.{kind}_radius=0.1" for kind in ("text", "template")]
    cpt = ("prompt=cpt", "prompt.learning_rate=1", *radii)
    (drift,) = drifts(reading(load(train_fast(*cpt))))
    moved = drift.distance[drift.distance > 0]
    assert 50 < len(moved) < 100  # labels stay
    torch.testing.assert_close(moved, torch.full_like(moved, 0.1), rtol=0, atol=1e-4)


def test_a_pruned_prompt_is_shorter_and_says_that_its_start_cannot_be_made_again(
    train_fast: TrainFast,
) -> None:
    source = train_fast("prompt=prompt_tuning")
    folder = train_fast("prompt=xprompt", f"prompt.source={source}", "prompt.method.num_pieces=4")
    trained = load(folder)
    assert trained.bank.num_virtual_tokens == (8,)
    of = reading(trained)
    assert any("starts from gradients of the training rows" in note for note in of.notes)
    assert trained.record.parameters is not None
    assert trained.record.parameters.trainable == 8 * trained.lm.spec.hidden_size // 2


def test_a_prefix_moved_by_one_number_has_drifted_there_alone(train_fast: TrainFast) -> None:
    trained = load(train_fast("prompt=prefix_tuning"))
    start = start_of(trained)
    assert start.keys_TLHPK is not None
    start.keys_TLHPK[0, 1, 0, 7, 3] += 2.5
    own = reading(replace(trained, bank=start)).own
    assert isinstance(own, Prefix)
    assert own.keys.drift_LP is not None
    assert own.values.drift_LP is not None
    assert own.keys.drift_LP.distance.nonzero().tolist() == [[1, 7]]
    assert own.keys.drift_LP.distance[1, 7].item() == pytest.approx(2.5, rel=1e-5)
    assert own.values.drift_LP.distance.count_nonzero() == 0


def test_virtual_tokens_that_are_words_find_themselves(train_fast: TrainFast) -> None:
    trained = load(train_fast("prompt=prompt_tuning"))
    ids = trained.lm.spec.tokenize(" gate delay gate")
    words = trained.lm.spec.embedding_VD[ids].float()
    bank = PromptBank(embeddings_TPD=words.repeat(7, 1)[None, :20])
    of = reading(replace(trained, bank=bank))
    assert isinstance(of.own, Embeddings)
    best = [near[0] for near in of.own.nearest]
    assert [near.text for near in best] == ([" gate", " delay", " gate"] * 7)[:20]
    assert [near.cosine for near in best] == pytest.approx([1.0] * 20, abs=1e-5)
    assert of.similarity_PP[0, [2, 3, 5]].tolist() == pytest.approx([1.0] * 3, abs=1e-5)
    torch.testing.assert_close(of.own.norm_P[:3], words.norm(dim=1))


def test_attention_is_measured_on_the_runs_own_training_rows(train_fast: TrainFast) -> None:
    trained = load(train_fast("prompt=prefix_tuning"))
    assert read(trained, prompt=0, num_nearest=1, num_rows=99).num_rows == 8
    of = reading(trained)
    assert of.num_rows == 3
    assert of.attention_LP.shape == (2, 20)
    assert ((of.attention_LP.sum(dim=1) > 0) & (of.attention_LP.sum(dim=1) < 1)).all()


def test_each_prompt_of_an_ensemble_is_read_alone_and_has_no_start_of_its_own(
    train_fast: TrainFast,
) -> None:
    members = [train_fast("prompt=prompt_tuning", f"seed={seed}", "split.seed=0") for seed in (0, 1)]
    trained = load(train_fast("prompt=ensemble", f"prompt.runs=[{members[0]},{members[1]}]"))
    first, second = reading(trained, 0), reading(trained, 1)
    alone = reading(load(members[1]))
    assert first.title.endswith("prompt 0 of 2")
    assert isinstance(second.own, Embeddings)
    assert isinstance(alone.own, Embeddings)
    assert second.own.nearest == alone.own.nearest
    torch.testing.assert_close(second.attention_LP, alone.attention_LP)
    assert second.own.drift_P is None
    assert "inspect the run that trained the prompt" in second.notes[0]
    with pytest.raises(ConfigError, match=r"prompt is 2; .* holds 2: choose from 0 to 1"):
        reading(trained, 2)


@pytest.mark.slow
def test_a_task_of_several_is_read_with_its_own_prompt_start_and_rows(train_fast: TrainFast) -> None:
    folder = train_fast("prompt=multitask", "data=tweet_topics", "split.balance=equal")
    trained = load(folder, task="deflategate")
    start = start_of(trained).embeddings_TPD
    now = load_bank(folder / "prompt.safetensors")[0].embeddings_TPD
    assert now is not None
    assert start is not None
    of = reading(trained)
    (drift,) = drifts(of)
    assert drift.distance.min() > 0
    torch.testing.assert_close(drift.distance, (now[2] - start[2]).norm(dim=1))
    assert of.title == f"multitask · {trained.task.name} · tiny · seed 0"
    assert of.notes == ()


def with_method(trained: TrainedPrompt, **settings: object) -> TrainedPrompt:
    """The same prompt, its record's prompt.method changed."""
    prompt = trained.record.settings["prompt"]
    changed = {**prompt, "method": {**prompt["method"], **settings}}
    return replace(
        trained,
        record=replace(trained.record, settings={**trained.record.settings, "prompt": changed}),
    )


STARTS: dict[str, tuple[dict[str, object], str]] = {
    "no text": (
        {"initialiser": {"_target_": "softcue.prompts.initialisers.Text", "text": ""}},
        r"prompt\.initialiser\.text ''",
    ),
    "a foreign initialiser": (
        {"initialiser": {"_target_": "os.system", "command": "true"}},
        r"initialiser is of kind 'os\.system', which is none of softcue's own",
    ),
    "an encoder larger than memory": (
        {"_target_": "softcue.prompts.p_tuning.PTuningMLP", "hidden_size": 10**9},
        "an encoder of more than",
    ),
    "an encoder of a negative size": (
        {"_target_": "softcue.prompts.p_tuning.PTuningMLP", "hidden_size": -4},
        r"method cannot be used \(RuntimeError",
    ),
    "a start of another form": (
        {"_target_": "softcue.prompts.prefix_tuning.PrefixTuning", "through_backbone": True},
        "settings' start has other sizes than the prompt",
    ),
}


@pytest.mark.parametrize("start", STARTS)
def test_a_start_that_cannot_be_made_again_leaves_the_rest_to_read(train_fast: TrainFast, start: str) -> None:
    settings, reason = STARTS[start]
    of = reading(with_method(load(train_fast("prompt=prompt_tuning")), **settings))
    assert isinstance(of.own, Embeddings)
    assert of.own.drift_P is None
    assert re.search(f"^No drift, .*{reason}", of.notes[0])


def test_a_hard_prompt_has_nothing_to_inspect(train_fast: TrainFast) -> None:
    with pytest.raises(RunError, match="is a run of hard_prompt, which has no virtual tokens to inspect"):
        reading(load(train_fast("prompt=hard_prompt")))


def test_rows_that_changed_since_training_are_named(train_fast: TrainFast) -> None:
    trained = load(train_fast("prompt=prompt_tuning"))
    assert reading(trained).notes == ()
    (note,) = reading(replace(trained, record=replace(trained.record, data_fingerprint="other"))).notes
    assert note.startswith("The task's rows have changed since training")


def test_a_baseline_has_no_prompt(train_fast: TrainFast) -> None:
    folder: Path = train_fast("prompt=baseline/tfidf")
    with pytest.raises(RunError, match="is a run of tfidf, which reads no prompt"):
        load(folder)
