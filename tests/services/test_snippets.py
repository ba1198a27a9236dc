"""Every snippet runs as it stands, in each language that this machine has, for models of every kind of signature."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from modelport.cli.snippet import Language, program, tensors_of, text_program
from modelport.errors import InvalidInput
from modelport.schemas.text_tasks import TextTask, example
from modelport.tensors import TensorSpec
from tests import onnx_models
from tests.bench.fake import fake_server, status
from tests.services.conftest import Server

MODELS = {
    "snip-several": onnx_models.add_sub(),
    "snip-strings": onnx_models.identity("BYTES", (-1, 2)),
    "snip-dynamic": onnx_models.dynamic_dims(),
    "snip-large": onnx_models.identity("FP32", (-1, 3, 20, 20)),
    "snip-scalar": onnx_models.scalar(),
    "snip-bool": onnx_models.identity("BOOL", (-1, 3)),
    "snip-int64": onnx_models.identity("INT64", (2, 3)),
    "snip-half": onnx_models.identity("FP16", (-1, 2)),
    "snip-bytes": onnx_models.identity("UINT8", (1,)),
}
LANGUAGES = {
    "curl": ("bash", "call.sh"),
    "python": (sys.executable, "call.py"),
    "javascript": ("node", "call.mjs"),
    "go": ("go", "call.go"),
    "java": ("java", "Call.java"),
}


pytestmark = pytest.mark.xdist_group("snippets")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """On a server of their own: what is shown has no key, and a server with keys would want one."""
    server = Server(tmp_path_factory.mktemp("home")).start()
    for name, content in MODELS.items():
        server.deploy(name, content, replicas=1)
    yield server
    server.stop()


def snippet(server: Server, model: str, lang: str, key: str | None = None) -> str:
    argv = [sys.executable, "-m", "modelport.cli.main", "snippet", model, "--lang", lang]
    env = {**os.environ, "MODELPORT_URL": server.url, "MODELPORT_KEY": key or server.token, "COLUMNS": "40"}
    done = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def run(source: str, lang: str, folder: Path, key: str | None = None) -> str:
    tool, file = LANGUAGES[lang]
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not on this machine")
    (folder / file).write_text(source)
    command = [tool, "run", file] if lang == "go" else [tool, file]
    env = {name: value for name, value in os.environ.items() if name != "MODELPORT_KEY"}
    env |= {"MODELPORT_KEY": key} if key else {}
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120, env=env)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout


@pytest.mark.parametrize("lang", LANGUAGES)
@pytest.mark.parametrize("model", MODELS)
def test_it_runs_as_it_stands(models: Server, model: str, lang: str, tmp_path: Path) -> None:
    if lang == "java" and model not in ("snip-several", "snip-strings", "snip-large"):
        pytest.skip("a second of compiling each; these three hold every form")
    out = run(snippet(models, model, lang), lang, tmp_path)
    with models.client() as client:
        for spec in client.metadata(model).outputs:
            assert spec.name in out
    if lang in ("curl", "java"):
        assert json.loads(out)["model_name"] == model


def test_an_example_of_the_version_is_the_data(models: Server, tmp_path: Path) -> None:
    server = models
    server.push("snip-sample", onnx_models.dynamic_dims(), sample={"input": [[1.5, 2.5]]})
    with server.client() as client:
        client.deploy("snip-sample", replicas=1)
    assert json.loads(run(snippet(server, "snip-sample", "curl"), "curl", tmp_path))["outputs"][0]["data"] == [4.0]


def test_a_key_comes_from_the_environment(own_server: Callable[..., Server], tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "modelport.cli.main", "keys", "create", "--name", "a", "--role", "admin", "--json"]
    env = {**os.environ, "MODELPORT_HOME": str(tmp_path / "home")}
    made = subprocess.run(argv, capture_output=True, text=True, env=env, timeout=60)
    secret = json.loads(made.stdout)["secret"]
    server = own_server("--host", "0.0.0.0", "--insecure-no-tls", home=tmp_path / "home")
    server.deploy("m", onnx_models.identity(), replicas=1)
    for lang in ("curl", "python", "javascript"):
        source = snippet(server, "m", lang, secret)
        assert secret not in source and server.token not in source
        assert "output" in run(source, lang, tmp_path, secret)
        tool, file = LANGUAGES[lang]
        denied = subprocess.run([tool, file], cwd=tmp_path, capture_output=True, text=True)
        assert "401" in denied.stderr or "key" in denied.stdout


TEXTS: list[TextTask] = ["chat/completions", "completions", "embeddings"]


@pytest.mark.parametrize("lang", ["curl", "python", "go", "java"])
@pytest.mark.parametrize("task", TEXTS)
def test_texts_are_asked_as_openai_has_it(task: TextTask, lang: Language, tmp_path: Path) -> None:
    if lang in ("go", "java") and task != "chat/completions":
        pytest.skip("a second of compiling each; their body is the only difference")
    answers = {
        "chat/completions": {"choices": [{"index": 0, "message": {"role": "assistant", "content": "It scatters."}}]},
        "completions": {"choices": [{"index": 0, "text": "It scatters."}]},
        "embeddings": {"data": [{"index": 0, "embedding": [0.25, 0.5]}]},
    }
    asked = example(task, "it's")
    with fake_server(lambda got, number: status(200, json.dumps(answers[task]))) as server:
        out = run(text_program(lang, server.url, task, asked), lang, tmp_path, "sk-mine")
        (got,) = server.got
    assert (got.path, got.headers["authorization"]) == (f"/v1/{task}", "Bearer sk-mine")
    assert asked.items() <= json.loads(got.body).items()
    assert ("0.25" if task == "embeddings" else "It scatters.") in out


@pytest.mark.parametrize("task", TEXTS)
def test_javascript_is_openais_client(task: TextTask, tmp_path: Path) -> None:
    """That client is not installed: what it is told stands in for it, as its documentation has the names."""
    package = tmp_path / "node_modules" / "openai"
    package.mkdir(parents=True)
    (package / "package.json").write_text('{"name": "openai", "type": "module", "main": "index.js"}')
    (package / "index.js").write_text(
        """export default class {
  constructor(given) {
    const said = (path) => ({ create: async (body) => {
      console.log(JSON.stringify({ path, given, body }));
      return { choices: [{ text: "", message: { content: "" } }], data: [{ embedding: [] }] };
    } });
    this.chat = { completions: said("chat/completions") };
    this.completions = said("completions");
    this.embeddings = said("embeddings");
  }
}"""
    )
    out = run(text_program("javascript", "http://there", task, example(task, "m")), "javascript", tmp_path, "sk-mine")
    told = json.loads(out.splitlines()[0])
    assert told == {
        "path": task,
        "given": {"baseURL": "http://there/v1", "apiKey": "sk-mine"},
        "body": example(task, "m"),
    }


HOSTILE = '😀 it\'s "$HOME" `id` \\ \u2028 ${x} </script> {{0}} %s\t'


@pytest.mark.parametrize("lang", list(LANGUAGES))
@pytest.mark.parametrize("size", [2, 300])
def test_names_and_texts_stay_data(lang: str, size: int, tmp_path: Path) -> None:
    """What a model calls its inputs cannot become code, nor break the program."""
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    seen: list[bytes] = []

    class Echo(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            seen.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"outputs": []}')

        def log_message(self, *_: object) -> None:
            pass

    listening = HTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    specs = [TensorSpec(HOSTILE, "BYTES", (-1, size)), TensorSpec("b", "FP64", (-1, 1))]
    sample = {"inputs": [{"name": HOSTILE, "shape": [1, size], "data": [HOSTILE] * size}]} if size < 10 else None
    run(program(lang, f"http://127.0.0.1:{listening.server_port}/x", tensors_of(specs, sample)), lang, tmp_path)
    listening.shutdown()
    listening.server_close()
    first, second = json.loads(seen[0])["inputs"]
    want = HOSTILE if size < 10 else "text"
    assert (first["name"], first["shape"], first["data"]) == (HOSTILE, [1, size], [want] * size)
    assert (second["name"], second["data"]) == ("b", [0.0])


def test_a_version_is_called_where_it_is(models: Server, tmp_path: Path) -> None:
    assert json.loads(run(snippet(models, "snip-half:1", "curl"), "curl", tmp_path))["model_version"] == "1"


def test_an_example_too_long_to_read_is_not_spelled_out() -> None:
    picture = {"inputs": [{"name": "x", "shape": [1], "data": ["A" * 100_000]}]}
    (tensor,) = tensors_of([TensorSpec("x", "BYTES", (-1,))], picture)
    assert list(tensor.values) == ["text"] and tensor.shape == (1,)


def test_what_json_cannot_carry() -> None:
    with pytest.raises(InvalidInput, match="BF16"):
        tensors_of([TensorSpec("x", "BF16", (-1,))], None)
