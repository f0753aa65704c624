"""Context-aware prompt tuning against its formulas and against PEFT's, on the same demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from omegaconf import DictConfig
from peft import CPTConfig, TaskType, get_peft_model
from torch import Generator, Tensor

from softcue.backbone.stream_lm import StreamLM
from softcue.build.checks import validate
from softcue.build.data import build_data
from softcue.contracts import Demonstration, PromptBank, TrainingRows
from softcue.errors import ConfigError
from softcue.evaluation.scoring import Scoring
from softcue.plan import resolve
from softcue.prompts.cpt import Context, ContextPrompt
from softcue.training.objectives import LanguageModelLoss
from softcue.training.own_labels import with_own_labels
from tests.composing import train_config
from tests.prompts.formulas import count, expect_formula
from tests.tiny import HIDDEN, batch_of, tiny_model


def refuse(_: Tensor) -> Tensor:
    raise AssertionError("this method needs no gradients")


ROWS = TrainingRows(
    gradients=refuse,
    demonstrations=(
        Demonstration(ids=(5, 6, 7), is_text=(True, True, False), label=(20, 21)),
        Demonstration(ids=(8, 7), is_text=(True, False), label=(22,)),
        Demonstration(ids=(9, 10, 7), is_text=(True, True, False), label=(22,)),
    ),
)
# With a separator of one token (w3): rows of 6, 4 and 5 tokens.
LENGTH = 15


def make(lm: StreamLM, *, length: int = LENGTH, rows: TrainingRows = ROWS, **settings: Any) -> ContextPrompt:
    given = {"separator": "w3", "text_radius": 0.4, "template_radius": 0.2, "decay": 0.5, **settings}
    seed = Generator().manual_seed(0)
    return ContextPrompt(spec=lm.spec, num_virtual_tokens=length, generator=seed, rows=rows, **given)


def in_order(num_tokens: int) -> Context:
    return Context.of(list(ROWS.demonstrations), separator=(3,), num_tokens=num_tokens)


def test_the_prompt_is_the_end_of_as_many_labelled_rows_as_it_takes() -> None:
    assert in_order(15).ids == (5, 6, 7, 20, 21, 3, 8, 7, 22, 3, 9, 10, 7, 22, 3)
    assert in_order(8).ids == (7, 20, 21, 3, 8, 7, 22, 3)
    assert in_order(8).kinds == (
        *("template", "label", "label", "template"),
        *("text", "template", "label", "template"),
    )
    # A label without a token before it cannot be predicted.
    assert [in_order(length).spans for length in (8, 7)] == [((1, 3), (6, 7)), ((5, 6),)]


def test_the_prompt_starts_as_its_rows_words_in_the_order_of_the_seed(llama: StreamLM) -> None:
    prompt = make(llama)
    order = torch.randperm(3, generator=Generator().manual_seed(0)).tolist()
    rows = [ROWS.demonstrations[at] for at in order]
    ids = [token for row in rows for token in (*row.ids, *row.label, 3)]
    assert torch.equal(prompt().embeddings_TPD[0], llama.spec.embedding_VD[ids])


def test_prompt_and_gradients_are_those_of_trained_tokens_between_labels(llama: StreamLM) -> None:
    prompt = make(llama, length=4, rows=replace(ROWS, demonstrations=(ROWS.demonstrations[1],)))
    start_PD = llama.spec.embedding_VD[[8, 7, 22, 3]]

    def formula(of: Mapping[str, Tensor]) -> PromptBank:
        first, second, last = of["vectors_pD"].unbind()
        return PromptBank(embeddings_TPD=torch.stack([first, second, start_PD[2], last])[None])

    assert count(prompt) == 3 * HIDDEN
    assert count(make(llama)) == (LENGTH - 4) * HIDDEN
    expect_formula(llama, prompt, formula)


def test_an_update_is_projected_onto_the_balls_of_text_and_template(llama: StreamLM) -> None:
    prompt = make(llama, length=4, rows=replace(ROWS, demonstrations=(ROWS.demonstrations[1],)))
    start_pD = llama.spec.embedding_VD[[8, 7, 3]]
    moves_pD = torch.randn(3, HIDDEN, generator=Generator().manual_seed(1))
    moves_pD[2] *= 0.1 / moves_pD[2].norm()
    with torch.no_grad():
        prompt.vectors_pD.copy_(start_pD + moves_pD)
    prompt.after_update()
    # w8 is text, w7 the template's; w3, a separator, is inside its ball of 0.2.
    expected_pD = torch.stack(
        [
            start_pD[0] + 0.4 * moves_pD[0] / moves_pD[0].norm(),
            start_pD[1] + 0.2 * moves_pD[1] / moves_pD[1].norm(),
            start_pD[2] + moves_pD[2],
        ]
    )
    torch.testing.assert_close(prompt.vectors_pD.detach(), expected_pD, rtol=0, atol=1e-6)


def types(context: Context) -> list[int]:
    """PEFT's mask: 1 and 3 template, 2 text, 4 label, and 4 more for each later row."""
    kinds, row = {"template": 1, "text": 2, "label": 4}, 0
    found = []
    for token, kind in zip(context.ids, context.kinds, strict=True):
        found.append(kinds[kind] + 4 * row)
        row += token == 3
    return found


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_loss_gradients_and_projection_equal_pefts(llama: StreamLM, decay: float) -> None:
    prompt = make(llama, decay=decay)
    order = torch.randperm(3, generator=Generator().manual_seed(0)).tolist()
    context = Context.of([ROWS.demonstrations[at] for at in order], separator=(3,), num_tokens=LENGTH)
    scale = (HIDDEN / 2048) ** 0.5
    config = CPTConfig(
        task_type=TaskType.CAUSAL_LM,
        num_virtual_tokens=LENGTH,
        cpt_token_ids=list(context.ids),
        cpt_mask=[1] * LENGTH,
        cpt_tokens_type_mask=types(context),
        opt_weighted_loss_type="decay",
        opt_loss_decay_factor=decay,
        opt_projection_epsilon=0.4 / scale,
        opt_projection_format_epsilon=0.2 / scale,
    )
    theirs: Any = get_peft_model(tiny_model("llama"), config)
    moves_PD = 0.2 * torch.randn(LENGTH, HIDDEN, generator=Generator().manual_seed(2))
    moves_PD[[kind == "label" for kind in context.kinds]] = 0
    encoder = theirs.prompt_encoder["default"]
    encoder.delta_embedding.weight.data.copy_(moves_PD)
    with torch.no_grad():
        prompt.vectors_pD.add_(moves_PD[prompt.trained_p])
    prompt.after_update()

    ids = torch.tensor([[11, 12, 20], [13, 14, 22]])
    loss = theirs(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        labels=ids.clone(),
        input_type_mask=torch.tensor([[2, 1, 4], [2, 1, 4]]),
    ).loss
    loss.backward()

    virtual = [-1 - k for k in range(LENGTH)]
    batch = batch_of([[*virtual, 11, 12], [*virtual, 13, 14]], ((20,), (22,)), targets=[0, 1])
    bank, objective = prompt(), LanguageModelLoss()
    of_rows = objective(llama, bank, batch, Scoring(per_token=False))
    ours = with_own_labels(llama, bank, prompt.own_labels, of_rows, num_rows=2)
    assert float(ours.mean.detach()) == pytest.approx(float(loss.detach()), abs=1e-5)
    assert int(ours.weight) == 2 + 2 * 4
    ours.mean.backward()
    expected_pD = encoder.delta_embedding.weight.grad[prompt.trained_p]
    assert prompt.vectors_pD.grad is not None
    assert (prompt.vectors_pD.grad - expected_pD).norm() <= 1e-4 * expected_pD.norm()


def test_without_a_decay_the_loss_falls_on_the_rows_alone(llama: StreamLM) -> None:
    assert make(llama, decay=0.0).own_labels is None


def test_more_virtual_tokens_than_the_rows_have_are_refused(llama: StreamLM) -> None:
    with pytest.raises(ConfigError, match=r"layout has 16 virtual tokens, and the training rows .* have 15"):
        make(llama, length=16)


def check(config: DictConfig) -> None:
    """What `prepare` does without rows."""
    resolve(config)
    validate(config, build_data(config))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("prompt.layout='{input}[soft:100] :'", r"cpt stands in front of the row and nowhere else"),
        ("data=tweet_topics", r"prompt=cpt reads the training rows of one task, and data\.tasks has"),
        ("prompt.method.decay=1.5", r"prompt\.method\.decay is 1\.5"),
        ("prompt.method.text_radius=-1", r"prompt\.method\.text_radius is -1"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_rows_and_model_are_read(
    override: str, message: str
) -> None:
    config = train_config("prompt=cpt", override)
    with pytest.raises(ConfigError, match=message):
        check(config)
