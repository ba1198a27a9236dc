"""KServe's own Python model server: V2 as JSON (m1) or with binary tensors."""

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from onnx_model import MODEL, PORT, WORKERS, OnnxModel


class Inference(Model):
    """Rows in, rows out."""

    def __init__(self) -> None:
        super().__init__(MODEL)
        self.model = OnnxModel()
        self.ready = True

    async def predict(self, payload: InferRequest, headers: dict[str, str] | None = None, **_: object) -> InferResponse:
        rows = self.model(np.asarray(payload.inputs[0].as_numpy(), np.float32))
        output = InferOutput("output", list(rows.shape), "FP32")
        output.set_data_from_numpy(rows, binary_data=payload.use_binary_outputs)
        return InferResponse(payload.id or "", MODEL, [output], use_binary_outputs=payload.use_binary_outputs)


if __name__ == "__main__":
    server = ModelServer(
        http_port=PORT, workers=WORKERS, enable_grpc=False, enable_docs_url=False, access_log_format=None
    )
    server.start([Inference()])
