"""Documents -> Graph: the canonical form of programs, a list of nodes in any order."""

import heapq
from dataclasses import dataclass
from typing import Any

from engine.errors import ArityError, CycleError, Faults, InvalidValueError, UnknownNameError
from engine.graph.builder import MAX_DEPTH, MAX_NODES, Draft, GraphBuilder, Ref, Site, fold
from engine.graph.declarations import declare
from engine.graph.ir import Graph
from engine.graph.limits import check_limit
from engine.graph.literals import described
from engine.graph.names import quoted
from engine.table import nearest

_NODE_FIELDS = ("id", "op", "args", "attrs")
#: Nodes of a cycle that a message names.
_LONGEST_CYCLE = 20


def build(
    document: Any, faults: Faults | None = None, *, max_depth: int = MAX_DEPTH, max_nodes: int = MAX_NODES
) -> Graph:
    """The graph that a document describes, with every check.

    document: {"nodes": [{"id", "op", "args", "attrs"}], "outputs": [], "inputs": {}} as in the wire contract.
    faults: what the caller has found already; it is reported together with what is found here.
    max_depth, max_nodes: limits on nesting and on the number of nodes.

    Raises:
        LimitExceededError: it is nested too deep or has too many nodes.
        AutogradError: of the first kind of fault that was found, with all places of that kind.

    >>> graph = build({"nodes": [{"id": "y", "op": "add", "args": [{"op": "sin", "args": ["x"]}, 1]}]})
    >>> [(node.ids, node.op.name, node.args[0]) for node in graph.nodes]
    [(('_1',), 'sin', 'x'), (('y',), 'add', '_1')]
    """
    _check_depth(document, max_depth)
    reader = _Reader(GraphBuilder(Faults() if faults is None else faults, max_nodes))
    return reader.graph(document)


@dataclass(slots=True, eq=False)
class _Item:
    """A node or one of its arguments, to be read; `draft` is what a node becomes."""

    value: Any
    site: Site
    draft: Draft | None = None
    is_inline: bool = False

    def args(self) -> list[Any]:
        args = self.value.get("args", []) if self.draft else []
        return args if isinstance(args, list) else []


