"""Exported PyTorch programs run with PyTorch: answers, data types, refusals; and nothing of a pickle."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.long  # make test-formats runs them

from modelport.engine.formats.torch_export import TorchExportFormat  # noqa: E402
from modelport.engine.runtime import LoadOptions, Trust  # noqa: E402
from modelport.engine.runtimes.torch import TorchRuntime  # noqa: E402
from modelport.errors import ArtifactRefused, ModelRejectedInput  # noqa: E402
from modelport.tensors import Array, dtype_of  # noqa: E402
from tests import pt2, torch_models  # noqa: E402


def load(path: Path) -> TorchRuntime:
    found = TorchExportFormat().inspect(path.parent, (path.name,), Trust())
    return TorchRuntime.load(LoadOptions(path.parent, (path.name,), found.signature, {}))


def test_the_hand_written_archive_is_what_torch_writes(tmp_path: Path) -> None:
    """So that what the tests of the format falsify is the real thing."""
    rows = np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    found = load(pt2.write(tmp_path / "model")).infer({"x": rows})["scores"]
    np.testing.assert_allclose(found, rows @ pt2.WEIGHT.T + pt2.BIAS, atol=1e-6)


def test_answers_are_torchs_own(tmp_path: Path) -> None:
    for make in (torch_models.classifier, torch_models.sequence):
        path, inputs, expected = make(tmp_path / make.__name__)
        found = load(path).infer(inputs)
        assert set(found) == set(expected)
        for name, array in expected.items():
            np.testing.assert_allclose(found[name], array, atol=1e-6)


def test_sample_inputs_are_never_unpickled(tmp_path: Path) -> None:
    path, inputs, _ = torch_models.classifier(tmp_path / "model.pt2")
    touched = torch_models.poison_samples(path, tmp_path / "touched")
    load(path).infer(inputs)
    assert not touched.exists()
    with contextlib.suppress(Exception):
        torch.export.load(path)  # the poison works where it is unpickled
    assert touched.exists()


class Same(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.clone()


@pytest.mark.parametrize(
    "datatype", ["BOOL", "UINT8", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BF16"]
)
def test_every_datatype_passes_through(tmp_path: Path, datatype: str) -> None:
    given: Array = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype_of(datatype))
    kind = torch.bfloat16 if datatype == "BF16" else torch.from_numpy(given).dtype
    exported = torch.export.export(
        Same(), (torch.ones(2, 3, dtype=kind),), dynamic_shapes=({0: torch.export.Dim("n")},)
    )
    torch.export.save(exported, tmp_path / "same.pt2")
    runtime = load(tmp_path / "same.pt2")
    given.flags.writeable = False
    for array in (given, given[:1], given[::-1], given[:0]):
        found = runtime.infer({"x": array})["output"]
        assert found.dtype == given.dtype
        assert found.tolist() == array.tolist()


def test_what_does_not_fit_names_the_input(tmp_path: Path) -> None:
    runtime = load(pt2.write(tmp_path / "model"))
    with pytest.raises(ModelRejectedInput, match="'x'.*<= 64"):
        runtime.infer({"x": np.zeros((65, 4), np.float32)})
    path, inputs, _ = torch_models.classifier(tmp_path / "two")
    with pytest.raises(ModelRejectedInput, match="'scale'"):
        load(path).infer({**inputs, "scale": inputs["scale"][:2]})


def test_a_program_that_torch_cannot_build_is_refused(tmp_path: Path) -> None:
    def change(found: dict) -> None:
        found["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.aten.nothing_of_this_name.default"

    with pytest.raises(ArtifactRefused, match="cannot build the program"):
        load(pt2.write(tmp_path / "model", change))


class Counts(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.seen[0].view(-1).add_(1)
        return x + self.seen.sum()


class CountsInside(Counts):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.set_grad_enabled(False):
            self.seen.add_(1)
            y = x * 2
        return y + self.seen.sum()


class Writes(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.transpose(0, 1).mul_(2) + 1


@pytest.mark.parametrize("decomposed", [False, True])
@pytest.mark.parametrize("module", [torch.nn.BatchNorm1d(4).train(), Counts(), CountsInside(), Writes()], ids=repr)
def test_state_that_changes_is_refused(tmp_path: Path, module: torch.nn.Module, decomposed: bool) -> None:
    exported = torch.export.export(module, (torch.randn(3, 4),))
    exported = exported.run_decompositions() if decomposed else exported
    torch.export.save(exported, tmp_path / "model.pt2")
    with pytest.raises(ArtifactRefused, match=r"call model.eval\(\)"):
        load(tmp_path / "model.pt2")


def test_other_files_of_torch_stay_refused(tmp_path: Path) -> None:
    from modelport.engine.inspect import inspect_apart

    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "weights.pt")
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "script.pt")
    for name in ("weights.pt", "script.pt"):
        with pytest.raises(ArtifactRefused, match="torch.export.save"):
            inspect_apart(tmp_path / name, Trust())
