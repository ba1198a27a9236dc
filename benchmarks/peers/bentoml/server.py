"""BentoML: an async service with the model run inline; its adaptive batching for m3.

m1 and m3 are typed arrays as JSON, as BentoML's own clients send them. Raw bodies reach only a mounted ASGI app, which
its documentation proposes for what a typed API cannot do: m2 is served that way.
"""

from typing import Annotated

import bentoml
import numpy as np
from onnx_model import BATCH, MAX_BATCH, MODEL, RAW, WORKERS, OnnxModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

Rows = Annotated[np.ndarray, bentoml.validators.DType("float32")]
SERVICE = {"workers": WORKERS, "traffic": {"timeout": 60}, "logging": {"access": {"enabled": False}}}

if MODEL == "m2":
    model = OnnxModel()

    async def raw(request: Request) -> Response:
        """Raw float32 in and out."""
        return Response(model(model.from_raw(await request.body())).tobytes(), media_type=RAW)

    @bentoml.service(**SERVICE)
    @bentoml.asgi_app(Starlette(routes=[Route("/raw", raw, methods=["POST"])]), path="/")
    class Inference:
        """The ASGI app alone."""

elif BATCH:

    @bentoml.service(**SERVICE)
    class Inference:
        """Rows of many requests in one run."""

        def __init__(self) -> None:
            self.model = OnnxModel()

        @bentoml.api(batchable=True, max_batch_size=MAX_BATCH, max_latency_ms=1000)
        async def predict(self, data: Rows) -> Rows:
            return self.model(data)

else:

    @bentoml.service(**SERVICE)
    class Inference:
        """One request, one run."""

        def __init__(self) -> None:
            self.model = OnnxModel()

        @bentoml.api
        async def predict(self, data: Rows) -> Rows:
            return self.model(data)
