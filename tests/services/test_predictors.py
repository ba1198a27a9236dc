"""Python predictors on a real server: their environments, their answers, and what their failures cost."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton

from modelport import errors
from modelport.sdk.deployments import DeploymentFailed
from tests import onnx_models
from tests.services.conftest import Server
from tests.services.differences import Case, measure
from tests.services.load import Load
from tests.services.test_cli import command

pytestmark = [pytest.mark.long, pytest.mark.xdist_group("predictors")]  # one server, which keeps its environments
EXAMPLE = Path(__file__).parents[2] / "examples" / "predictor"
ALLOWED = {"MODELPORT_TRUST_PYTHON_PREDICTORS": "true"}
TEXT = "inputs: [{name: text, datatype: BYTES, shape: [-1]}]\noutputs: [{name: answer, datatype: BYTES, shape: [-1]}]\n"

VERSIONED = """
import humanize
class Predictor:
    def predict(self, inputs):
        return [f"{text.decode()} {humanize.__version__}" for text in inputs["text"]]
"""
TROUBLED = """
import asyncio, os, sys, time
class Troubled:
    async def load(self):
        self.lock = asyncio.Lock()
    async def predict(self, inputs):
        async with self.lock:
            await asyncio.sleep(0)
        answers = [self.answer(text.decode()) for text in inputs["text"]]
        return [answers] if "SHAPE" in answers else answers
    def answer(self, text):
        print("was asked", text)
        if text == "value": raise ValueError("text 'value' is not welcome")
        if text == "key": return {}[text]
        if text == "exit": sys.exit(3)
        if text == "list": return ["two", "of them"]
        if text == "hang": time.sleep(1000)
        if text == "die": os._exit(1)
        return text.upper()
"""
STREAMING = """
class Predictor:
    async def predict(self, inputs):
        for word in inputs["text"][0].decode().split():
            if word == "stop": raise ValueError("told to stop")
            yield [word]
    def postprocess(self, words):
        return [word.upper() for word in words]
"""


@pytest.fixture(scope="module")
def trusting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    found = Server(tmp_path_factory.mktemp("home"), env=ALLOWED).start()
    yield found
    found.stop()


def write(folder: Path, source: str, requirements: str = "", declared: str = TEXT) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "predictor.py").write_text(source)
    (folder / "modelport.yaml").write_text(declared)
    if requirements:
        (folder / "requirements.txt").write_text(requirements)
    return folder


def ask(server: Server, name: str, *texts: str, **options: Any) -> list[str]:
    with server.client() as client:
        array = np.array([text.encode() for text in texts], dtype=object)
        return [found.decode() for found in client.infer(name, {"text": array}, **options)["answer"]]


def deploy(server: Server, name: str, folder: Path, **spec: Any) -> Any:
    with server.client() as client:
        client.models.push(folder, name)
        return client.deploy(name, **spec)


def over_grpc(server: Server, name: str, text: str) -> list[str]:
    """The parts of an answer in a gRPC stream, the last of them perhaps an error."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    tensor = triton.InferInput("text", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([text.encode()], object))
    found = []
    with triton.InferenceServerClient(server.grpc) as client:
        client.start_stream(
            lambda result, error: answers.put((result, error)), headers={"authorization": f"Bearer {server.token}"}
        )
        client.async_stream_infer(name, [tensor], enable_empty_final_response=True)
        while True:
            result, error = answers.get(timeout=30)
            if error is not None:
                return [*found, str(error)]
            if result.get_response().parameters["triton_final_response"].bool_param:
                return found
            found.append(result.as_numpy("answer")[0].decode())


