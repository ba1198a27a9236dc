"""Runs what AOTInductor compiled: native code, loaded only where the operator trusts it.

The exported program beside it says what goes in and out; the compiled one takes and gives its tensors in that order. It
believes sizes unseen, so they are held here against the program: equal where it says so, and within its ranges.
"""

from __future__ import annotations

from typing import Any, Self

from modelport.engine.formats.torch_archive import TorchArchive, find_archives
from modelport.engine.formats.torch_program import checked
from modelport.engine.runtime import LoadOptions, Runtime
from modelport.engine.runtimes.messages import first_line
from modelport.engine.runtimes.torch import named, program_archive, run, set_threads, to_torch, torch
from modelport.errors import ArtifactRefused, ModelRejectedInput
from modelport.tensors import Array, Signature


class AotInductorRuntime(Runtime):
    """One compiled model on the CPU."""

    name = "aotinductor"
    platform = "pytorch_aotinductor"

    def __init__(self, loader: Any, signature: Signature, ranges: dict[str, tuple[int, int | None]]) -> None:
        self._loader = loader
        self._inputs = [spec.name for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]
        self._ranges = ranges
        self._symbols = [
            (spec.name, axis, symbol)
            for spec in signature.inputs
            for axis, symbol in enumerate(spec.dims)
            if symbol is not None
        ]

    @classmethod
    def load(cls, options: LoadOptions) -> Self:
        """Load the package, where the operator allows it (control asks); raises ArtifactRefused if torch cannot."""
        set_threads(options.threads)
        package = next(_packages(options), None)
        if package is None:
            raise ArtifactRefused("there is no AOTInductor package among the version's files")
        try:
            loader = torch._C._aoti.AOTIModelPackageLoader(*package, True, 1, -1)
        except (RuntimeError, ValueError, OSError) as error:
            raise ArtifactRefused(
                f"torch {torch.__version__} cannot load the AOTInductor package: {first_line(error)}; compile it with "
                "this release of torch on a machine of this kind"
            ) from None
        with program_archive(options) as archive:
            found = checked(archive.json(f"models/{archive.programs[0]}.json"))["range_constraints"]
        ranges = {symbol: (bounds.get("min_val") or 0, bounds.get("max_val")) for symbol, bounds in found.items()}
        return cls(loader, options.signature, ranges)

    def infer(self, inputs: dict[str, Array]) -> dict[str, Array]:
        """Run once; raises ModelRejectedInput when the sizes are not what the code was compiled for."""
        self._check_sizes(inputs)
        feed = [to_torch(inputs[name]) for name in self._inputs]
        return named(run(lambda: self._loader.boxed_run(feed)), self._outputs)

    def _check_sizes(self, inputs: dict[str, Array]) -> None:
        sizes: dict[str, int] = {}
        for name, axis, symbol in self._symbols:
            size = inputs[name].shape[axis]
            least, most = self._ranges.get(symbol, (0, None))
            if sizes.setdefault(symbol, size) != size:
                raise ModelRejectedInput(f"input {name!r}: dimension {axis} is {size}, elsewhere it is {sizes[symbol]}")
            if size < least or (most is not None and size > most):
                bounds = f"at least {least}" if size < least else f"at most {most}"
                raise ModelRejectedInput(f"input {name!r}: dimension {axis} is {size}, the model takes {bounds}")


def _packages(options: LoadOptions) -> Any:
    """Path and model name of each compiled package."""
    for name in find_archives(options.folder, options.files):
        with TorchArchive(options.folder / name) as archive:
            models = archive.compiled
        if models:
            yield str(options.folder / name), models[0]
