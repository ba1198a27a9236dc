"""MLServer: a runtime in its own process (no pool: that was slower), its adaptive batching for m3.

It has no binary tensors over REST, so m2 and m3 travel as base64, in and out.
"""

import base64

from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput
from onnx_model import MODEL, OnnxModel


class Inference(MLModel):
    """Rows as V2 JSON (m1), or one base64 text per row."""

    async def load(self) -> bool:
        self.model = OnnxModel()
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        given = payload.inputs[0]
        if MODEL == "m1":
            rows = self.model(NumpyCodec.decode_input(given))
            output = NumpyCodec.encode_output("output", rows)
        else:
            rows = self.model(self.model.from_raw(b"".join(base64.b64decode(text) for text in given.data)))
            texts = [base64.b64encode(row.tobytes()).decode() for row in rows]
            output = ResponseOutput(name="output", shape=[len(texts), 1], datatype="BYTES", data=texts)
        return InferenceResponse(model_name=self.name, outputs=[output])
