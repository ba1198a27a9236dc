"""LoRA adapters on one language model, through peft: put on and taken off while the model writes.

A pass goes with one adapter or with none. An adapter changes nothing of its base: what would (biases, whole layers,
a base that was rewritten for it) is refused by name.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from modelport.engine.formats.huggingface_folder import ADAPTER, ADAPTER_WEIGHTS
from modelport.engine.language.adapter_config import read_config
from modelport.engine.runtimes.messages import first_line
from modelport.errors import ArtifactRefused, MissingExtra

try:
    import peft
    from peft.functional import delete_adapter, inject_adapter_in_model, set_peft_model_state_dict
    from peft.tuners.tuners_utils import BaseTunerLayer
    from safetensors import SafetensorError
    from safetensors.torch import load_file
except ImportError as error:
    raise MissingExtra("transformers", f"adapters ({first_line(error)})") from None

_FAILURES = (
    SafetensorError,
    OSError,
    ValueError,
    KeyError,
    RuntimeError,
    TypeError,
    AttributeError,
    NotImplementedError,
)


class Adapters:
    """Of one model."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._inner: dict[str, str] = {}
        """peft's own names, which may hold no dots."""
        self._made = 0
        self._layers: list[BaseTunerLayer] = []
        self._worn: str | None = None

    def put_on(self, name: str, folder: Path) -> None:
        """Hold one more; raises ArtifactRefused when it does not fit, and the model is as before."""
        config = _config(folder)
        self._made += 1
        inner = f"adapter{self._made}"
        self._inner[name] = inner
        try:
            weights = load_file(str(folder / ADAPTER_WEIGHTS))
            with warnings.catch_warnings(action="ignore"):  # that there is one already
                inject_adapter_in_model(config, self._model, inner, low_cpu_mem_usage=True)
            found = set_peft_model_state_dict(self._model, weights, inner, low_cpu_mem_usage=True)
            strange = [*found.unexpected_keys, *(key for key in found.missing_keys if f".{inner}." in f"{key}.")]
            if strange:
                raise ValueError(f"the base and the adapter differ in {strange[0]}")
        except _FAILURES as error:
            self.take_off(name)
            raise ArtifactRefused(f"the adapter does not fit this base model: {first_line(error)}") from None
        self._settle()

    def take_off(self, name: str) -> None:
        """Hold it no longer."""
        inner = self._inner.pop(name)
        delete_adapter(self._model, inner, peft.LoraModel.prefix)
        getattr(self._model, "peft_config", {}).pop(inner, None)
        self._settle()

    def wear(self, name: str | None) -> None:
        """The next passes go with this one."""
        if name == self._worn:
            return
        for layer in self._layers:
            if name is None:
                layer.enable_adapters(False)
            else:
                layer.enable_adapters(True)
                layer.set_adapter(self._inner[name], inference_mode=True)
        self._worn = name

    def _settle(self) -> None:
        """Layers have come or gone: the model goes with none of them."""
        self._model.eval()
        self._layers = [module for module in self._model.modules() if isinstance(module, BaseTunerLayer)]
        for layer in self._layers:
            layer.enable_adapters(False)
        self._worn = None


def _config(folder: Path) -> Any:
    """What peft has to know of an adapter; raises ArtifactRefused for what would change its base."""
    try:
        return peft.LoraConfig(**read_config(folder))
    except _FAILURES as error:
        raise ArtifactRefused(f"{ADAPTER} cannot be read: {first_line(error)}") from None
