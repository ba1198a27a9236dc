"""Images as they might have been taken: turned, sheared, nearer, shifted, mirrored, brighter.

What happens to a row follows from the seed, the epoch and the row's number alone, whatever batch it is in.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional

from modelport.tensors import Array
from modelport.training.recipes.image import Augment

_DRAWS = 9


class Augmenter:
    """One way of changing images."""

    def __init__(self, how: Augment, seed: int) -> None:
        self._how, self._seed = how, seed
        self._moves = any((how.rotate, how.shear, how.zoom, how.crop, how.flip, how.flip_vertical))

    def __call__(self, pixels: torch.Tensor, rows: torch.Tensor, epoch: int) -> torch.Tensor:
        """``pixels`` [rows, channels, height, width] float from 0 to 255, changed and within that range."""
        draws = torch.from_numpy(uniform(self._seed, epoch, rows.numpy(), _DRAWS))
        if self._moves:
            height, width = pixels.shape[2:]
            grid = functional.affine_grid(
                self._matrices(draws, width / height), list(pixels.shape), align_corners=False
            )
            pixels = functional.grid_sample(pixels, grid, padding_mode="reflection", align_corners=False)
        how, spread = self._how, draws * 2 - 1
        if how.contrast:
            mean = pixels.mean((1, 2, 3), keepdim=True)
            pixels = (pixels - mean) * (1 + how.contrast * spread[:, 7].view(-1, 1, 1, 1)) + mean
        if how.brightness:
            pixels = pixels + 255 * how.brightness * spread[:, 8].view(-1, 1, 1, 1)
        return pixels.clamp(0, 255)

    def _matrices(self, draws: torch.Tensor, aspect: float) -> torch.Tensor:
        """[rows, 2, 3]: where each pixel of the new image comes from, in coordinates from -1 to 1."""
        how, spread = self._how, draws * 2 - 1
        angle, shear = spread[:, 0] * math.radians(how.rotate), spread[:, 1] * math.radians(how.shear)
        scale = torch.exp(spread[:, 2] * math.log1p(how.zoom))
        mirror = torch.where((draws[:, 3] < 0.5) & bool(how.flip), -1.0, 1.0)
        turn = torch.where((draws[:, 4] < 0.5) & bool(how.flip_vertical), -1.0, 1.0)
        cos, sin, lean = torch.cos(angle) / scale, torch.sin(angle) / scale, torch.tan(shear)
        found = torch.empty(len(draws), 2, 3)
        found[:, 0, 0], found[:, 0, 1] = cos * mirror, (lean * cos - sin) / aspect
        found[:, 1, 0], found[:, 1, 1] = sin * mirror * aspect, (lean * sin + cos) * turn
        found[:, 0, 2], found[:, 1, 2] = spread[:, 5] * how.crop, spread[:, 6] * how.crop
        return found


def uniform(seed: int, epoch: int, rows: Array, draws: int) -> Array:
    """Float32 [rows, draws] from 0 to 1: a hash of its place (splitmix64, Steele et al. 2014)."""
    with np.errstate(over="ignore"):
        place = _mixed(np.array([seed], np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(epoch))
        each = _mixed(place + rows.astype(np.uint64)[:, None] * np.uint64(0xD1B54A32D192ED03))
        steps = np.arange(1, draws + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        bits = _mixed(each + steps[None, :])
    return ((bits >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)).astype(np.float32)


def _mixed(value: Array) -> Array:
    value = (value ^ (value >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    value = (value ^ (value >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: Array = value ^ (value >> np.uint64(31))
    return mixed
