"""A Hugging Face language model as a GGUF file in 16 bits; and what both answer, since no runtime here serves them.

Compared is what comes next: of texts, the probabilities of the token behind them. Each side cuts texts into tokens by
its own tokenizer, so one that came over wrong shows as well.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers

from modelport.conversion import arrays
from modelport.conversion.arrays import ANSWERS
from modelport.conversion.process import said
from modelport.conversion.tools import gguf_file
from modelport.conversion.tools.next_token import NEXT, TOKENS, texts
from modelport.engine.formats.huggingface_folder import read_recipe
from modelport.errors import InvalidInput
from modelport.tensors import Array

FILE = "model.gguf"


def convert(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """``model.gguf``."""
    folder, files = Path(request["folder"]), tuple(request["files"])
    place = read_recipe(folder, files).model_folder
    releases = {"gguf": metadata.version("gguf"), "torch": torch.__version__, "transformers": transformers.__version__}
    written = gguf_file.write(out / FILE, gguf_file.from_folder(folder / place), "f16", "f16")
    return {
        "report": {
            "type": "f16", "parameters": written.parameters, "weights_by_type": written.types,
            "largest_relative_error": max(written.errors.values(), default=0.0),
        },
        "versions": releases,
    }  # fmt: skip


def answer(request: dict[str, Any], out: Path) -> dict[str, Any]:
    """Probabilities [texts, words] of the next token: by the GGUF file where there is one, else by the folder."""
    transformers.logging.set_verbosity_error()
    folder, files = Path(request["folder"]), tuple(request["files"])
    options: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if FILE in files:
        place, options["gguf_file"] = folder, FILE
    else:
        place = folder / read_recipe(folder, files).model_folder
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(place), **options)
        model = transformers.AutoModelForCausalLM.from_pretrained(str(place), dtype=torch.float32, **options).eval()
    except Exception as error:
        raise InvalidInput(f"transformers {transformers.__version__} cannot load the model: {said(error)}") from None
    arrays.save({NEXT: np.stack([_next(model, tokenizer, text) for text in texts(request)])}, out / ANSWERS)
    return {}


def _next(model: Any, tokenizer: Any, text: str) -> Array:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"][:TOKENS] or [0]
    with torch.no_grad():
        scores = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1]
    found: Array = torch.softmax(scores.float(), -1).numpy()
    return found
