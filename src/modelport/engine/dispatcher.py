"""The queue of one endpoint in one gateway: batch, balance, deadline, retry, quarantine.

A batch forms while every replica is busy: a free slot takes what waits, at once, as far as sharing a run is worth it.
A request is kept until its answer has arrived; when its replica dies it is sent again, alone, so that one poisonous
request cannot take its neighbours along twice. Knows pending requests and links; knows no protocol and no model.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import OrderedDict, deque
from collections.abc import Iterator

from modelport import errors
from modelport.engine import frames, written
from modelport.engine.affinity import Affinity, beginnings
from modelport.engine.batching import BatchSize
from modelport.engine.cache import fingerprint, size_of
from modelport.engine.frames import Frame
from modelport.engine.generation import Asked
from modelport.engine.lane import Lane
from modelport.engine.link import MAX_UNREAD, Link, Pending
from modelport.engine.requests import InferRequest, InferResult
from modelport.engine.routing import ReplicaAddress, Route
from modelport.engine.stats import EndpointStats
from modelport.engine.text_stats import Counted
from modelport.engine.waiting import Waiting
from modelport.tensors import Array

_SWEEP_S = 0.05
_RECONNECT_S = 0.2
_REACH_S = 2.0
"""How long a new route waits for its new replicas."""
_MAX_ATTEMPTS = 3
_DEADLY = 2
"""A request that kills its replica this often while it is alone there is refused from then on. A text of a language
model never is: nobody can say which of those in a replica has killed it."""
_QUARANTINE = 1024
_LEAST_QUEUE = 32
_UNMEASURED_QUEUE = 1024
_TARGET_S = 0.75
"""A queue may hold what its replicas answer in this time."""
_WORTH_ASKING_NS = 500_000
"""From runs of such length on, a batch that is not full waits for its turn at a busy replica, and grows meanwhile."""
_SMOOTH_S = 0.5
"""Time over which a replica's pace is averaged."""
_MOST_WEIGHT = 0.1
"""Of a single run in that average."""

_ids = itertools.count(1)


class Moved(errors.Unavailable):
    """The version that was asked is gone; the data plane asks the one that answers now."""


