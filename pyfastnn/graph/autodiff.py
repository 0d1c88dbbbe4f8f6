"""Reverse-mode differentiation: appends backward nodes, which are ordinary nodes, to a graph.

Nodes are visited last to first; each op's rule in `pyfastnn.graph.gradients` turns the gradients of its outputs into those of
its inputs. Where a value is used twice its gradients meet in an ``add`` node.
Source: Linnainmaa (1970); Griewank and Walther, "Evaluating Derivatives" (2008), chapter 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pyfastnn.graph.gradients import RULES
from pyfastnn.graph.graph import Builder, Function
from pyfastnn.graph.schema import Dim


class _Emitter:
    """Appends the nodes of a gradient rule under one name."""

    def __init__(self, builder: Builder, name: str) -> None:
        self._builder = builder
        self._name = name

    def __call__(
        self,
        op: str,
        inputs: Sequence[str | None],
        attrs: Mapping[str, float] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> tuple[str, ...]:
        return self._builder.emit(op, inputs, attrs, outputs, name=self._name)

    def shape(self, value: str) -> tuple[Dim, ...]:
        return self._builder.graph.values[value].shape


def gradient_name(value: str) -> str:
    """Return the name of the gradient of the loss with respect to ``value``."""
    return f"d({value})"


def backward(builder: Builder, loss: str | Mapping[str, str], wanted: Sequence[str]) -> dict[str, str]:
    """Append the backward nodes of ``loss`` and return the names of the gradients.

    Parameters
    ----------
    builder : Builder
        Holds the forward graph; backward nodes are added to it.
    loss : str or mapping of str to str
        The output of a loss node, or of the ``add_losses`` node that sums several; or values whose gradients are known already, with the
        values that hold these.
    wanted : sequence of str
        Values, usually parameters, whose gradients are asked for.

    Returns
    -------
    dict of str to str
        Value name to gradient name. Values the loss does not depend on are absent.

    Raises
    ------
    ValueError
        If an op on the way has no gradient rule.
    """
    graph = builder.graph
    forward = list(graph.nodes)
    views = graph.views()
    reaches = set(wanted)
    reaches.update(v for name in wanted for v in views.get(name, ()))
    for node in forward:
        if any(i in reaches for i in node.inputs if i is not None):
            for output in node.outputs:
                reaches.update((output, *views.get(output, ())))
    gradients: dict[str, str | float] = {loss: 1.0} if isinstance(loss, str) else dict(loss)

    def collect(value: str, gradient: str | float) -> None:
        earlier = gradients.get(value)
        if isinstance(earlier, str) and isinstance(gradient, str):
            gradient = builder.emit("add", (earlier, gradient), name=gradient_name(value))[0]
        elif isinstance(earlier, float) and isinstance(gradient, float):
            gradient += earlier  # a loss that counts twice
        gradients[value] = gradient

    def gather_views(value: str) -> None:
        for view in views.get(value, ()):
            gradient = gradients.pop(view, None)
            if isinstance(gradient, str):
                collect(value, builder.view(gradient, graph.values[value].shape))

    for node in reversed(forward):
        for output in node.outputs:
            gather_views(output)
        known: Mapping[str, str | float] = {o: gradients[o] for o in node.outputs if o in gradients}
        if not known or not any(i in reaches for i in node.inputs if i is not None):
            continue
        if node.function is not None:

            def call(
                function: Function,
                inputs: Sequence[str],
                outputs: Sequence[tuple[str, tuple[Dim, ...], str]],
                _node_name: str = node.name,
            ) -> tuple[str, ...]:
                return builder.call(function, inputs, outputs, name=f"d({_node_name})")

            for value, of_input in node.function.gradients(node, known, call, reaches.__contains__).items():
                collect(value, of_input)
            continue
        if node.op not in RULES:
            raise ValueError(f"{node.op} has no gradient rule in pyfastnn.graph.gradients")

        emit = _Emitter(builder, f"d({node.name})")
        for value, gradient in RULES[node.op](node, known, emit, reaches.__contains__).items():
            collect(value, gradient)
    for value in wanted:
        gather_views(value)
    return {v: g for v in wanted if isinstance(g := gradients.get(v), str)}
