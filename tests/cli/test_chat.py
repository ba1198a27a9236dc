"""``modelport chat`` from outside, on a terminal and in a pipe, at a server that answers as the test tells it."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from modelport.cli.chat import safe
from modelport.cli.conversation import Conversation, Measured
from modelport.errors import Unavailable
from modelport.sdk.client import Client
from tests.bench.events import END, HEAD, event, said, usage
from tests.bench.fake import Answer, FakeServer, Got, fake_server, status

COMMAND = [sys.executable, "-m", "modelport.cli.main", "chat"]


def whole(*texts: str, gap: float = 0.0) -> list[tuple[float, bytes]]:
    parts = [(0.0, HEAD)] + [(number * gap, said(text)) for number, text in enumerate(texts)]
    return [*parts, (len(texts) * gap, said("", "stop") + usage(9, len(texts), 4) + event(b"[DONE]") + END)]


def models(*names: str) -> bytes:
    cards = [{"id": name, "object": "model", "max_model_len": 2048} for name in names]
    return status(200, json.dumps({"models": list(names), "data": cards}))


def echoing(got: Got, number: int) -> Answer:
    """Say again what was said last."""
    if got.path == "/v1/models":
        return models("parrot")
    return whole(*re.findall(r"\S+\s*", json.loads(got.body)["messages"][-1]["content"]))


def asked(server: FakeServer) -> list[dict[str, Any]]:
    return [json.loads(got.body) for got in server.got if got.body]


@pytest.fixture
def run(tmp_path: Path) -> Any:
    def call(server: FakeServer, *arguments: str, said: str | None = None) -> subprocess.CompletedProcess[str]:
        given = {"stdin": subprocess.DEVNULL} if said is None else {"input": said}
        env = os.environ | {"MODELPORT_HOME": str(tmp_path), "MODELPORT_URL": server.url}
        command = [*COMMAND, *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, **given)  # type: ignore[call-overload, no-any-return]

    return call


def test_one_question_has_one_answer_and_nothing_else_on_stdout(run: Any) -> None:
    with fake_server(echoing) as server:
        done = run(server, "parrot", "Why is that?", "--system", "Be brief.", "--temperature", "0", "--stats")
        (body,) = asked(server)
    assert (done.returncode, done.stdout) == (0, "Why is that?\n")
    assert "9 tokens in (4 cached), 3 out" in done.stderr
    assert [message["content"] for message in body["messages"]] == ["Be brief.", "Why is that?"]
    assert (body["temperature"], body["stream"]) == (0, True)
    assert body["max_tokens"] == 512


def test_answers_are_calm_and_bounded_unless_somebody_wishes(run: Any) -> None:
    with fake_server(echoing) as server:
        run(server, "parrot", "hi")
        run(server, "parrot", "hi", "--temperature", "1.5", "--max-tokens", "9000")
        found = [(body["temperature"], body["max_tokens"]) for body in asked(server)]
    assert found == [(0.3, 512), (1.5, 9000)]


def test_a_key_that_may_have_fewer_tokens_is_asked_without_the_bound_that_nobody_wished(run: Any) -> None:
    message = "'max_tokens' is 512; an answer to this key has at most 9"
    refused = status(400, json.dumps({"error": {"message": message, "code": "invalid_value", "param": "max_tokens"}}))

    def answer(got: Got, number: int) -> Answer:
        if got.path == "/v1/models":
            return models("m")
        return refused if "max_tokens" in json.loads(got.body) else cut_after(9)

    with fake_server(answer) as server:
        done, wished = run(server, "m", "hi"), run(server, "m", "hi", "--max-tokens", "512")
    assert (done.returncode, done.stdout) == (0, "word\n")
    assert "cut by the server after 9 tokens: perhaps as many as your key may have" in done.stderr
    assert wished.returncode == 1 and message in wished.stderr


def cut_after(tokens: int, prompt: int = 20) -> list[tuple[float, bytes]]:
    return [(0.0, HEAD + said("word") + said("", "length") + usage(prompt, tokens) + event(b"[DONE]") + END)]


@pytest.mark.parametrize(
    ("tokens", "prompt", "why"),
    [
        (512, 20, "after 512 tokens: --max-tokens lets it"),
        (48, 2000, "context of 2,048 tokens is full; /clear"),
    ],
)
def test_what_cut_an_answer_is_told(tokens: int, prompt: int, why: str, run: Any) -> None:
    answers = cut_after(tokens, prompt)
    with fake_server(lambda got, number: models("m") if got.path == "/v1/models" else answers) as server:
        assert why in run(server, "m", "hi").stderr


def test_what_is_no_name_is_the_question_to_the_only_model(run: Any) -> None:
    with fake_server(echoing) as server:
        done = run(server, "Capital of France?")
        (body,) = asked(server)
    assert (done.returncode, done.stdout) == (0, "Capital of France?\n")
    assert body["model"] == "parrot"


def test_what_comes_by_a_pipe_is_asked_behind_the_question(run: Any) -> None:
    with fake_server(echoing) as server:
        run(server, "parrot", "Sum this up:", said="one\ntwo\n")
        assert asked(server)[0]["messages"][-1]["content"] == "Sum this up:\n\none\ntwo"
        done = run(server, said="alone")
    assert done.stdout == "alone\n"


def test_without_a_model_several_are_told(run: Any) -> None:
    with fake_server(lambda got, number: models("one", "two")) as server:
        several, unknown = run(server, said="hi"), run(server, "three", "hi")
    assert several.returncode == unknown.returncode == 1
    assert "name one of them: one, two" in several.stderr
    assert "no language model 'three' is served" in unknown.stderr and "there are one, two" in unknown.stderr


def test_an_error_amid_an_answer_is_a_sentence(run: Any) -> None:
    broken = [(0.0, HEAD), (0.0, said("half")), (0.0, event({"error": {"message": "the replica ended"}}) + END)]
    with fake_server(lambda got, number: models("m") if got.path == "/v1/models" else broken) as server:
        done = run(server, "m", "hi")
    assert (done.returncode, done.stdout) == (1, "half\n")
    assert "error: the answer broke off: the replica ended" in done.stderr


@dataclass
class Terminal:
    """The chat on a terminal of its own."""

    side: int
    process: subprocess.Popen[bytes]
    shown: str = ""
    read: int = field(default=0, init=False)

    def wait_for(self, words: str) -> str:
        """What came since the last call, up to these words."""
        deadline = time.monotonic() + 30
        while words not in self.shown[self.read :]:
            assert time.monotonic() < deadline, self.shown
            self.shown += os.read(self.side, 1 << 16).decode()
        end = self.shown.index(words, self.read) + len(words)
        part, self.read = self.shown[self.read : end], end
        return part

    def interrupt(self, words: str) -> None:
        """Ctrl-C, until these words answer it: readline sleeps through one that comes just before it begins to wait."""
        self.process.send_signal(signal.SIGINT)
        while words not in self.shown[self.read :]:
            if select.select([self.side], [], [], 2)[0]:
                self.shown += os.read(self.side, 1 << 16).decode()
            else:
                self.process.send_signal(signal.SIGINT)
        self.wait_for(words)

    def enter(self, line: str) -> None:
        os.write(self.side, line.encode() + b"\n")


@contextmanager
def terminal(server: FakeServer, home: Path) -> Iterator[Terminal]:
    ours, theirs = pty.openpty()
    env = os.environ | {"MODELPORT_HOME": str(home), "MODELPORT_URL": server.url, "TERM": "xterm"}
    process = subprocess.Popen(COMMAND, stdin=theirs, stdout=theirs, stderr=theirs, env=env, start_new_session=True)
    os.close(theirs)
    try:
        yield Terminal(ours, process)
    finally:
        process.kill()
        process.wait(10)
        os.close(ours)


def test_a_conversation_on_a_terminal(tmp_path: Path) -> None:
    with fake_server(echoing) as server, terminal(server, tmp_path) as talk:
        talk.wait_for("parrot at http")
        talk.enter("first")
        talk.wait_for("first\r\n")
        talk.wait_for("first\r\n")  # once typed, once said
        for line, shown in [
            ("/system Be brief.", "system: Be brief."),
            ("/stats", "1 out"),
            ("/nonsense", "/nonsense is no command"),
            ('"""two', "... "),
            ('lines"""', "lines\r\n"),
            ("/undo", "taken back: two"),
            (f"/save {tmp_path}/talk.json", "3 messages in"),
            (f"/save {tmp_path}/none/talk.json", "cannot be written"),
            ("/clear", "is forgotten"),
        ]:
            talk.wait_for(">>> ") if line != 'lines"""' else None
            talk.enter(line)
            talk.wait_for(shown)
        talk.enter("/exit")
        assert talk.process.wait(20) == 0
        bodies = asked(server)
    assert [m["content"] for m in bodies[1]["messages"]] == ["Be brief.", "first", "first", "two\nlines"]
    saved = json.loads((tmp_path / "talk.json").read_text())["messages"]
    assert [message["content"] for message in saved] == ["Be brief.", "first", "first"]


