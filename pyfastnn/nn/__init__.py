"""Layers, losses, initializers and models: what a user writes a network with."""

from pyfastnn.nn.activation import ELU, LeakyReLU, ReLU, Sigmoid, Tanh
from pyfastnn.nn.dropout import Dropout
from pyfastnn.nn.layer import Layer
from pyfastnn.nn.linear import Flatten, Linear
from pyfastnn.nn.losses import Loss, MeanSquaredError, SoftmaxCrossEntropy
from pyfastnn.nn.model import Model, Sequential
from pyfastnn.nn.norm import BatchNorm

__all__ = [
    "ELU",
    "BatchNorm",
    "Dropout",
    "Flatten",
    "Layer",
    "LeakyReLU",
    "Linear",
    "Loss",
    "MeanSquaredError",
    "Model",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Tanh",
]