class Dispatcher:
    """Requests of one endpoint version on their way to its replicas."""

    def __init__(self, route: Route, stats: EndpointStats) -> None:
        self.route = route
        self.stats = stats
        self._loop = asyncio.get_running_loop()
        self._waiting = Waiting()
        self._batch_size = BatchSize(route.max_batch)
        self._links: dict[str, Link] = {}
        self._idle: deque[Link] = deque()
        self._lane = Lane(self._answered, self._lost, self._plan_flush)
        self._affinity = Affinity()
        self._quarantine: OrderedDict[bytes, None] = OrderedDict()
        self._flush_planned = False
        self._sweeper: asyncio.TimerHandle | None = None
        self._connecting: dict[str, asyncio.Task[None]] = {}
        self._retired = False
        self._runs = 0
        self._run_ns = 0
        """What the last run took."""
        self._pace = 0.0
        """Requests per second that one replica can answer; 0 until it has answered one."""

    # -- what the data plane calls --------------------------------------------------------------------------------

    @property
    def ready(self) -> bool:
        """Whether an inference succeeded within 10 s at one of the replicas."""
        return any(link.connected and link.fresh for link in self._links.values())

    @property
    def in_flight(self) -> int:
        """Requests queued or under way."""
        return self._waiting.count + sum(len(link.inflight) for link in self._every_link)

    @property
    def waiting(self) -> int:
        """Requests queued."""
        return self._waiting.count

    @property
    def texts(self) -> dict[str, tuple[int, int]]:
        """Of a language model, by caller: texts that are being written, and that are not begun."""
        return written.under_way(
            [*self._waiting, *(p for link in self._links.values() for p in link.inflight.values())]
        )

    def submit(
        self, request: InferRequest, inputs: dict[str, Array], rows: int, key: object, *, stream: bool = False,
        asked: Asked | None = None,
    ) -> Pending:  # fmt: skip
        """Queue one request whose inputs fit the signature; its future, or its parts, give the answer."""
        self._check_room(request)
        if self._quarantine and fingerprint(inputs) in self._quarantine:
            raise errors.RunFailed("this very input has killed its replica twice and is not run again")
        pending = Pending(
            next(_ids), inputs, rows, key, request.deadline, self._loop.create_future(),
            request.request_id, request.traced, time.perf_counter_ns(), request.caller, request.priority,
        )  # fmt: skip
        if stream:
            pending.parts = asyncio.Queue()
            pending.key = None
        if asked is not None:
            pending.asked, pending.beginnings = asked, beginnings(asked)
            if asked.only is None:
                most = asked.sampling.max_tokens
                pending.counted = Counted(self.stats.of(request.caller), pending.queued_ns, most)
        self._enqueue(pending)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        return pending

    def cancel(self, pending: Pending) -> None:
        """Nobody waits for the answer any more."""
        pending.future.cancel()
        for link in self._every_link:
            link.cancel(pending)

    async def update(self, route: Route) -> None:
        """Act on a new route of the same version: reach the new replicas first, then let go of the old ones."""
        if route.max_batch != self.route.max_batch:
            self._batch_size = BatchSize(route.max_batch)
        self.route = route
        wanted = {address.id: address for address in route.replicas}
        for name, task in list(self._connecting.items()):
            if name not in wanted:
                task.cancel()
        fresh = [self._reach(address) for name, address in wanted.items() if name not in self._links]
        if fresh:  # one that is busy, or has just died, must not hold up the table
            await asyncio.wait(fresh, timeout=_REACH_S)
        for name, link in list(self._links.items()):
            if name not in wanted and not link.draining:
                self._let_go(link)
        self._lane.keep(wanted)
        if not wanted and not route.recovering:
            self._refuse_waiting(self._deserted())
        self._plan_flush()

    def retire(self) -> None:
        """Another version answers from now on: finish what is here, then hang up."""
        self._retired = True
        if not self._links:  # all were dead, and nobody will come for what waits here
            self._refuse_waiting(self._moved())
        if not self.in_flight:
            self._lane.keep(())
            for link in list(self._links.values()):
                self._let_go(link)

    def close(self) -> None:
        """Hang up at once; what waits fails as unavailable."""
        self._retired = True
        self._refuse_waiting(errors.Unavailable("the server is stopping"))
        for task in self._connecting.values():
            task.cancel()
        self._lane.close()
        for link in list(self._links.values()):
            link.close()
        if self._sweeper is not None:
            self._sweeper.cancel()

    # -- queue ----------------------------------------------------------------------------------------------------

    def _check_room(self, request: InferRequest) -> None:
        if self._retired and not self._links:
            raise self._moved()
        if not self._links and not self.route.recovering and not self.route.replicas:  # else control will say more
            why = "is stopped" if self.route.stopped else "has no ready replica"
            raise errors.Unavailable(f"endpoint {self.route.name!r} {why}; see `modelport status`")
        if self.route.language is not None or self._waiting.count < _LEAST_QUEUE or self._waiting.count < self._bound():
            return
        full = errors.Overloaded(
            f"endpoint {self.route.name!r} is at its capacity: {self._waiting.count} requests wait; try again later"
        )
        victim = self._waiting.make_room(request.priority, request.caller)
        if victim is None:
            raise full
        self._give_up(victim, full)

    def _bound(self) -> float:
        """How many may wait."""
        if not self._pace:
            return _UNMEASURED_QUEUE
        return _TARGET_S * self._pace * (len(self._links) or len(self.route.replicas) or 1)

    def _enqueue(self, pending: Pending) -> None:
        self._waiting.push(pending)
        if self._idle or self._waiting.callers > 1:
            self._plan_flush()

    def _plan_flush(self) -> None:
        if not self._flush_planned:  # once per turn of the loop, so that all that arrived in it shares a frame
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        while self._waiting.count and self._idle:
            if (self.route.max_delay_ms and self._should_wait()) or not self._find_free():
                break
            self._send_next(self._idle)
        if self._waiting.callers > 1 and self._waiting.behind_flood(self._batch_size.limit):
            if self._lane.idle:
                self._send_next(self._lane.idle)
            else:
                self._lane.open(link.address for link in self._links.values() if not link.draining)

    def _send_next(self, idle: deque[Link]) -> None:
        limit = 1 if self.route.language else self._batch_size.limit
        batch, overdue = self._waiting.take(limit, time.monotonic())
        for pending in overdue:
            pending.fail(_expired(self.route.name, "queued"))
        if not batch:
            return
        if self.route.language:
            self._affinity.choose(batch[0], idle).send(batch)
        else:
            idle.popleft().send(batch)

    def _find_free(self) -> bool:
        """Whether the first idle link may send now. Those whose replica is busy for another gateway, which would make
        the batch wait there and grow no more, ask for their turn instead."""
        while self._idle:
            link = self._idle[0]
            if self._run_ns < _WORTH_ASKING_NS or link.granted or not link.others_turn or self._is_full():
                return True
            self._idle.popleft()
            link.ask()
        return False

    def _is_full(self) -> bool:
        head = self._waiting.head()
        if head is None or head.key is None:  # shares a run with nobody
            return True
        limit = self._batch_size.limit
        return limit == 1 or self._waiting.rows_with(head.key) >= limit

    def _should_wait(self) -> bool:
        head = self._waiting.head()
        if head is None or head.attempts or self._waiting.rows_with(head.key) >= self._batch_size.limit:
            return False
        left = self.route.max_delay_ms / 1e3 - (time.perf_counter_ns() - head.queued_ns) / 1e9
        if left <= 0:
            return False
        self._loop.call_later(left, self._plan_flush)
        return True

    def _sweep(self) -> None:
        """Expired requests are answered, and never run if they have not been sent."""
        self._sweeper = None
        now = time.monotonic()
        for pending in self._waiting:
            if pending.deadline < now:
                pending.fail(_expired(self.route.name, "queued"))
        self._waiting.drop_done()
        for link in self._every_link:
            for pending in link.inflight.values():
                if pending.deadline < now and not pending.future.done():
                    pending.fail(_expired(self.route.name, "running"))
                    if pending.parts is not None:
                        link.cancel(pending)
        if self.in_flight:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        elif self._retired:
            self.retire()

    def _deserted(self) -> errors.Unavailable:
        return errors.Unavailable(f"endpoint {self.route.name!r} has no replica any more; see `modelport status`")

    def _moved(self) -> Moved:
        return Moved(f"endpoint {self.route.name!r} has moved on")

    def _refuse_waiting(self, error: errors.ModelportError) -> None:
        for pending in self._waiting.clear():
            pending.fail(error)

    @property
    def _every_link(self) -> Iterator[Link]:
        yield from self._links.values()
        yield from self._lane.links

    # -- replicas -------------------------------------------------------------------------------------------------

    def _reach(self, address: ReplicaAddress) -> asyncio.Task[None]:
        task = self._connecting.get(address.id)
        if task is None:
            task = self._connecting[address.id] = self._loop.create_task(self._connect(address))
            task.add_done_callback(lambda _: self._connecting.pop(address.id, None))
        return task

    async def _connect(self, address: ReplicaAddress) -> None:
        """Returns when the replica greets, which a busy one does late; tries until nobody wants it any more."""
        while not self._retired and any(wanted.id == address.id for wanted in self.route.replicas):
            link = Link(address, self._answered, self._lost)
            try:
                await link.connect()
            except (OSError, TimeoutError):
                link.close()
                await asyncio.sleep(_RECONNECT_S)
                continue
            except BaseException:
                link.close()
                raise
            self._links[address.id] = link
            self._idle.append(link)
            self._plan_flush()
            return

    def _let_go(self, link: Link) -> None:
        if link in self._idle:
            self._idle.remove(link)
        link.drain()

    def _answered(self, link: Link, frame: Frame) -> None:
        if frame.kind == frames.RESULT:
            link.last_ok = time.monotonic()
            self._succeeded(link, frame)
        elif frame.kind == frames.FAILED:
            self._failed(link, frame)
        elif frame.kind == frames.PART:
            self._part(link, frame)
            return
        elif frame.kind == frames.TOKENS:
            written.gained(link, frame, self.stats, self._give_up)
        elif frame.kind == frames.END:
            self._ended(link, frame)
        elif frame.kind == frames.GRANT:
            self._take_turn(link)
            return
        if not link.inflight:
            link.begun_ns = 0
            if link.draining:
                link.close()
            else:
                if not self.route.language:
                    (self._lane.idle if link.ahead else self._idle).append(link)
                if self._waiting.count:
                    self._flush()
                elif self._retired and not self.in_flight:
                    self.retire()

    def _take_turn(self, link: Link) -> None:
        if not link.draining:
            link.granted = True
            self._idle.appendleft(link)
            self._flush()
        if link.granted:
            link.pass_on()

    def _succeeded(self, link: Link, frame: Frame) -> None:
        start = 0
        now = time.perf_counter_ns()
        whole = len(frame.items) == 1
        total = sum(item.rows for item in frame.items)
        seconds = 0.0
        for item in frame.items:
            pending = link.inflight.pop(item.id, None)
            rows = slice(start, start + item.rows)
            start += item.rows
            if pending is None:
                continue
            seconds = (now - link.begun_ns) / 1e9
            self.stats.answered(pending.queued_ns, pending.sent_ns, now)
            if not pending.future.done():
                tensors = frame.tensors if whole else {name: array[rows] for name, array in frame.tensors.items()}
                queued = pending.sent_ns - pending.queued_ns
                pending.future.set_result(InferResult(tensors, queued, frame.ns, total, link.address.id))
        self._run_ns = frame.ns
        self.stats.ran(total, frame.ns)
        self._batch_size.learn(total, frame.ns, now)
        if seconds:
            self._measure(len(frame.items), total, seconds)

    def _part(self, link: Link, frame: Frame) -> None:
        link.last_ok = time.monotonic()
        pending = link.inflight.get(frame.items[0].id)
        if pending is not None and pending.parts is not None and not pending.future.done():
            pending.begun = True
            queued = pending.sent_ns - pending.queued_ns
            pending.parts.put_nowait(InferResult(frame.tensors, queued, replica=link.address.id))
            pending.unread += size_of(frame.tensors)
            if pending.unread > MAX_UNREAD and pending.parts.qsize() > 1:  # a slow reader must not stop a replica
                link.cancel(pending)
                self._give_up(
                    pending,
                    errors.Cancelled(f"the reader of this stream is {MAX_UNREAD >> 20} MiB behind; read faster"),
                )

    def _ended(self, link: Link, frame: Frame) -> None:
        pending = link.inflight.pop(frame.items[0].id, None)
        if pending is None:
            return
        self.stats.answered(pending.queued_ns, pending.sent_ns, time.perf_counter_ns())
        self.stats.ran(1, frame.ns)
        pending.ended("abort")
        if not pending.future.done() and pending.parts is not None:
            pending.future.set_result(InferResult({}, compute_ns=frame.ns))
            pending.parts.put_nowait(None)

    def _failed(self, link: Link, frame: Frame) -> None:
        code, _, message = bytes(frame.data).decode(errors="replace").partition("\0")
        for item in frame.items:
            pending = link.inflight.pop(item.id, None)
            if pending is not None:
                self._give_up(pending, errors.from_wire(code, message.rstrip("\0")))

    def _give_up(self, pending: Pending, error: errors.ModelportError) -> None:
        self.stats.failed += 1
        self.stats.failed_ns += time.perf_counter_ns() - pending.queued_ns
        if error.status >= 500 or pending.begun:  # what was refused is no text
            pending.ended("error" if error.status >= 500 else "abort")
        pending.fail(error)

    def _measure(self, requests: int, rows: int, seconds: float) -> None:
        """Learn from one run. A replica that was given fewer rows than it takes could have done more."""
        room = max(1.0, self._batch_size.limit / rows) if self.route.batching and rows else 1.0
        pace = requests * room / seconds
        self._runs += 1
        # a machine that pauses makes every replica's run long once: that must not turn callers away
        weight = max(min(_MOST_WEIGHT, seconds / _SMOOTH_S), 1 / self._runs)
        self._pace += weight * (pace - self._pace)

    def _lost(self, link: Link) -> None:
        """The replica died, or has been let go: what it had is sent again, each alone."""
        if self._links.get(link.address.id) is link:
            del self._links[link.address.id]
        self._lane.forget(link)
        if link in self._idle:
            self._idle.remove(link)
        lost, was_running = list(link.inflight.values()), link.was_running
        link.inflight.clear()
        for pending in reversed(lost):
            if pending.future.done():
                continue
            if not was_running:  # it waited there for its turn while another gateway's frame was run
                pending.attempts -= 1
            elif link.alone and pending.asked is None:  # a text has other gateways' beside it
                pending.deaths_alone += 1
            if pending.begun and pending.asked is not None:
                written.take_up(pending)
            elif pending.begun:
                self._give_up(pending, errors.RunFailed("the model's process died in the middle of this stream"))
                continue
            if pending.deaths_alone >= _DEADLY or pending.attempts >= _MAX_ATTEMPTS:
                if pending.asked is None:  # else it was perhaps another one's doing
                    self._quarantine[fingerprint(pending.inputs)] = None
                if len(self._quarantine) > _QUARANTINE:
                    self._quarantine.popitem(last=False)
                self._give_up(
                    pending, errors.RunFailed(f"the model's process died {pending.attempts} times on this request")
                )
                continue
            if not self.route.language:
                pending.key = ("alone", pending.id)
            self.stats.retried += 1
            self._enqueue(pending)
        if self._retired and not self._links:
            self._refuse_waiting(self._moved())
            return
        if not self._links and not self.route.replicas and not self.route.recovering:  # the table came first
            self._refuse_waiting(self._deserted())
        still_wanted = any(address.id == link.address.id for address in self.route.replicas)
        if still_wanted and not link.draining and not self._retired and link.address.id not in self._links:
            self._reach(link.address)


def _expired(name: str, where: str) -> errors.DeadlineExceeded:
    return errors.DeadlineExceeded(f"endpoint {name!r}: the deadline passed while the request was {where}")
