"""Layers, losses, initializers and models: what a user writes a network with."""

from pyfastnn.nn import initializers
from pyfastnn.nn.activation import ELU, LeakyReLU, ReLU, Sigmoid, Tanh
from pyfastnn.nn.custom import CustomLoss, Lambda
from pyfastnn.nn.dropout import Dropout, Dropout2d
from pyfastnn.nn.embedding import Embedding
from pyfastnn.nn.layer import Layer
from pyfastnn.nn.linear import Flatten, Linear
from pyfastnn.nn.losses import Loss, MeanSquaredError, SoftmaxCrossEntropy
from pyfastnn.nn.merge import Add, Concat
from pyfastnn.nn.model import Model
from pyfastnn.nn.norm import BatchNorm, GroupNorm, LayerNorm
from pyfastnn.nn.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from pyfastnn.nn.sequential import Sequential
from pyfastnn.nn.symbolic import Input, Symbol

__all__ = [
    "ELU",
    "Add",
    "AvgPool2d",
    "BatchNorm",
    "Concat",
    "CustomLoss",
    "Dropout",
    "Dropout2d",
    "Embedding",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Input",
    "Lambda",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "Loss",
    "MaxPool2d",
    "MeanSquaredError",
    "Model",
    "ReLU",
    "Sequential",
    "Sigmoid",
    "SoftmaxCrossEntropy",
    "Symbol",
    "Tanh",
    "initializers",
]
