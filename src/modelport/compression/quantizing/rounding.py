"""A network that feels what quantization will do to it: weights and activations are rounded, gradients go through.

The rounding is torch's own (``fake_quantize_per_…_affine``, whose gradient is 1 inside the range and 0 outside), in
the steps that ONNX Runtime will use: weights symmetric around 0 with a scale for each output, activations from 0 to
255 with a scale for all. What the larger quantization packages for torch make does not go through torch's ONNX
exporter into integers that ONNX Runtime computes with; so the exported file is quantized by ONNX Runtime itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

_LAYERS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_STATISTICS = (nn.modules.batchnorm._BatchNorm,)
_ACTIVATION_STEPS = 255
_KEPT = 0.9
"""Of a range, what one batch leaves as it was while the network learns."""


class _Rounded(nn.Module):
    """Weights as they will be once they are integers."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def forward(self, weights: torch.Tensor) -> torch.Tensor:
        scales = (weights.detach().flatten(1).abs().amax(1) / self._most).clamp_min(1e-12)
        zero = torch.zeros_like(scales, dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weights, scales, zero, 0, -self._most, self._most)


class _Range(nn.Module):
    """The range of a layer's input, and its rounding; part of the network's state, so that a crash loses nothing."""

    low: torch.Tensor
    high: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("low", torch.zeros(()))
        self.register_buffer("high", torch.zeros(()))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        scale = ((self.high - self.low) / _ACTIVATION_STEPS).clamp_min(1e-12)
        zero = torch.round(-self.low / scale).clamp(0, _ACTIVATION_STEPS).to(torch.int32)
        return torch.fake_quantize_per_tensor_affine(values, scale, zero, 0, _ACTIVATION_STEPS)

    def see(self, values: torch.Tensor, kept: float) -> None:
        """Widen (``kept`` 1), or move towards, the range of these; 0 is always inside."""
        low, high = values.detach().min().clamp_max(0), values.detach().max().clamp_min(0)
        if kept == 1:
            self.low.copy_(torch.minimum(self.low, low))
            self.high.copy_(torch.maximum(self.high, high))
        else:
            self.low.lerp_(low, 1 - kept)
            self.high.lerp_(high, 1 - kept)


class RoundingNetwork(nn.Module):
    """The network with its layers' weights and inputs rounded; the network itself is only held, and changed again by
    ``settle``."""

    def __init__(self, network: nn.Module, bits: int, activations: str) -> None:
        """``activations``: ``static`` (by ranges seen), ``dynamic`` (by each batch's own), ``weights``."""
        super().__init__()
        self.network, self._activations = network, activations
        self._is_looking = False
        self.ranges = nn.ModuleList()
        most = 2 ** (bits - 1) - 1
        self._hooks = []
        for layer in self._layers():
            parametrize.register_parametrization(layer, "weight", _Rounded(most))
            if activations != "weights":
                found = _Range()
                self.ranges.append(found)
                self._hooks.append(layer.register_forward_pre_hook(self._rounding(found)))

    def forward(self, *inputs: Any) -> Any:
        return self.network(*inputs)

    def train(self, mode: bool = True) -> RoundingNetwork:
        """Statistics of normalisation stay as they are: they become part of the weights."""
        super().train(mode)
        for module in self.network.modules():
            if isinstance(module, _STATISTICS):
                module.eval()
        return self

    def look(self, batches: Iterator[tuple[torch.Tensor, ...]]) -> None:
        """Learn the ranges of all activations from batches anew."""
        for found in self.ranges:
            assert isinstance(found, _Range)
            found.low.zero_()
            found.high.zero_()
        self._is_looking = True
        self.eval()
        with torch.no_grad():
            for inputs in batches:
                self.network(*inputs)
        self._is_looking = False

    def settle(self) -> nn.Module:
        """The network itself: its weights are the rounded ones, nothing is rounded any more while it runs."""
        for hook in self._hooks:
            hook.remove()
        for layer in self._layers():
            if parametrize.is_parametrized(layer, "weight"):
                parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)
        return self.network.eval()

    def weights(self) -> list[torch.Tensor]:
        """The weights that learn, before they are rounded."""
        return [layer.parametrizations.weight.original for layer in self._layers()]

    def _layers(self) -> list[Any]:
        """Words that are looked up are rounded by ONNX Runtime alone, unless weights are all that is rounded."""
        kinds = (*_LAYERS, nn.Embedding) if self._activations == "weights" else _LAYERS
        return [module for module in self.network.modules() if isinstance(module, kinds)]

    def _rounding(self, found: _Range) -> Any:
        def round_input(module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
            values = given[0]
            if not torch.is_floating_point(values):
                return None
            if self._activations == "dynamic":
                found.low.zero_()
                found.high.zero_()
                found.see(values, 1)
            elif self._is_looking:
                found.see(values, 1)
                return None
            elif self.training:
                found.see(values, _KEPT)
            return (found(values), *given[1:])

        return round_input
