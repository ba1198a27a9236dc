"""What a LoRA adapter's configuration asks for, as peft writes it; refused is what would change the base for others.

Biases, whole layers and a base that was rewritten belong to a model of their own. Knows the file; knows no engine and
no matrices. Needs only the standard library.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from modelport.engine.formats.huggingface_folder import ADAPTER, read_json
from modelport.errors import ArtifactRefused

TAKEN = (
    "r", "lora_alpha", "target_modules", "exclude_modules", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora",
    "fan_in_fan_out", "layers_to_transform", "layers_pattern",
)  # fmt: skip
_OF_TRAINING = {
    "peft_type", "task_type", "base_model_name_or_path", "revision", "inference_mode", "lora_dropout", "auto_mapping",
    "init_lora_weights", "loftq_config", "eva_config", "corda_config", "lora_ga_config", "runtime_config",
    "megatron_config", "megatron_core", "peft_version", "qalora_group_size", "ensure_weight_tying",
}  # fmt: skip
_REWRITES = ("pissa", "olora", "loftq", "corda", "lora_ga")
"""Ways to begin that change the base's own weights."""


def read_config(folder: Path, lacks: Sequence[str] = ()) -> dict[str, Any]:
    """The fields of ``TAKEN`` that are set; ``lacks`` are those that an engine does not know.

    Raises ArtifactRefused, which names the field.
    """
    about = read_json(folder, ADAPTER)
    if not isinstance(about, dict) or about.get("peft_type") != "LORA":
        kind = about.get("peft_type") if isinstance(about, dict) else None
        raise ArtifactRefused(f"adapters are put on by LoRA, and this one is {str(kind)[:40]}")
    for name, value in about.items():
        known = (name in TAKEN and name not in lacks) or name in _OF_TRAINING
        if not known and value and value != "none":
            why = "this engine does not know" if name in TAKEN else "only a model of its own can have"
            raise ArtifactRefused(
                f"the adapter asks for {name[:60]}={str(value)[:60]}, which {why}: "
                "merge it into its base (merge_and_unload) and push that"
            )
    if str(about.get("init_lora_weights")).lower().startswith(_REWRITES):
        raise ArtifactRefused(
            f"the adapter was begun by {about['init_lora_weights']}, which rewrites the base: save it with "
            "path_initial_model_for_weight_conversion, or merge it"
        )
    return {name: about[name] for name in TAKEN if about.get(name) is not None}
