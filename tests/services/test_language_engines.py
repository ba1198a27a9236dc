"""A Hugging Face folder of a language model and LoRA adapters on it, asked through OpenAI's own client."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import peft
import psutil
import pytest
import transformers

from modelport.errors import InvalidInput, NotFound
from modelport.sdk.deployments import DeploymentFailed
from tests.services.conftest import Server
from tests.training.tiny_models import adapter, llama, widened

pytestmark = pytest.mark.xdist_group("language")
TEXTS = ["the cat sat on the mat, and the dog barked at it", "a quick brown fox"] * 4
FORM = {"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": False}
LONG = 150
EXPORTED = Path(__file__).parents[1] / "golden" / "openvino_language"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    where = tmp_path_factory.mktemp("language")
    base = widened(llama(where / "tiny", TEXTS))
    return {
        "tiny": base,
        "pirate": adapter(where / "pirate", base, seed=1, target_modules=["q_proj", "v_proj"]),
        "poet": adapter(where / "poet", base, seed=2, target_modules="all-linear"),
        "other": adapter(
            where / "other", widened(llama(where / "wide", TEXTS, width=64)), 3, target_modules=["v_proj"]
        ),
    }


@pytest.fixture(scope="module")
def wanted(folders: dict[str, Path]) -> Callable[[str, int], str]:
    """What transformers and peft themselves write."""
    base = folders["tiny"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(base)
    models = {"tiny": transformers.AutoModelForCausalLM.from_pretrained(base)}
    for name in ("pirate", "poet"):
        again = transformers.AutoModelForCausalLM.from_pretrained(base)
        models[name] = peft.PeftModel.from_pretrained(again, str(folders[name])).eval()
    asked = tokenizer.apply_chat_template(
        [{"role": "user", "content": "the cat"}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )

    def write(name: str, most: int) -> str:
        made = models[name].generate(**asked, do_sample=False, max_new_tokens=most, eos_token_id=[])
        return str(tokenizer.decode(made[0, asked["input_ids"].shape[1] :], skip_special_tokens=True))

    return write


@pytest.fixture(scope="module")
def speaking(tmp_path_factory: pytest.TempPathFactory, folders: dict[str, Path]) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("home"), ("--gateways", "2")).start()
    with server.client() as client:
        for name, folder in folders.items():
            client.models.push(folder, name)
        client.deploy("tiny")
    yield server
    server.stop()


@pytest.fixture
def ask(speaking: Server) -> Callable[..., Any]:
    owner = openai.OpenAI(base_url=f"{speaking.url}/v1", api_key=speaking.token, max_retries=0)

    def send(model: str, most: int = 20, client: openai.OpenAI = owner, **how: Any) -> Any:
        asked = {"messages": [{"role": "user", "content": "the cat"}], "max_tokens": most, "temperature": 0}
        return client.chat.completions.create(model=model, **asked, extra_body={"ignore_eos": True}, **how)  # type: ignore[call-overload]

    return send


def said(answer: Any) -> str:
    return str(answer.choices[0].message.content)


def test_a_folder_of_transformers_speaks(ask: Callable[..., Any], wanted: Callable[[str, int], str]) -> None:
    assert said(ask("tiny")) == wanted("tiny", 20)
    parts = ask("tiny", stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in parts if part.choices) == wanted("tiny", 20)
    form = {"type": "json_schema", "json_schema": {"name": "n", "schema": FORM, "strict": True}}
    formed = ask("tiny", response_format=form, logprobs=True, top_logprobs=2)
    assert json.loads(said(formed))["n"] in (1, 2)
    assert len(formed.choices[0].logprobs.content[0].top_logprobs) == 2
    assert len(set(said(ask("tiny", logit_bias={"77": 100})))) == 1


def test_a_folder_of_openvino_says_what_transformers_would(speaking: Server) -> None:
    """What ``modelport convert --to openvino`` made of random weights, and the tokens that are noted with it."""
    pytest.importorskip("openvino_genai")
    tokenizer = transformers.AutoTokenizer.from_pretrained(EXPORTED)
    with speaking.client() as client:
        client.models.push(EXPORTED, "exported")
        client.deploy("exported", timeout=60)
    asking = openai.OpenAI(base_url=f"{speaking.url}/v1", api_key=speaking.token, max_retries=0)
    for prompt, wanted in json.loads((EXPORTED / "written.json").read_text()).items():
        how: dict[str, Any] = {"max_tokens": 24, "temperature": 0, "extra_body": {"ignore_eos": True}}
        found = asking.completions.create(model="exported", prompt=prompt, **how)
        assert found.choices[0].text == tokenizer.decode(wanted["tokens"], skip_special_tokens=True), prompt
        assert found.usage is not None and found.usage.prompt_tokens == len(wanted["prompt"])
    with speaking.client() as client:
        client.undeploy("exported")


def test_adapters_come_and_go_beside_their_base(
    speaking: Server, ask: Callable[..., Any], wanted: Callable[[str, int], str]
) -> None:
    """While the base is asked all the time, two adapters come, answer as peft does, and one goes."""
    base_pid = _replica(speaking).pid
    stop, texts = threading.Event(), []

    def keep_asking() -> None:
        while not stop.is_set():
            texts.append(said(ask("tiny", LONG)))

    asking = threading.Thread(target=keep_asking)
    asking.start()
    try:
        with speaking.client() as client:
            assert client.deploy("pirate", base="tiny").state == "ready"
            assert speaking.cli("deploy", "poet", "--base", "tiny", "--name", "verse").returncode == 0
            for _ in range(3):
                assert said(ask("pirate")) == wanted("pirate", 20)
                assert said(ask("verse")) == wanted("poet", 20)
            text = httpx.post(
                f"{speaking.url}/v2/models/pirate/generate", json={"text_input": "the cat"},
                headers={"Authorization": f"Bearer {speaking.token}"},
            ).json()  # fmt: skip
            assert text["model_name"] == "pirate", text
            assert client.deployments.get("pirate").spec.base == "tiny"
            client.undeploy("pirate")
            _wait_until_gone(ask, "pirate")
            assert said(ask("verse")) == wanted("poet", 20)
            client.deploy("pirate", base="tiny")  # and again
            assert said(ask("pirate")) == wanted("pirate", 20)
    finally:
        stop.set()
        asking.join()
    assert set(texts) == {wanted("tiny", LONG)}
    assert len(texts) > 1
    assert _replica(speaking).pid == base_pid


def test_an_adapter_and_its_base_stand_in_for_each_other(
    speaking: Server, ask: Callable[..., Any], wanted: Callable[[str, int], str]
) -> None:
    with speaking.client() as client:
        client.deploy("pirate", base="tiny", fallback=["tiny"])
        limited = client.keys.create("limited", tokens_per_minute=60).secret
    its = openai.OpenAI(base_url=f"{speaking.url}/v1", api_key=limited, max_retries=0)
    found = [ask("pirate", client=its) for _ in range(2)]  # the second finds no tokens left there
    assert [one.model for one in found] == ["pirate", "tiny"]
    assert [said(one) for one in found] == [wanted("pirate", 20), wanted("tiny", 20)]
    with speaking.client() as client:
        client.deploy("pirate", base="tiny")
        client.deploy("tiny", cascade={"first": "pirate", "min_logprob": -100})
        kept = ask("tiny")
        client.deploy("tiny", cascade={"first": "pirate", "min_logprob": 0})
        passed_on = ask("tiny")
        client.deploy("tiny")
    assert [(one.model, said(one)) for one in (kept, passed_on)] == [
        ("pirate", wanted("pirate", 20)), ("tiny", wanted("tiny", 20))
    ]  # fmt: skip


@pytest.mark.long
def test_a_replica_in_place_of_a_lost_one_has_them_too(
    speaking: Server, ask: Callable[..., Any], wanted: Callable[[str, int], str]
) -> None:
    with speaking.client() as client:
        client.deploy("pirate", base="tiny")
    lost = _replica(speaking)
    lost.kill()
    assert said(ask("pirate")) == wanted("pirate", 20)  # it waited
    assert said(ask("tiny")) == wanted("tiny", 20)
    assert _replica(speaking).pid != lost.pid


@pytest.mark.long
def test_a_base_that_stops_takes_its_adapters_along(
    speaking: Server, ask: Callable[..., Any], wanted: Callable[[str, int], str]
) -> None:
    with speaking.client() as client:
        client.deploy("pirate", base="tiny")
        client.deployments.stop("tiny")
        deadline = time.monotonic() + 20
        while (found := client.deployments.get("pirate")).state == "ready" and time.monotonic() < deadline:
            time.sleep(0.1)
        assert found.state == "degraded"
        assert "its base 'tiny' is not deployed, or stopped" in (found.reason or "")
        with pytest.raises(openai.APIStatusError):
            ask("pirate")
        client.deployments.start("tiny", wait=True)
        while client.deployments.get("pirate").state != "ready" and time.monotonic() < deadline + 20:
            time.sleep(0.1)
    assert said(ask("pirate")) == wanted("pirate", 20)


def test_adapters_that_have_no_base(speaking: Server, ask: Callable[..., Any]) -> None:
    with speaking.client() as client:
        client.deploy("pirate", base="tiny")
        for wish, why in (
            ({}, "no deployment is known to be its base"),
            ({"base": "nobody"}, "there is no deployment 'nobody'"),
            ({"base": "pirate"}, "'pirate' is an adapter"),
            ({"base": "tiny", "replicas": 2}, "all replicas of its base"),
        ):
            with pytest.raises(InvalidInput, match=why):
                client.deploy("poet", endpoint="none", **wish)
            with pytest.raises(NotFound):
                client.deployments.get("none")
        with pytest.raises(InvalidInput, match="no adapter; leave it out"):
            client.deploy("tiny", endpoint="none", base="tiny")
        with pytest.raises(DeploymentFailed, match="does not fit this base model"):
            client.deploy("other", base="tiny")
        assert client.deployments.get("pirate").state == "ready"
        client.undeploy("other")


def _wait_until_gone(ask: Callable[..., Any], model: str) -> None:
    """Until then it is answered, as before."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            ask(model)
        except openai.NotFoundError:
            return
    raise AssertionError(f"{model} still answers")


def _replica(server: Server) -> psutil.Process:
    with server.client() as client:
        (replica,) = client.deployments.get("tiny").replicas
    assert replica.pid is not None
    return psutil.Process(replica.pid)
