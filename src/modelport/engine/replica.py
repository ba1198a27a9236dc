"""One process, one runtime, one loop: reads frames from gateways, runs them, writes the answers.

``python -m modelport.engine.replica SPEC`` loads a version, proves it, and only then listens. Inference happens in
the main thread; a second thread sends a heartbeat to whoever decides, so that a hung run shows. It knows no queue: a
connection has at most one frame here at a time. Imports only the standard library, numpy and its runtime.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import resource
import select
import selectors
import signal
import socket
import sys
import time
import traceback
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from modelport import plugins
from modelport.engine import frames, preprocessing, proof
from modelport.engine.frames import Frame, Item
from modelport.engine.heartbeat import Heartbeat
from modelport.engine.listening import GATEWAY, SIGNAL, listen
from modelport.engine.running import Running, mark_of
from modelport.engine.runtime import CountsTokens, Draft, Generates, LoadOptions, Runtime, Streams, Trust
from modelport.engine.slab import Slab
from modelport.engine.turns import Turns
from modelport.errors import DeadlineExceeded, ModelportError
from modelport.telemetry import log
from modelport.tensors import Array, Signature

_PROOF_EVERY_S = 4.0
_POLL_S = 0.002
_PEER_TIMEOUT_S = 30.0
_LONG_NS = 500_000
"""After a run of this length it is worth a look who has asked for the next turn."""
_SCRATCH = 1 << 18
_MOST_AHEAD = 4
"""Frames in a row."""


@dataclass(slots=True)
class Spec:
    """What a replica is told, as JSON in the file that its command line names."""

    id: str
    socket: str
    """Where to listen, relative to the working folder."""
    heartbeat: str
    """Where to send the heartbeat."""
    runtime: str
    """Where its class is: ``module:attribute``."""
    folder: str
    files: list[str]
    signature: dict[str, Any]
    labels: dict[str, list[str]]
    threads: int = 1
    sample: dict[str, Any] | None = None
    memory: int | None = None
    """Most bytes of memory; allocations beyond it fail."""
    trusted_sklearn_types: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    """What the version's format found out."""
    engine: dict[str, Any] = field(default_factory=dict)
    """What the deployment asks of a language model's engine."""
    draft: dict[str, Any] | None = None
    """The model that writes ahead: the fields of ``runtime.Draft``."""
    preprocessing: list[dict[str, Any]] | None = None
    """Steps before the model, as the manifest declares them."""
    model_signature: dict[str, Any] | None = None
    """What the model itself takes, where preprocessing changes it."""


