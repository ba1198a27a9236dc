"""Starts one of the product's processes: ``python -m modelport.starting MODULE ARGUMENTS`` runs that module's ``main``.

Modules are imported without looking for garbage, of which importing makes none: what is loaded stays. It takes a third
of the processor time that control needs to start. Imports only the standard library.
"""

from __future__ import annotations

import gc
import sys
from importlib import import_module


def argv_of(module: str, *arguments: str, python: str | None = None) -> list[str]:
    """The command line that does it, in this interpreter or in another one."""
    return [python or sys.executable, "-m", "modelport.starting", module, *arguments]


def main() -> None:
    """Import, then run."""
    sys.argv = sys.argv[1:]
    gc.disable()
    module = import_module(sys.argv[0])
    gc.freeze()
    gc.enable()
    module.main()


if __name__ == "__main__":
    main()
