"""The graph of a network and what is made from it: gradients, and step lists for the executor. No arrays here."""

from pyfastnn.graph.graph import BATCH, Builder, Graph, Node, Value

__all__ = ["BATCH", "Builder", "Graph", "Node", "Value"]
