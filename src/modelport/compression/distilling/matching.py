"""What happens inside teacher and student, layer by layer, and how far the one is from the other.

``features``: the student's layers come near the teacher's, through a matrix where they are narrower. ``attention``: not
what the layers say but what they look at, which needs no matrix: how alike places of a text are to each other, and
where in an image there is much (Zagoruyko and Komodakis 2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from modelport.compression.distilling.student import layer_pairs
from modelport.errors import InvalidInput

Match = Literal["none", "features", "attention"]


class Watched:
    """A network's layers, and what they give between ``begin`` and ``end``."""

    def __init__(self, network: nn.Module) -> None:
        self.layers = _layers(network)
        self._given: list[torch.Tensor] | None = None
        self._hooks: list[Any] = []
        for layer in self.layers:
            self._hooks.append(layer.register_forward_hook(self._keep))

    def _keep(self, layer: nn.Module, inputs: Any, output: Any) -> None:
        found = output if isinstance(output, torch.Tensor) else output[0]
        if self._given is not None and found.dim() in (3, 4):
            self._given.append(found)

    def begin(self) -> None:
        """Look at the next run."""
        self._given = []

    def end(self) -> list[torch.Tensor]:
        """What the layers gave since."""
        found, self._given = self._given or [], None
        return found

    def close(self) -> None:
        """Look no more."""
        for hook in self._hooks:
            hook.remove()


class Matching(nn.Module):
    """How far a student's layers are from its teacher's; matrices that learn are inside."""

    def __init__(self, how: Match, widths: Sequence[tuple[int, int]]) -> None:
        """``widths`` of student and teacher, for each of the student's layers."""
        super().__init__()
        self.how = how
        own = how == "features"
        self.matrices = nn.ModuleList(
            nn.Linear(mine, theirs, bias=False) if own and mine != theirs else nn.Identity() for mine, theirs in widths
        )

    def forward(self, mine: Sequence[torch.Tensor], theirs: Sequence[torch.Tensor]) -> torch.Tensor:
        """The mean over the layers."""
        pairs = [theirs[at] for at in layer_pairs(len(mine), len(theirs))]
        losses = []
        for matrix, student, teacher in zip(self.matrices, mine, pairs, strict=True):
            if self.how == "attention":
                losses.append(_looked_at(student, teacher))
                continue
            found = _last(matrix(_places(student)))
            wanted = _last(_places(_as_large(teacher, student)))
            losses.append(functional.mse_loss(found, wanted))
        return torch.stack(losses).mean()


def matching(how: Match, teacher: nn.Module, student: nn.Module, inputs: tuple[torch.Tensor, ...]) -> Matching:
    """For two networks; raises InvalidInput when they have no layers that can be told apart."""
    found = []
    for network in (student, teacher):
        watched = Watched(network)
        watched.begin()
        with torch.no_grad():
            network.eval()(*inputs)
        given = watched.end()
        watched.close()
        if not given:
            raise InvalidInput("options.match: the network has no list of layers that could be matched; say match=none")
        found.append([_places(one).shape[-1] for one in given])
    mine, theirs = found
    if len(mine) > len(theirs):
        raise InvalidInput("options.match: the student has more layers than its teacher; say match=none")
    pairs = [theirs[at] for at in layer_pairs(len(mine), len(theirs))]
    return Matching(how, list(zip(mine, pairs, strict=True)))


def _layers(network: nn.Module) -> list[nn.Module]:
    """Its blocks where it tells them, else the longest list of parts that have weights."""
    own = getattr(network, "blocks", None)
    if callable(own):
        return list(own())
    lists = [
        [part for part in found if any(True for _ in part.parameters())]
        for found in network.modules() if isinstance(found, nn.ModuleList | nn.Sequential)
    ]  # fmt: skip
    blocks = [found for found in lists if found and all(any(True for _ in part.children()) for part in found)]
    return max(blocks, key=len) if blocks else []


def _places(given: torch.Tensor) -> torch.Tensor:
    """[rows, places, width]"""
    return given.flatten(2).transpose(1, 2) if given.dim() == 4 else given


def _as_large(teacher: torch.Tensor, student: torch.Tensor) -> torch.Tensor:
    """An image of the teacher's in the student's height and width."""
    if teacher.dim() == 4 and teacher.shape[2:] != student.shape[2:]:
        return functional.adaptive_avg_pool2d(teacher, student.shape[2:])
    return teacher


def _last(places: torch.Tensor) -> torch.Tensor:
    """Every place's vector at the same length, so that no layer outweighs the others."""
    return functional.layer_norm(places, places.shape[-1:])


def _looked_at(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    if student.dim() == 4:
        maps = [
            functional.normalize(one.pow(2).mean(1).flatten(1), dim=1) for one in (student, _as_large(teacher, student))
        ]
        return (maps[0] - maps[1]).pow(2).sum(1).mean()
    alike = [
        functional.log_softmax(one @ one.transpose(1, 2) / one.shape[-1] ** 0.5, -1)
        for one in (_last(student), _last(teacher))
    ]
    return functional.kl_div(alike[0], alike[1], log_target=True, reduction="none").sum(-1).mean()
