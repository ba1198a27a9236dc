"""The replica of a language model: one loop that hears of texts, takes a step for all of them, and tells what is new.

Where a plain replica runs frame after frame, here every gateway may have many requests under way, and one frame after
each step tells a gateway of all that its requests gained. Knows frames, turns and texts; which token comes next is the
runtime's (``Generates``). Imports only the standard library, numpy, msgspec, jinja2 and its runtime.
"""

from __future__ import annotations

import contextlib
import selectors
import socket
import time
import traceback
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import msgspec

from modelport.engine import frames
from modelport.engine.adapting import Adapted, to_adapt
from modelport.engine.frames import Frame, Item
from modelport.engine.generation import Alternative, Asked, Part, Sampling, encode_parts, from_tensors
from modelport.engine.heartbeat import Heartbeat
from modelport.engine.language.admission import Admission
from modelport.engine.language.preparing import Preparing
from modelport.engine.language.prompts import Prompts
from modelport.engine.language.returns import Returns
from modelport.engine.language.text import Text
from modelport.engine.listening import GATEWAY, SIGNAL, listen
from modelport.engine.runtime import Adapts, Generates, Runtime, Stepped
from modelport.errors import ContextExceeded, InvalidInput, ModelportError, Overloaded, RunFailed
from modelport.telemetry import log

_PROOF_EVERY_S = 4.0
_PROOF_TEXT = "Hello"
_MOST_UNSENT = 16 << 20
_STALLED_S = 10.0
_READ = 1 << 18
_DIFFERS = "the model's process died in the middle of this stream, and another one does not write the same; ask again"


def prove(runtime: Generates) -> None:
    """Write two tokens; raises whatever makes that impossible."""
    runtime.begin(0, runtime.encode(_PROOF_TEXT, special=True), Sampling(max_tokens=2, temperature=0), None)
    while all(stepped.finish is None for stepped in runtime.step()):
        pass


def start(replica: str, where: str, runtime: Runtime, heartbeat: Heartbeat) -> GeneratingReplica:
    """Proven, and ready to serve; raises whatever makes that impossible."""
    assert isinstance(runtime, Generates)
    prove(runtime)
    facts = msgspec.to_builtins(runtime.facts)
    heartbeat.facts |= {"not_batched": runtime.not_batched, "platform": runtime.platform, "streams": True}
    heartbeat.facts["language"] = facts
    return GeneratingReplica(replica, where, runtime, heartbeat)


@dataclass(slots=True, eq=False)
class _Writing:
    """One text from its request to its last part."""

    item: Item
    gateway: _Gateway
    asked: Asked
    prompt: list[int]
    text: Text
    most: int
    """Tokens of the answer."""
    number: int = 0
    written: int = 0
    skip: int = 0
    """Characters that another replica has given already."""
    known: deque[int] = field(default_factory=deque)
    """Tokens that another replica has given, as far as they have not been written again."""
    begun_ns: int = field(default_factory=time.perf_counter_ns)
    waited_ns: int = 0


class _Gateway:
    """A connection: frames in, frames out, neither waiting for the other side."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.socket = connection
        self.greeted = False
        self.texts: dict[int, _Writing] = {}
        """By the gateway's own number of the request."""
        self.unsent = bytearray()
        self._took = time.monotonic()
        """When the other side has last taken something."""
        self._received = bytearray()

    def read(self) -> Iterator[Frame]:
        """The whole frames that have come; raises OSError and EOFError at the end."""
        data = self.socket.recv(_READ)
        if not data:
            raise EOFError
        self._received += data
        while len(self._received) >= frames.HEAD.size:
            head = bytes(self._received[: frames.HEAD.size])
            total = frames.HEAD.size + frames.body_size(head)
            if len(self._received) < total:
                return
            body = bytes(self._received[frames.HEAD.size : total])
            del self._received[:total]
            yield frames.decode(head, body)

    def write(self, buffers: list[frames.Buffer]) -> None:
        """Send, or keep what the other side does not take yet; raises OSError when it takes nothing for long."""
        if not self.unsent:
            self._took = time.monotonic()
        for buffer in buffers:
            self.unsent += buffer
        self.flush()

    def flush(self) -> None:
        """Send what was kept; raises OSError."""
        with contextlib.suppress(BlockingIOError):
            sent = self.socket.send(self.unsent)
            del self.unsent[:sent]
            self._took = time.monotonic()
        if len(self.unsent) > _MOST_UNSENT and time.monotonic() - self._took > _STALLED_S:
            raise ConnectionError("the gateway does not read")


