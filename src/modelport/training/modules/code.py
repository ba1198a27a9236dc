"""The caller's own code: found, called, and told where it went wrong, by their own files and lines."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from modelport.errors import InvalidInput, ModelportError
from modelport.training.optimizers import Group


@dataclass(frozen=True, slots=True)
class ModuleData:
    """What the caller's function is told of the rows."""

    columns: list[str]
    """Of ``numbers``, in their order."""
    vectors: dict[str, int]
    image: tuple[int, int, int] | None
    classes: list[str] | None
    rows: int


@dataclass(frozen=True, slots=True)
class Built:
    """What the caller's function gave."""

    network: nn.Module
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    groups: list[Group] = field(default_factory=list)


class Code:
    """A folder of the caller's files."""

    def __init__(self, folder: Path | None, module: str) -> None:
        self._folder = folder.resolve() if folder is not None else None
        self._module = module

    def build(self, data: ModuleData, params: dict[str, Any]) -> Built:
        """Import, call, look at what came back; raises InvalidInput for what is wrong with it."""
        name, _, attribute = self._module.partition(":")
        if self._folder is not None and str(self._folder) not in sys.path:
            sys.path.insert(0, str(self._folder))
        with self.told():
            module = importlib.import_module(name)
        function = getattr(module, attribute, None)
        if not callable(function):
            raise InvalidInput(f"options.build: {name!r} has no function {attribute!r}")
        with self.told():
            found = function(data, **params)
        return self._looked_at(found)

    def _looked_at(self, found: Any) -> Built:
        pair = found if isinstance(found, tuple) else (getattr(found, "network", None), getattr(found, "loss", None))
        if len(pair) != 2 or not isinstance(pair[0], nn.Module) or not callable(pair[1]):
            raise InvalidInput(
                f"options.build: {self._module} has to give back (network, loss), a torch.nn.Module and a function; "
                f"it gave {type(found).__name__}"
            )
        groups = [Group(*self._group(one)) for one in getattr(found, "groups", ())]
        return Built(pair[0], pair[1], groups)

    def _group(self, given: Any) -> tuple[list[nn.Module], float, int]:
        modules, rate, epoch = (*given, 1.0, 0)[:3] if isinstance(given, Sequence) else (None, 1.0, 0)
        if isinstance(modules, nn.Module):
            modules = [modules]
        if not modules or not all(isinstance(one, nn.Module) for one in modules):
            raise InvalidInput(f"options.build: groups of {self._module} are (modules, rate, from_epoch)")
        return list(modules), float(rate), int(epoch)

    @contextmanager
    def told(self) -> Iterator[None]:
        """What the caller's code raises becomes InvalidInput with their file, line and message."""
        try:
            yield
        except (ModelportError, MemoryError):
            raise
        except Exception as error:
            raise InvalidInput(f"options.build: {self._module} failed: {self._explained(error)}") from None

    def _explained(self, error: Exception) -> str:
        """Without a path of this machine."""
        text = f"{type(error).__name__}: {error}".strip()
        if isinstance(error, SyntaxError):
            return f"SyntaxError: {error.msg} ({Path(error.filename or '').name}, line {error.lineno})"
        own = [frame for frame in traceback.extract_tb(error.__traceback__) if self._is_own(frame.filename)]
        where = f" ({self._relative(own[-1].filename)}, line {own[-1].lineno})" if own else ""
        if self._folder is not None:
            text = text.replace(f"{self._folder}/", "").replace(str(self._folder), "")
        return text[:500] + where

    def _is_own(self, file: str) -> bool:
        return self._folder is not None and Path(file).resolve().is_relative_to(self._folder)

    def _relative(self, file: str) -> str:
        assert self._folder is not None
        return str(Path(file).resolve().relative_to(self._folder))
