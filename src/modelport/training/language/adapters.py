"""LoRA through peft: matrices on a base model, what of it learns, and the files that it becomes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from torch import nn

from modelport.errors import InvalidInput
from modelport.training.language import base as bases
from modelport.training.optimizers import Group
from modelport.training.recipes.language_model import LanguageModelOptions

CONFIG = "adapter_config.json"


def with_lora(network: Any, options: LanguageModelOptions, start: Path | None) -> Any:
    """The base, frozen, with matrices that learn: those of an adapter that training starts from, or new ones."""
    if start is not None and (start / CONFIG).is_file():
        try:
            return peft.PeftModel.from_pretrained(network, str(start), is_trainable=True)
        except (ValueError, RuntimeError, KeyError, OSError, TypeError) as error:
            raise InvalidInput(
                f"start: the adapter does not fit this base model ({bases.first_line(error)}); send the base that it "
                "was made for"
            ) from None
    config = peft.LoraConfig(
        r=options.rank, lora_alpha=options.alpha, lora_dropout=options.lora_dropout, task_type="CAUSAL_LM",
        target_modules=list(options.targets) if options.targets else "all-linear",
    )  # fmt: skip
    try:
        return peft.get_peft_model(network, config)
    except ValueError as error:
        names = sorted({name.rpartition(".")[2] for name, module in network.named_modules()
                        if isinstance(module, nn.Linear)})  # fmt: skip
        raise InvalidInput(
            f"options.targets: {bases.first_line(error)}; the base model's linear layers are {', '.join(names)[:300]}"
        ) from None


def learning_groups(network: nn.Module) -> list[Group]:
    """What learns: the modules whose own weights do."""
    found = [
        module for module in network.modules()
        if (own := list(module.parameters(recurse=False))) and all(weight.requires_grad for weight in own)
    ]  # fmt: skip
    return [Group(found)]


def write(network: Any, tokenizer: Any, base: bases.Base, folder: Path, options: LanguageModelOptions) -> Any:
    """Write a merged model or an adapter, with the tokenizer; the network as it was written."""
    is_adapter = isinstance(network, peft.PeftModel)
    if is_adapter and options.output == "merged":
        network = network.merge_and_unload()
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # a card without content
    if is_adapter and options.output == "adapter":
        config = json.loads((folder / CONFIG).read_text())
        config["base_model_name_or_path"] = str(base.recipe.config.get("_name_or_path") or "")
        (folder / CONFIG).write_text(json.dumps(config, indent=2, sort_keys=True))
    return network


def read(folder: Path, base: bases.Base, options: LanguageModelOptions) -> Any:
    """What ``write`` wrote, as somebody else would load it."""
    dtype = torch.bfloat16 if options.weights == "bf16" else torch.float32
    if (folder / CONFIG).is_file():
        network = bases.load_model(base, transformers.AutoModelForCausalLM, dtype=dtype)
        return peft.PeftModel.from_pretrained(network, str(folder))
    return transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype=dtype, local_files_only=True)
