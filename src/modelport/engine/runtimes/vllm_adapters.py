"""LoRA adapters on one language model, through vLLM's own: put on and taken off while the model writes.

The engine keeps room for them from its start, where a deployment asks for it, and none otherwise. It would take
matrices of the wrong size for smaller ones, so they are held against the base's own weights first. On the CPU it puts
an adapter of others on a text without one that shares their step (vllm-project/vllm#48421), so there every text without
one wears an adapter of zeros.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from modelport.engine.formats.huggingface_folder import ADAPTER, ADAPTER_WEIGHTS
from modelport.engine.language.adapter_config import read_config
from modelport.engine.runtimes.messages import first_line
from modelport.errors import ArtifactRefused, InvalidInput

_LORAS, _RANK = 4, 16
"""Adapters in one step, and the most rows of a matrix, where a deployment says only one of them."""
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""That vLLM keeps room for."""
_IN_MEMORY = 32
"""Adapters beyond those in use that are not read again from their files."""
_LACKS = ("use_dora",)
_A, _B = (".lora_A.weight", ".lora_embedding_A"), (".lora_B.weight", ".lora_embedding_B")
_PREFIX = "base_model.model."
_FAILURES = (OSError, ValueError, KeyError, RuntimeError, TypeError, AttributeError, AssertionError, IndexError)


def lora_arguments(asked: Mapping[str, Any], on_cpu: bool) -> dict[str, Any]:
    """What the engine is told at its start; nothing where no adapters are asked for."""
    most, rank = asked.get("max_loras"), asked.get("max_lora_rank")
    if not asked.get("enable_lora", most is not None or rank is not None):
        return {}
    most = int(most or _LORAS) + on_cpu
    room = next(known for known in _RANKS if known >= int(rank or _RANK))
    return {"enable_lora": True, "max_loras": most, "max_lora_rank": room, "max_cpu_loras": max(most, _IN_MEMORY)}


