"""Tells the language of texts, with a model that its library brings along.

MODELPORT_TRUST_PYTHON_PREDICTORS=true modelport up --detach
modelport push examples/predictor --name language
modelport deploy language
curl localhost:8000/predict/language -d '{"data": ["Guten Morgen, wie geht es dir?"]}'
"""

import numpy as np
from py3langid.langid import MODEL_FILE, LanguageIdentifier


class Predictor:
    def load(self):
        self.identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def preprocess(self, inputs):
        return [text.decode().strip() for text in inputs["text"]]

    def predict(self, texts):
        if not all(texts):
            raise ValueError("an empty text has no language")
        return [self.identifier.classify(text) for text in texts]

    def postprocess(self, found):
        languages, probabilities = zip(*found, strict=True)
        return {"language": languages, "probability": np.array(probabilities, np.float32)}