@pytest.mark.long
def test_conflicting_requirements_live_side_by_side(trusting: Server, tmp_path: Path) -> None:
    for name, version in (("older", "4.9.0"), ("newer", "4.12.0")):
        deploy(trusting, name, write(tmp_path / name, VERSIONED, f"humanize=={version}  # pinned\n"))
    assert ask(trusting, "older", "it is") == ["it is 4.9.0"]
    assert ask(trusting, "newer", "it is") == ["it is 4.12.0"]
    assert ask(trusting, "older", "a", "b") == ["a 4.9.0", "b 4.9.0"]
    with trusting.client() as client:
        assert any("building the environment" in line for line in client.deployments.logs("older"))
        packages = client.models.lineage("older").packages
        assert "humanize==4.9.0" in packages
        assert any(package.startswith("numpy==") for package in packages), "what nobody pinned is recorded too"
        assert "humanize==4.12.0" in client.models.lineage("newer").packages
    shown = command(trusting.home, "models", "show", "older").stdout
    assert "humanize==4.9.0" in shown
    assert "numpy==" in shown

    built = {folder.name for folder in (trusting.home / "environments").glob("?" * 16)}
    deploy(trusting, "again", write(tmp_path / "again", VERSIONED + "# changed", "humanize==4.9.0"))
    assert ask(trusting, "again", "it is") == ["it is 4.9.0"]
    assert {folder.name for folder in (trusting.home / "environments").glob("?" * 16)} == built, "it is used again"


def test_an_environment_has_its_own_libraries_and_this_product_alone(trusting: Server, tmp_path: Path) -> None:
    source = """
import importlib.util, sys
class Predictor:
    def predict(self, inputs):
        return ["found" if importlib.util.find_spec(name.decode()) else "missing" for name in inputs["text"]]
"""
    deploy(trusting, "looking", write(tmp_path / "looking", source))
    modules = ["numpy", "modelport", "onnxruntime", "sqlalchemy", "msgspec", "humanize"]
    assert ask(trusting, "looking", *modules) == ["found", "found", *["missing"] * 4]


def test_the_example_answers_as_its_library_does(trusting: Server) -> None:
    deployed = deploy(trusting, "language", EXAMPLE)
    assert deployed.batching == "up to 32 rows a run"
    texts = ["Guten Morgen, wie geht es dir?", "Where is the station?", "Je ne parle pas anglais.", "¿Dónde está?"]
    with trusting.client() as client:
        manifest = client.models.versions("language")[0].manifest
        got = client.infer("language", {"text": np.array([text.encode() for text in texts], dtype=object)})
    assert manifest.format == "predictor"
    assert manifest.details["requirements"] == ["py3langid==0.4.0", "numpy"]
    code = (
        "import json, sys; from py3langid.langid import *;"
        "found = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True);"
        "print(json.dumps([[str(x) for x in found.classify(text)] for text in json.loads(sys.argv[1])]))"
    )
    environments = (trusting.home / "environments").glob("?" * 16 + "/lib/python*/site-packages/py3langid")
    interpreter = next(environments).parents[3] / "bin" / "python"
    own = json.loads(
        subprocess.run([interpreter, "-c", code, json.dumps(texts)], capture_output=True, check=True).stdout
    )
    assert (
        [found.decode() for found in got["language"]] == [language for language, _ in own] == ["de", "en", "fr", "es"]
    )
    np.testing.assert_array_equal(got["probability"], np.array([float(p) for _, p in own], np.float32))
    given = {"text": np.array([text.encode() for text in texts], object)}
    languages = np.array([language.encode() for language, _ in own], object)
    expected = {"language": languages, "probability": np.array([float(p) for _, p in own], np.float32)}
    measure(trusting, "Python predictor (py3langid)", "language", Case(EXAMPLE, given, expected))
    empty = np.array([b""], dtype=object)
    with trusting.client() as client, pytest.raises(errors.InvalidInput, match="ValueError: an empty text"):
        client.infer("language", {"text": empty})


@pytest.fixture(scope="module")
def troubled(trusting: Server, tmp_path_factory: pytest.TempPathFactory) -> Server:
    deploy(trusting, "troubled", write(tmp_path_factory.mktemp("troubled"), TROUBLED), timeout_s=2, replicas=2)
    return trusting


