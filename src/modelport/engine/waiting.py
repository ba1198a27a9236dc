"""Who waits, and whose turn it is: by priority, then fairly among callers, in batches of equal shape.

Of the callers that wait, the one that has had the fewest rows is next (least attained service), so that a flood from
one leaves the others their turns. When there is no room, the newest request of whoever takes the most of it has to go.
Knows pending requests; knows no replica.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator

from modelport.engine.link import Pending

_AHEAD = 4.0
"""Rows that a caller who asks now and then may have before it is a flood's turn again."""
_FLOOD = 4
"""Times as much as another has waiting: a flood."""
_REMEMBERED = 256
"""Callers with nothing waiting whose past is known."""


class _Flow:
    """What one caller has waiting at one priority, by batch key."""

    __slots__ = ("caller", "count", "queues", "served")

    def __init__(self, caller: str, served: float) -> None:
        self.caller = caller
        self.queues: dict[object, deque[Pending]] = {}
        self.count = 0
        self.served = served

    def oldest(self) -> deque[Pending]:
        if len(self.queues) == 1:
            return next(iter(self.queues.values()))
        return min(self.queues.values(), key=lambda queue: queue[0].queued_ns)


class Waiting:
    """The queue of one endpoint."""

    def __init__(self) -> None:
        self.count = 0
        self.callers = 0
        """Of whom something waits, each counted at every priority."""
        self._levels: dict[int, dict[str, _Flow]] = {}
        self._turn = 0.0
        """Rows that the caller whose turn was last had had before it: newcomers begin a little below."""
        self._left: dict[tuple[int, str], float] = {}
        """What callers have had of whom nothing waits: nobody gains by leaving and coming back."""

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Pending]:
        for flows in self._levels.values():
            for flow in flows.values():
                for queue in flow.queues.values():
                    yield from queue

    def push(self, pending: Pending) -> None:
        """Take one more. One that was sent before keeps its age, and so comes before newer ones."""
        flows = self._levels.get(pending.priority)
        if flows is None:
            flows = self._levels[pending.priority] = {}
        flow = flows.get(pending.caller)
        if flow is None:
            had = self._left.pop((pending.priority, pending.caller), 0.0) if self._left else 0.0
            flow = flows[pending.caller] = _Flow(pending.caller, max(had, self._turn - _AHEAD))
            self.callers += 1
        queue = flow.queues.get(pending.key)
        if queue is None:
            queue = flow.queues[pending.key] = deque()
        queue.append(pending)
        flow.count += 1
        self.count += 1

    def head(self) -> Pending | None:
        """Whose turn it is."""
        if not self.count:
            return None
        return self._next_flow(self._levels[min(self._levels)]).oldest()[0]

    def behind_flood(self, limit: int) -> bool:
        """Whether it is the turn of somebody who asks for little, while another has enough waiting for many a run."""
        head = self._next_flow(self._levels[min(self._levels)])
        many = max(_FLOOD * head.count, 2 * limit)
        return any(flow.count >= many for flows in self._levels.values() for flow in flows.values() if flow is not head)

    def rows_with(self, key: object) -> int:
        """Rows that wait and may share a run."""
        return sum(
            pending.rows
            for flows in self._levels.values()
            for flow in flows.values()
            for pending in flow.queues.get(key, ())
        )

    def take(self, limit: int, now: float) -> tuple[list[Pending], list[Pending]]:
        """The next batch, and whose deadline has passed meanwhile; both may be empty.

        A batch has at most ``limit`` rows but for a single larger request, and lower priorities ride along where there
        is room. Requests whose future is done are dropped on the way. The key None stands for "shares with nobody".
        """
        batch: list[Pending] = []
        overdue: list[Pending] = []
        rows = 0
        key: object = None
        for priority in sorted(self._levels) if len(self._levels) > 1 else tuple(self._levels):
            flows = self._levels[priority]
            while flows and (not batch or (key is not None and rows < limit)):
                flow = self._next_flow(flows) if not batch else self._next_with(flows, key, limit - rows)
                if flow is None:
                    break
                queue = flow.oldest() if not batch else flow.queues[key]
                self._turn = max(self._turn, flow.served)
                if not batch:
                    key = queue[0].key
                alone = len(flows) == 1
                while True:  # one turn; the only caller keeps its turn
                    pending = queue.popleft()
                    flow.count -= 1
                    self.count -= 1
                    if pending.deadline < now:
                        overdue.append(pending)
                    elif not pending.future.done():
                        batch.append(pending)
                        rows += pending.rows
                        flow.served += pending.rows
                        if not alone or key is None:
                            break
                    if not queue or rows + queue[0].rows > limit:
                        break
                self._forget_empty(priority, flows, flow, key, queue)
        return batch, overdue

    def drop_done(self) -> None:
        """Forget those whose future is done: expired, or nobody waits for them."""
        for priority, flows in list(self._levels.items()):
            for flow in list(flows.values()):
                for key, queue in list(flow.queues.items()):
                    kept = deque(pending for pending in queue if not pending.future.done())
                    gone = len(queue) - len(kept)
                    if gone:
                        flow.queues[key] = kept
                        flow.count -= gone
                        self.count -= gone
                        self._forget_empty(priority, flows, flow, key, kept)

    def make_room(self, priority: int, caller: str) -> Pending | None:
        """Takes out who has to go before a newcomer: of a lower priority, or of a caller that has more waiting than
        the newcomer would have. None when nobody has to."""
        if not self.count:
            return None
        worst = max(self._levels)
        if worst < priority:
            return None
        flows = self._levels[worst]
        largest = max(flows.values(), key=lambda flow: flow.count)
        own = flows.get(caller)
        if worst == priority and largest.count <= (own.count if own is not None else 0) + 1:
            return None
        key, queue = max(largest.queues.items(), key=lambda item: item[1][-1].queued_ns)
        victim = queue.pop()
        largest.count -= 1
        self.count -= 1
        self._forget_empty(worst, flows, largest, key, queue)
        return victim

    def clear(self) -> list[Pending]:
        """Everybody, and nobody waits any more."""
        everybody = list(self)
        self._levels.clear()
        self.count = self.callers = 0
        return everybody

    def _next_flow(self, flows: dict[str, _Flow]) -> _Flow:
        if len(flows) == 1:
            return next(iter(flows.values()))
        return min(flows.values(), key=lambda flow: flow.served)

    def _next_with(self, flows: dict[str, _Flow], key: object, room: int) -> _Flow | None:
        fitting = [flow for flow in flows.values() if key in flow.queues and flow.queues[key][0].rows <= room]
        return min(fitting, key=lambda flow: flow.served, default=None)

    def _forget_empty(
        self, priority: int, flows: dict[str, _Flow], flow: _Flow, key: object, queue: deque[Pending]
    ) -> None:
        if queue:
            return
        del flow.queues[key]
        if not flow.queues:
            del flows[flow.caller]
            self.callers -= 1
            self._left[priority, flow.caller] = flow.served
            if len(self._left) > _REMEMBERED:
                self._left = {who: had for who, had in self._left.items() if had > self._turn - _AHEAD}
            if not flows:
                del self._levels[priority]
