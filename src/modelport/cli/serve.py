"""``modelport serve``: the shortest way from a model file to an API.

Its import path is kept light: nothing here but typer is loaded before the server starts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from modelport.cli.options import Cache, Engine, Env, InsecureNoTls, Memory, Runtime, TlsCert, TlsKey

AllowNativeCode = Annotated[
    bool,
    typer.Option(
        "--allow-native-code", envvar="MODELPORT_TRUST_NATIVE_CODE", help="Run an AOTInductor package: native code."
    ),
]
MaxDelay = Annotated[float, typer.Option("--max-delay", min=0, max=10_000, help="Milliseconds to wait for company.")]
RunTimeout = Annotated[
    float, typer.Option("--timeout", min=0.001, max=86_400, help="Seconds after which a run counts as hung.")
]
StartTimeout = Annotated[
    float, typer.Option("--start-timeout", min=0.001, max=86_400, help="Seconds that a replica has to load.")
]
Manifest = Annotated[
    Path | None, typer.Option("--manifest", help="Manifest of the version in PATH, whose files are then verified.")
]


def serve(
    path: Annotated[Path, typer.Argument(help="Model file, or folder of files.", show_default=False)],
    name: Annotated[str | None, typer.Option("--name", "-n", help="Endpoint name; by default the file's.")] = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", min=0, max=65535, help="HTTP port; 0 takes a free one.")] = 8000,
    grpc_port: Annotated[
        int | None, typer.Option("--grpc-port", min=0, max=65535, help="gRPC port; none by default.")
    ] = None,
    threads: Annotated[int, typer.Option("--threads", min=1, help="Threads of one replica.")] = 1,
    max_batch: Annotated[int, typer.Option("--max-batch", min=1, help="Rows in one run at most.")] = 32,
    max_delay: MaxDelay = 0,
    timeout: RunTimeout = 60,
    start_timeout: StartTimeout = 120,
    memory: Memory = None,
    cache: Cache = None,
    runtime: Runtime = None,
    engine: Engine = None,
    replicas: Annotated[int, typer.Option("--replicas", "-r", min=1, help="Copies of the model.")] = 1,
    allow_python: Annotated[
        bool, typer.Option("--allow-python", help="Run a Python predictor: code of its author.")
    ] = False,
    allow_native_code: AllowNativeCode = False,
    manifest: Manifest = None,
    key: Annotated[
        str | None, typer.Option("--key", envvar="MODELPORT_SERVE_KEY", help="What callers have to send.")
    ] = None,
    tls_cert: TlsCert = None,
    tls_key: TlsKey = None,
    insecure_no_tls: InsecureNoTls = False,
    env: Env = None,
) -> None:
    """Serve a model file at once, without a registry.

    Gone with Ctrl-C.

    Example: modelport serve digits.onnx --port 8000

    Example: modelport serve ./qwen --runtime vllm --engine max_model_len=8192 --env VLLM_CPU_KVCACHE_SPACE=4
    """
    import re

    from modelport.cli.inputs import amount, engine_options, variables
    from modelport.engine.placement.early import start_early

    given = variables(env)
    early = start_early(path, threads, given) if manifest is None and runtime is None else None
    from modelport.api.standalone import ServeOptions, main

    chosen = name or re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._") or "model"
    options = ServeOptions(path, chosen, host, port, grpc_port, replicas, threads, max_batch)
    options.max_delay_ms, options.timeout_s, options.start_timeout_s = max_delay, timeout, start_timeout
    options.allow_python, options.allow_native_code = allow_python, allow_native_code
    options.manifest, options.env, options.early = manifest, given, early
    options.key, options.tls_certificate, options.tls_key = key or None, tls_cert, tls_key
    options.insecure = insecure_no_tls
    options.runtime, options.engine = runtime, engine_options(engine)
    options.memory, options.cache_bytes = amount(memory, "--memory"), amount(cache, "--cache") or 0
    main(options)
