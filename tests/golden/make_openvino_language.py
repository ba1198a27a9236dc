"""Makes the folder openvino_language beside it: a tiny language model as ``modelport convert --to openvino`` writes it,
and what transformers writes with the same weights.

The weights are random, the words those of two sentences here: nothing in it is anybody else's. It takes some minutes,
for the converter's environment is built in FOLDER:

    python -m tests.golden.make_openvino_language FOLDER
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from pathlib import Path

import torch
import transformers
from tests.training.tiny_models import llama, widened

from modelport.control.environments import Environments
from modelport.conversion import process, routes
from modelport.engine.inspect import artifact_files

TEXTS = ["the cat sat on the mat, and the dog barked at it", "a quick brown fox"] * 4
PROMPTS = ["the cat sat on", "a quick fox and the dog", "mat"]
OUT = Path(__file__).parent / "openvino_language"


def main(work: Path) -> None:
    """Export it and note what transformers writes."""
    source = widened(llama(work / "source", TEXTS, layers=1))
    place = work / "environments"
    place.mkdir(parents=True, exist_ok=True)
    (step,) = (one for one in routes.CONVERTERS if one.tool == "language_openvino")
    built = asyncio.run(Environments(place).ensure(routes.requirements_of(step), work / "log"))
    request = {"folder": str(source.resolve()), "files": list(artifact_files(source)), "precision": None}
    process.run(
        "language_openvino:convert", request, (work / "step").resolve(), read=[source],
        python=process.Python(built.python, built.variables),
    )  # fmt: skip
    shutil.rmtree(OUT, ignore_errors=True)
    shutil.copytree(work / "step" / "out", OUT)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    model = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    written = {}
    for prompt in PROMPTS:
        ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
        made = model.generate(input_ids=ids, do_sample=False, max_new_tokens=24, eos_token_id=[])
        written[prompt] = {"prompt": ids[0].tolist(), "tokens": made[0, ids.shape[1] :].tolist()}
    (OUT / "written.json").write_text(json.dumps(written) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
