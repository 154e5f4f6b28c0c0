"""Topological orders of nodes, and cycles, which have none."""

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence

#: Maximum number of nodes of a cycle that a message names.
_LONGEST_CYCLE = 20


def topological_order(reads: Sequence[set[int]]) -> tuple[list[int], list[int]]:
    """Return nodes in topological order, and the nodes that have none because they depend on a cycle.

    reads: for each node, the indices of the nodes that it reads. The given order is kept where possible: the next node
        is always the earliest one that is ready.

    >>> topological_order([{2}, set(), {1}]), topological_order([{1}, {0}, set()])
    (([1, 2, 0], []), ([2], [0, 1]))
    """
    readers: list[list[int]] = [[] for _ in reads]
    for i, earlier in enumerate(reads):
        for j in earlier:
            readers[j].append(i)
    waits = [len(earlier) for earlier in reads]
    ready = [i for i, n in enumerate(waits) if not n]
    order = []
    while ready:
        i = heapq.heappop(ready)
        order.append(i)
        for j in readers[i]:
            waits[j] -= 1
            if not waits[j]:
                heapq.heappush(ready, j)
    return order, [i for i, n in enumerate(waits) if n]


def postorder(outputs: Sequence[int], reads: Callable[[int], Iterable[int]]) -> list[int]:
    """Return the nodes reachable from `outputs` in depth-first postorder: each after the nodes that it reads.

    >>> postorder([3, 1], {3: [2, 0], 2: [], 1: [], 0: []}.__getitem__)
    [2, 0, 3, 1]
    """
    done: set[int] = set()
    order = []
    pending = [(index, False) for index in reversed(outputs)]
    while pending:
        index, is_ready = pending.pop()
        if index in done:
            continue
        if is_ready:
            done.add(index)
            order.append(index)
            continue
        pending.append((index, True))
        pending += [(a, False) for a in reversed([*reads(index)]) if a not in done]
    return order


def cycles(reads: Sequence[set[int]], stuck: Sequence[int]) -> list[list[int]]:
    """Return cycles found from nodes without an order; in a cycle, each node reads the one before it.

    >>> cycles([{1}, {0}, {0}], [0, 1, 2])
    [[1, 0]]
    """
    waits = set(stuck)
    seen: set[int] = set()
    found = []
    for start in stuck:
        path: dict[int, None] = {}
        at = start
        while at not in seen:
            seen.add(at)
            path[at] = None
            at = min(reads[at] & waits)
        if at in path:
            found.append(list(path)[list(path).index(at) :][::-1])
    return found


def cycle_text(indices: list[int], names: Mapping[int, str]) -> str:
    """Return the message for a cycle: names in the order of data flow, beginning with the node written first.

    >>> cycle_text([1, 0], {0: "a", 1: "b"})
    'nodes depend on themselves: a -> b -> a'
    """
    first = indices.index(min(indices))
    shown = [names.get(i, "...") for i in [*indices[first:], *indices[:first]]]
    shortened = shown if len(shown) <= _LONGEST_CYCLE else [*shown[:_LONGEST_CYCLE], "..."]
    return f"nodes depend on themselves: {' -> '.join([*shortened, shown[0]])}"
