"""What the ops of the peers share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np

from pyfastnn.bench import op
from pyfastnn.bench.timing import Case, Subject

Work = Callable[[SimpleNamespace], Any]


class PeerOp(Subject):
    """An op of a peer: a function of a namespace with the inputs, attributes and hyper fields by name.

    It returns the outputs in the order of the table, as many as the library gives.
    """

    library: Mapping[str, Work]

    def __init__(self, case: Case) -> None:
        if case["op"] not in self.library:
            raise NotImplementedError(case["op"])
        self.case = case
        self.spec, self.sample = op.sample_of(case)
        self.work = self.library[case["op"]]
        schema = op.op_table()[case["op"]]
        self.updated = [a["name"] for a in schema["outputs"] if a["name"] in self.sample.inputs]
        self.arrays = {k: None if a is None else self.take(a.copy()) for k, a in self.sample.inputs.items()}
        self.names = SimpleNamespace(
            **schema["attrs"] | dict(self.sample.attrs) | dict(self.sample.hyper), **self.arrays
        )
        first = next(a for a in self.sample.inputs.values() if a is not None)
        self.names.size = first.size
        self.prepare()

    def take(self, array: Any) -> Any:
        """Return the library's kind of array."""
        return array

    def give(self, array: Any) -> Any:
        """Return a NumPy array."""
        return np.asarray(array)

    def prepare(self) -> None:
        """Set up more names, such as outputs."""

    def reset(self) -> None:
        """Put back what is updated in place."""
        for name in self.updated:
            self.arrays[name][...] = self.take(self.sample.inputs[name])

    def check(self) -> dict[str, Any]:
        """Call once and return the error over what is allowed a peer."""
        self.reset()
        got = [self.give(a) for a in self.work(self.names)]
        if self.case["op"] in ("dropout_forward", "dropout_channels_forward"):
            return {"excess": self._dropped(got)}
        want = self.spec.evaluate(self.sample, self.case["dtype"])[: len(got)]
        got = [a.reshape(w.shape) for a, w in zip(got, want, strict=True)]
        allowed = [op.PEER_TOLERANCE * np.max(np.abs(w), initial=1e-30) for w in want]
        return {"excess": op.worst(got, want, allowed)}

    def run(self, calls: int) -> None:
        """Call."""
        work, names = self.work, self.names
        for _ in range(calls):
            work(names)

    def _dropped(self, got: list[Any]) -> float:
        """Judge a random mask: its share within six standard deviations, the output what the mask says."""
        y, mask = got[0], got[1].astype(bool)
        p, x = self.names.p, self.sample.inputs["x"]
        assert x is not None
        off = abs(mask.mean() - (1 - p)) / (6 * np.sqrt(p * (1 - p) / mask.size))
        if mask.shape != x.shape:
            mask = np.broadcast_to(mask[:, None], x.shape)
        want = np.where(mask, x.astype(np.float64) / (1 - p), 0)
        return max(float(off), op.worst([y], [want], [op.PEER_TOLERANCE * np.abs(want).max()]))
