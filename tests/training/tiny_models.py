"""Base models without a history: a few random weights in the folders that transformers writes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import peft
import tokenizers
import torch
import transformers

from modelport.training.language.pieces import learnt_tokenizer

CHAT = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def bert(folder: Path, texts: Sequence[str], width: int = 32, layers: int = 3) -> Path:
    """An encoder of BERT's architecture whose pieces of words are those of ``texts``."""
    tokenizer = learnt_tokenizer(texts, 600, True)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=tokenizer.get_vocab_size(), hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
        intermediate_size=2 * width, max_position_embeddings=64,
    )  # fmt: skip
    transformers.BertModel(config).save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def llama(folder: Path, texts: Sequence[str], width: int = 32, layers: int = 2) -> Path:
    """A language model of LLaMA's architecture with a chat template."""
    tokenizer = tokenizers.ByteLevelBPETokenizer()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    tokenizer.train_from_iterator(texts, vocab_size=600, special_tokens=special, show_progress=False)
    wrapped = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    wrapped.chat_template = CHAT
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(wrapped), hidden_size=width, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=1, intermediate_size=2 * width, max_position_embeddings=256,
        bos_token_id=None, eos_token_id=2, pad_token_id=0, tie_word_embeddings=True,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    wrapped.save_pretrained(folder)
    return folder


def widened(folder: Path, seed: int = 1) -> Path:
    """A language model whose weights are so far apart that the likeliest token is no matter of rounding."""
    model = transformers.LlamaForCausalLM.from_pretrained(folder)
    torch.manual_seed(seed)
    for weights in model.parameters():
        weights.data += 0.2 * torch.randn_like(weights)
    model.save_pretrained(folder)
    return folder


def adapter(folder: Path, base: Path, seed: int, **how: Any) -> Path:
    """What peft writes of an adapter that says something else than its base."""
    config = peft.LoraConfig(**{"r": 8, "lora_alpha": 16, "task_type": "CAUSAL_LM", **how})
    model = peft.get_peft_model(transformers.AutoModelForCausalLM.from_pretrained(base), config)
    torch.manual_seed(seed)
    for name, weights in model.named_parameters():
        if "lora_A" in name or "lora_B" in name:
            weights.data = 0.5 * torch.randn_like(weights)
    model.save_pretrained(folder)
    return folder
