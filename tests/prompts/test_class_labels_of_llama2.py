"""Starts from class labels with a tokenizer that puts "▁" before every text, as Llama 2's does."""

from __future__ import annotations

import torch
from tokenizers import Tokenizer, models, normalizers, trainers
from transformers import PreTrainedTokenizerFast

from softcue.backbone.stream_lm import StreamLM
from softcue.prompts.initialisers import ClassLabels
from tests.backbone.zoo import tiny

SENTENCES = ["no complaint at all", "a complaint about the flight", "is it a complaint ?", "Say no , please"]


def llama2_tokenizer() -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    trainer = trainers.BpeTrainer(special_tokens=["<unk>", "<s>", "</s>"], vocab_size=120)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")


def test_a_label_starts_from_the_tokens_that_it_has_after_a_text() -> None:
    tokenizer = llama2_tokenizer()
    spec = StreamLM(tiny("llama", vocab_size=128), tokenizer, name="tiny").spec
    labels = {"a": "complaint", "b": "about the"}
    start_PD = ClassLabels(verbalizer=labels, top=None).vectors(
        spec, num_tokens=2, width=spec.hidden_size, generator=torch.Generator()
    )
    before = tokenizer("no", add_special_tokens=False)["input_ids"]
    for row_D, label in zip(start_PD, labels.values(), strict=True):
        whole = tokenizer(f"no {label}", add_special_tokens=False)["input_ids"]
        assert whole[: len(before)] == before
        assert torch.equal(row_D, spec.embed(torch.tensor(whole[len(before) :])).mean(dim=0))
