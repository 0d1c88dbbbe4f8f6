"""What to look at before training: the lectures' sanity checks of a network and its data, in one report."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyfastnn._names import helpful_keywords, unknown
from pyfastnn.diagnose.probe import copied, first_block, some_rows
from pyfastnn.nn.layer import whole

if TYPE_CHECKING:
    from pyfastnn.nn.losses import Loss
    from pyfastnn.nn.model import Model
    from pyfastnn.train.trainer import Trainer

VERDICTS = ("ok", "warning", "failed", "skipped")
"""What a check can say."""

_COLUMNS = ("check", "value", "expected", "verdict", "what to do")


@dataclass(frozen=True)
class Check:
    """One row of the report.

    Attributes
    ----------
    name : str
        Such as ``"initial loss"``.
    value : str
        What was found.
    expected : str
        What is right.
    verdict : str
        ``"ok"``, ``"warning"``, ``"failed"`` or ``"skipped"``.
    advice : str
        What to do about it, or why it was skipped; empty if all is well.
    number : float
        The value where it is one number, else NaN.
    """

    name: str
    value: str
    expected: str
    verdict: str
    advice: str = ""
    number: float = math.nan


@dataclass(frozen=True, repr=False)
class Preflight:
    """The report of `preflight`: it prints as a table, shows as one in notebooks, and is true unless a check failed.

    Attributes
    ----------
    checks : tuple of Check
        One per row.
    """

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether no check failed; there may be warnings."""
        return not self.having("failed")

    @property
    def verdict(self) -> str:
        """The result in one line."""
        counts = {v: len(self.having(v)) for v in VERDICTS}
        words = ", ".join(f"{n} {v}" for v, n in counts.items() if n)
        return f"{'passed' if self.passed else 'FAILED'}: {words}"

    def having(self, verdict: str) -> list[Check]:
        """Return the checks with one verdict.

        Raises
        ------
        ValueError
            If there is no such verdict.
        """
        if verdict not in VERDICTS:
            raise ValueError(unknown("verdict", verdict, VERDICTS))
        return [check for check in self.checks if check.verdict == verdict]

    def __getitem__(self, name: str) -> Check:
        """Return one check.

        Raises
        ------
        KeyError
            If the report has none of this name.
        """
        for check in self.checks:
            if check.name == name:
                return check
        raise KeyError(unknown("check", name, [check.name for check in self.checks]))

    def __bool__(self) -> bool:
        return self.passed

    def _rows(self) -> list[tuple[str, ...]]:
        return [(c.name, c.value, c.expected, c.verdict, c.advice) for c in self.checks]

    def __str__(self) -> str:
        """Return the table and the verdict."""
        rows = [_COLUMNS, *self._rows()]
        widths = [max(len(row[k]) for row in rows) for k in range(4)]
        lines = ["  ".join([*(c.ljust(w) for c, w in zip(row, widths, strict=False)), row[4]]) for row in rows]
        return "\n".join([*(line.rstrip() for line in lines), self.verdict])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """Return the table for notebooks and pages."""
        from pyfastnn.report.html import table

        return table(_COLUMNS, self._rows(), caption=self.verdict, kinds=[check.verdict for check in self.checks])