class Adapters:
    """Of one engine."""

    def __init__(self, library: Any, engine: Any, base: Path, on_cpu: bool) -> None:
        """``base`` is the folder with the base's weights."""
        self._library, self._engine, self._base = library, engine, base
        self._config = engine.vllm_config.lora_config
        self._held: dict[str, Any] = {}
        self._numbers = count(1)
        self._none = self._without_effect() if self._config is not None and on_cpu else None

    @property
    def names(self) -> tuple[str, ...]:
        """Of those that are held."""
        return tuple(self._held)

    def put_on(self, name: str, folder: Path) -> None:
        """Hold one more; raises ArtifactRefused when it does not fit."""
        if self._config is None:
            raise InvalidInput(
                "its base was deployed without room for adapters: deploy the base again with --engine enable_lora=true"
            )
        config = read_config(folder, _LACKS)
        try:
            self._check_matrices(config, folder)
        except _FAILURES as error:
            raise ArtifactRefused(f"{ADAPTER_WEIGHTS} cannot be read: {first_line(error)}") from None
        worn = self._request(folder)
        try:
            self._engine.add_lora(worn)
        except _FAILURES as error:
            self._engine.remove_lora(worn.lora_int_id)
            cause = first_line(error).replace(str(folder), "…")
            raise ArtifactRefused(f"the adapter does not fit this base model: {cause}") from None
        self._held[name] = worn

    def take_off(self, name: str) -> None:
        """Hold it no longer."""
        self._engine.remove_lora(self._held.pop(name).lora_int_id)

    def worn(self, name: str | None) -> Any:
        """What the engine has to know to write with this one; raises InvalidInput when it is not held."""
        if name is None:
            return self._none
        if name not in self._held:
            raise InvalidInput(f"the engine vllm holds no adapter {name[:100]!r}")
        return self._held[name]

    def _request(self, folder: Path) -> Any:
        number = next(self._numbers)  # the cache of beginnings goes by names: none is ever given twice
        return self._library.lora.request.LoRARequest(f"adapter{number}", number, str(folder))

    def _without_effect(self) -> Any:
        """Zeros on one layer, whichever takes adapters; the engine may read the files again."""
        import numpy as np  # noqa: PLC0415
        from safetensors.numpy import save_file  # noqa: PLC0415

        self._files = tempfile.TemporaryDirectory()
        folder = Path(self._files.name)
        for layer, (out, into) in _layers_of_blocks(self._weights()).items():
            about = {"r": 1, "lora_alpha": 1, "target_modules": [layer.rpartition(".")[2]]}
            (folder / ADAPTER).write_text(json.dumps(about))
            zeros = {_A[0]: np.zeros((1, into), np.float32), _B[0]: np.zeros((out, 1), np.float32)}
            save_file({f"{_PREFIX}{layer}{end}": matrix for end, matrix in zeros.items()}, folder / ADAPTER_WEIGHTS)
            worn = self._request(folder)
            try:
                self._engine.add_lora(worn)
            except _FAILURES:
                self._engine.remove_lora(worn.lora_int_id)
            else:
                return worn
        raise ArtifactRefused("vLLM knows no layer of this model that takes adapters: deploy it without enable_lora")

    def _weights(self) -> dict[str, list[int]]:
        """Shapes of the base's, by name."""
        return {name: shape for file in self._base.glob("*.safetensors") for name, shape in _shapes(file).items()}

    def _check_matrices(self, config: Mapping[str, Any], folder: Path) -> None:
        """Raises ArtifactRefused unless they are pairs, of a rank there is room for, as large as the base's weights."""
        found = _shapes(folder / ADAPTER_WEIGHTS)
        weights = self._weights()
        ranks = {int(rank) for rank in (config["r"], *(config.get("rank_pattern") or {}).values())}
        if max(ranks) > self._config.max_lora_rank:
            raise ArtifactRefused(
                f"the adapter's rank is {max(ranks)}, and its base was deployed with room for "
                f"{self._config.max_lora_rank}: deploy the base again with --engine max_lora_rank={max(ranks)}"
            )
        for layer in {_layer(name) for name in found}:
            first, second = (next((found[layer + end] for end in ends if layer + end in found), None)
                             for ends in (_A, _B))  # fmt: skip
            if first is None or second is None or first[0] != second[1] or first[0] not in ranks:
                raise ArtifactRefused(f"the adapter does not fit this base model: {layer[:200]} is no pair of matrices")
            base = weights.get(layer.removeprefix(_PREFIX) + ".weight")
            if base is not None and sorted(base) != sorted((first[1], second[0])):
                raise ArtifactRefused(
                    f"the adapter does not fit this base model: {layer[:200]} is {second[0]} by {first[1]}, and the "
                    f"base's is {' by '.join(map(str, base))}"
                )


def _layers_of_blocks(weights: Mapping[str, list[int]]) -> dict[str, list[int]]:
    """Linear layers that every block of the network has, once for all blocks."""
    found = {}
    for name, shape in weights.items():
        layer = name.removesuffix(".weight")
        if layer != name and len(shape) == 2 and any(part.isdigit() for part in layer.split(".")):
            found[layer.rpartition(".")[2]] = layer, shape
    return dict(found.values())


def _layer(name: str) -> str:
    """The layer that a matrix is for; raises ArtifactRefused for what is no matrix of LoRA."""
    end = next((end for end in (*_A, *_B) if name.endswith(end)), None)
    if end is None:
        raise ArtifactRefused(f"the adapter holds {name[:200]}, which is no matrix of LoRA: merge it into its base")
    return name.removesuffix(end)


def _shapes(path: Path) -> dict[str, list[int]]:
    """Of a safetensors file's tensors."""
    from safetensors import SafetensorError, safe_open  # noqa: PLC0415

    try:
        with safe_open(path, "np") as file:
            return {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(first_line(error)) from None
