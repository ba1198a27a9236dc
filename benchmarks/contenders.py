"""Who takes part, and how each is started: data only.

A contender is one configuration of one peer. ``{…}`` in a command is filled in by ``running``: ``python`` and ``bin``
(of the peer's own venv), ``port``, ``workers``, ``file`` (the model) and ``home`` (Modelport's).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType

ALL = ("m1", "m2", "m3")


@dataclass(frozen=True)
class Contender:
    """One row of the table."""

    name: str
    peer: str  # what --peers selects, and the folder of its program
    title: str
    command: str
    path: str
    wire: dict[str, str]  # by model: how a request looks, see ``wire``
    batch: bool = False
    cores: int = 2  # workers when it has two cores; with one core always one
    workers: dict[str, int] = field(default_factory=dict)  # the same, where a model asks for another number
    env: dict[str, str] = field(default_factory=dict)
    venv: str = ""  # whose venv, if not the peer's own
    prepare: str = ""  # a command run once per model before anything is timed
    replicas: int = 1  # Modelport's

    @property
    def models(self) -> tuple[str, ...]:
        return tuple(self.wire)


def _rows(*models: str) -> dict[str, str]:
    return {model: "rows" if model == "m1" else "raw" for model in models}


def _python(program: str = "server.py") -> str:
    return "{python} " + program


_MODELPORT_WIRE = {"m1": "rows", "m2": "v2-binary", "m3": "v2-binary"}
_MODELPORT_PATH = "rows:/predict/{model} v2-binary:/v2/models/{model}/infer"
_GRANIAN = (
    "{python} -m granian --port {port} --workers {workers} --loop uvloop --no-ws --log-level warning --backpressure 512"
)
_GRANIAN_FASTAPI = _GRANIAN + " --interface asgi --working-dir {peers}/fastapi server:app"
_UVICORN = "{python} -m uvicorn --port {port} --workers {workers} --loop uvloop --http httptools --no-access-log"
_UVICORN += " --log-level warning"
_BENTO = MappingProxyType({"BENTOML_DO_NOT_TRACK": "True"})
_BENTO_COMMAND = "{python} -m bentoml serve server:Inference --host 127.0.0.1 --port {port}"
_MLSERVER_COMMAND = "{bin}/mlserver start ."
_MLSERVER = MappingProxyType(
    {
        "MLSERVER_HOST": "127.0.0.1",
        "MLSERVER_HTTP_PORT": "{port}",
        "MLSERVER_GRPC_PORT": "{port2}",
        "MLSERVER_METRICS_PORT": "{port3}",
        "MLSERVER_PARALLEL_WORKERS": "0",  # the pool of processes was slower at everything
        "MLSERVER_DEBUG": "false",
        "PYTHONPATH": "{folder}:{shared}",
    }
)
_MLSERVER_BATCH = MappingProxyType({"MLSERVER_MODEL_MAX_BATCH_SIZE": "32", "MLSERVER_MODEL_MAX_BATCH_TIME": "0.002"})
_BASE64 = MappingProxyType({"m1": "v2-json", "m2": "v2-base64", "m3": "v2-base64"})
_MLFLOW = "{python} -m mlflow models serve -m {file_stem}.mlflow --env-manager local -h 127.0.0.1 -p {port}"

CONTENDERS = (
    Contender(
        "modelport", "modelport", "Modelport (up + deploy)", "{bin}/modelport up --port {port} --grpc-port 0",
        _MODELPORT_PATH, _MODELPORT_WIRE,
    ),
    Contender(
        "modelport-2", "modelport", "Modelport, two replicas", "{bin}/modelport up --port {port} --grpc-port 0",
        _MODELPORT_PATH, _MODELPORT_WIRE, replicas=2,
    ),
    Contender(
        "serve", "serve", "modelport serve FILE", "{bin}/modelport serve {file} --port {port}",
        _MODELPORT_PATH, _MODELPORT_WIRE, venv="modelport",
    ),
    Contender(
        "mosec", "mosec", "mosec", _python("server.py --port {port} --timeout 60000"), "/inference", _rows(*ALL),
    ),
    Contender(
        "mosec-batched", "mosec", "mosec, batches (2 ms)", _python("server.py --port {port} --timeout 60000"),
        "/inference", _rows("m1", "m3"), batch=True, workers={"m1": 1},
    ),
    Contender("fastapi", "fastapi", "FastAPI by hand", _UVICORN + " server:app", "/predict", _rows("m1", "m2")),
    Contender(
        "fastapi-batched", "fastapi", "FastAPI + own batcher", _UVICORN + " server:app", "/predict", _rows("m1", "m3"),
        batch=True,
    ),
    Contender(
        "granian", "granian", "FastAPI on Granian", _GRANIAN_FASTAPI, "/predict", _rows("m1", "m2"),
    ),
    Contender(
        "granian-batched", "granian", "FastAPI on Granian + batcher", _GRANIAN_FASTAPI, "/predict", _rows("m3"),
        batch=True,
    ),
    Contender("litserve", "litserve", "LitServe", _python(), "/predict", _rows("m1", "m2")),
    Contender(
        "litserve-batched", "litserve", "LitServe, batches (2 ms)", _python(), "/predict", _rows("m1", "m3"),
        batch=True,
    ),
    Contender(
        "bentoml", "bentoml", "BentoML", _BENTO_COMMAND, "bento-json:/predict raw:/raw",
        {"m1": "bento-json", "m2": "raw"}, env=dict(_BENTO),
    ),
    Contender(
        "bentoml-batched", "bentoml", "BentoML, adaptive batches", _BENTO_COMMAND, "/predict",
        {"m3": "bento-json"}, batch=True, env=dict(_BENTO),
    ),
    Contender(
        "mlserver", "mlserver", "MLServer", _MLSERVER_COMMAND, "/v2/models/bench/infer",
        {model: _BASE64[model] for model in ("m1", "m2")}, cores=1, env=dict(_MLSERVER),
    ),
    Contender(
        "mlserver-batched", "mlserver", "MLServer, adaptive batches", _MLSERVER_COMMAND, "/v2/models/bench/infer",
        {"m3": _BASE64["m3"]}, batch=True, cores=1, env={**_MLSERVER, **_MLSERVER_BATCH},
    ),
    Contender(
        "kserve", "kserve", "KServe model server", _python(), "/v2/models/{model}/infer",
        {"m1": "v2-json", "m2": "v2-binary", "m3": "v2-binary"}, cores=1,
    ),
    Contender("ray", "ray", "Ray Serve", _python(), "/predict", _rows("m1", "m2")),
    Contender("ray-batched", "ray", "Ray Serve, batches (2 ms)", _python(), "/predict", _rows("m3"), batch=True),
    Contender(
        "mlflow", "mlflow", "MLflow scoring server", _MLFLOW + " --workers {workers}", "/invocations",
        {"m1": "mlflow-rows", "m2": "mlflow-base64", "m3": "mlflow-base64"}, prepare=_python(),
        env={"PATH": "{bin}:/usr/bin:/bin", "UVICORN_ACCESS_LOG": "false"},
    ),
    Contender(
        "echo-uvicorn", "echo", "bare HTTP: uvicorn, ASGI", _UVICORN + " --lifespan off server:asgi", "/",
        dict.fromkeys(ALL, "echo"), venv="fastapi",
    ),
    Contender(
        "echo-granian", "echo", "bare HTTP: Granian, RSGI", _GRANIAN + " --interface rsgi server:rsgi", "/",
        dict.fromkeys(ALL, "echo"), venv="granian",
    ),
)  # fmt: skip

PEERS = tuple(dict.fromkeys(contender.peer for contender in CONTENDERS))
