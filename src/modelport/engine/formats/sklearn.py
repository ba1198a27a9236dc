"""scikit-learn: one estimator saved with skops.

The file is recognised and its container checked without loading scikit-learn, which takes a second.
"""

from __future__ import annotations

from pathlib import Path

from modelport.engine.formats.skops_zip import check_container, find_skops
from modelport.engine.runtime import Format, Inspected, Trust
from modelport.errors import ArtifactRefused


class SklearnFormat(Format):
    """A ``.skops`` file under any name."""

    name = "sklearn"

    def recognises(self, folder: Path, files: tuple[str, ...]) -> bool:
        """Whether there is a zip archive with skops' schema."""
        return bool(find_skops(folder, files))

    def inspect(self, folder: Path, files: tuple[str, ...], trust: Trust) -> Inspected:
        """Load the one estimator and learn its signature; raises ArtifactRefused with the cause and the next step."""
        found = find_skops(folder, files)
        if len(found) > 1:
            raise ArtifactRefused(f"the folder holds {len(found)} skops files: push them one by one")
        check_container(folder / found[0])
        from modelport.engine.formats.sklearn_estimator import inspect_estimator  # noqa: PLC0415  (two seconds)

        return inspect_estimator(folder / found[0], trust)
