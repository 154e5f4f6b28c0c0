"""Build graphs from documents, the canonical form of programs: a list of nodes in any order."""

import math
from dataclasses import dataclass
from typing import Any

from engine.core import ArityError, CycleError, Faults, InvalidValueError, UnknownNameError, nearest
from engine.graph import Graph, cycle_text, cycles, quoted, topological_order
from engine.programs.builder import MAX_CHAIN, MAX_DEPTH, Draft, GraphBuilder, Ref, Site, fold
from engine.programs.declarations import declare
from engine.programs.literals import described
from engine.programs.text.nesting import check_as_text, check_depth

_NODE_FIELDS = ("id", "op", "args", "attrs")


def build(
    document: Any,
    faults: Faults | None = None,
    *,
    max_depth: int = MAX_DEPTH,
    max_chain: int = MAX_CHAIN,
    max_nodes: float = math.inf,
) -> Graph:
    """Build the graph of a document, fully checked.

    document: {"nodes": [{"id", "op", "args", "attrs"}], "outputs": [], "inputs": {}} as in the wire contract. A node
        {"id", "value"} is a named constant, {"id", "alias"} an alias of a node or an input. An argument {"value"} is a
        literal, even if it is a word such as "NaN", which would otherwise be a name; {"node": 0} is the node at that
        index of the list, as if it were written inline: it has no id, and nothing else reads it.
    faults: faults that the caller found before; they are reported together with those found here.
    max_depth, max_chain: limits on nesting; if nodes are referred to by index, on that of the program as text.
    max_nodes: limit on the number of nodes.

    Raises:
        LimitExceededError: it is nested too deep or has too many nodes.
        AutogradError: there are faults; all of the first kind are reported, with their locations.

    >>> graph = build({"nodes": [{"id": "y", "op": "add", "args": [{"op": "sin", "args": ["x"]}, 1]}]})
    >>> [(node.ids, node.op.name, node.args[0]) for node in graph.nodes]
    [(('_1',), 'sin', 'x'), (('y',), 'add', '_1')]
    """
    check_depth(document, max_depth)
    reader = _Reader(GraphBuilder(Faults() if faults is None else faults, max_nodes))
    graph = reader.graph(document)
    if reader.by_index:
        check_as_text(graph, max_depth, max_chain, max_nodes)
    return graph


