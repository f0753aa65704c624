"""A random Llama of two layers with the embedded model's tokenizer, for tests of whole runs."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

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
