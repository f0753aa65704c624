"""Runs on a tiny T5: they train, are saved, loaded, predicted with, exported and inspected."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from softcue.build.prompted import build_prompt
from softcue.errors import ConfigError, RunError
from softcue.export.adapter import load_all, peft_files
from softcue.export.vllm import vllm_files
from softcue.formats.folder import write_folder
from softcue.inspect.reading import Embeddings, Prefix, read
from softcue.inspect.why import why
from softcue.plan import prepare
from softcue.trained import load
from tests.composing import train_config
from tests.integration.conftest import CACHE
from tests.running import train_one
from tests.tiny_backbone import save_tiny_encoder_decoder

Runs = Callable[..., Path]
TWEETS = ["@united my bag is lost again", "thanks @JetBlue for a lovely flight", "@AmericanAir hello ?"]


@pytest.fixture(scope="module")
def t5_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_encoder_decoder(tmp_path_factory.mktemp("t5"), CACHE)


@pytest.fixture(scope="module")
def settings(t5_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    return [
        "experiment=quickstart",
        "backbone=local",
        f"backbone.path={t5_folder}",
        "backbone.name=t5",
        "split.num_train=12",
        "split.num_test=8",
        "data.batch_size=4",
        "trainer.max_epochs=4",
        "trainer.enable_progress_bar=false",
        "callbacks.progress_bar=null",
        "optimizer.lr=0.3",
        f"paths.runs={tmp_path_factory.mktemp('runs')}",
        f"paths.cache={CACHE}",
    ]


@pytest.fixture(scope="module")
def runs(settings: list[str]) -> Runs:
    """Trains once for the module, and gives the run's folder."""
    return lambda *overrides: train_one(train_config(*settings, *overrides)).path


@pytest.fixture(autouse=True)
def cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOFTCUE_CACHE", str(CACHE))


BOTH = ["prompt=prompt_tuning", "prompt.submodules=2"]
FORMS = {
    "one input": ["prompt=prompt_tuning"],
    "both inputs": BOTH,
    "every attention": ["prompt=prefix_tuning"],
    "some attentions": ["prompt=prefix_tuning", "prompt.attentions=[encoder,cross]"],
    "texts": ["prompt=prompt_tuning", "data=airline_summaries"],
}


@pytest.mark.parametrize("form", FORMS)
def test_the_loss_falls_and_the_prompt_predicts_alone_as_beside_others(runs: Runs, form: str) -> None:
    folder = runs(*FORMS[form])
    prompt = load(folder)
    training = prompt.record.training
    assert training is not None
    losses = [float(x) for x in re.findall(r"(?m)^\d+,.*?(\d+\.\d+)", (folder / "metrics.csv").read_text())]
    assert losses[-1] < losses[0]
    if form == "texts":
        texts = prompt.generate(TWEETS)
        assert [prompt.generate(tweet) for tweet in TWEETS] == texts
        return
    together = prompt.predict(TWEETS)
    for tweet, expected in zip(TWEETS, together, strict=True):
        assert prompt.predict(tweet).probabilities == pytest.approx(expected.probabilities, abs=1e-6)


@pytest.mark.parametrize("form", ["one input", "both inputs", "every attention"])
def test_a_prompt_is_inspected(runs: Runs, form: str) -> None:
    prompt = load(runs(*FORMS[form]))
    reading = read(prompt, prompt=0, num_nearest=1, num_rows=2)
    assert isinstance(reading.own, Prefix if form == "every attention" else Embeddings)
    assert reading.attention_LP.shape == (2, 20)  # of the encoder's layers
    assert reading.notes == ()  # it knows where training began
    assert {symptom.name for symptom in why(prompt, prompt=0, num_rows=2)} >= {"norm", "gradient"}


def test_a_prompt_outside_the_encoder_is_not_shown(runs: Runs) -> None:
    prompt = load(runs("prompt=prefix_tuning", "prompt.attentions=[cross]"))
    with pytest.raises(Exception, match="only what is in the encoder's can be shown"):
        read(prompt, prompt=0, num_nearest=1, num_rows=2)