@dataclass(slots=True, eq=False)
class _Item:
    """A node or an argument to read; a node is read into `draft`."""

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
        # Alias -> name of its target.
        self.aliases: dict[str, str] = {}
        self.roots: list[_Item | None] = []
        # Indices of nodes that are referred to by index, and of those not read so far.
        self.by_index: set[int] = set()
        self.unread: set[int] = set()
        # For each listed node, its inline nodes followed by itself.
        self.groups: list[list[Draft]] = []

    def graph(self, document: Any) -> Graph:
        site = Site(("graph",), "", has_parts=True)
        if not self.builder.check_fields(document, ("nodes", "outputs", "inputs"), site):
            return self.builder.finish({}, ())
        if "inputs" in document:
            declare(self.builder, document["inputs"], site.part("inputs"))
        self._list_roots(document.get("nodes"), site.part("nodes"))
        self.by_index = _read_by_index(self.roots)
        self.unread = set(self.by_index)
        for i, item in enumerate(self.roots):
            if item and i not in self.by_index:
                start = len(self.builder.drafts)
                fold(item, self._children, self._read)
                self.groups.append(self.builder.drafts[start:])
        aliases = {name: self._ref(name) for name in list(self.aliases)}
        self._sort()
        outputs = self._outputs(document, site.part("outputs"))
        return self.builder.finish(self.names | aliases, outputs)

    def _fault(self, msg: str, site: Site) -> None:
        self.builder.fault(InvalidValueError, msg, site)

    def _list_roots(self, nodes: Any, site: Site) -> None:
        """Collect the nodes and their ids before any argument is read, since an argument may name a later node."""
        if not isinstance(nodes, list):
            return self._fault(f"nodes is {described(nodes)}; expected a list of nodes", site)
        for i, node in enumerate(nodes):
            node_site = site.part(i)._replace(where=f"nodes[{i}]")
            if not isinstance(node, dict):
                self._fault(
                    f"a node is {described(node)}; expected an object with {', '.join(_NODE_FIELDS)}", node_site
                )
                self.roots.append(None)
                continue
            given = node.get("id")
            ids = given if isinstance(given, list) else [given]
            if isinstance(given, str | list) and given:
                node_site = node_site._replace(where=f"node {', '.join(map(described, ids))}")
            if not ids:
                self._fault("id is an empty list; expected a name for each output", node_site.part("id"))
            draft = None if "alias" in node else Draft([""] * (len(ids) or 1), node_site.loc)
            if draft is None:
                self._alias(node, node_site)
            for output, name in enumerate(ids if draft and "id" in node else []):
                found = self._new_name(name, node_site.part("id"))
                if found is not None:
                    self.names[found] = Ref(str(name), draft, output)
            self.roots.append(_Item(node, node_site, draft) if draft else None)
        return None

    def _new_name(self, given: Any, site: Site) -> str | None:
        name = self.builder.name(given, site)
        if name in self.names or name in self.aliases:
            self._fault("two nodes have this id", site)
        elif name in self.builder.inputs:
            self._fault("this id is that of a declared input", site)
        else:
            return name
        return None

    def _alias(self, node: dict[str, Any], site: Site) -> None:
        self.builder.check_fields(node, ("id", "alias"), site)
        name = self._new_name(node.get("id"), site.part("id"))
        of = self.builder.name(node["alias"], site.part("alias"))
        if name is not None and of is not None:
            self.aliases[name] = of

    def _ref(self, name: str) -> Ref:
        """Resolve a name to a node or an input."""
        path: dict[str, None] = {}
        while name in self.aliases and name not in path and name not in self.names:
            path[name] = None
            name = self.aliases[name]
        if name in path:
            self.builder.fault(CycleError, f"{quoted(name)} is an alias of itself", Site(("graph", "nodes"), ""))
            self.names.update((earlier, Ref(earlier)) for earlier in path)
        for earlier in path:
            self.aliases[earlier] = name
        return self.names.get(name) or self.builder.read(name)

    def _children(self, item: _Item) -> list[_Item]:
        children = []
        for i, arg in enumerate(item.args()):
            site = item.site.part("args", i)
            is_inline = isinstance(arg, dict) and not set(_NODE_FIELDS).isdisjoint(arg)
            if is_inline and not item.is_inline:
                site = site._replace(where=f"in {item.site.where}")
            if is_inline or not isinstance(arg, dict):
                children.append(_Item(arg, site, Draft([""], site.loc) if is_inline else None, is_inline=True))
            elif "node" in arg:
                children.append(self._at_index(arg, site))
            elif "value" in arg:
                self.builder.check_fields(arg, ("value",), site)
                children.append(_Item(self.builder.operand(arg["value"], site.part("value")) or Ref(""), site))
            else:
                children.append(_Item(arg, site))
        return children

    def _at_index(self, arg: dict[str, Any], site: Site) -> _Item:
        """Return the node that an argument refers to by index."""
        self.builder.check_fields(arg, ("node",), site)
        i = arg["node"]
        item = self.roots[i] if type(i) is int and 0 <= i < len(self.roots) else None
        if item and i in self.unread:
            self.unread.discard(i)
            return item
        if item is None:
            self._fault(f"node is {described(i)}; expected the place of a node without an id, from 0", site)
        elif i in self.by_index:
            self._fault(f"nodes[{i}] is read twice; give it an id", site)
        else:
            self._fault(f"nodes[{i}] has an id; write that in place of its place", site)
        return _Item(Ref(""), site)

    def _read(self, item: _Item, args: list[Any]) -> Any:
        """Read a node, and return a Ref to it, or an argument, and return it as a Ref or a plain value."""
        if item.draft is not None:
            self.builder.add(item.draft)
            if "value" in item.value and not item.is_inline:
                self._constant(item.value, item.draft, item.site)
            else:
                self._apply(item, item.draft, args)
            return Ref(f"{item.value.get('op')}(...)", item.draft)
        if not isinstance(item.value, str):
            return item.value
        name = self.builder.name(item.value, item.site)
        return Ref(item.value) if name is None else self._ref(name)

    def _constant(self, node: dict[str, Any], draft: Draft, site: Site) -> None:
        self.builder.check_fields(node, ("id", "value"), site)
        if not isinstance(node.get("id"), str):
            self._fault(f"a constant has {described(node.get('id'))} for its id; expected a name", site.part("id"))
        literal = self.builder.operand(node["value"], site.part("value"))
        draft.args = () if literal is None else (literal,)

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
        # Passed as one list, because a literal list among the operands is an operand, not a list of operands.
        return self.builder.apply(draft, op, [args] if op.variadic and args else args, attrs, site)

    def _outputs(self, document: dict[str, Any], site: Site) -> list[tuple[str, Ref]]:
        if "outputs" not in document:
            return self._only_sink(site)
        for i, item in enumerate(self.roots):
            if item and "id" not in item.value and i not in self.by_index:
                self._fault("nothing reads this node; give it an id", item.site)
        given = document["outputs"]
        if not isinstance(given, list) or not given:
            self._fault(f"outputs is {described(given)}; expected a list of one name or more", site)
            return []
        found: dict[str, Ref] = {}
        for i, item in enumerate(given):
            name_site = site.part(i)
            name = self.builder.name(item, name_site)
            if name is None:
                continue
            if name in found:
                self._fault(f'outputs: "{name}" is named twice', name_site)
            elif name in self.names or name in self.aliases or name in self.builder.inputs:
                found[name] = self._ref(name)
            else:
                near = nearest(name, [*self.names, *self.aliases, *self.builder.inputs])
                msg = f"outputs: {quoted(name)} is neither a node nor an input{near}"
                self.builder.fault(UnknownNameError, msg, name_site)
        return list(found.items())

    def _only_sink(self, site: Site) -> list[tuple[str, Ref]]:
        if self.builder.faults:
            return []
        used = {id(x.draft) for d in self.builder.drafts for x in d.args if isinstance(x, Ref)}
        sinks = [group[-1] for group in self.groups if id(group[-1]) not in used]
        if len(sinks) != 1:
            msg = f"outputs is left out and {len(sinks)} nodes are used by no other; expected one, or outputs"
            self._fault(msg, site)
            return []
        found = [(name, ref) for name, ref in self.names.items() if ref.draft is sinks[0]]
        if not found:
            name, ref = self.builder.output_name([*self.names, *self.aliases]), Ref("", sinks[0])
            self.names[name] = ref
            found = [(name, ref)]
        return found

    def _sort(self) -> None:
        """Sort nodes topologically, each together with its inline nodes."""
        group_of = {id(draft): i for i, group in enumerate(self.groups) for draft in group}
        reads: list[set[int]] = [set() for _ in self.groups]
        for i, group in enumerate(self.groups):
            for x in (x for draft in group for x in draft.args if isinstance(x, Ref) and x.draft):
                if group_of[id(x.draft)] != i or x.draft is group[-1]:
                    reads[i].add(group_of[id(x.draft)])
        order, stuck = topological_order(reads)
        self.builder.drafts = [draft for i in order for draft in self.groups[i]]
        names: dict[int, str] = {}
        for name, ref in self.names.items():
            names.setdefault(group_of.get(id(ref.draft), -1), name)
        for cycle in cycles(reads, stuck):
            before = self.groups[cycle[-2 % len(cycle)]][-1]
            first = next(draft for draft in self.groups[cycle[-1]] if _reads(draft, before))
            self.builder.fault(CycleError, cycle_text(cycle, names), Site(first.loc, ""))
        for item in (self.roots[i] for i in sorted(self.unread)):
            if item:
                self.builder.fault(CycleError, "this node is read by itself alone", item.site)


def _reads(draft: Draft, other: Draft) -> bool:
    return any(isinstance(x, Ref) and x.draft is other for x in draft.args)


def _read_by_index(roots: list[_Item | None]) -> set[int]:
    """Return the indices of nodes without an id that arguments refer to by index."""
    pending = [arg for item in roots if item for arg in item.args() if isinstance(arg, dict)]
    named = set()
    while pending:
        arg = pending.pop()
        if not set(_NODE_FIELDS).isdisjoint(arg):
            args = arg.get("args")
            pending += [x for x in args if isinstance(x, dict)] if isinstance(args, list) else []
        elif type(arg.get("node")) is int:
            named.add(arg["node"])
    return {i for i, item in enumerate(roots) if item and i in named and "id" not in item.value}