class GeneratingReplica:
    """A loaded, proven language model and the gateways that are connected to it."""

    def __init__(self, replica: str, where: str, runtime: Runtime, heartbeat: Heartbeat) -> None:
        """``where`` is the socket to listen at, relative to the working folder."""
        assert isinstance(runtime, Generates)
        self._id, self._where, self._runtime, self._close = replica, where, runtime, runtime.close
        self._heartbeat = heartbeat
        self._facts = runtime.facts
        self._prompts = Prompts(runtime)
        self._admission: Admission[_Writing] = Admission(
            self._facts.slots, self._facts.room or 1 << 60, self._facts.ample, self._facts.short
        )
        self._returns = Returns()
        self._texts: dict[int, _Writing] = {}
        """Those under way, by the runtime's number."""
        self._numbers = 0
        self._preparing: Preparing[_Writing] = Preparing(runtime)
        """Those whose form is not ready: they have a slot, and a number."""
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._preparing.woken, selectors.EVENT_READ, SIGNAL)
        self._gateways: set[_Gateway] = set()
        self._leaving: set[str] = set()
        """Adapters that go with the last text that wants them."""
        self._draining = False
        self._last_ok = heartbeat.last_ok = time.monotonic()

    def serve(self) -> None:
        """Answer until told to stop and the last gateway has hung up."""
        listen(self._where, self._selector, self._drain)
        self._heartbeat.facts |= {"state": "ready", "load": self._load()}
        self._heartbeat.send()
        log("ready", replica=self._id)
        while not (self._draining and not self._gateways):
            for key, events in self._selector.select(self._pause_s):
                if key.data == GATEWAY:
                    gateway = _Gateway(cast("socket.socket", key.fileobj).accept()[0])
                    self._gateways.add(gateway)
                    self._selector.register(gateway.socket, selectors.EVENT_READ, gateway)
                elif key.data == SIGNAL:
                    cast("socket.socket", key.fileobj).recv(64)
                else:
                    self._attend(key.data, events)
            if self._is_wanted and self._pause_s:
                continue
            self._begin()
            if self._leaving:
                self._let_adapters_go()
            if self._is_wanted:
                self._step()
            elif time.monotonic() - self._last_ok >= _PROOF_EVERY_S:
                self._prove_again()
            elif self._heartbeat.facts["load"]["running"]:  # the last text was dropped
                self._heartbeat.facts["load"] = self._load()
        Path(self._where).unlink(missing_ok=True)
        self._close()

    @property
    def _is_wanted(self) -> bool:
        """Whether a text is under way, or waits: if not for a form, then for a step that was given all it can read."""
        return bool(self._texts) or (self._admission.waiting > 0 and not self._preparing)

    @property
    def _pause_s(self) -> float:
        """How long nothing is done if nothing is heard."""
        now = time.monotonic()
        return self._returns.left_s(now) if self._is_wanted else max(0.0, self._last_ok + _PROOF_EVERY_S - now)

    def _drain(self, *_: object) -> None:
        self._draining = True
        self._heartbeat.facts["state"] = "draining"

    # -- gateways -------------------------------------------------------------------------------------------------

    def _attend(self, gateway: _Gateway, events: int) -> None:
        try:
            if events & selectors.EVENT_WRITE:
                gateway.flush()
                self._watch(gateway)
            if events & selectors.EVENT_READ:
                for frame in gateway.read():
                    self._hear(gateway, frame)
        except BlockingIOError:
            return
        except (OSError, EOFError, frames.BrokenFrame, msgspec.MsgspecError) as error:
            self._hang_up(gateway, error)

    def _hear(self, gateway: _Gateway, frame: Frame) -> None:
        if frame.kind in (frames.CONNECT, frames.AHEAD):
            number = gateway.socket.fileno().to_bytes(8, "little")
            self._tell(gateway, frames.encode(frames.HELLO, data=number + b"\0"))
        elif frame.kind == frames.STREAM:
            self._take(gateway, frame)
        elif frame.kind == frames.CANCEL:
            writing = gateway.texts.get(frame.items[0].id)
            if writing is not None:
                self._admission.left(writing.number)
                self._drop(writing)
                log("cancelled", request_id=writing.item.request_id, running=self._admission.running)
                self._tell(gateway, frames.encode(frames.END, [Item(writing.item.id, 1)]))
        elif frame.kind == frames.ADAPT:
            self._adapt(gateway, to_adapt(frame.data).folders)
        elif frame.kind == frames.RUN:
            error = InvalidInput("a language model is asked for a stream")
            for item in frame.items:
                self._tell(gateway, _failure(item, error))

    def _adapt(self, gateway: _Gateway, folders: dict[str, str]) -> None:
        """Hold these adapters; one that is told no more goes when the last text that wants it is complete."""
        refused = {}
        held = self._runtime.facts.adapters
        self._leaving = {name for name in held if name not in folders}
        for name in [name for name in folders if name not in held]:
            try:
                if not isinstance(self._runtime, Adapts):
                    raise InvalidInput(f"the engine {self._runtime.name} takes no adapters while it runs")
                self._runtime.attach(name, Path(folders[name]))
            except Exception as error:
                log("adapter_refused", adapter=name, error=traceback.format_exc())
                refused[name] = error.message if isinstance(error, ModelportError) else type(error).__name__
        self._let_adapters_go()
        self._heartbeat.facts["language"] = facts = msgspec.to_builtins(self._runtime.facts)
        answer = msgspec.json.encode(Adapted(refused, facts))
        self._tell(gateway, frames.encode(frames.ADAPT, data=answer))

    def _let_adapters_go(self) -> None:
        wanted = {writing.asked.adapter for gateway in self._gateways for writing in gateway.texts.values()}
        for name in self._leaving - wanted:
            assert isinstance(self._runtime, Adapts)
            self._runtime.detach(name)
            self._leaving.discard(name)
            self._heartbeat.facts["language"] = msgspec.to_builtins(self._runtime.facts)

    def _tell(self, gateway: _Gateway, buffers: list[frames.Buffer]) -> None:
        if gateway not in self._gateways:
            return
        try:
            gateway.write(buffers)
            self._watch(gateway)
        except OSError as error:
            self._hang_up(gateway, error)

    def _watch(self, gateway: _Gateway) -> None:
        wanted = selectors.EVENT_READ | (selectors.EVENT_WRITE if gateway.unsent else 0)
        if self._selector.get_key(gateway.socket).events != wanted:
            self._selector.modify(gateway.socket, wanted, gateway)

    def _hang_up(self, gateway: _Gateway, error: Exception) -> None:
        if gateway not in self._gateways:
            return
        if not isinstance(error, EOFError):
            log("gateway_dropped", error=str(error))
        self._gateways.discard(gateway)
        self._selector.unregister(gateway.socket)
        for writing in list(gateway.texts.values()):
            self._drop(writing)
        gateway.socket.close()

    # -- texts ----------------------------------------------------------------------------------------------------

    def _take(self, gateway: _Gateway, frame: Frame) -> None:
        (item,) = frame.items
        try:
            asked = from_tensors(frame.tensors)
            if asked.only is not None:
                told = encode_parts([self._prompts.told(asked)])
                self._tell(gateway, frames.encode(frames.TOKENS, [Item(item.id, 1)], data=told))
                return
            prompt = self._prompts.tokens_of(asked)
            most = self._most(asked, len(prompt))
            text = Text(self._runtime.reader(), asked.sampling.stop)
            writing = _Writing(item, gateway, asked, prompt, text, most, skip=asked.done_text, known=deque(asked.done))
            self._admission.add(writing, asked.caller, len(prompt), most, asked.background, begun=bool(asked.done))
        except RecursionError:
            self._tell(gateway, _failure(item, InvalidInput("the request is nested too deeply")))
            return
        except Exception as error:
            if not isinstance(error, ModelportError):
                log("failed", request_id=item.request_id, error=traceback.format_exc())
            self._tell(gateway, _failure(item, error))
            return
        gateway.texts[item.id] = writing
        self._returns.asks(asked.caller, time.monotonic())

    def _most(self, asked: Asked, prompt: int) -> int:
        """How many tokens the answer may have; raises InvalidInput."""
        limit = self._prompts.limit
        if prompt >= limit:
            raise ContextExceeded(
                f"this model's maximum context length is {limit} tokens, but the prompt has {prompt}; shorten it"
            )
        wanted = asked.sampling.max_tokens
        return limit - prompt if wanted is None else min(wanted, limit - prompt)

    def _begin(self) -> None:
        self._begin_what_fits()
        while (behind := self._admission.in_the_way()) is not None:
            self._drop(behind)
            self._tell(
                behind.gateway, _failure(behind.item, Overloaded("a text that somebody waits for took its slot"))
            )
            self._begin_what_fits()

    def _begin_what_fits(self) -> None:
        while self._runtime.reads_more:
            if (prepared := self._preparing.ready()) is not None:
                self._hand_over(*prepared)
            elif (writing := self._admission.next(self._numbers + 1)) is not None:
                self._numbers += 1
                writing.number = self._numbers
                if not self._preparing.add(writing, writing.asked.sampling.format, writing.asked.caller):
                    self._hand_over(writing)
            else:
                return

    def _hand_over(self, writing: _Writing, refused: InvalidInput | None = None) -> None:
        writing.waited_ns = time.perf_counter_ns() - writing.begun_ns
        sampling = msgspec.structs.replace(writing.asked.sampling, max_tokens=writing.most)
        try:
            if refused is not None:
                raise refused
            self._runtime.begin(writing.number, writing.prompt, sampling, writing.asked.adapter)
        except Exception as error:
            if not isinstance(error, ModelportError):
                log("failed", request_id=writing.item.request_id, error=traceback.format_exc())
            self._admission.done(writing.number)
            writing.gateway.texts.pop(writing.item.id, None)
            self._tell(writing.gateway, _failure(writing.item, error))
            return
        self._texts[writing.number] = writing

    def _step(self) -> None:
        before = self._last_ok
        self._heartbeat.busy_since = begun = time.monotonic()
        gained = self._runtime.step()
        self._heartbeat.busy_since = None
        self._succeeded()
        wrote = [stepped.number for stepped in gained if stepped.tokens]
        self._admission.stepped(self._last_ok - begun, wrote, idle=begun - before)
        self._returns.stepped(self._last_ok - begun)
        told: dict[_Gateway, tuple[list[Item], list[Part]]] = {}
        for stepped in gained:
            writing = self._texts.get(stepped.number)
            if writing is None:
                continue
            repeated = _repeated(writing, stepped)
            if repeated is None:
                self._drop(writing)
                self._tell(writing.gateway, _failure(writing.item, RunFailed(_DIFFERS)))
                continue
            part = self._part(writing, stepped, repeated)
            if len(stepped.tokens) > repeated or part.finish is not None:
                items, parts = told.setdefault(writing.gateway, ([], []))
                items.append(Item(writing.item.id, 1))
                parts.append(part)
        for gateway, (items, parts) in told.items():
            self._tell(gateway, frames.encode(frames.TOKENS, items, data=encode_parts(parts)))
        self._heartbeat.facts["load"] = self._load()

    def _part(self, writing: _Writing, stepped: Stepped, repeated: int) -> Part:
        """What the caller is told, but for so many tokens that he knows."""
        first = writing.written == 0
        writing.written += len(stepped.tokens)
        text = writing.text.add(stepped.tokens) if stepped.tokens else ""
        finish = stepped.finish
        if writing.text.stopped_by is not None:
            finish = "stop"
        elif finish is not None:
            text += writing.text.end()
        if writing.skip:
            cut = min(writing.skip, len(text))
            writing.skip -= cut
            text = text[cut:]
        if finish is not None:
            self._drop(writing)
            if self._texts and not (writing.asked.background or self._admission.has(writing.asked.caller)):
                self._returns.answered(writing.asked.caller, time.monotonic())
            if writing.item.traced:
                ms = round((time.perf_counter_ns() - writing.begun_ns) / 1e6, 3)
                log("generate", request_ids=[writing.item.request_id], tokens=writing.written, ms=ms)
        wants_logprobs = writing.asked.sampling.logprobs is not None
        tokens = stepped.tokens[repeated:]
        return Part(
            text,
            tokens,
            stepped.logprobs[repeated:] if wants_logprobs else (),
            tuple(self._runtime.decode([token]) for token in tokens) if wants_logprobs else (),
            tuple(
                tuple(Alternative(token, self._runtime.decode([token]), logprob) for token, logprob in each)
                for each in stepped.alternatives[repeated:]
            ),
            finish,
            len(writing.prompt) if first or finish is not None else 0,
            stepped.cached_tokens,
            writing.text.stopped_by,
            writing.waited_ns if first else 0,
        )

    def _drop(self, writing: _Writing) -> None:
        """Its slot is free, whether it was complete or not."""
        writing.gateway.texts.pop(writing.item.id, None)
        if self._texts.pop(writing.number, None) is not None:
            self._runtime.cancel(writing.number)
            self._admission.done(writing.number)
        elif self._preparing.drop(writing):
            self._admission.done(writing.number)
        else:
            self._admission.drop(writing)

    # -- health ---------------------------------------------------------------------------------------------------

    def _load(self) -> dict[str, float]:
        return {
            "running": self._admission.running,
            "waiting": self._admission.waiting,
            "cache": round(self._runtime.usage(), 4),
        }

    def _prove_again(self) -> None:
        self._heartbeat.busy_since = time.monotonic()
        try:
            prove(self._runtime)
        except Exception:
            log("proof_failed", replica=self._id, error=traceback.format_exc())
            self._last_ok = time.monotonic()  # the next attempt comes in its turn; readiness lapses meanwhile
            return
        finally:
            self._heartbeat.busy_since = None
        self._succeeded()
        self._heartbeat.facts["load"] = self._load()
        for gateway in list(self._gateways):
            self._tell(gateway, frames.encode(frames.ALIVE))

    def _succeeded(self) -> None:
        self._last_ok = self._heartbeat.last_ok = time.monotonic()


def _repeated(writing: _Writing, stepped: Stepped) -> int | None:
    """How many of these tokens another replica has given already; None when it wrote something else."""
    count = 0
    while writing.known and count < len(stepped.tokens):
        if writing.known.popleft() != stepped.tokens[count]:
            return None
        count += 1
    return None if writing.known and stepped.finish is not None else count


def _failure(item: Item, error: Exception) -> list[frames.Buffer]:
    code, message = "run_failed", f"the model failed on this request ({type(error).__name__}); its log says more"
    if isinstance(error, ModelportError):
        code, message = error.code, error.message
        log("refused", request_id=item.request_id, code=code, message=message)
    return frames.encode(frames.FAILED, [item], data=f"{code}\0{message}".encode())
