"""``modelport snippet``: a program that calls one endpoint, complete, in the language of whoever asks.

Each is Open Inference V2 as JSON with nothing but the language's own library, data of the right names, types and
shapes, and the key from the environment. The data are the version's own example where it has one. A model that writes
texts or gives their vectors is asked as OpenAI's API has it, from Python and JavaScript with OpenAI's own client.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from modelport.cli.options import Endpoint, Key, Url
from modelport.schemas.text_tasks import TextTask, example

if TYPE_CHECKING:
    from modelport.sdk.client import Client
    from modelport.tensors import TensorSpec

Language = Literal["curl", "python", "javascript", "go", "java"]
#: More elements than this are not spelled out but repeated by the program.
_MOST = 200
#: Nor are values that are longer than this as JSON: pictures, say. Java has no longer texts than 64 kB.
_LONGEST = 10_000


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input of the call: ``values`` spelled out, or ``count`` times the one value."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[Any]
    count: int


def snippet(
    model: Endpoint,
    lang: Annotated[Language, typer.Option("--lang", "-l", help="Language of the program.")] = "curl",
    url: Url = None,
    key: Key = None,
) -> None:
    """Print a program that calls a deployed model.

    It runs as it stands; a key is read from MODELPORT_KEY. For a language model or one of embeddings Python and
    JavaScript want OpenAI's client: pip install openai, npm install openai.

    Example: modelport snippet digits --lang python
    """
    from modelport.cli.render import say
    from modelport.sdk.client import Client

    with Client(url, key) as client:
        say(snippet_for(client, model, lang))


def snippet_for(client: Client, model: str, lang: Language) -> str:
    """The program for an endpoint, or ``NAME:VERSION``; raises InvalidInput as ``tensors_of``, NotFound."""
    from modelport.sdk.inference import model_path
    from modelport.sdk.references import parse_reference

    task = client.chat.task(model) if parse_reference(model).version is None else None
    if task is not None:
        return text_program(lang, client.url, task, example(task, model))
    tensors = tensors_of(client.metadata(model).inputs, sample_of(client, model))
    return program(lang, f"{client.url}{model_path(model)}/infer", tensors)


def program(lang: Language, url: str, tensors: Sequence[Tensor]) -> str:
    """The source text of a call with these inputs."""
    return {"curl": _curl, "python": _python, "javascript": _javascript, "go": _go, "java": _java}[lang](url, tensors)


def text_program(lang: Language, url: str, task: TextTask, body: dict[str, Any]) -> str:
    """The source text of a call of OpenAI's API at the server of that URL."""
    path, text = f"{url}/v1/{task}", json.dumps(body)
    if lang == "curl":
        return _curl_head(path) + f"  -d {_shell(text)}"
    if lang == "go":
        return _go_post(path, f"json.RawMessage({_go_text(text)})")
    if lang == "java":
        return _java_post(path, _java_text(text))
    return {"python": _openai_python, "javascript": _openai_javascript}[lang](f"{url}/v1", task, body)


def tensors_of(inputs: Sequence[TensorSpec], sample: dict[str, Any] | None) -> list[Tensor]:
    """An example's tensors where they are short, else one row of zeros.

    Raises InvalidInput for a data type that JSON cannot carry.
    """
    from modelport.errors import InvalidInput

    given = {entry["name"]: entry for entry in (sample or {}).get("inputs", ())}
    tensors = []
    for spec in inputs:
        if spec.datatype == "BF16":
            raise InvalidInput(f"input {spec.name!r} is BF16, which JSON cannot carry; call it with tritonclient")
        entry = given.get(spec.name)
        values = _flat(entry["data"]) if entry is not None else []
        if entry is not None and len(values) <= _MOST and len(json.dumps(values)) <= _LONGEST:
            tensors.append(Tensor(spec.name, spec.datatype, tuple(entry["shape"]), values, len(values)))
            continue
        shape = tuple(entry["shape"]) if entry is not None else tuple(max(dim, 1) for dim in spec.shape)
        zero = {"BYTES": "text", "BOOL": False}.get(spec.datatype, 0.0 if spec.datatype.startswith("FP") else 0)
        tensors.append(Tensor(spec.name, spec.datatype, shape, [zero], math.prod(shape)))
    return tensors


def sample_of(client: Client, model: str) -> dict[str, Any] | None:
    """The example of the version that the endpoint serves; None where there is no registry, or no example."""
    from modelport.errors import ModelportError
    from modelport.sdk.references import parse_reference

    reference = parse_reference(model)
    try:
        deployment = client.deployments.get(reference.name)
        serving = reference.version or deployment.serving_version or deployment.version
        version = client.models.version(deployment.model, serving)
    except ModelportError:
        return None
    return version.manifest.sample


def _flat(data: Any) -> list[Any]:
    return [value for item in data for value in _flat(item)] if isinstance(data, list) else [data]


def _is_repeated(tensor: Tensor) -> bool:
    return len(tensor.values) != tensor.count