def test_ctrl_c_stops_the_answer_and_not_the_chat(tmp_path: Path) -> None:
    def answer(got: Got, number: int) -> Answer:
        if got.path == "/v1/models":
            return models("m")
        slow = json.loads(got.body)["messages"][-1]["content"] == "slow"
        return whole(*["word "] * 300, gap=0.1) if slow else whole("again")

    with fake_server(answer) as server, terminal(server, tmp_path) as talk:
        talk.wait_for(">>> ")
        talk.enter("slow")
        talk.wait_for("word word")
        talk.process.send_signal(signal.SIGINT)
        talk.wait_for("stopped")
        talk.wait_for(">>> ")
        talk.enter("/stats")
        talk.wait_for("tokens are told at an answer's end")
        talk.wait_for("asked with temperature 0.3, at most 512 tokens an answer")
        talk.wait_for(">>> ")
        talk.enter("quick")
        talk.wait_for("again")
        talk.wait_for(">>> ")
        talk.interrupt("/exit ends")
        talk.enter("/exit")
        assert talk.process.wait(20) == 0
        bodies = asked(server)
    kept = [message["content"] for message in bodies[1]["messages"]]
    assert kept[0] == "slow" and kept[1].startswith("word word") and kept[2] == "quick"


def test_what_failed_before_its_first_text_is_not_part_of_the_conversation() -> None:
    with fake_server(lambda got, number: [(0.0, HEAD + END)]) as server, Client(server.url) as client:
        conversation = Conversation(client, "m", "Be brief.")
        with pytest.raises(Unavailable, match="broke off"):
            list(conversation.ask("hi"))
        assert conversation.said == [] and conversation.undo() is None
        assert conversation.total.answers == 0


def test_tokens_per_second_are_those_after_the_first() -> None:
    measured = Measured(1, 0.2, 1.0, 10, 21)
    assert measured.text() == "first text after 200 ms, 20.0 tokens/s, 10 tokens in, 21 out"
    measured.add(Measured(1, 0.4, 3.0, 10, 61, 6))
    assert measured.text() == "first text after 300 ms, 20.0 tokens/s, 20 tokens in (6 cached), 82 out"


def test_a_model_does_not_steer_the_terminal() -> None:
    assert safe("a\x1b[2Jb\x07\r\nc\td\u202e é 漢") == "a[2Jb\nc\td é 漢"