@helpful_keywords
def preflight(
    model: Model | Trainer,
    X: Any,
    y: Any = None,
    *,
    loss: str | Loss | Mapping[str, str | Loss] = "softmax_cross_entropy",
    rows: int = 256,
    examples: int = 20,
    seed: int = 0,
) -> Preflight:
    """Run the sanity checks that come before training.

    Parameters
    ----------
    model : Model or Trainer
        Not changed, nor are optimizer, running statistics and random streams: all is done with a copy.
    X : array_like, shape (n, ...), sparse matrix, `pyfastnn.data.Stream`, or dict of str to array_like
        Raw training rows. Of a stream the first block is looked at, after preprocessing fitted on all of it; its weights are left out.
    y : array_like or dict of str to array_like
        Their labels or targets. None with a stream, which holds them.
    loss : str, Loss or dict, default "softmax_cross_entropy"
        Of a model; a trainer has its own.
    rows : int, default 256
        How many rows loss, inputs and activations are looked at on, picked without a random stream.
    examples : int, default 20
        How many rows are overfitted.
    seed : int, default 0
        Fixes the weights of a model that is not built, and dropout; a trainer has its own.

    Returns
    -------
    Preflight
        Prints as a table. The checks, each with what it wants:

        ``inputs``
            Finite; as the first layer sees them their mean is within 0.25 deviations of 0, the root mean square of the features' means at
            most 3 times that of their deviations, and no deviation of a feature 1000 times that of the middle one. Images do not look
            as if their channels came first.
        ``labels``, or ``targets``
            As the loss takes them; every class occurs, at most 10 times as often as another. Targets of regression vary, with a
            deviation from 0.01 to 100 and a mean of at most 10 deviations.
        ``initial loss``
            Without regularisation that of scores of 0 (log of the number of classes under softmax): at least half of it, at most
            twice, or 2 more where that is higher. Regression: at most 10 times.
        ``loss with regularisation``
            Higher, with ``weight_decay=1000``.
        ``first weights``
            Not the same for all units of a hidden layer.
        ``activation ...``
            Of each layer: finite; under 10 % of the units dead and 25 % of the values saturated; the standard deviation within 10
            times that of the first such layer, and over 1/1000 of that of the inputs; the gradient within 1000 times that of the last.
        ``gradient check``
            `gradient_check` on 6 rows and 5 elements of every array.
        ``overfits 20 rows``
            Without regularisation Adam brings their loss under 5 % of where it began (above the least one possible), and the
            accuracy to 1.

    Raises
    ------
    TypeError, ValueError
        If an argument or the rows do not fit the model. Targets that do not fit are a finding.
    RuntimeError
        If no parameter is trainable.

    Notes
    -----
    After the CS231n notes, "Neural Networks Part 3: learning and evaluation".

    Examples
    --------
    >>> import pyfastnn as fnn
    >>> from pyfastnn import nn
    >>> X, y = fnn.data.load_digits()
    >>> model = nn.Sequential(nn.Linear(64), nn.ReLU(), nn.Linear(10), preprocess=fnn.data.Standardize())
    >>> report = fnn.diagnose.preflight(model, X, y)
    >>> report.passed
    True
    >>> print(report["initial loss"].expected)
    2.3026 (log 10)
    """
    from pyfastnn._inputs import as_inputs
    from pyfastnn.diagnose import sanity_checks as checks
    from pyfastnn.train.prepare import as_stream, stream_data, training_data
    from pyfastnn.train.settings import check_trainable

    for name, value in (("rows", rows), ("examples", examples)):
        whole("preflight", name, value)
    trainer = copied("preflight", model, loss, whole("preflight", "seed", seed, 0))
    trained = bool(trainer.step_count or trainer.model.tasks)
    check_trainable("preflight", trainer.model, [head.output for head in trainer.heads])
    stream = as_stream(X)
    if stream is not None:
        X, y = first_block("preflight", stream, y)
    inputs, count = as_inputs(X, "X", trainer.model)
    if count == 0:
        raise ValueError("preflight: 'X' has no rows")
    found = checks.finite(inputs)
    if found is not None:
        return Preflight((found, *checks.skipped(trainer, "the inputs are not finite")))
    try:
        if stream is not None:
            stream_data(trainer, stream)
        data = training_data(trainer, X, y)
    except (TypeError, ValueError) as error:
        if not str(error).startswith(("'y'", "'y[", '"y[')):
            raise
        failed = Check(checks.targets_name(trainer), "refused", "targets that the loss takes", "failed", str(error))
        return Preflight((failed, *checks.skipped(trainer, "the targets do not fit")))
    return Preflight(tuple(checks.all_checks(trainer, X, y, data, some_rows(count, rows), examples, trained)))
