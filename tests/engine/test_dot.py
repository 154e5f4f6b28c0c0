"""Pictures of tapes: what is drawn, once each, with labels that Graphviz reads as they were meant."""

import re
from typing import Any

import numpy as np
import pytest

from engine import Variable
from engine import functions as F
from engine.programs.dot import dot

NODE = re.compile(r'"([vf]\d+)" \[label="((?:[^"\\]|\\.)*)", (.*)\]')
EDGE = re.compile(r'"([vf]\d+)" -> "([vf]\d+)"')


def parse(text: str) -> tuple[dict[str, tuple[str, str]], list[tuple[str, str]]]:
    """Nodes with label and look, and edges; everything else fails."""
    first, *lines, last = text.split("\n")
    assert (first, last) == ("digraph g {", "}")
    nodes: dict[str, tuple[str, str]] = {}
    edges = []
    for line in lines:
        if node := NODE.fullmatch(line):
            assert node[1] not in nodes
            nodes[node[1]] = node[2], node[3]
        else:
            edge = EDGE.fullmatch(line)
            assert edge, line
            edges.append((edge[1], edge[2]))
    assert {end for edge in edges for end in edge} <= set(nodes)
    return nodes, edges


def label(name: str) -> str:
    return parse(dot(Variable(1.0, name=name)))[0]["v0"][0]


def test_the_ancestors_example() -> None:
    x = Variable(1.0, name="x")
    y = F.sin(x)
    y.name = "y"
    assert dot(y).split("\n") == [
        "digraph g {",
        '"v0" [label="y", color=orange, style=filled]',
        '"f0" [label="sin", color=lightblue, style=filled, shape=box]',
        '"f0" -> "v0"',
        '"v1" -> "f0"',
        '"v1" [label="x", color=orange, style=filled]',
        "}",
    ]
    assert '"v0" [label="y(0.8414709848078965)", color' in dot(y, verbose=True)


def test_a_leaf() -> None:
    assert dot(Variable(2.0)) == 'digraph g {\n"v0" [label="", color=orange, style=filled]\n}'
    assert 'label="variable(2.0)"' in dot(Variable(2.0), verbose=True)


def test_each_variable_and_function_once() -> None:
    x = Variable(1.0, name="x")
    a = x * x
    y = a + a * 2.0 + x
    nodes, edges = parse(dot(y))
    assert sorted(text for text, _ in nodes.values() if text) == ["add", "add", "mul", "mul", "x"]
    assert len(nodes) == 9
    assert sum(end == "f0" for _, end in edges) == 2
    twice = next(f for f, (text, _) in nodes.items() if text == "mul" and [e for _, e in edges].count(f) == 2)
    assert len({start for start, end in edges if end == twice}) == 1


def test_a_gradient_can_be_drawn() -> None:
    x = Variable(1.0, name="x")
    F.tanh(x).backward(create_graph=True)
    assert isinstance(x.grad, Variable)
    nodes, _ = parse(dot(x.grad))
    assert {"mul", "x", "tanh_slope"} <= {text for text, _ in nodes.values()}


def test_equal_tapes_give_equal_text() -> None:
    def build() -> Any:
        x, y = Variable(1.0, name="x"), Variable([1.0, 2.0], name="y")
        return F.sum(F.exp(x * y) + x)

    assert dot(build(), verbose=True) == dot(build(), verbose=True)
    assert not re.search(r"0x[0-9a-f]{6}", dot(build()))


@pytest.mark.parametrize("shape", [(17,), (100, 100), (5, 5, 5, 5), (1_000_000,)])
def test_large_arrays_are_abridged(shape: tuple[int, ...]) -> None:
    text = dot(Variable(np.zeros(shape), name="big"), verbose=True)
    assert "..." in text
    assert len(text) < 400


def test_small_arrays_are_whole() -> None:
    [(text, _)] = parse(dot(Variable([[1.0, 2.0], [3.0, 4.0]]), verbose=True))[0].values()
    assert text == r"variable([[1. 2.]\n          [3. 4.]])"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ('say "x"', r"say \"x\""),
        ("back\\slash", r"back\\slash"),
        ("end\\", "end\\\\"),
        ("two\nlines", r"two\nlines"),
        ("carriage\rreturn", r"carriage\nreturn"),
        ("&lt;b&gt;", "&amp;lt;b&amp;gt;"),
        ("θ̂ 変数 🙂", "θ̂ 変数 🙂"),
        ("bell\a, null\0", "bell\N{REPLACEMENT CHARACTER}, null\N{REPLACEMENT CHARACTER}"),
        ("lone \ud800", "lone \N{REPLACEMENT CHARACTER}"),
        ('"]; evil [x="', r"\"]; evil [x=\""),
    ],
)
def test_labels_are_escaped(name: str, expected: str) -> None:
    assert label(name) == expected
    dot(Variable(1.0, name=name), verbose=True).encode()


def test_a_tape_100_000_operations_deep() -> None:
    y = Variable(1.0, name="x")
    for _ in range(100_000):
        y = F.neg(y)
    assert dot(y).count("\n") == 1 + 100_001 + 3 * 100_000