def test_exceptions_become_clear_errors_and_prints_reach_the_logs(troubled: Server) -> None:
    assert ask(troubled, "troubled", "fine", "too") == ["FINE", "TOO"]
    with pytest.raises(errors.ModelRejectedInput, match=r"^ValueError: text 'value' is not welcome"):
        ask(troubled, "troubled", "value")
    for text, said in (
        ("key", "KeyError"),
        ("exit", "sys.exit"),
        ("list", "holds a list"),
        ("shape", "the shape [1, 2]"),
    ):
        with pytest.raises(errors.ModelportError) as failed:
            ask(troubled, "troubled", "fine", text)
        assert failed.value.status == 500
        assert said in failed.value.message, failed.value.message
        assert "Traceback" not in failed.value.message
        assert str(troubled.home) not in failed.value.message
    with troubled.client() as client:
        lines = "\n".join(client.deployments.logs("troubled", tail=1000))
    for said in ("was asked fine", "was asked key", "Traceback", "KeyError"):
        assert said in lines, said


def test_one_that_hangs_or_dies_costs_nobody_else_anything(troubled: Server) -> None:
    body = json.dumps({"data": ["fine"]}).encode()
    with Load(troubled.url, "/predict/troubled", body, callers=2) as load:
        for text in ("die", "hang"):
            said = ""
            for _ in range(2 * 4):  # each gateway learns by itself
                with pytest.raises(errors.ModelportError) as failed:
                    ask(troubled, "troubled", text, timeout=40)
                assert failed.value.status == 500, failed.value
                said = failed.value.message
                if "killed its replica" in said:
                    break
            assert "is not run again" in said, said
    assert load.failures == []
    assert load.sent > 20


def test_a_generator_streams(trusting: Server, tmp_path: Path) -> None:
    deployed = deploy(trusting, "words", write(tmp_path / "words", STREAMING, declared=TEXT + "sample: {text: [a b]}"))
    assert deployed.batching == "it gives its answers in parts"
    assert ask(trusting, "words", "one two three") == ["ONE", "TWO", "THREE"]
    headers = {"Authorization": f"Bearer {trusting.token}"}
    url = f"{trusting.url}/v2/models/words/generate_stream"

    def events(text: str) -> list[dict[str, Any]]:
        with httpx.stream("POST", url, json={"text_input": text}, headers=headers, timeout=30) as answer:
            return [json.loads(line[5:]) for line in answer.iter_lines() if line.startswith("data:")]

    assert [event["text_output"] for event in events("to be or not")] == ["TO", "BE", "OR", "NOT"]
    *parts, last = events("well stop here")
    assert [event["text_output"] for event in parts] == ["WELL"]
    assert "told to stop" in json.dumps(last)
    assert over_grpc(trusting, "words", "to be or not") == ["TO", "BE", "OR", "NOT"]
    *parts, last = over_grpc(trusting, "words", "well stop here")
    assert parts == ["WELL"]
    assert "told to stop" in last


def test_a_build_that_fails_is_said_readably(trusting: Server, tmp_path: Path) -> None:
    folder = write(tmp_path / "impossible", VERSIONED, "humanize==0.0.999\n")
    with pytest.raises(DeploymentFailed) as failed:
        deploy(trusting, "impossible", folder)
    seen = failed.value.deployment
    assert seen.state == "failed"
    assert seen.reason and "its environment could not be built" in seen.reason
    assert "humanize==0.0.999" in seen.reason
    assert any("humanize" in line for line in seen.log_tail)
    ready = (trusting.home / "environments").glob("?" * 16 + "/modelport.json")
    assert not any("0.0.999" in marker.read_text() for marker in ready)
    with trusting.client() as client:
        assert any("humanize==0.0.999" in line for line in client.deployments.logs("impossible"))
        client.deployments.delete("impossible", wait=True)


