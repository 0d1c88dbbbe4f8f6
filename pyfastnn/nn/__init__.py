"""Layers, losses, initializers and models: what a user writes a network with."""

from typing import TYPE_CHECKING

from pyfastnn._names import unknown
from pyfastnn.nn import initializers
from pyfastnn.nn.activation import (
    ELU,
    GELU,
    SELU,
    Exp,
    LeakyReLU,
    LogSoftmax,
    PReLU,
    ReLU,
    Sigmoid,
    SiLU,
    Softmax,
    Softplus,
    Tanh,
)
from pyfastnn.nn.augmentation import Cutout, RandomCrop, RandomFlip
from pyfastnn.nn.conv import Conv2d
from pyfastnn.nn.custom import CustomLoss, Lambda
from pyfastnn.nn.dropout import Dropout, Dropout2d
from pyfastnn.nn.embedding import Embedding
from pyfastnn.nn.layer import Layer
from pyfastnn.nn.linear import Flatten, Linear
from pyfastnn.nn.losses import (
    BinaryCrossEntropy,
    Huber,
    Loss,
    MeanAbsoluteError,
    MeanSquaredError,
    MulticlassHinge,
    Poisson,
    SoftmaxCrossEntropy,
)
from pyfastnn.nn.maxout import Maxout
from pyfastnn.nn.merge import Add, Concat
from pyfastnn.nn.model import Model
from pyfastnn.nn.norm import BatchNorm, GroupNorm, LayerNorm
from pyfastnn.nn.pool import AvgPool2d, GlobalAvgPool2d, MaxPool2d
from pyfastnn.nn.sequential import Sequential
from pyfastnn.nn.symbolic import Input, Symbol

__all__ = [
    "ELU",
    "GELU",
    "SELU",
    "Add",
    "AvgPool2d",
    "BatchNorm",
    "BinaryCrossEntropy",
    "Concat",
    "Conv2d",
    "CustomLoss",
    "Cutout",
    "Dropout",
    "Dropout2d",
    "Embedding",
    "Exp",
    "Flatten",
    "GlobalAvgPool2d",
    "GroupNorm",
    "Huber",
    "Input",
    "Lambda",
    "Layer",
    "LayerNorm",
    "LeakyReLU",
    "Linear",
    "LogSoftmax",
    "Loss",
    "MaxPool2d",
    "Maxout",
    "MeanAbsoluteError",
    "MeanSquaredError",
    "Model",
    "MulticlassHinge",
    "PReLU",
    "Poisson",
    "RandomCrop",
    "RandomFlip",
    "ReLU",
    "Sequential",
    "SiLU",
    "Sigmoid",
    "Softmax",
    "SoftmaxCrossEntropy",
    "Softplus",
    "Symbol",
    "Tanh",
    "initializers",
]


if not TYPE_CHECKING:  # a type checker is to find wrong names itself

    def __getattr__(name: str) -> object:
        """Answer an unknown name with the nearest known one."""
        if name.startswith("_"):
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        raise AttributeError(unknown(f"name in {__name__}", name, __all__))