@pytest.mark.parametrize("form", ["one input", "both inputs"])
def test_the_cards_code_predicts_with_peft_what_softcue_predicts(
    runs: Runs, form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = runs(*FORMS[form])
    files = peft_files(load_all(str(folder), task=None), name="adapter")
    write_folder(tmp_path / "adapter", files)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(import torch\nfrom peft.*?)```", files["README.md"].decode(), re.S)
    prompt = load(folder)
    tweet = TWEETS[0]
    exec(code.replace('"..."', repr(tweet)), {})
    assert capsys.readouterr().out.strip() == prompt.predict(tweet).label
    assert load(tmp_path / "adapter").predict(tweet).probabilities == prompt.predict(tweet).probabilities


def test_what_peft_or_vllm_cannot_hold_is_refused(runs: Runs) -> None:
    prefix = load_all(str(runs(*FORMS["every attention"])), task=None)
    with pytest.raises(ConfigError, match="PEFT gives layer i of a decoder the prefix of layer 2 i"):
        peft_files(prefix, name="adapter")
    with pytest.raises(
        ConfigError, match="t5, an encoder-decoder, and vLLM's prompt_embeds are rows of decoders"
    ):
        vllm_files(load_all(str(runs(*BOTH)), task=None), name="adapter")


def test_runs_train_jointly_as_they_do_alone(settings: list[str], runs: Runs, tmp_path: Path) -> None:
    from softcue.execute import train

    joint = train(train_config(*settings, *BOTH, "joint.seed=[0,1]", f"paths.runs={tmp_path}"))
    alone = load(runs(*BOTH)).bank
    together = load(joint[0].path).bank
    assert together.tensors().keys() == alone.tensors().keys()
    for name, tensor in together.tensors().items():
        torch.testing.assert_close(tensor, alone.tensors()[name], rtol=1e-3, atol=1e-4)


def test_a_trained_prompt_starts_another_run_and_is_scored_as_it_is(runs: Runs, settings: list[str]) -> None:
    source = runs(*BOTH)
    again = load(runs("prompt=saved", f"prompt.path={source}"))
    assert again.record.metrics == load(source).record.metrics
    start = ["prompt/initialiser=saved", f"prompt.initialiser.path={source}"]
    started = build_prompt(train_config(*settings, *BOTH, *start), again.lm.spec, again.template)().detach()
    assert all(torch.equal(started.tensors()[name], of) for name, of in again.bank.tensors().items())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["prompt=cpt"],
            "prompt.method is cpt, which is for decoders, and backbone t5 is an encoder-decoder",
        ),
        (["prompt=late"], "prompt.method is late, which is for decoders"),
        (["prompt=prefix_tuning_late"], "prompt.method is prefix_tuning_late, which is for decoders"),
        (["backbone.engine=stream"], "backbone.engine is stream, which is for decoders"),
        (["prompt.submodules=2", "backbone=smollm2_135m"], "'submodules': 2}, which is for encoder-decoders"),
        (["prompt=prefix_tuning", "prompt.attentions=[cross]", "backbone=smollm2_135m"], "a decoder. Set"),
    ],
)
def test_settings_for_the_other_kind_of_model_are_refused_before_it_is_loaded(
    settings: list[str], overrides: list[str], message: str
) -> None:
    chosen = any(override.startswith("backbone=") for override in overrides)
    own = [text for text in settings if not (chosen and text.startswith("backbone"))]
    with pytest.raises(ConfigError, match=re.escape(message)):
        prepare(train_config(*own, *overrides))


def test_a_damaged_prompt_is_refused(runs: Runs, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    source = runs(*BOTH)
    write_folder(
        tmp_path / "copy", {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}
    )
    tensors = load_file(source / "prompt.safetensors")
    tensors["decoder_embeddings_TPD"] = tensors["decoder_embeddings_TPD"][:, :3].contiguous()
    save_file(tensors, tmp_path / "copy" / "prompt.safetensors")
    with pytest.raises(RunError, match="Copy it again"):
        load(tmp_path / "copy")