def test_an_environment_under_way_is_shown(trusting: Server, tmp_path: Path) -> None:
    folder = write(tmp_path / "slow", VERSIONED, "humanize==4.10.0\n")
    with trusting.client() as client:
        client.models.push(folder, "slow")
        client.deploy("slow", wait=False)
        deadline, seen = time.monotonic() + 30, client.deployments.get("slow")
        while not seen.reason and time.monotonic() < deadline:
            seen = client.deployments.get("slow")
        assert seen.state == "starting"
        assert seen.reason == "building its environment: humanize==4.10.0, numpy"
        client.deployments.delete("slow", wait=True)


def test_nobody_runs_code_on_a_server_that_does_not_allow_it(server: Server, tmp_path: Path) -> None:
    with server.client() as client:
        with pytest.raises(errors.ArtifactRefused, match="MODELPORT_TRUST_PYTHON_PREDICTORS=true"):
            client.models.push(write(tmp_path / "plain", VERSIONED), "plain")
        # a class that reading does not find, beside a model of another format, and the runtime by its name
        folder = write(tmp_path / "hidden", f"open({str(tmp_path / 'ran')!r}, 'w')\nPredictor = type('P', (), {{}})")
        (folder / "model.onnx").write_bytes(onnx_models.mlp((3, 8, 2)))
        assert client.models.push(folder, "hidden").format == "onnx"
        with pytest.raises(errors.InvalidInput, match="runs Python predictors only"):
            client.deploy("hidden", runtime="predictor")
    assert not (tmp_path / "ran").exists()


@pytest.mark.long
def test_what_was_allowed_once_stops_with_the_setting_and_its_environment_goes(
    own_server: Callable[..., Server], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    server = own_server(home=home, MODELPORT_ARTIFACTS_GC_GRACE_S="0", **ALLOWED)
    deploy(server, "words", write(tmp_path / "words", TROUBLED))
    assert ask(server, "words", "fine") == ["FINE"]
    with server.client() as client:
        assert client.gc().environments == 0, "it is in use"
    server.stop()
    server.env.pop("MODELPORT_TRUST_PYTHON_PREDICTORS")
    server.start()
    with server.client() as client:
        deadline, seen = time.monotonic() + 30, client.deployments.get("words")
        while not seen.reason and time.monotonic() < deadline:
            seen = client.deployments.get("words")
        assert "MODELPORT_TRUST_PYTHON_PREDICTORS" in (seen.reason or "")
        assert seen.replicas_ready == 0
        with pytest.raises(errors.NotAllowed, match="MODELPORT_TRUST_PYTHON_PREDICTORS"):
            client.deploy("words", replicas=2)
        client.deployments.delete("words", wait=True)
        assert client.gc(dry_run=True).environments == 1
        assert client.gc().environments == 1
    assert not list((home / "environments").glob("?" * 16 + "/bin"))


def test_serve_runs_one_when_it_is_told_to(trusting: Server, tmp_path: Path) -> None:
    folder = write(tmp_path / "served", VERSIONED, "humanize==4.9.0")
    serve = [sys.executable, "-m", "modelport.cli.main", "serve", str(folder), "--port", "0"]
    env = {**dict(psutil.Process().environ()), "MODELPORT_HOME": str(trusting.home)}
    refused = subprocess.run(serve, env=env, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "--allow-python" in refused.stderr
    log = tmp_path / "serve.log"
    with log.open("wb") as out, subprocess.Popen([*serve, "--allow-python"], env=env, stderr=out) as process:
        try:
            deadline = time.monotonic() + 120
            while "is served on " not in log.read_text() and time.monotonic() < deadline:
                assert process.poll() is None, log.read_text()
                time.sleep(0.05)
            url = log.read_text().partition("is served on ")[2].split()[0]
            answer = httpx.post(f"{url}/predict/served", json={"data": ["it is"]}, timeout=20)
            assert "it is 4.9.0" in answer.text
        finally:
            process.terminate()