class Replica:
    """A loaded, proven model and the gateways that are connected to it."""

    def __init__(self, spec: Spec, runtime: Runtime, proven: dict[str, Array], heartbeat: Heartbeat) -> None:
        self._spec = spec
        self._runtime = runtime
        self._counts = runtime if isinstance(runtime, CountsTokens) else None
        self._proven = proven
        self._heartbeat = heartbeat
        self._selector = selectors.DefaultSelector()
        self._gateways: dict[socket.socket, Slab | None] = {}
        """Those that are connected, with the memory that each shares."""
        self._strangers: set[socket.socket] = set()
        """Those that have said nothing yet."""
        self._ahead: set[socket.socket] = set()
        """Those whose frames are run before the others'."""
        self._heard: set[socket.socket] = set()
        """Those whose word has been taken since the last look: perhaps there is nothing more to read."""
        self._scratch = bytearray(_SCRATCH)
        self._draining = False
        self._last_ok = time.monotonic()
        heartbeat.last_ok = self._last_ok

    def serve(self) -> None:
        """Answer until told to stop and the last gateway has hung up."""
        self._turns = Turns(Running.create(self._spec.socket), self._grant)
        listen(self._spec.socket, self._selector, self._drain)
        self._heartbeat.facts["state"] = "ready"
        self._heartbeat.send()
        log("ready", replica=self._spec.id)
        while not (self._draining and not self._gateways):
            timeout = max(0.0, self._last_ok + _PROOF_EVERY_S - time.monotonic())
            if (patience := self._turns.patience) is not None:
                timeout = min(timeout, patience)
            self._heard.clear()
            for key, _ in self._selector.select(timeout):
                if key.data == GATEWAY:
                    self._accept(cast("socket.socket", key.fileobj))
                elif key.data == SIGNAL:
                    cast("socket.socket", key.fileobj).recv(64)
                else:
                    self._let_pass()
                    if key.data in self._gateways and key.data not in self._ahead and key.data not in self._heard:
                        self._answer(key.data)
            self._turns.give()
            if time.monotonic() - self._last_ok >= _PROOF_EVERY_S:
                self._prove_again()
        Path(self._spec.socket).unlink(missing_ok=True)
        mark_of(self._spec.socket).unlink(missing_ok=True)
        self._runtime.close()

    def _drain(self, *_: object) -> None:
        self._draining = True
        self._heartbeat.facts["state"] = "draining"

    def _accept(self, listener: socket.socket) -> None:
        gateway, _ = listener.accept()
        gateway.settimeout(_PEER_TIMEOUT_S)
        self._gateways[gateway] = None
        self._strangers.add(gateway)
        self._selector.register(gateway, selectors.EVENT_READ, gateway)

    def _hang_up(self, gateway: socket.socket) -> None:
        if gateway in self._gateways:
            del self._gateways[gateway]
            self._strangers.discard(gateway)
            self._ahead.discard(gateway)
            self._selector.unregister(gateway)
            self._turns.leave(gateway)
            gateway.close()

    def _prove_again(self) -> None:
        try:
            with self._running():
                self._runtime.infer(self._proven)
        except Exception:
            log("proof_failed", replica=self._spec.id, error=traceback.format_exc())
            self._last_ok = time.monotonic()  # the next attempt comes in its turn; readiness lapses meanwhile
            return
        self._succeeded()
        alive = frames.encode(frames.ALIVE)
        for gateway in list(self._gateways):
            self._write(gateway, alive)

    def _succeeded(self) -> None:
        self._last_ok = self._heartbeat.last_ok = time.monotonic()

    @contextlib.contextmanager
    def _running(self) -> Any:
        self._heartbeat.busy_since = time.monotonic()
        try:
            yield
        finally:
            self._heartbeat.busy_since = None

    # -- one frame ------------------------------------------------------------------------------------------------

    def _let_pass(self) -> None:
        """Run what goes ahead of the frame whose turn it is, but not so much that it waits for ever."""
        left = _MOST_AHEAD
        while left and self._ahead and (ready := select.select(self._ahead, [], [], 0)[0]):
            for gateway in ready[:left]:
                self._answer(gateway)
                left -= 1

    def _answer(self, gateway: socket.socket) -> None:
        try:
            frame = self._greet(gateway) if gateway in self._strangers else self._read(gateway)
        except (OSError, frames.BrokenFrame) as error:
            log("gateway_dropped", error=str(error))
            frame = None
        if frame is None:
            self._hang_up(gateway)
            return
        if frame.kind == frames.ASK:
            self._turns.ask(gateway)
        elif frame.kind == frames.PASS:
            self._turns.leave(gateway)
        elif frame.kind in (frames.STREAM, frames.RUN):
            self._turns.begin(gateway)
            if frame.kind == frames.STREAM:
                self._stream(gateway, frame)
            else:
                started = time.perf_counter_ns()
                answers = self._run(frame, self._gateways[gateway])
                if time.perf_counter_ns() - started >= _LONG_NS:
                    self._hear_who_asks()
                for buffers in answers:
                    self._write(gateway, buffers)
            self._turns.end()

    def _hear_who_asks(self) -> None:
        """Before the answers are written: the next gateway makes its frame ready meanwhile."""
        for key, _ in self._selector.select(0):
            gateway = key.data
            if isinstance(gateway, socket.socket) and gateway not in self._strangers:
                with contextlib.suppress(OSError):
                    head = gateway.recv(frames.HEAD.size, socket.MSG_PEEK)
                    if len(head) == frames.HEAD.size and frames.kind_of(head) == frames.ASK:
                        gateway.recv(frames.HEAD.size)
                        self._heard.add(gateway)
                        self._turns.ask(gateway)
        self._turns.give()

    def _grant(self, gateway: socket.socket) -> None:
        self._write(gateway, frames.encode(frames.GRANT))

    def _greet(self, gateway: socket.socket) -> Frame | None:
        """The first frame, with the memory that came beside it."""
        head, descriptors, _, _ = socket.recv_fds(gateway, frames.HEAD.size, 1)
        if len(head) < frames.HEAD.size:
            return None
        frame = frames.decode(head, b"")
        if frame.kind == frames.AHEAD:
            self._ahead.add(gateway)
        elif frame.kind != frames.CONNECT:
            raise frames.BrokenFrame("a gateway did not say that it connects")
        self._strangers.discard(gateway)
        slab = self._gateways[gateway] = Slab.adopt(descriptors[0]) if descriptors else None
        number = gateway.fileno().to_bytes(8, "little")
        self._write(gateway, frames.encode(frames.HELLO, data=number + bytes([slab is not None])))
        return frame

    def _read(self, gateway: socket.socket) -> Frame | None:
        """One frame, or None at the end of the stream. A gateway sends the next only after the answer; what is not
        answered (CANCEL, PASS) may have another behind it."""
        scratch = self._scratch
        got = gateway.recv_into(scratch)
        while got:
            while 0 < got < frames.HEAD.size:
                more = gateway.recv_into(memoryview(scratch)[got:])
                got = got + more if more else 0
            if not got:
                return None
            head = bytes(scratch[: frames.HEAD.size])
            total = frames.HEAD.size + frames.body_size(head)
            buffer = scratch
            if total > len(scratch):
                buffer = bytearray(total)
                buffer[:got] = memoryview(scratch)[:got]
            view = memoryview(buffer)
            while got < total:
                more = gateway.recv_into(view[got:total])
                if not more:
                    return None
                got += more
            if got == total:
                slab = self._gateways[gateway]
                return frames.decode(head, view[frames.HEAD.size : total], slab.theirs if slab is not None else None)
            if frames.kind_of(head) == frames.PASS:
                self._turns.leave(gateway)
            got -= total
            scratch[:got] = scratch[total : total + got]
        return None

    def _write(self, gateway: socket.socket, buffers: list[frames.Buffer]) -> None:
        try:
            for buffer in buffers:
                gateway.sendall(buffer)
        except OSError:
            self._hang_up(gateway)

    def _run(self, frame: Frame, slab: Slab | None) -> list[list[frames.Buffer]]:
        """The answer frames of a batch: one for all, or one for each when the batch as a whole did not work."""
        items = frame.items
        now = time.monotonic_ns()
        if any(0 < item.deadline_ns < now for item in items):  # it waited here while another gateway's frame was run
            return self._run_each(frame, now)
        try:
            answer = self._run_together(items, frame.tensors, slab)
        except Exception as error:
            if len(items) == 1:
                return [self._failure(items[0], error)]
        else:
            if answer is not None:
                return [answer]
        return self._run_each(frame, now)

    def _run_each(self, frame: Frame, now: int) -> list[list[frames.Buffer]]:
        answers, start = [], 0
        whole = len(frame.items) == 1
        for item in frame.items:
            rows = frame.tensors if whole else {n: a[start : start + item.rows] for n, a in frame.tensors.items()}
            start += item.rows
            if 0 < item.deadline_ns < now:
                answers.append(
                    self._failure(item, DeadlineExceeded("the deadline passed before its turn in the replica"))
                )
                continue
            try:
                answers.append(self._run_together([item], rows) or [])
            except Exception as error:
                answers.append(self._failure(item, error))
        return answers

    def _run_together(
        self, items: list[Item], tensors: dict[str, Array], slab: Slab | None = None
    ) -> list[frames.Buffer] | None:
        """One run; None when its outputs cannot be divided among the requests.

        ``slab`` is for the only answer to a frame: a second one would overwrite the first.
        """
        started = time.perf_counter_ns()
        self._heartbeat.busy_since = time.monotonic()
        try:
            outputs = self._runtime.infer(tensors)
            if self._counts is not None and (counted := self._counts.counted) is not None:
                outputs = {**outputs, frames.COUNTED: counted}
        finally:
            self._heartbeat.busy_since = None
        elapsed = time.perf_counter_ns() - started
        if len(items) > 1:
            rows = sum(item.rows for item in items)
            if any(array.shape[:1] != (rows,) for array in outputs.values()):
                return None
        self._succeeded()
        traced = [item.request_id for item in items if item.traced]
        if traced:
            log("infer", request_ids=traced, requests=len(items), ms=round(elapsed / 1e6, 3))
        return frames.encode(
            frames.RESULT,
            [Item(item.id, item.rows) for item in items],
            outputs,
            ns=elapsed,
            slab=slab.mine if slab is not None else None,
        )

    def _stream(self, gateway: socket.socket, frame: Frame) -> None:
        """The parts of one answer, until it ends or nobody waits for it."""
        (item,) = frame.items
        started = time.perf_counter_ns()
        parts: Iterator[dict[str, Array]] = iter(())
        try:
            if isinstance(self._runtime, Streams):
                parts = self._runtime.stream(frame.tensors)
            else:
                parts = iter((self._runtime.infer(frame.tensors),))
            self._heartbeat.busy_since = time.monotonic()
            for part in parts:
                self._write(gateway, frames.encode(frames.PART, [item], part))
                self._heartbeat.busy_since = time.monotonic()  # the limit holds for each part
                if gateway not in self._gateways or self._is_cancelled(gateway):
                    break
            self._succeeded()
        except Exception as error:
            self._write(gateway, self._failure(item, error))
            return
        finally:
            self._heartbeat.busy_since = None
            if isinstance(parts, Generator):
                parts.close()
        elapsed = time.perf_counter_ns() - started
        if item.traced:
            log("stream", request_ids=[item.request_id], ms=round(elapsed / 1e6, 3))
        self._write(gateway, frames.encode(frames.END, [item], ns=elapsed))

    def _is_cancelled(self, gateway: socket.socket) -> bool:
        """Whether the gateway has said so, or has gone."""
        readable, _, _ = select.select([gateway], [], [], 0)
        if not readable:
            return False
        frame = self._read(gateway)
        if frame is None:
            self._hang_up(gateway)
        return True

    def _failure(self, item: Item, error: Exception) -> list[frames.Buffer]:
        if isinstance(error, ModelportError):
            code, message = error.code, error.message
            log("refused", request_id=item.request_id, code=code, message=message)
        else:
            code = "run_failed"
            message = f"the model failed on this request ({type(error).__name__}); its replica's log says more"
            log("failed", request_id=item.request_id, error=traceback.format_exc())
        return frames.encode(frames.FAILED, [item], data=f"{code}\0{message}".encode())


