"""Rows of the next step, fetched while this one works: no bit may depend on it."""

from __future__ import annotations

import pytest

import pyfastnn as fnn
from pyfastnn import _core, nn
from pyfastnn.testing import assert_same_bits, rng_of


@pytest.mark.parametrize("threads", [1, 3])
def test_rows_fetched_ahead_change_no_bit(threads):
    """Data beyond the caches, long rows, a stop in the middle, other rows after: against steps that fetch nothing."""
    rng = rng_of("fetch ahead")
    X, y = rng.standard_normal((700, 1600)).astype("f4"), rng.integers(0, 3, 700)
    few, few_y = X[:70].copy(), y[:70]
    trainers = []
    for _ in range(2):
        model = nn.Sequential(nn.Linear(50), nn.ReLU(), nn.Linear(3))
        trainers.append(fnn.Trainer(model, seed=2, threads=threads))
    fetching, stepping = trainers
    settings = {"batch_size": 64, "shuffle": False, "verbose": 0}
    usual = _core.parallel_cost()
    _core.set_parallel_cost(0.0)
    try:
        fetching.fit(X, y, epochs=1, **settings)
        fetching.fit(X, y, epochs=1, max_steps=4, **settings)
        fetching.fit(few, few_y, epochs=2, **settings)
    finally:
        _core.set_parallel_cost(usual)
    for rows, labels, count in ((X, y, 700), (X, y, 4 * 64), (few, few_y, 70), (few, few_y, 70)):
        for start in range(0, count, 64):
            stepping.step(rows[start : min(start + 64, count)], labels[start : min(start + 64, count)])
    want = stepping.model.state_dict()
    for name, array in fetching.model.state_dict().items():
        assert_same_bits(array, want[name], name)
