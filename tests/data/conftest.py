from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelport.control.actors import Actor
from modelport.control.assembly import build_services
from modelport.settings import Settings
from tests.data.lab import Lab
from tests.databases import migrated_postgres, postgres  # noqa: F401
from tests.services.s3 import s3  # noqa: F401


@pytest.fixture
def make_lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Lab]]:
    """Makes a lab whose settings of ``data`` are given. A job works in its own folder; a test comes back to its own."""
    monkeypatch.chdir(tmp_path)
    made = []

    def make(**data: Any) -> Lab:
        settings = Settings(home=tmp_path / "home", data=data)
        services = build_services(settings, owner_token=None, keys_required=False)
        made.append(services)
        return Lab(services, Actor(1, "default", "tester", "admin"), tmp_path)

    yield make
    for services in made:
        services.database.close()


@pytest.fixture
def lab(make_lab: Callable[..., Lab]) -> Lab:
    """A lab with the settings as they come."""
    return make_lab()