def load(spec: Spec, cls: type[Runtime]) -> Runtime:
    """The version's runtime, behind its preprocessing."""
    folder, own = Path(spec.folder), Signature.from_json(spec.model_signature or spec.signature)
    trust = Trust(tuple(spec.trusted_sklearn_types))
    ahead = spec.draft and Draft(Path(spec.draft["folder"]), tuple(spec.draft["files"]), spec.draft["details"])
    options = LoadOptions(
        folder, tuple(spec.files), own, spec.labels, spec.threads, trust, spec.details, spec.engine, ahead or None
    )
    runtime = cls.load(options)
    return preprocessing.wrap(runtime, spec.preprocessing, own, folder) if spec.preprocessing else runtime


class Serves(Protocol):
    """What a process is for, once it is loaded."""

    def serve(self) -> None:
        """Answer until told to stop."""


def start_generating(spec: Spec, runtime: Runtime, heartbeat: Heartbeat) -> Serves:
    """A language model's loop; its module is loaded for those alone."""
    generating = importlib.import_module("modelport.engine.generating")
    made: Serves = generating.start(spec.id, spec.socket, runtime, heartbeat)
    return made


def start(spec: Spec) -> Serves:
    """Load and prove; raises whatever made that impossible."""
    if spec.memory is not None:
        resource.setrlimit(resource.RLIMIT_DATA, (spec.memory, spec.memory))
    heartbeat = Heartbeat(spec.id, spec.heartbeat)
    heartbeat.start()
    signature = Signature.from_json(spec.signature)
    try:
        cls: type[Runtime] = plugins.resolve(spec.runtime)
        os.environ |= cls.environment
        runtime = load(spec, cls)
        if isinstance(runtime, Generates):
            return start_generating(spec, runtime, heartbeat)
        proven = proof.prove(runtime, signature, spec.sample)
        heartbeat.facts["not_batched"] = proof.why_not_batched(runtime, signature, proven)
        heartbeat.facts["platform"] = cls.platform
        heartbeat.facts["streams"] = isinstance(runtime, Streams)
    except BaseException as error:
        reason = error.message if isinstance(error, ModelportError) else f"{type(error).__name__}: {error}"
        log("load_failed", replica=spec.id, error=traceback.format_exc())
        heartbeat.facts |= {"state": "failed", "reason": reason.replace(spec.folder, "…").splitlines()[0][:500]}
        heartbeat.send()
        raise SystemExit(1) from None
    return Replica(spec, runtime, proven, heartbeat)


def main() -> None:
    """Entry of the process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    told, likely = Path(sys.argv[1]), sys.argv[2:]
    for module in likely:
        importlib.import_module(module)
    while likely and not told.exists():  # started early: what to run is still being found out
        time.sleep(_POLL_S)
    spec = Spec(**json.loads(told.read_bytes()))
    told.unlink()
    replica = start(spec)
    gc.freeze()
    replica.serve()


if __name__ == "__main__":
    main()
