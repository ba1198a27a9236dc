"""MLflow's pyfunc, saved once for its scoring server; that reads JSON only: rows (m1), or a base64 text per row."""

import base64
import shutil
from pathlib import Path

import numpy as np
from mlflow.pyfunc import PythonModel, save_model
from onnx_model import FILE, MODEL, OnnxModel

FOLDER = Path(FILE).with_suffix(".mlflow")


class Rows(PythonModel):
    """m1: lists of numbers."""

    def load_context(self, context: object) -> None:
        self.model = OnnxModel()

    def predict(self, context: object, model_input: list[list[float]], params: object = None) -> list[list[float]]:
        return self.model(np.array(model_input, np.float32)).tolist()


class Texts(PythonModel):
    """m2 and m3: float32 as base64."""

    def load_context(self, context: object) -> None:
        self.model = OnnxModel()

    def predict(self, context: object, model_input: list[str], params: object = None) -> list[str]:
        rows = self.model(self.model.from_raw(b"".join(map(base64.b64decode, model_input))))
        return [base64.b64encode(row.tobytes()).decode() for row in rows]


if __name__ == "__main__":
    shutil.rmtree(FOLDER, ignore_errors=True)
    save_model(FOLDER, python_model=Rows() if MODEL == "m1" else Texts(), pip_requirements=["mlflow"])
