"""Settings: who wins, and what is said of a name or value that is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from modelport.errors import InvalidInput
from modelport.settings import load_settings


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MODELPORT_HOME", str(tmp_path))
    return tmp_path


def test_flags_win_over_the_environment_and_that_over_the_file(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "settings.yaml").write_text("http: {port: 1, max_body_mb: 2, timeout_s: 3}")
    monkeypatch.setenv("MODELPORT_HTTP_PORT", "10")
    monkeypatch.setenv("MODELPORT_HTTP_MAX_BODY_MB", "20")
    found = load_settings(http={"port": 100}).http
    assert (found.port, found.max_body_mb, found.timeout_s) == (100, 20, 3)


def test_the_file_of_a_home_below_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MODELPORT_HOME", "~/mine")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "settings.yaml").write_text("http: {port: 77}")
    found = load_settings()
    assert (found.home, found.http.port) == (tmp_path / "mine", 77)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("http: [9", "settings.yaml is not YAML: .*line 1"),
        ("- http", "settings.yaml must hold a mapping of sections"),
        (
            "htp: {port: 1}",
            "there is no section 'htp'; there are artifacts, batches, data, database, grades, grpc, http",
        ),
        ("http: {prot: 1}", r"there is no setting http\.prot \(MODELPORT_HTTP_PROT\); http has host, port"),
        ("http: {port: x}", r"setting http\.port \(MODELPORT_HTTP_PORT\): .*, not 'x'; change it"),
        ("home: /elsewhere", "cannot move it; set MODELPORT_HOME instead"),
        (b"http: {host: \xff}", "settings.yaml is not YAML"),
    ],
)
def test_a_file_that_is_wrong(home: Path, text: str | bytes, message: str) -> None:
    (home / "settings.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InvalidInput, match=message):
        load_settings()


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("MODELPORT_HTTP_PROT", "1", "there is no setting http.prot"),
        ("MODELPORT_HTTP_PORT", "70000", "not '70000'; change it"),
        ("MODELPORT_TRUST_SKLEARN_TYPES", "a.B", r"lists are JSON, such as '\[\"a\", \"b\"\]'"),
        ("MODELPORT_LOG_LEVEL", "loud", "MODELPORT_LOG_LEVEL"),
    ],
)
def test_a_variable_that_is_wrong(monkeypatch: pytest.MonkeyPatch, name: str, value: str, message: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=message):
        load_settings()