class _Reader:
    def __init__(self, builder: GraphBuilder) -> None:
        self.builder = builder
        self.names: dict[str, Ref] = {}

    def graph(self, document: Any) -> Graph:
        site = Site(("graph",), "", has_parts=True)
        if self.builder.check_fields(document, ("nodes", "outputs", "inputs"), site):
            if "inputs" in document:
                declare(self.builder, document["inputs"], site.part("inputs"))
            roots = self._roots(document.get("nodes"), site.part("nodes"))
            for item in roots:
                fold(item, self._children, self._read)
            self._sort()
            outputs = self._outputs(document, roots, site.part("outputs"))
            return self.builder.finish(self.names, outputs)
        return self.builder.finish({}, ())

    def _fault(self, msg: str, site: Site) -> None:
        self.builder.fault(InvalidValueError, msg, site)

    def _roots(self, nodes: Any, site: Site) -> list[_Item]:
        """The document's nodes with their ids, before any argument is read: it may name a later one."""
        if not isinstance(nodes, list):
            self._fault(f"nodes is {described(nodes)}; expected a list of nodes", site)
            return []
        found = []
        for i, node in enumerate(nodes):
            place = site.part(i)._replace(where=f"nodes[{i}]")
            if not isinstance(node, dict):
                self._fault(f"a node is {described(node)}; expected an object with {', '.join(_NODE_FIELDS)}", place)
                continue
            given = node.get("id")
            ids = given if isinstance(given, list) else [given]
            if isinstance(given, str | list) and given:
                place = place._replace(where=f"node {', '.join(map(described, ids))}")
            draft = Draft([""] * (len(ids) or 1), place.loc)
            if not ids:
                self._fault("id is an empty list; expected a name for each output", place.part("id"))
            for output, name in enumerate(ids if "id" in node else []):
                self._claim(name, Ref(str(name), draft, output), place.part("id"))
            found.append(_Item(node, place, draft))
        return found

    def _claim(self, given: Any, ref: Ref, site: Site) -> None:
        name = self.builder.name(given, site)
        if name in self.names:
            self._fault("two nodes have this id", site)
        elif name in self.builder.inputs:
            self._fault("this id is that of a declared input", site)
        elif name is not None:
            self.names[name] = ref

    def _children(self, item: _Item) -> list[_Item]:
        children = []
        for i, arg in enumerate(item.args()):
            site = item.site.part("args", i)
            inline = isinstance(arg, dict) and not set(_NODE_FIELDS).isdisjoint(arg)
            if inline and not item.is_inline:
                site = site._replace(where=f"in {item.site.where}")
            children.append(_Item(arg, site, Draft([""], site.loc) if inline else None, is_inline=True))
        return children

    def _read(self, item: _Item, args: list[Any]) -> Any:
        """An argument as a Ref or a plain value, a node as a Ref."""
        if item.draft is not None:
            self.builder.add(item.draft)
            self._apply(item, item.draft, args)
            return Ref(f"{item.value.get('op')}(...)", item.draft)
        if not isinstance(item.value, str):
            return item.value
        name = self.builder.name(item.value, item.site)
        if name is None:
            return Ref(item.value)
        return self.names.get(name) or self.builder.read(name)

    def _apply(self, item: _Item, draft: Draft, args: list[Any]) -> None:
        node, site = item.value, item.site
        fields = _NODE_FIELDS[item.is_inline :]
        self.builder.check_fields(node, fields, site, f"; it has {', '.join(fields)}, and attributes stand in attrs")
        name, attrs = node.get("op"), node.get("attrs", {})
        if not isinstance(node.get("args", []), list):
            return self._fault(f"args is {described(node['args'])}; expected a list", site.part("args"))
        if not isinstance(attrs, dict) or not all(isinstance(key, str) for key in attrs):
            return self._fault(f"attrs is {described(attrs)}; expected an object", site.part("attrs"))
        if not isinstance(name, str):
            what = f"op is {described(name)}" if "op" in node else 'a node needs "op"'
            return self._fault(f"{what}; expected the name of an operation", site.part("op"))
        op = self.builder.operation(name, site)
        if op is None:
            return None
        if len(args) > len(op.operands) and not op.variadic:
            msg = f"{op.name}: got {len(args)} args; expected {op.signature()} with its attributes in attrs"
            return self.builder.fault(ArityError, msg, site)
        # As one list, for a literal list among the operands is an operand, not a list of them.
        return self.builder.apply(draft, op, [args] if op.variadic and args else args, attrs, site)

    def _outputs(self, document: dict[str, Any], roots: list[_Item], site: Site) -> list[tuple[str, Ref]]:
        if "outputs" not in document:
            return self._only_sink(roots, site)
        given = document["outputs"]
        if not isinstance(given, list) or not given:
            self._fault(f"outputs is {described(given)}; expected a list of one name or more", site)
            return []
        found: dict[str, Ref] = {}
        for i, item in enumerate(given):
            place = site.part(i)
            name = self.builder.name(item, place)
            if name is None:
                continue
            if name in found:
                self._fault(f'outputs: "{name}" is named twice', place)
            elif name in self.names or name in self.builder.inputs:
                found[name] = self.names.get(name) or Ref(name)
            else:
                near = nearest(name, [*self.names, *self.builder.inputs])
                msg = f"outputs: {quoted(name)} is neither a node nor an input{near}"
                self.builder.fault(UnknownNameError, msg, place)
        return list(found.items())

    def _only_sink(self, roots: list[_Item], site: Site) -> list[tuple[str, Ref]]:
        if self.builder.faults:
            return []
        used = {id(x.draft) for d in self.builder.drafts for x in d.args if isinstance(x, Ref)}
        sinks = [item.draft for item in roots if id(item.draft) not in used]
        if len(sinks) != 1:
            msg = f"outputs is left out and {len(sinks)} nodes are used by no other; expected one, or outputs"
            self._fault(msg, site)
            return []
        found = [(name, ref) for name, ref in self.names.items() if ref.draft is sinks[0]]
        if not found:
            name, ref = self.builder.free_name(self.names), Ref("", sinks[0])
            self.names[name] = ref
            found = [(name, ref)]
        return found

    def _sort(self) -> None:
        """Puts nodes after those that they read: as written where that will do, else the earliest that is ready."""
        drafts = self.builder.drafts
        place = {id(draft): i for i, draft in enumerate(drafts)}
        reads = [{place[id(x.draft)] for x in d.args if isinstance(x, Ref) and x.draft} for d in drafts]
        readers: list[list[int]] = [[] for _ in drafts]
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
        if len(order) < len(drafts):
            self._report_cycles(reads, waits)
        self.builder.drafts = [drafts[i] for i in order]

    def _report_cycles(self, reads: list[set[int]], waits: list[int]) -> None:
        """Follows nodes that wait to one that they wait for, until one comes again."""
        names: dict[int, tuple[int, str]] = {}
        for written, (name, ref) in enumerate(self.names.items()):
            names.setdefault(id(ref.draft), (written, name))
        seen: set[int] = set()
        for start in range(len(reads)):
            path: dict[int, None] = {}
            at = start
            while waits[at] and at not in seen:
                seen.add(at)
                path[at] = None
                at = min(i for i in reads[at] if waits[i])
            if at in path:
                drafts = [self.builder.drafts[i] for i in list(path)[list(path).index(at) :]]
                cycle = [names[id(draft)] for draft in reversed(drafts) if id(draft) in names]
                self.builder.fault(CycleError, _cycle_text(cycle), Site(drafts[0].loc, ""))


def _cycle_text(cycle: list[tuple[int, str]]) -> str:
    """The names of a cycle in the order in which values would flow, beginning with the one written first."""
    first = cycle.index(min(cycle))
    names = [name for _, name in [*cycle[first:], *cycle[:first]]]
    shown = names if len(names) <= _LONGEST_CYCLE else [*names[:_LONGEST_CYCLE], "..."]
    return f"nodes depend on themselves: {' -> '.join([*shown, names[0]])}"


def _check_depth(document: Any, max_depth: int) -> None:
    level, depth = [document], 0
    while level:
        depth += 1
        check_limit("depth", depth, max_depth, "the graph")
        level = [child for item in level for child in _containers(item)]


def _containers(item: Any) -> list[Any]:
    items = item.values() if isinstance(item, dict) else item if isinstance(item, list) else ()
    if {dict, list}.isdisjoint(map(type, items)):
        return []
    return [child for child in items if isinstance(child, dict | list)]
