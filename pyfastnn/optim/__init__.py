"""Update rules: how a gradient changes a parameter."""

from pyfastnn.optim.optimizer import SGD, Adam, AdamW, Optimizer, get

__all__ = ["SGD", "Adam", "AdamW", "Optimizer", "get"]
