"""``modelport chat``: a language model talked to on a terminal, or asked one thing from a command or a pipe."""

from __future__ import annotations

import re
import stat
import sys
from contextlib import closing, suppress
from os import fstat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from modelport.cli.options import Key, Url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from modelport.cli.conversation import Conversation
    from modelport.sdk.client import Client

_INTERRUPTED = 130
_NAME = r"[A-Za-z0-9][A-Za-z0-9._-]*(:[0-9]+)?"
_QUOTES = '"""'
_HELP = """\
/stats        how fast the last answer came, and all of them
/system TEXT  what the model is told before everything; without TEXT what it is now
/clear        forget the conversation (the system's message stays)
/undo         take back the last question and its answer
/save FILE    write the conversation: .json, or Markdown
/help         this
/exit         end; so does Ctrl-D
Ctrl-C stops an answer, not the chat. A text of several lines stands between two lines of \"\"\"."""


def chat(
    model: Annotated[
        str | None, typer.Argument(metavar="MODEL", help="Its endpoint; else the only one.", show_default=False)
    ] = None,
    question: Annotated[
        str | None,
        typer.Argument(metavar="QUESTION", help="Ask this alone; a pipe's text comes after it.", show_default=False),
    ] = None,
    system: Annotated[str | None, typer.Option("--system", help="What the model is told before everything.")] = None,
    temperature: Annotated[
        float | None, typer.Option("--temperature", min=0, help="0 takes the likeliest token always. [0.3]")
    ] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", min=1, help="Of an answer, at most. [512]")] = None,
    stats: Annotated[bool, typer.Option("--stats", help="Tell after each answer how fast it came.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Draw answers as Markdown, not as they are.")] = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """Talk to a deployed language model.

    Example: modelport chat smollm

    Example: modelport chat smollm "Why is the sky blue?" --max-tokens 100

    Example: modelport chat "Why is the sky blue?"

    Example: cat notes.txt | modelport chat smollm "Sum this up:"
    """
    from modelport.cli.conversation import Conversation
    from modelport.sdk.client import Client

    if model is not None and question is None and not re.fullmatch(_NAME, model):
        model, question = None, model  # no endpoint is called "Why?"
    piped = _piped(question)
    wanted = {"temperature": temperature, "max_tokens": max_tokens}
    with Client(url, key) as client:
        name, context = _model(client, model)
        asked_for = {field: value for field, value in wanted.items() if value is not None}
        conversation = Conversation(client, name, system, asked_for, context)
        if question is None and piped is None:
            _talk(conversation, stats, markdown)
            return
        asked = "\n\n".join(part for part in (question, piped) if part)
        if not _answer(conversation, asked, stats, markdown):
            raise typer.Exit(_INTERRUPTED)


def _piped(question: str | None) -> str | None:
    """What comes by a pipe or from a file; None where a person sits there, or nothing does and a question was given."""
    from modelport.errors import InvalidInput

    if sys.stdin is None or sys.stdin.isatty():
        return None
    mode = fstat(sys.stdin.fileno()).st_mode
    if question is not None and not (stat.S_ISFIFO(mode) or stat.S_ISREG(mode)):
        return None
    text = sys.stdin.buffer.read().decode(errors="replace").strip()
    if not text and question is None:
        raise InvalidInput('nothing was asked: give a question, such as modelport chat MODEL "Why?", or a terminal')
    return text or None


def _model(client: Client, name: str | None) -> tuple[str, int | None]:
    """The model's name and context; raises NotFound with the names that there are."""
    from modelport.cli.language_models import only_one
    from modelport.errors import NotFound

    if name is None:
        name = only_one(client)
    found = {model.name: model.context for model in client.chat.models()}
    if name not in found:
        there = f"there {'is' if len(found) == 1 else 'are'} {', '.join(found)}" if found else "there is none"
        raise NotFound(f"no language model {name[:80]!r} is served at {client.url}; {there} (modelport status)")
    return name, found[name]


def _talk(conversation: Conversation, stats: bool, markdown: bool) -> None:
    """Questions and answers until the person has enough."""
    from modelport.cli.render import fail
    from modelport.errors import ModelportError

    with suppress(ImportError):
        import readline  # noqa: F401  (makes input() editable, with the questions before by the arrow keys)
    room = f", {conversation.context:,} tokens of context" if conversation.context else ""
    _note(f"{conversation.model} at {conversation.client.url}{room}; /help tells more, Ctrl-D ends")
    for said in _typed():
        try:
            if said.startswith("/"):
                if not _command(conversation, said):
                    return
            else:
                _answer(conversation, said, stats, markdown)
        except ModelportError as error:
            fail(error.message)
        except OSError as error:  # of /save
            fail(f"{error.strerror or error}: {error.filename}")


def _typed() -> Iterator[str]:
    """What a person enters, without what is empty; Ctrl-C takes a line back."""
    while True:
        try:
            text = input(">>> ").strip()
            if text.startswith(_QUOTES):
                text = _lines_of(text.removeprefix(_QUOTES))
        except KeyboardInterrupt:
            _note("\nCtrl-D or /exit ends")
            continue
        except EOFError:
            sys.stdout.write("\n")
            return
        if text:
            yield text


def _lines_of(first: str) -> str:
    lines = [first]
    while not lines[-1].endswith(_QUOTES):
        lines.append(input("... "))
    return "\n".join(lines).removesuffix(_QUOTES).strip()


def _command(conversation: Conversation, said: str) -> bool:
    """Do what a line with a slash says; False for the end."""
    word, _, rest = said.partition(" ")
    rest = rest.strip()
    if word in ("/exit", "/quit", "/bye"):
        return False
    if word == "/stats":
        _stats(conversation)
        _note(f"asked with {conversation.manner}")
    elif word == "/system":
        if rest:
            conversation.system = rest
        _note(f"system: {conversation.system or 'nothing'}")
    elif word == "/clear":
        conversation.clear()
        _note("the conversation is forgotten")
    elif word == "/undo":
        taken = conversation.undo()
        _note("nothing was asked yet" if taken is None else f"taken back: {_short(taken)}")
    elif word == "/save":
        _note(f"{conversation.save(Path(rest).expanduser())} messages in {rest}" if rest else "give a file: /save FILE")
    elif word == "/help":
        _note(_HELP)
    else:
        _note(f"{_short(word)} is no command; /help lists them")
    return True


def _short(text: str) -> str:
    from modelport.cli.render import plain

    line = plain(text)
    return line if len(line) <= 60 else line[:59] + "…"


def _stats(conversation: Conversation) -> None:
    if not conversation.total.answers:
        _note("no answer came yet")
        return
    _note(f"last: {conversation.last.text()}")
    if conversation.total.answers > 1:
        _note(f"all {conversation.total.answers}: {conversation.total.text()}")


def _answer(conversation: Conversation, question: str, stats: bool, markdown: bool) -> bool:
    """Print the answer as it is written; False where Ctrl-C stopped it."""
    stopped = False
    with closing(conversation.ask(question)) as pieces:  # type: ignore[type-var]
        try:
            _draw(pieces) if markdown and sys.stdout.isatty() else _write(pieces)
        except KeyboardInterrupt:
            stopped = True
    if stopped:
        _note("\nstopped")
    elif conversation.finish == "length":
        _note(conversation.cut())
    if stats:
        _stats(conversation)
    return not stopped


def _write(pieces: Iterator[str]) -> None:
    ends = True
    try:
        for piece in pieces:
            shown = safe(piece)
            ends = shown.endswith("\n") if shown else ends
            sys.stdout.write(shown)
            sys.stdout.flush()
    finally:
        if not ends:
            sys.stdout.write("\n")
            sys.stdout.flush()


def _draw(pieces: Iterator[str]) -> None:
    from rich.live import Live
    from rich.markdown import Markdown

    from modelport.cli.render import console

    text = ""
    with Live(console=console(), refresh_per_second=8, vertical_overflow="visible") as live:
        for piece in pieces:
            text += safe(piece)
            live.update(Markdown(text))


def safe(text: str) -> str:
    """Text without what could steer a terminal: a model writes what it likes."""
    return "".join(c for c in text if c.isprintable() or c in "\n\t")


def _note(text: str) -> None:
    """What is no answer, apart from answers."""
    from modelport.cli.render import plain

    dim, end = ("\x1b[2m", "\x1b[0m") if sys.stderr.isatty() else ("", "")
    lines = "\n".join(plain(line) for line in text.split("\n"))
    sys.stderr.write(f"{dim}{lines}{end}\n")
    sys.stderr.flush()
