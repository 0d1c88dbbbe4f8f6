"""The one door to training."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from pyfastnn._inputs import Csr, as_inputs
from pyfastnn._names import helpful_keywords
from pyfastnn.diagnose.monitor import Monitor
from pyfastnn.nn.losses import Loss
from pyfastnn.nn.model import Model
from pyfastnn.optim import Optimizer
from pyfastnn.train.compiled import PLAIN, Compiled, Form, Head, compile_plans
from pyfastnn.train.evaluation import evaluate
from pyfastnn.train.history import History
from pyfastnn.train.hyper import HyperRows, check_monitor
from pyfastnn.train.interrupts import HeldInterrupts
from pyfastnn.train.loop import Callback, Loop
from pyfastnn.train.manual import Manual, gradients
from pyfastnn.train.passes import Pass, Tally, evaluation_passes, training_passes
from pyfastnn.train.preflight import preflight_of
from pyfastnn.train.prepare import complete, training_data
from pyfastnn.train.progress import Progress
from pyfastnn.train.run_directory import RunDirectory, checked_run_directory
from pyfastnn.train.settings import Changeable, check_fit, check_trainable, check_trainer, checked_callbacks
from pyfastnn.train.stepper import Stepper
from pyfastnn.train.updates import Groups, Slots, mean_model, renewed_slots

if TYPE_CHECKING:
    from pyfastnn.backends.compare import Difference
    from pyfastnn.bench.breakdown import Profile

Array = NDArray[Any]


class Trainer(Changeable):
    """Trains a model: an epoch is one native call.

    ``loss``, ``loss_weights``, ``optimizer``, ``precision``, ``monitor``, ``preflight``, ``guard`` and ``threads`` may be set anew.

    Parameters
    ----------
    model : Model
        Built at the first fit unless it is already.
    loss : str or Loss, or dict of them, default "softmax_cross_entropy"
        Or ``"multiclass_hinge"``, ``"binary_cross_entropy"``, ``"mean_squared_error"``, ``"mean_absolute_error"``, ``"huber"``,
        ``"poisson"``, or an object of `pyfastnn.nn` with its settings; a dict by output if the model has several. Outputs that it leaves
        out take no targets and are only predicted; layers that no loss depends on stay as they are, but for running statistics.
    optimizer : str or Optimizer, default "adam"
        Or ``"sgd"``, ``"momentum"``, ``"nesterov"``, ``"adagrad"``, ``"rmsprop"``, ``"adamw"``, or an object of `pyfastnn.optim` with its
        numbers.
    metrics : str or sequence of str, optional
        ``"accuracy"``, counted for classifiers anyway.
    loss_weights : dict of str to float, optional
        Parts of the losses of several outputs in their sum; 1 by default.
    seed : int, default 0
        From 0 to 2**53 - 1. Fixes the first weights, the order of the rows and dropout; the same seed gives the same bits on any
        number of threads.
    guard : {"nonfinite", "lecture", None}, default "nonfinite"
        ``"nonfinite"`` stops a run whose loss or weights become NaN or infinite and puts back the weights of the start of that epoch;
        ``"lecture"`` also when the loss exceeds three times the first one; None lets everything pass.
    threads : int, default 0
        Threads of this trainer's steps; 0 is the process-wide setting (`pyfastnn.set_num_threads`).
    precision : {"float32", "bf16"}, default "float32"
        ``"bf16"`` rounds the factors of the matrix products of training steps to bfloat16 (8 significant bits), at nearly twice the speed:
        forward and backward of every `nn.Linear` with more than 16 inputs and outputs. Sums, weights, moments, gradients, biases,
        everything else, and all evaluation and prediction stay float32. It needs a processor with AVX512-BF16 and a model of float32
        (``"float32"`` lets a float64 model compute in float64).
    monitor : bool or pyfastnn.diagnose.Monitor, default True
        Watch every 50th step of a fit, and warn (`pyfastnn.diagnose.TrainingWarning`) of what goes wrong; None is False. No bit changes.
    preflight : bool, default True
        Look at some rows, the first weights and the first loss in the first fit, 2 ms at most, and warn
        (`pyfastnn.diagnose.PreflightWarning`) of what is wrong with them. No bit changes.

    Attributes
    ----------
    history : History
        One row per epoch over all fits.
    epoch, step_count : int
        Epochs and steps done so far.
    first_loss : float
        Loss of the very first step; NaN before it.
    hyper : HyperRows
        The optimizer's numbers as the executor reads them.

    Raises
    ------
    TypeError, ValueError
        If an argument is of the wrong kind or an unknown name, or ``precision="bf16"`` meets a float64 model.
    RuntimeError
        If ``precision="bf16"`` meets a processor without AVX512-BF16, or an instruction set forced by ``PYFASTNN_ISA``.
    """

    @helpful_keywords
    def __init__(
        self,
        model: Model,
        loss: str | Loss | Mapping[str, str | Loss] = "softmax_cross_entropy",
        optimizer: str | Optimizer = "adam",
        metrics: str | Sequence[str] = (),
        *,
        loss_weights: Mapping[str, float] | None = None,
        seed: int = 0,
        guard: str | None = "nonfinite",
        threads: int = 0,
        precision: str = "float32",
        monitor: Monitor | bool | None = True,
        preflight: bool = True,
    ) -> None:
        check_trainer(model, metrics, seed, guard, threads)
        self.model = model
        self.precision = precision
        self.monitor = monitor
        self.preflight = preflight
        self.loss = loss
        self.loss_weights = loss_weights
        self.loss_arrays: dict[str, tuple[Any, dict[str, Any]]] = {}
        self.optimizer = optimizer
        self.seed = int(seed)
        self.guard = guard
        self.threads = int(threads)
        self.history = History()
        self.epoch = self.step_count = 0
        self.slots = Slots()
        self.first_loss = math.nan
        self._compiled: Compiled | None = None
        self._stepper: Stepper | None = None
        self._manual: Manual | None = None
        self.shared_interrupts: HeldInterrupts | None = None  # of several fits at once
        self.hyper = HyperRows()
        self._turns: list[None] = [None]  # empty while a fit runs: taking the last item is atomic

    def __getstate__(self) -> dict[str, Any]:
        """Leave the compiled plans behind when copied or pickled."""
        left = dict.fromkeys(("_compiled", "_stepper", "_manual", "shared_interrupts"))
        return {**self.__dict__, **left, "_turns": [None]}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Own the optimizer's arrays, which come read-only where processes share the memory they are sent in."""
        self.__dict__.update(state)
        self.slots.own()

    @property
    def heads(self) -> list[Head]:
        """The outputs of the model that have a loss."""
        if isinstance(self._loss, Loss):
            return [Head(next(iter(self.model.network.outputs)), self._loss, 1.0, "")]
        return [Head(k, loss, self._loss_weights.get(k, 1.0), f".{k}") for k, loss in self._loss.items()]

    @helpful_keywords
    def fit(
        self,
        X: Any,
        y: Any = None,
        *,
        rows: Any = None,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight: Any = None,
        epochs: int = 10,
        batch_size: int = 32,
        shuffle: bool = True,
        max_steps: int | None = None,
        max_seconds: float | None = None,
        callbacks: Sequence[Callback] = (),
        verbose: int | None = None,
        run_dir: str | Path | RunDirectory | None = None,
    ) -> History:
        """Train for some epochs; called again, it continues.

        Parameters
        ----------
        X : array_like, shape (n, ...), sparse matrix, `pyfastnn.data.Stream`, or dict of str to array_like
            Training rows. float32, float64 and uint8 arrays are read in place (C-contiguous ones without a copy); other numbers are
            converted to the model's dtype. A dict by input if there are several.

            A CSR matrix of SciPy becomes dense a batch at a time; its items are copied to the model's dtype, its indices to int64;
            csc and coo matrices are converted first, a second copy. Preprocessing may only scale, as ``MaxAbs()`` does.

            A stream is trained on block by block, each one in a new order of its rows that follows from seed, epoch and block; what
            this page says of an epoch's guard then holds for a block, and the last step of a block takes what is left of it.
        y : array_like, shape (n,), (n, 1) or, for regression with several outputs, (n, outputs); or dict of str to array_like
            Labels of any kind, or targets: finite numbers, from 0 to 1 under `nn.BinaryCrossEntropy` and 0 or more under `nn.Poisson` in
            all rows that count. A dict by output if several have a loss. None with a stream, which holds them.
        rows : array_like of int, shape (m,), optional
            Numbers of the rows to train on, for folds and samples with repetition: the bits are those of ``fit(X[rows], y[rows])``,
            and ``X`` is not copied.
        X_val, y_val : array_like, optional
            Validation rows and targets, evaluated after every epoch; a stream without ``y_val`` too, with the weights it may have.
        sample_weight : array_like, shape (n,), optional
            Weights of the rows, 0 or more: the loss of a batch is the weighted mean, 0 if all its weights are. So is the loss of an epoch;
            rows of weight 0 are left out of its accuracy. None with a stream, which may hold them.
        epochs : int, default 10
            Epochs to add.
        batch_size : int, default 32
            Rows a step; the last step of an epoch takes what is left.
        shuffle : bool, default True
            Whether each epoch goes through the rows in a new order.
        max_steps, max_seconds : int and float, optional
            End this fit after so many steps or seconds.
        callbacks : sequence of callable
            Each is called as ``callback(trainer, row)`` after every epoch; a true answer ends the fit.
        verbose : int, optional
            0 shows nothing, 1 one line per epoch, 2 a moving bar; by default the bar in a terminal or notebook, else nothing.
        run_dir : path or RunDirectory, optional
            Folder to write the run down in after every epoch (`pyfastnn.train.run_directory`), for `pyfastnn.report`. One that has a
            run goes on with it, if this trainer made it or was resumed from its checkpoint.

        Returns
        -------
        History
            ``self.history``; ``stop_reason`` says why the fit ended. Ctrl-C ends it cleanly: the model then stands at its last
            finished step.

        Raises
        ------
        TypeError, ValueError
            If data or settings do not fit; nothing has been trained then. NaN or infinity in ``X`` raises when it reaches the loss;
            the weights are those from before that epoch.
        RuntimeError
            If no parameter is trainable (`Model.freeze`), or the trainer is training already.
        OSError
            If ``run_dir`` cannot be written; the model stands after the epoch before it.

        Warns
        -----
        RuntimeWarning
            If the guard stopped the run, or ``monitor`` or ``preflight`` found something.
        """
        counts = {"epochs": epochs, "batch_size": batch_size, "max_steps": 1 if max_steps is None else max_steps}
        check_fit(counts, max_seconds, verbose, X_val, y_val)
        asked = checked_callbacks(callbacks)
        directory = checked_run_directory(run_dir, self)
        check_trainable("fit", self.model, [head.output for head in self.heads])
        preflight = preflight_of(self)
        data = training_passes(self, X, y, rows, sample_weight, int(batch_size))
        validation = None if X_val is None else evaluation_passes(self, X_val, y_val, "X_val", "y_val")
        check_monitor(self.optimizer, list(Tally(self.heads).figures()), validation is not None)
        compiled = self._compile(data.batch, form=data.form)
        progress = Progress(epochs, data.steps, verbose)
        if self.epoch:
            progress.say(f"continuing from epoch {self.epoch}; trainer.reset() starts over")
        more = (asked, progress, directory, preflight)
        loop = Loop(self, compiled, data, validation, epochs, max_steps, max_seconds, shuffle, *more)
        try:
            self._turns.pop()
        except IndexError:
            raise RuntimeError("fit: the trainer is training already, in another thread or around this call") from None
        try:
            loop.run()
        finally:
            self._turns.append(None)
        return self.history

    def step(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Take one training step on these rows.

        Parameters
        ----------
        X, y, sample_weight : array_like
            Rows, targets and weights of one batch, as for `fit`.

        Returns
        -------
        float
            The loss of the batch, before the update. NaN or infinity is returned, not guarded against.

        Raises
        ------
        TypeError, ValueError
            If data do not fit; no step was taken then.
        RuntimeError
            If no parameter is trainable.
        KeyboardInterrupt
            If Ctrl-C was pressed during the step, which is finished and counted then.
        """
        stepper = self._stepper
        if sample_weight is None and stepper is not None and stepper.fits(self, X, y):
            given = {"X": X, "y": y}
        else:
            check_trainable("step", self.model, [head.output for head in self.heads])
            data, compiled = self._batch(X, y, sample_weight)
            stepper = self._stepper = Stepper(self, compiled, data)
            given = {name: data.arrays[name] for name in stepper.given}
        reason = stepper.run(self, given)
        self.step_count += 1
        if reason == "interrupted":
            raise KeyboardInterrupt
        return float(stepper.losses[0])

    def evaluate(self, X: Any, y: Any = None, sample_weight: Any = None, metrics: Any = ()) -> dict[str, float]:
        """Return the loss, the accuracy of classifiers and what else is asked for on these rows.

        Parameters
        ----------
        X, y, sample_weight : array_like
            Raw rows, targets and weights, as for `fit`; or a stream of them alone.
        metrics : str, callable, `pyfastnn.metrics.Metric` or list of them, or dict of lists by output
            Names of `pyfastnn.metrics`, such as ``"f1_macro"``, or functions of ``y_true`` and ``model.predict(X)``. Of two classes the
            second one is positive. Labels that the loss ignores are left out.

        Returns
        -------
        dict
            ``loss`` (mean over the rows, without penalty) and ``accuracy`` (over those that take part); for several outputs also those of
            each that has a loss, as ``loss.name``; the metrics by name. Row weights count in all but ``accuracy``.

        Raises
        ------
        RuntimeError
            If the model was not trained yet.
        TypeError, ValueError
            If rows, targets or metrics do not fit.
        """
        return evaluate(self, X, y, sample_weight, metrics)

    # A step taken apart

    def forward(self, X: Any) -> Any:
        """Return the scores of one batch in training form (batch statistics, dropout), ready for `backward`.

        Parameters
        ----------
        X : array_like, or dict of str to array_like
            Rows, as for `fit`. Preprocessing that is not fitted yet is fitted on them.

        Returns
        -------
        ndarray, shape (n, outputs), or dict of str to ndarray
            New arrays; by output if there are several.

        Raises
        ------
        TypeError, ValueError
            If the rows do not fit.
        """
        inputs, count = as_inputs(X, "X", self.model)
        if count == 0:
            raise ValueError("'X' has no rows")
        if any(isinstance(rows, Csr) for rows in inputs.values()):
            raise TypeError("forward: 'X' is a sparse matrix, expected dense rows: pass X.toarray()")
        complete(self, inputs)
        if self._manual is None or not self._manual.fits(self, count):
            self._manual = Manual(self, count)
        return self._manual.forward(self, inputs)

    def backward(self, dscores: Any, *, input_gradient: bool = False) -> Any:
        """Compute the gradients of all parameters from those of the scores that `forward` gave.

        Parameters
        ----------
        dscores : array_like, shape (n, outputs), or dict of str to array_like
            Gradient of some loss of yours with respect to the scores; its mean over the rows is up to you.
        input_gradient : bool, default False
            Whether the gradient with respect to the raw inputs is returned.

        Returns
        -------
        ndarray, dict of str to ndarray, or None
            With ``input_gradient`` an array of the shape of ``X``.

        Raises
        ------
        RuntimeError
            If there was no `forward` since the last change of the model.
        TypeError, ValueError
            If the gradient holds no numbers, or its shape does not fit.
        """
        return self._parts("backward").backward(self, dscores, input_gradient)

    def update(self) -> None:
        """Let the update rule use the gradients of the last `backward`: one training step is done.

        Raises
        ------
        RuntimeError
            If there was no `forward` since the last change of the model, or no parameter is trainable.
        """
        check_trainable("update", self.model)
        self._parts("update").update(self)
        self.step_count += 1

    def _parts(self, what: str) -> Manual:
        found = self._manual
        if found is None or not found.rows or found.key != self._key():
            raise RuntimeError(f"{what}: call trainer.forward(X) first")
        return found

    def gradients(self, X: Any, y: Any, sample_weight: Any = None) -> dict[str, Array]:
        """Return the gradients of the loss on one batch by name; weights and running statistics stay as they are.

        Parameters
        ----------
        X, y, sample_weight : array_like
            Rows, targets and weights of one batch, as for `fit`. Nothing is clipped, and no penalty is added.

        Returns
        -------
        dict of str to ndarray
            ``{"linear_1.w": ...}`` for every array that training changes.
        """
        data = training_data(self, X, y, weights=sample_weight)
        return gradients(self, Pass(data, data.count, self.heads))

    def reset(self) -> None:
        """Start over: weights drawn from the seed, empty moments, epoch 0, empty history. Preprocessing and classes stay."""
        if self.model.built:
            self.model.build(seed=self.seed)
        self.slots = Slots()
        self.history = History()
        self.epoch = self.step_count = 0
        self.first_loss = math.nan
        self._compiled = None

    def ema_model(self) -> Model:
        """Return a copy of the model whose weights are the running means that the optimizer keeps.

        Running statistics of normalization layers are those of the model. Training goes on with the model as it is.

        Raises
        ------
        RuntimeError
            If the optimizer keeps none (``ema=``), or nothing was trained yet.
        """
        return mean_model(self.model, self.optimizer, self.make_slots() if self.slots else self.slots)

    # Looking inside

    def trace(self, X: Any, y: Any) -> tuple[dict[str, Array], list[tuple[str, float]]]:
        """Take one training step and return every value of it by name, and the seconds of each node.

        Parameters
        ----------
        X, y : array_like
            Rows and targets of one batch. The weights are updated, as by `step`.

        Returns
        -------
        values : dict of str to ndarray
            Activations, gradients (``"d(linear_1.w)"``), updated parameters.
        times : list of (str, float)
            Op and seconds per node.
        """
        data, compiled = self._batch(X, y)
        hyper = self.hyper_rows(compiled.groups, 1)
        traced = compiled.train.trace("train", data.rows, data.arrays, hyper=hyper, threads=self.threads)
        self.step_count += 1
        data.unbind(compiled.train)
        return traced

    def compare(self, X: Any, y: Any) -> Difference | None:
        """Hold one training step against the NumPy reference, node by node; the weights are left as they were.

        Parameters
        ----------
        X, y : array_like
            Rows and targets of one batch.

        Returns
        -------
        Difference or None
            The first value outside the computed bound of its op, or None.
        """
        from pyfastnn.backends.compare import compare

        data, compiled = self._batch(X, y)
        known = compiled.train.graphs["train"].values
        state = {k: v for k, v in {**self.model.arrays(), **self.slots}.items() if k in known}
        kept = {k: v.copy() for k, v in state.items()}
        arrays = {k: v for k, v in {**self.model.folded(), **state, **data.arrays}.items() if k in known}
        try:
            return compare(compiled.train, "train", data.rows, arrays, hyper=self.hyper_rows(compiled.groups, 1))
        finally:
            data.unbind(compiled.train)
            for name, array in kept.items():
                state[name][...] = array

    def profile(self, X: Any, y: Any, *, batch_size: int | None = None, seconds: float = 1.0) -> Profile:
        """Say where the time of a training step goes; the trainer is left as it was.

        Parameters
        ----------
        X, y : array_like
            Rows and targets, as for `fit`.
        batch_size : int, optional
            Rows a step; by default those of the last fit, or 32.
        seconds : float, default 1
            How long to train for it, about.

        Returns
        -------
        Profile
            Prints as a table: microseconds, share, rate and part of the machine's best for every step of the plan. ``steps`` has the
            numbers.

        Raises
        ------
        TypeError, ValueError
            If data or settings do not fit.
        KeyboardInterrupt
            If Ctrl-C was pressed.
        """
        from pyfastnn.train.profile import profile

        return profile(self, X, y, batch_size, seconds)

    def describe(self) -> str:
        """Return a table of the steps of the compiled training plan.

        Raises
        ------
        RuntimeError
            If nothing has been compiled yet.
        """
        if self._compiled is None:
            raise RuntimeError("nothing is compiled yet: call fit or step first")
        return self._compiled.train.describe("train")

    # Files

    def checkpoint(self, path: str | Path) -> None:
        """Write everything a bit-exact continuation needs to a safetensors file.

        Raises
        ------
        RuntimeError
            If the model is not built.
        TypeError
            If a loss or a layer is a function of Python: code is never saved.
        """
        from pyfastnn.io.checkpoint import save

        save(self, path)

    @staticmethod
    def resume(path: str | Path) -> Trainer:
        """Return the trainer a checkpoint describes; `fit` with the same arguments continues bit for bit."""
        from pyfastnn.io.checkpoint import load

        return load(path)

    # Within

    def make_slots(self) -> dict[str, Array]:
        """Allocate the optimizer's arrays unless they exist, and return them; those of arrays that stay trained keep their values."""
        found = renewed_slots(self.slots, self.model, self._optimizer, self.step_count)
        if found is not self.slots:
            self.slots = found
            self._compiled = None
        return self.slots

    def _batch(self, X: Any, y: Any, weights: Any = None) -> tuple[Pass, Compiled]:
        """Return checked rows as one batch, and plans for it."""
        data = training_data(self, X, y, weights=weights)
        found = Pass(data, data.count, self.heads)
        return found, self._compile(found.rows, at_least=True, form=data.form)

    def hyper_rows(self, groups: Groups, steps: int, epoch_steps: float = math.inf, epoch_step: int = 0) -> Array:
        """Return the hyper rows of the next steps, after ``epoch_step`` of an epoch's ``epoch_steps`` if they are of one."""
        step = self.step_count + 1
        at: dict[str, Any] = {"epoch": self.epoch, "epoch_steps": epoch_steps, "epoch_step": epoch_step}
        return self.hyper.fill(self._optimizer, step, steps, self.seed, groups, **at, history=self.history.rows)

    def hyper_row(self, groups: Groups) -> Array:
        """Return the hyper rows of the next step, one that belongs to no epoch."""
        step, rows = self.step_count + 1, self.history.rows
        return self.hyper.one(self._optimizer, step, self.seed, groups, epoch=self.epoch, history=rows)

    def _key(self, form: Form = PLAIN) -> tuple[Any, ...]:
        """Return what plans are compiled for, beside the batch size."""
        return self._optimizer.structure, self.model.version, self._kinds, self._loss, self._loss_weights, form

    def _current(self, form: Form | None = PLAIN) -> Compiled | None:
        """Return the compiled plans unless something they were made for has changed; None takes them for data of any form."""
        found = self._compiled
        if found is None:
            return None
        wanted = self._key(found.key[-1] if form is None else form)
        return found if found.key == wanted else None

    def _compile(self, batch: int, *, at_least: bool = False, form: Form = PLAIN) -> Compiled:
        """Return plans for this batch size, or with ``at_least`` for a larger one."""
        old = self._current(form)
        if old is not None and (old.batch == batch or (at_least and old.batch > batch)):
            return old
        slots = self.make_slots()
        kinds = {"bf16": self.precision == "bf16", "watched": self._monitor is not None}
        key = self._key(form)
        self._compiled = compile_plans(self.model, self.heads, self.optimizer, slots, batch, key, form=form, **kinds)
        return self._compiled
