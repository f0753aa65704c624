"""Every method on tiny encoder-decoders: its contract, parity with PEFT, and exact counts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from peft import (
    MultitaskPromptTuningConfig,
    PeftModel,
    PrefixTuningConfig,
    PromptEncoderConfig,
    PromptLearningConfig,
    PromptTuningConfig,
    TaskType,
    get_peft_model,
)
from torch import Generator, Tensor, nn
from transformers import MT5Config, MT5ForConditionalGeneration, T5Config, T5ForConditionalGeneration

from softcue.backbone.encoder_decoder_lm import EncoderDecoderLM
from softcue.build.prompted import build_prompt
from softcue.contracts import BackboneSpec, Choices, PromptBank, SoftPrompt
from softcue.data.template import compose
from softcue.errors import ConfigError
from softcue.evaluation.scoring import Scoring
from softcue.formats.peft import adapter_files
from softcue.formats.peft_reader import open_adapter
from softcue.formats.prompt_file import bank_to_bytes, load_bank
from softcue.prompts.initialisers import RandomNormal
from softcue.prompts.multitask import MultitaskPrompt
from softcue.prompts.p_tuning import PTuningMLP
from softcue.prompts.place import place
from softcue.prompts.prefix_tuning import PrefixTuning, as_key_values
from softcue.prompts.prompt_tuning import PromptTuning
from softcue.training.objectives import LanguageModelLoss
from tests.backbone.encoder_decoders import START, on_engine, tiny_encoder_decoder
from tests.cases import slow_but
from tests.composing import options, train_config
from tests.prompts.test_contract import GIVEN, ROWS, TASK
from tests.tiny import batch_of, score_targets, tiny_tokenizer

TOKENS, WIDTH = 4, 24
CHOICES: Choices = ((20, 21, 22), (24,))
TEXTS = [[5, 6, 7, 8], [5, 9], [5, 6, 10, 11, 12, 13, 14]]
TARGETS = [0, 1, 0]
LATE = "no prompt above its first layer: its layers are an encoder's and a decoder's"
CAUSAL_ONLY = {"cpt": "reads labels in a row", "late": LATE, "prefix_tuning_late": LATE}
TRAINED = [
    method
    for method in options("prompt")
    if method
    not in ("saved", "ensemble", "hard_prompt", "xprompt", "attempt", "multitask_target", *CAUSAL_ONLY)
]


@pytest.fixture(scope="module")
def t5() -> EncoderDecoderLM:
    return on_engine("t5")


@pytest.fixture(scope="module")
def mt5() -> EncoderDecoderLM:
    return on_engine("mt5")


def make(lm: EncoderDecoderLM, method: str, *overrides: str) -> SoftPrompt:
    settings = train_config(f"prompt={method}", *GIVEN.get(method, []), *overrides)
    return build_prompt(settings, lm.spec, compose(settings.prompt.layout, TASK), rows=ROWS)


@pytest.mark.parametrize("family", slow_but(["t5"], ["t5", "mt5"]))
@pytest.mark.parametrize("method", TRAINED)
def test_every_parameter_of_every_method_has_a_gradient(
    method: str, family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    lm: EncoderDecoderLM = request.getfixturevalue(family)
    in_layers = make(lm, method).in_layers
    for override in ["prompt.attentions=[encoder,cross]"] if in_layers else ["prompt.submodules=2"]:
        prompt = make(lm, method, override)
        bank = prompt()
        count = bank.num_virtual_tokens[0]
        virtual = [-1 - k for k in range(count)]
        batch = batch_of([[*virtual, *text] for text in TEXTS], CHOICES, targets=TARGETS)
        score_targets(lm, bank, batch).log_likelihood_BC.sum().backward()
        assert [name for name, p in prompt.named_parameters() if p.grad is None or not p.grad.any()] == []
        bank = prompt.eval()().detach()
        (tmp_path / "prompt.safetensors").write_bytes(bank_to_bytes(bank, {"backbone": "tiny"}))
        back, _ = load_bank(tmp_path / "prompt.safetensors")
        assert back.attentions == bank.attentions
        assert back.tensors().keys() == bank.tensors().keys()
        assert all(torch.equal(back.tensors()[name], of) for name, of in bank.tensors().items())


@pytest.mark.parametrize("family", slow_but(["t5"], ["t5", "mt5"]))
def test_finished_prompts_are_taken_up_on_encoder_decoders(
    family: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    lm: EncoderDecoderLM = request.getfixturevalue(family)
    factors = {
        "shared_PD": torch.randn(20, lm.spec.hidden_size),
        "task_cols_TPr": torch.randn(1, 20, 2),
        "task_rows_TrD": torch.randn(1, 2, lm.spec.hidden_size),
    }
    made_TPD = factors["shared_PD"] * (factors["task_cols_TPr"] @ factors["task_rows_TrD"])
    about = {"layout": "[soft:20]{input}", "task": "tweets", "template": TASK, "verbalizer": "{}"}
    content = bank_to_bytes(PromptBank(embeddings_TPD=made_TPD), {"backbone": lm.spec.name, **about}, factors)
    (tmp_path / "prompt.safetensors").write_bytes(content)
    given = {
        "saved": [f"prompt.path={tmp_path}"],
        "ensemble": [f"prompt.runs=[{tmp_path},{tmp_path}]"],
        "xprompt": [f"prompt.source={tmp_path}"],
        "attempt": [f"prompt.sources=[{tmp_path}]"],
        "multitask_target": [f"prompt.source={tmp_path}", "prompt.method.rank=2"],
        "hard_prompt": [],
    }
    assert {*given, *TRAINED, *CAUSAL_ONLY} == {*options("prompt")}
    for method, overrides in given.items():
        settings = train_config(f"prompt={method}", *overrides)
        template = compose(settings.prompt.layout, TASK)
        bank = build_prompt(settings, lm.spec, template, rows=ROWS)()
        virtual = [-1 - k for k in range(template.num_virtual_tokens)]
        batch = batch_of([[*virtual, *text] for text in TEXTS], CHOICES, targets=TARGETS)
        batch = batch if bank.vote is None else batch.repeat_for_members(bank.num_prompts)
        assert score_targets(lm, bank, batch).log_likelihood_BC.isfinite().all()


@pytest.mark.parametrize("method", CAUSAL_ONLY)
def test_a_method_of_causal_models_is_refused_by_name(t5: EncoderDecoderLM, method: str) -> None:
    with pytest.raises(ConfigError, match=CAUSAL_ONLY[method]):
        make(t5, method)


@pytest.mark.parametrize(
    ("method", "override", "message"),
    [
        ("prompt_tuning", "prompt.submodules=3", "prompt.submodules is 3, and backbone tiny_t5 takes"),
        ("prompt_tuning", "prompt.attentions=[cross]", "prompt.attentions is .* makes embeddings"),
        ("prefix_tuning", "prompt.submodules=2", "prompt.submodules is 2, and PrefixTuning makes keys and"),
        (
            "prefix_tuning",
            "prompt.attentions=[self]",
            r"prompt.attentions is \['self'\], and backbone tiny_t5",
        ),
        ("prefix_tuning", "prompt.attentions=[]", r"prompt.attentions is \[\], and backbone tiny_t5 has"),
    ],
)
def test_a_place_that_cannot_be_is_refused_by_name(
    t5: EncoderDecoderLM, method: str, override: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make(t5, method, override)


# --- parity with PEFT


def common(spec: BackboneSpec, num_virtual_tokens: int) -> dict[str, Any]:
    return {
        "spec": spec,
        "num_virtual_tokens": num_virtual_tokens,
        "generator": Generator().manual_seed(0),
        "initialiser": RandomNormal(std=0.1),
    }


def peft_config(kind: type[PromptLearningConfig], **settings: Any) -> PromptLearningConfig:
    return kind(task_type=TaskType.SEQ_2_SEQ_LM, num_virtual_tokens=TOKENS, **settings)


LINEAR = {
    f"mlp_head.{layer}.{part}": f"mlp.{layer}.{part}" for layer in (0, 2, 4) for part in ("weight", "bias")
}
METHODS: dict[str, tuple[Callable[..., PromptLearningConfig], Callable[..., SoftPrompt], dict[str, str]]] = {
    "prompt tuning": (
        partial(peft_config, PromptTuningConfig),
        PromptTuning,
        {"embedding.weight": "embeddings_PD"},
    ),
    "P-tuning": (
        partial(peft_config, PromptEncoderConfig, encoder_hidden_size=WIDTH),
        partial(PTuningMLP, hidden_size=WIDTH),
        {"embedding.weight": "input_PD", **LINEAR},
    ),
    "multitask": (
        partial(peft_config, MultitaskPromptTuningConfig, num_tasks=2, num_ranks=2),
        partial(MultitaskPrompt, tasks=["a", "b"], rank=2, task_learning_rate=None),
        {
            "embedding.weight": "shared_PD",
            "prefix_task_cols": "task_cols_TPr",
            "prefix_task_rows": "task_rows_TrD",
        },
    ),
}


def their_output(
    theirs: nn.Module, *, decoder_PD: Tensor | None = None, **inputs: Any
) -> tuple[Tensor, Tensor]:
    """Logits [M, V] that predict label tokens, row by row, and the loss.

    PEFT leaves out the decoder's virtual tokens of prompt tuning and P-tuning, so they are given here.
    """
    longest = max(map(len, TEXTS))
    labels = [list(CHOICES[target]) for target in TARGETS]
    deepest = max(map(len, labels))
    ahead = 0
    inputs["labels"] = torch.tensor([label + [-100] * (deepest - len(label)) for label in labels])
    if decoder_PD is not None:
        ahead = len(decoder_PD)
        before = torch.tensor([[START, *label[:-1]] + [3] * (deepest - len(label)) for label in labels])
        words = cast(Any, theirs).get_base_model().get_input_embeddings()(before)
        inputs["decoder_inputs_embeds"] = torch.cat([decoder_PD.expand(len(labels), -1, -1), words], dim=1)
        inputs["labels"] = torch.cat([torch.full((len(labels), ahead), -100), inputs["labels"]], dim=1)
    output = theirs(
        input_ids=torch.tensor([text + [3] * (longest - len(text)) for text in TEXTS]),
        attention_mask=torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in TEXTS]),
        **inputs,
    )
    ahead = output.logits.shape[1] - deepest
    parts = [output.logits[at, ahead : ahead + len(label)] for at, label in enumerate(labels)]
    return torch.cat(parts), output.loss


def our_output(lm: EncoderDecoderLM, prompt: SoftPrompt, prompts: list[int]) -> tuple[Tensor, Tensor]:
    virtual = [-1 - k for k in range(TOKENS)]
    batch = batch_of([virtual + text for text in TEXTS], CHOICES, targets=TARGETS, prompts=prompts)
    states = lm.states(prompt(), batch, batch.target_choices)
    loss = LanguageModelLoss()(lm, prompt(), batch, Scoring(per_token=False))
    return lm.logits(states.hidden_MD), loss.mean


@pytest.mark.parametrize("submodules", [1, 2])
@pytest.mark.parametrize("family", slow_but(["t5"], ["t5", "mt5"]))
@pytest.mark.parametrize("name", METHODS)
def test_logits_loss_and_gradients_equal_pefts(name: str, family: str, submodules: int) -> None:
    config, method, names = METHODS[name]
    torch.manual_seed(3)
    theirs = get_peft_model(
        tiny_encoder_decoder(family, dtype=torch.float32), config(num_transformer_submodules=submodules)
    )
    lm = on_engine(family, dtype=torch.float32)
    make_prompt = partial(method, generator=Generator().manual_seed(0), initialiser=RandomNormal(std=0.1))
    prompt = place(
        make_prompt, spec=lm.spec, num_virtual_tokens=TOKENS, submodules=submodules, attentions=None
    )
    own = cast(nn.Module, prompt.method if submodules == 2 else prompt)
    their_parameters = dict(theirs.prompt_encoder["default"].named_parameters())
    our_parameters = dict(own.named_parameters())
    with torch.no_grad():
        for their_name, our_name in names.items():
            if name == "multitask":
                their_parameters[their_name].normal_(0, 0.5)
            our_parameters[our_name].copy_(their_parameters[their_name])
    tasks = [0, 1, 1] if name == "multitask" else [0, 0, 0]
    inputs: dict[str, Any] = {}
    if name == "multitask":
        inputs["task_ids"] = torch.tensor(tasks)
    elif submodules == 2:
        inputs["decoder_PD"] = theirs.get_prompt(1)[0, TOKENS:]
    (their_logits, their_loss), (our_logits, our_loss) = (
        their_output(theirs, **inputs),
        our_output(lm, prompt, tasks),
    )
    torch.testing.assert_close(our_logits, their_logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(our_loss, their_loss, rtol=0, atol=1e-5)
    their_loss.backward()
    our_loss.backward()
    for their_name, our_name in names.items():
        expected, found = their_parameters[their_name].grad, our_parameters[our_name].grad
        assert expected is not None
        assert found is not None
        assert (found - expected).norm() <= 1e-4 * expected.norm()


def test_a_prefix_in_the_decoder_equals_pefts_of_the_layers_that_it_uses() -> None:
    """PEFT gives layer i the keys and values of layer 2 i, modulo the number of layers."""
    torch.manual_seed(3)
    theirs = get_peft_model(
        tiny_encoder_decoder("t5", dtype=torch.float32, num_decoder_layers=2),
        peft_config(PrefixTuningConfig),
    )
    lm = on_engine("t5", dtype=torch.float32, num_decoder_layers=2)
    prompt = place(
        partial(
            PrefixTuning,
            generator=Generator().manual_seed(0),
            initialiser=RandomNormal(std=0.1),
            through_backbone=False,
        ),
        spec=lm.spec,
        num_virtual_tokens=TOKENS,
        submodules=None,
        attentions=["decoder"],
    )
    spec = lm.spec.only(["decoder"])
    flat_PW: nn.Parameter = cast(Any, theirs).prompt_encoder["default"].embedding.weight
    parameters = dict(prompt.named_parameters())
    used = [2 * layer % spec.num_layers for layer in range(spec.num_layers)]
    with torch.no_grad():
        keys, values = (of[used] for of in as_key_values(flat_PW, spec))
        parameters["method.keys_LHPK"].copy_(keys)
        parameters["method.values_LHPK"].copy_(values)
    (their_logits, their_loss), (our_logits, our_loss) = (
        their_output(theirs),
        our_output(lm, prompt, [0, 0, 0]),
    )
    torch.testing.assert_close(our_logits, their_logits, rtol=1e-5, atol=1e-5)
    their_loss.backward()
    our_loss.backward()
    assert flat_PW.grad is not None
    expected = as_key_values(flat_PW.grad, spec)
    for name, of in zip(("method.keys_LHPK", "method.values_LHPK"), expected, strict=True):
        own = parameters[name].grad
        assert own is not None
        # PEFT's layer has the gradients of every layer that it serves, and some serve none.
        found = torch.zeros_like(own).index_add(0, torch.tensor(used), own)
        assert (found - of).norm() <= 1e-4 * of.norm()


@pytest.mark.parametrize("submodules", [1, 2])
def test_an_adapter_gives_peft_our_scores_and_is_read_back(
    submodules: int, t5: EncoderDecoderLM, tmp_path: Path
) -> None:
    both = torch.randn(2, 1, TOKENS, t5.spec.hidden_size, generator=Generator().manual_seed(5))
    bank = PromptBank(embeddings_TPD=both[0], decoder_embeddings_TPD=both[1] if submodules == 2 else None)
    files = adapter_files(bank, peft_type="PROMPT_TUNING", base_model="tiny", encoder_decoder=True)
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    back = open_adapter(tmp_path).bank()
    assert all(torch.equal(back.tensors()[name], of) for name, of in bank.tensors().items())
    theirs = PeftModel.from_pretrained(tiny_encoder_decoder("t5", dtype=torch.float32), str(tmp_path))
    tasks = {"task_ids": torch.zeros(3, dtype=torch.long)} if submodules == 2 else {}
    their_logits, _ = their_output(theirs, **tasks)
    batch = batch_of([[*range(-1, -1 - TOKENS, -1), *text] for text in TEXTS], CHOICES, targets=TARGETS)
    states = t5.states(bank, batch, batch.target_choices)
    torch.testing.assert_close(t5.logits(states.hidden_MD), their_logits, rtol=1e-5, atol=1e-5)


def test_an_adapter_of_pefts_is_read_as_peft_runs_it(tmp_path: Path) -> None:
    torch.manual_seed(4)
    lm = on_engine("t5", dtype=torch.float32, num_decoder_layers=2)
    configs = [peft_config(PromptTuningConfig), peft_config(PrefixTuningConfig)]
    for at, config in enumerate(configs):
        theirs = get_peft_model(tiny_encoder_decoder("t5", dtype=torch.float32, num_decoder_layers=2), config)
        theirs.save_pretrained(str(tmp_path / str(at)))
        bank = open_adapter(tmp_path / str(at)).bank()
        batch = batch_of([[*range(-1, -1 - TOKENS, -1), *text] for text in TEXTS], CHOICES, targets=TARGETS)
        states = lm.states(bank, batch, batch.target_choices)
        their_logits, _ = their_output(theirs)
        torch.testing.assert_close(lm.logits(states.hidden_MD), their_logits, rtol=1e-5, atol=1e-5)


def test_a_prefix_cannot_be_an_adapter(t5: EncoderDecoderLM) -> None:
    zeros = torch.zeros(1, t5.spec.num_layers, t5.spec.num_kv_heads, TOKENS, t5.spec.head_size)
    bank = PromptBank(keys_TLHPK=zeros, values_TLHPK=zeros)
    with pytest.raises(ConfigError, match="PEFT gives layer i of a decoder the prefix of layer 2 i"):
        adapter_files(bank, peft_type="PREFIX_TUNING", base_model="tiny", encoder_decoder=True)


# --- exact counts


def on_meta(model: Callable[[], nn.Module]) -> Any:
    with torch.device("meta"):
        return model()


START_TOKEN: dict[str, Any] = {"decoder_start_token_id": 0}


def t5_base() -> nn.Module:
    return T5ForConditionalGeneration(
        T5Config(vocab_size=32128, d_model=768, d_ff=3072, num_layers=12, num_heads=12, **START_TOKEN)
    )


def mt0_large() -> nn.Module:
    return MT5ForConditionalGeneration(
        MT5Config(vocab_size=250112, d_model=1024, d_ff=2816, num_layers=24, num_heads=16, **START_TOKEN)
    )


MODELS: dict[str, Callable[[], nn.Module]] = {"t5-base": t5_base, "mt0-large": mt0_large}


@pytest.mark.parametrize("name", slow_but(["t5-base"], MODELS))
def test_counts_are_those_of_the_closed_forms_and_of_peft(name: str) -> None:
    lm = EncoderDecoderLM(on_meta(MODELS[name]), tiny_tokenizer(), name=name)
    config = lm.model.config
    width, layers, inner = config.d_model, config.num_layers, config.num_heads * config.d_kv
    closed = {
        "prompt tuning": 2 * 20 * width,
        "P-tuning": 2 * 20 * width + (width * 128 + 128) + (128 * 128 + 128) + (128 * width + width),
        "prefix tuning": 20 * 2 * layers * inner,
        "prefix tuning everywhere": 20 * 2 * 3 * layers * inner,
    }
    start: dict[str, Any] = {"generator": Generator().manual_seed(0), "initialiser": RandomNormal(std=0.1)}
    prefix = partial(PrefixTuning, **start, through_backbone=False)
    ours = {
        "prompt tuning": place(partial(PromptTuning, **start), **_where(lm, submodules=2)),
        "P-tuning": place(partial(PTuningMLP, **start, hidden_size=128), **_where(lm, submodules=2)),
        "prefix tuning": place(prefix, **_where(lm, attentions=["decoder"])),
        "prefix tuning everywhere": place(prefix, **_where(lm)),
    }
    counts = {name: sum(p.numel() for p in prompt.parameters()) for name, prompt in ours.items()}
    assert counts == closed
    settings: dict[str, Any] = {"task_type": TaskType.SEQ_2_SEQ_LM, "num_virtual_tokens": 20}
    theirs = {
        "prompt tuning": PromptTuningConfig(**settings),
        "P-tuning": PromptEncoderConfig(**settings, encoder_hidden_size=128),
        "prefix tuning": PrefixTuningConfig(**settings),
    }
    for method, peft in theirs.items():
        model = on_meta(partial(_wrapped, name, peft))
        assert model.get_nb_trainable_parameters() == (
            counts[method],
            lm.spec.num_parameters + counts[method],
        )


def _wrapped(name: str, config: PromptLearningConfig) -> nn.Module:
    return get_peft_model(MODELS[name](), config)


def _where(lm: EncoderDecoderLM, **place: Any) -> dict[str, Any]:
    return {"spec": lm.spec, "num_virtual_tokens": 20, "submodules": None, "attentions": None, **place}


def test_the_specifications_example_has_pefts_sizes() -> None:
    """P-tuning in both inputs: token dimension 768, 12 layers, 12 heads, an MLP of hidden size 768."""
    lm = EncoderDecoderLM(on_meta(MODELS["t5-base"]), tiny_tokenizer(), name="t5-base")
    prompt = place(
        partial(
            PTuningMLP,
            generator=Generator().manual_seed(0),
            initialiser=RandomNormal(std=0.1),
            hidden_size=768,
        ),
        **_where(lm, submodules=2),
    )
    settings: dict[str, Any] = {"num_virtual_tokens": 20, "token_dim": 768, "num_transformer_submodules": 2}
    config = PromptEncoderConfig(
        peft_type="P_TUNING",
        task_type="SEQ_2_SEQ_LM",
        num_attention_heads=12,
        num_layers=12,
        encoder_reparameterization_type="MLP",
        encoder_hidden_size=768,
        **settings,
    )
    theirs = on_meta(partial(_wrapped, "t5-base", config))
    count = sum(parameter.numel() for parameter in prompt.parameters())
    assert count == theirs.get_nb_trainable_parameters()[0] == 40 * 768 + 3 * (768 * 768 + 768)