def _json(tensors: Sequence[Tensor]) -> str:
    """The whole body, spelled out."""
    return json.dumps(
        {
            "inputs": [
                {"name": t.name, "datatype": t.datatype, "shape": list(t.shape), "data": _spelled(t)} for t in tensors
            ]
        }
    )


def _spelled(tensor: Tensor) -> list[Any]:
    return list(tensor.values) * (tensor.count if _is_repeated(tensor) else 1)


# A shell


def _curl(url: str, tensors: Sequence[Tensor]) -> str:
    head = _curl_head(url)
    if not any(_is_repeated(tensor) and tensor.count > _MOST for tensor in tensors):
        return f"{head}  -d {_shell(_json(tensors))}"
    made = " + ".join(f"'{_quoted_python(part)}'" if isinstance(part, str) else part[0] for part in _pieces(tensors))
    return f"python3 -c {_shell(f'print({made})')} | {head}  -d @-"


def _curl_head(url: str) -> str:
    return f"""curl -sS {_shell(url)} \\
  ${{MODELPORT_KEY:+-H "Authorization: Bearer $MODELPORT_KEY"}} \\
  -H 'Content-Type: application/json' \\
"""


def _pieces(tensors: Sequence[Tensor]) -> list[str | tuple[str]]:
    """The body as literal text, and as Python expressions where a value is repeated."""
    pieces: list[str | tuple[str]] = ['{"inputs": [']
    for index, tensor in enumerate(tensors):
        facts = {"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)}
        pieces.append((", " if index else "") + json.dumps(facts)[:-1] + ', "data": [')
        if _is_repeated(tensor):
            pieces.append((f"', '.join(['{_quoted_python(json.dumps(tensor.values[0]))}'] * {tensor.count})",))
        else:
            pieces.append(json.dumps(list(tensor.values))[1:-1])
        pieces.append("]}")
    return [*pieces, "]}"]


def _quoted_python(text: str) -> str:
    return text.replace("\\", "\\\\").replace("'", "\\'")


def _shell(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


# Python


def _python(url: str, tensors: Sequence[Tensor]) -> str:
    rows = "\n".join(
        f'        {{"name": {t.name!r}, "datatype": "{t.datatype}", "shape": {list(t.shape)}, "data": '
        + (f"[{t.values[0]!r}] * {t.count}" if _is_repeated(t) else repr(list(t.values)))
        + "},"
        for t in tensors
    )
    return f"""import json
import os
import urllib.request

headers = {{"Content-Type": "application/json"}}
if key := os.environ.get("MODELPORT_KEY"):
    headers["Authorization"] = f"Bearer {{key}}"
body = {{
    "inputs": [
{rows}
    ]
}}
request = urllib.request.Request({url!r}, json.dumps(body).encode(), headers)
with urllib.request.urlopen(request) as answer:
    for output in json.load(answer)["outputs"]:
        print(output["name"], output["shape"], output["data"])"""


_OPENAI_ANSWERS: dict[TextTask, str] = {
    "chat/completions": "choices[0].message.content",
    "completions": "choices[0].text",
    "embeddings": "data[0].embedding",
}


def _openai_python(url: str, task: TextTask, body: dict[str, Any]) -> str:
    arguments = "\n".join(f"    {name}={value!r}," for name, value in body.items())
    return f"""# pip install openai
import os

from openai import OpenAI

client = OpenAI(base_url={url!r}, api_key=os.environ.get("MODELPORT_KEY", "none"))
answer = client.{task.replace("/", ".")}.create(
{arguments}
)
print(answer.{_OPENAI_ANSWERS[task]})"""


# JavaScript


def _openai_javascript(url: str, task: TextTask, body: dict[str, Any]) -> str:
    return f"""// npm install openai; Node (save it as call.mjs), Deno, Bun
import OpenAI from "openai";

const apiKey = process.env.MODELPORT_KEY ?? "none";
const client = new OpenAI({{ baseURL: {json.dumps(url)}, apiKey }});
const answer = await client.{task.replace("/", ".")}.create({json.dumps(body, indent=2)});
console.log(answer.{_OPENAI_ANSWERS[task]});"""


def _javascript(url: str, tensors: Sequence[Tensor]) -> str:
    rows = "\n".join(
        f'    {{ name: {json.dumps(t.name)}, datatype: "{t.datatype}", shape: {list(t.shape)}, data: '
        + (f"Array({t.count}).fill({json.dumps(t.values[0])})" if _is_repeated(t) else json.dumps(list(t.values)))
        + " },"
        for t in tensors
    )
    return f"""// Node 18 or newer (save it as call.mjs), Deno, Bun; without the key also in a browser
const headers = {{ "Content-Type": "application/json" }};
const key = globalThis.process?.env.MODELPORT_KEY;
if (key) headers.Authorization = `Bearer ${{key}}`;
const body = {{
  inputs: [
{rows}
  ],
}};
const answer = await fetch({json.dumps(url)}, {{ method: "POST", headers, body: JSON.stringify(body) }});
if (!answer.ok) throw new Error(`${{answer.status}}: ${{await answer.text()}}`);
for (const {{ name, shape, data }} of (await answer.json()).outputs) console.log(name, shape, data);"""


# Go


#: Others have Go's name for them. Go writes bytes, its uint8, as base64.
_GO_TYPES = {
    "BOOL": "bool", "BYTES": "string", "FP16": "float32", "FP32": "float32", "FP64": "float64", "UINT8": "int",
}  # fmt: skip


_GO_REPEAT = """func repeat(value any, count int) []any {
	values := make([]any, count)
	for i := range values {
		values[i] = value
	}
	return values
}

"""


def _go(url: str, tensors: Sequence[Tensor]) -> str:
    rows = "\n".join(
        f'\t\t{{"name": {_go_text(t.name)}, "datatype": "{t.datatype}", "shape": {_go_list("int", t.shape)}, '
        f'"data": {_go_data(t)}}},'
        for t in tensors
    )
    return _go_post(url, f'map[string]any{{"inputs": []map[string]any{{\n{rows}\n\t}}}}')


def _go_post(url: str, body: str) -> str:
    """A program that posts the expression as JSON."""
    repeat = _GO_REPEAT if "repeat(" in body else ""
    return f"""package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
)

{repeat}func main() {{
	body, err := json.Marshal({body})
	if err != nil {{
		log.Fatal(err)
	}}
	request, err := http.NewRequest("POST", {_go_text(url)}, bytes.NewReader(body))
	if err != nil {{
		log.Fatal(err)
	}}
	request.Header.Set("Content-Type", "application/json")
	if key := os.Getenv("MODELPORT_KEY"); key != "" {{
		request.Header.Set("Authorization", "Bearer "+key)
	}}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {{
		log.Fatal(err)
	}}
	defer answer.Body.Close()
	text, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != 200 {{
		log.Fatalf("%s: %s", answer.Status, text)
	}}
	fmt.Println(string(text))
}}"""


def _go_data(tensor: Tensor) -> str:
    if _is_repeated(tensor):
        return f"repeat({_go_value(tensor.values[0])}, {tensor.count})"
    return _go_list(_GO_TYPES.get(tensor.datatype, tensor.datatype.lower()), tensor.values)


def _go_list(kind: str, values: Sequence[Any]) -> str:
    return f"[]{kind}{{{', '.join(map(_go_value, values))}}}"


def _go_value(value: Any) -> str:
    return _go_text(value) if isinstance(value, str) else json.dumps(value)


def _go_text(text: str) -> str:
    """A Go string literal: JSON's, but for letters that JSON escapes as two halves, which Go refuses."""
    letters = (json.dumps(c)[1:-1] if ord(c) <= 0xFFFF else f"\\U{ord(c):08x}" for c in text)
    return '"' + "".join(letters) + '"'


# Java


_JAVA_REPEAT = """    static String repeat(String value, int count) {
        return String.join(", ", java.util.Collections.nCopies(count, value));
    }

"""


def _java(url: str, tensors: Sequence[Tensor]) -> str:
    inputs = ' + ", "\n            + '.join(_java_tensor(tensor) for tensor in tensors)
    return _java_post(url, f'"{{\\"inputs\\": ["\n            + {inputs}\n            + "]}}"')


def _java_post(url: str, body: str) -> str:
    """A program that posts the expression's text."""
    repeat = _JAVA_REPEAT if "repeat(" in body else ""
    return f"""// Java 11 or newer, without a build: java Call.java
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;

public class Call {{
{repeat}    public static void main(String[] arguments) throws Exception {{
        String body = {body};
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create({_java_text(url)}))
            .header("Content-Type", "application/json")
            .POST(HttpRequest.BodyPublishers.ofString(body));
        String key = System.getenv("MODELPORT_KEY");
        if (key != null && !key.isEmpty()) {{
            request.header("Authorization", "Bearer " + key);
        }}
        HttpResponse<String> answer = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).build()
            .send(request.build(), HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {{
            throw new RuntimeException(answer.statusCode() + ": " + answer.body());
        }}
        System.out.println(answer.body());
    }}
}}"""


def _java_tensor(tensor: Tensor) -> str:
    facts = json.dumps({"name": tensor.name, "datatype": tensor.datatype, "shape": list(tensor.shape)})[:-1]
    if not _is_repeated(tensor):
        return _java_text(f'{facts}, "data": {json.dumps(list(tensor.values))}}}')
    repeated = f"repeat({_java_text(json.dumps(tensor.values[0]))}, {tensor.count})"
    return f'{_java_text(facts + ", ")} + "\\"data\\": [" + {repeated} + "]}}"'


def _java_text(text: str) -> str:
    """A Java string literal: JSON's escapes are Java's, but for the slash that JSON leaves alone anyway."""
    return json.dumps(text)
