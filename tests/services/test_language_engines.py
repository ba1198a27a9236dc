"""A Hugging Face folder of a language model, served and asked through OpenAI's own client."""

from __future__ import annotations

import json
from pathlib import Path

import openai
import torch
import transformers

from tests.services.served import serve
from tests.training.tiny_models import llama, widened

TEXTS = ["the cat sat on the mat, and the dog barked at it", "a quick brown fox"] * 4
FORM = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}


def greedy(folder: Path, model: torch.nn.Module, text: str, most: int = 20) -> str:
    """What transformers' own ``generate`` answers to a question."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    made = model.generate(**asked, do_sample=False, max_new_tokens=most)  # type: ignore[operator]
    return str(tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))


def test_a_folder_of_transformers_speaks(tmp_path: Path) -> None:
    folder = widened(llama(tmp_path / "model", TEXTS))
    wanted = greedy(folder, transformers.AutoModelForCausalLM.from_pretrained(folder), "the cat")
    with serve(folder, tmp_path, "--name", "tiny") as served:
        client = openai.OpenAI(base_url=f"{served.url}/v1", api_key="anything", max_retries=0)
        asked = {"model": "tiny", "messages": [{"role": "user", "content": "the cat"}], "max_tokens": 20}
        whole = client.chat.completions.create(**asked, temperature=0)  # type: ignore[call-overload]
        parts = client.chat.completions.create(**asked, temperature=0, stream=True)  # type: ignore[call-overload]
        form = {"type": "json_schema", "json_schema": {"name": "n", "schema": FORM, "strict": True}}
        formed = client.chat.completions.create(**asked, seed=1, response_format=form, logprobs=True, top_logprobs=2)  # type: ignore[call-overload]
        biased = client.chat.completions.create(**asked, temperature=0, logit_bias={"77": 100})  # type: ignore[call-overload]
        assert whole.choices[0].message.content == wanted
        assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == wanted
        assert json.loads(formed.choices[0].message.content)["n"] in (1, 2)
        assert len(formed.choices[0].logprobs.content[0].top_logprobs) == 2
        assert len(set(biased.choices[0].message.content)) == 1
