"""The neuron of the lectures."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike


class Neuron:
    """A neuron that fires at the rate ``sigmoid(sum(inputs * weights) + bias)``.

    Parameters
    ----------
    weights : array_like, shape (inputs,)
        Strengths of the synapses.
    bias : float, default 0
        Added to the sum in the cell body.

    Examples
    --------
    >>> from pyfastnn.gates import Neuron
    >>> round(Neuron([2.0, -3.0], bias=-3.0).tick([-1.0, -2.0]), 2)
    0.73
    """

    def __init__(self, weights: ArrayLike, bias: float = 0.0) -> None:
        self.weights = np.asarray(weights, np.float64)
        if self.weights.ndim != 1:
            raise ValueError(f"Neuron: 'weights' has shape {self.weights.shape}, expected (inputs,)")
        self.bias = float(bias)

    def tick(self, inputs: ArrayLike) -> float:
        """Return the firing rate.

        Parameters
        ----------
        inputs : array_like, shape (inputs,)
            Activity of the axons.

        Returns
        -------
        float
            Between 0 and 1.

        Raises
        ------
        ValueError
            If there are more or fewer inputs than weights.
        """
        given = np.asarray(inputs, np.float64)
        if given.shape != self.weights.shape:
            raise ValueError(f"tick: 'inputs' has shape {given.shape}, expected {self.weights.shape}")
        cell_body_sum = float(np.sum(given * self.weights)) + self.bias
        # Two forms of one formula: exp is only taken of numbers that are not positive, so it cannot overflow.
        decay = math.exp(-abs(cell_body_sum))
        return 1.0 / (1.0 + decay) if cell_body_sum >= 0 else decay / (1.0 + decay)
