"""PyTorch programs as torch.export.save and AOTInductor write them, with inputs and torch's own answers."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.export import Dim, ExportedProgram

Made = tuple[Path, dict[str, np.ndarray], dict[str, np.ndarray]]


class Classifier(torch.nn.Module):
    """Two inputs, one of them by keyword; a dict, a tuple and an integer out."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 3)
        self.register_buffer("shift", torch.ones(3))
        self.constant = torch.tensor([1.0, 2.0, 3.0])

    def forward(self, x: torch.Tensor, scale: torch.Tensor) -> dict[str, Any]:
        raw = self.layer(x) * scale
        return {"scores": torch.softmax(raw + self.shift * self.constant, -1), "raw": (raw, raw.argmax(-1))}


class Sequence(torch.nn.Module):
    """Embedding, convolution, attention; two dynamic dimensions, BF16 among the outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(10, 8)
        self.body = torch.nn.Sequential(torch.nn.Conv1d(8, 4, 3, padding=1), torch.nn.BatchNorm1d(4), torch.nn.ReLU())
        self.attention = torch.nn.MultiheadAttention(4, 2, batch_first=True)

    def forward(self, text: torch.Tensor, factor: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
        found = self.body(self.embedding(text).transpose(1, 2)).transpose(1, 2)
        with torch.no_grad():
            mixed, _ = self.attention(found, found, found)
        return mixed * factor, mixed.mean((1, 2))


def program() -> ExportedProgram:
    torch.manual_seed(0)
    batch = {0: Dim("batch")}
    args, kwargs = (torch.randn(2, 4),), {"scale": torch.randn(2, 1)}
    return torch.export.export(Classifier(), args, kwargs, dynamic_shapes={"x": batch, "scale": batch})


def classifier(path: Path) -> Made:
    """A saved Classifier under any name."""
    exported = program()
    _save(exported, path)
    x, scale = torch.randn(5, 4), torch.randn(5, 1)
    with torch.no_grad():
        found = exported.module()(x, scale=scale)
    expected = {"scores": found["scores"], "raw_0": found["raw"][0], "raw_1": found["raw"][1]}
    return path, {"x": x.numpy(), "scale": scale.numpy()}, {key: value.numpy() for key, value in expected.items()}


def sequence(path: Path) -> Made:
    """A saved Sequence; its length is at most 50."""
    torch.manual_seed(0)
    model = Sequence().eval()
    dims = {0: Dim("batch"), 1: Dim("length", max=50)}
    _save(torch.export.export(model, (torch.randint(0, 10, (2, 5)),), dynamic_shapes=(dims,)), path)
    text = torch.randint(0, 10, (3, 7))
    with torch.no_grad():
        first, second = model(text)
    return path, {"text": text.numpy()}, {"output_0": first.numpy(), "output_1": second.numpy()}


def compiled(folder: Path) -> Made:
    """A folder with a program and the native code that AOTInductor makes of it."""
    folder.mkdir(exist_ok=True)
    path, inputs, expected = classifier(folder / "program.pt2")
    torch._inductor.aoti_compile_and_package(program(), package_path=str(folder / "compiled.pt2"))
    return path.parent, inputs, expected


class _Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


def poison_samples(path: Path, target: Path) -> Path:
    """Put a pickle that creates ``target`` where torch.export.load finds sample inputs; returns ``target``."""
    evil = path.with_suffix(".samples")
    torch.save((_Touch(target), {}), evil)
    content = evil.read_bytes()
    evil.unlink()
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, raw in members.items():
            archive.writestr(name, content if "/sample_inputs/" in name else raw)
    return target


def _save(exported: ExportedProgram, path: Path) -> None:
    with path.open("wb") as file:
        torch.export.save(exported, file)
