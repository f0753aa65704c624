"""A random Llama of two layers with the embedded model's tokenizer, for tests of whole runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers.processors import TemplateProcessing
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, T5Config, T5ForConditionalGeneration

from softcue.backbone.embedded import dequantised, embedded_gguf


def save_tiny_backbone(folder: Path, cache: Path) -> Path:
    """Write the model and its tokenizer as a folder for `backbone=local`."""
    tokenizer = AutoTokenizer.from_pretrained(dequantised(embedded_gguf(), cache))
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_tiny_encoder_decoder(folder: Path, cache: Path) -> Path:
    """Write a random T5 with the embedded model's words, its rows ending with an end token as T5's do."""
    tokenizer = AutoTokenizer.from_pretrained(dequantised(embedded_gguf(), cache))
    end = tokenizer.eos_token
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    tokenizer.chat_template = None
    torch.manual_seed(0)
    start: dict[str, Any] = {"decoder_start_token_id": tokenizer.pad_token_id}
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=16,
        d_kv=8,
        d_ff=32,
        num_layers=2,
        num_heads=2,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **start,
    )
    T5ForConditionalGeneration(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder
