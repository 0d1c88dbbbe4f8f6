"""What all trials of a search have in common, and what each of them draws from."""

from __future__ import annotations

import inspect
import math
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from pyfastnn._names import unknown
from pyfastnn.nn.layer import number
from pyfastnn.search.scoring import Function
from pyfastnn.train.prepare import as_stream
from pyfastnn.train.settings import GUARDS, is_whole
from pyfastnn.train.trainer import Trainer

Build = Callable[..., Trainer]
PARALLEL = ("threads", "joblib")


@dataclass
class Setting:
    """The arguments that searches share, by the names they have in `pyfastnn.search.random`."""

    owner: str
    build: Build
    X: Any
    y: Any
    X_val: Any
    y_val: Any
    cv: Any
    scoring: str | Function | None
    batch_size: int
    shuffle: bool
    max_seconds: float | None
    threads: int | None
    parallel: str
    seed: int
    guard: str | None
    keep: int
    run_dir: str | os.PathLike[str] | None
    verbose: int

    def check(self, names: Iterable[str], *, resumes: bool = False) -> None:
        """Raise TypeError or ValueError unless trials can run with these.

        Parameters
        ----------
        names : iterable of str
            Of the parameters that ``build`` gets.
        resumes : bool, default False
            Whether ``run_dir`` may hold trials already.

        Raises
        ------
        TypeError, ValueError
            If an argument does not fit.
        ImportError
            If ``parallel="joblib"`` and joblib is missing.
        """
        owner = self.owner
        if not callable(self.build):
            raise TypeError(f"{owner}: 'build' is {self.build!r}, expected a function that returns a Trainer")
        try:
            inspect.signature(self.build).bind(**dict.fromkeys(names))
        except TypeError as error:
            raise TypeError(f"{owner}: 'build' cannot be called with {', '.join(names)}: {error}") from None
        except ValueError:  # a callable that hides its signature shows what it takes when it is called
            pass
        check_whole(owner, {"batch_size": self.batch_size, "keep": self.keep})
        if self.threads is not None:
            check_whole(owner, {"threads": self.threads})
        if not is_whole(self.seed) or self.seed < 0:
            raise ValueError(f"{owner}: 'seed' is {self.seed!r}, expected a whole number of 0 or more")
        if self.max_seconds is not None:
            number(owner, "max_seconds", self.max_seconds, 0.0, math.inf, open_low=True)
        if self.guard not in GUARDS:
            raise ValueError(f"{owner}: 'guard' is {self.guard!r}, expected 'lecture', 'nonfinite' or None")
        if self.verbose not in (0, 1):
            raise ValueError(
                f"{owner}: 'verbose' is {self.verbose!r}, expected 0 (nothing) or 1 (a line for each trial)"
            )
        self._check_judges()
        self._check_places(resumes)

    def _check_judges(self) -> None:
        """Check what trials are judged by."""
        owner = self.owner
        if (self.X_val is None) == (self.cv is None):
            both = "both" if self.cv is not None else "neither"
            raise ValueError(f"{owner}: {both} of 'X_val' and 'cv' given, expected X_val= and y_val=, or cv=")
        if self.X_val is not None and self.y_val is None and as_stream(self.X_val) is None:
            raise ValueError(f"{owner}: 'X_val' was given without 'y_val'")
        if self.cv is not None and as_stream(self.X) is not None:
            raise TypeError(f"{owner}: 'cv' is for rows in memory, 'X' is a stream; pass X_val= and y_val=")
        if isinstance(self.cv, Iterator):
            self.cv = list(self.cv)  # every stage or round goes through the folds again

    def _check_places(self, resumes: bool) -> None:
        """Check where trials run, and where they are written down."""
        owner = self.owner
        if not isinstance(self.parallel, str):
            raise TypeError(f"{owner}: 'parallel' is {self.parallel!r}, expected 'threads' or 'joblib'")
        if self.parallel not in PARALLEL:
            raise ValueError(f"{owner}: {unknown('parallel', self.parallel, PARALLEL)}")
        if self.parallel == "joblib":
            from pyfastnn.search.elsewhere import joblib_module

            joblib_module()
        if self.run_dir is None:
            return
        if not isinstance(self.run_dir, (str, os.PathLike)):
            raise TypeError(f"{owner}: 'run_dir' is {self.run_dir!r}, expected the path of a folder")
        folder = Path(self.run_dir)
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{owner}: 'run_dir' is '{folder}', which is a file, expected a folder")
        found = min(folder.glob("trial_*"), default=None)
        if found is not None and not resumes:
            raise ValueError(f"{owner}: 'run_dir' is '{folder}', which has '{found.name}' already: name another folder")


def setting_of(owner: str, arguments: Mapping[str, Any]) -> Setting:
    """Return the arguments that all searches have in common, from all of one."""
    return Setting(owner, **{part.name: arguments[part.name] for part in fields(Setting) if part.name != "owner"})


def check_whole(owner: str, counts: Mapping[str, Any]) -> None:
    """Raise ValueError unless all are whole numbers of 1 or more."""
    for name, value in counts.items():
        if not is_whole(value) or value < 1:
            raise ValueError(f"{owner}: {name!r} is {value!r}, expected a whole number of 1 or more")


def derived(seed: int, stage: int, place: int) -> tuple[int, np.random.Generator]:
    """Return the seed of a trial's trainer and the generator of its parameters.

    Both follow from the seed of the search, the stage and the place in it: a longer search begins with the trials of a shorter one.
    """
    found = np.random.SeedSequence([int(seed), stage, place])
    words = found.generate_state(1, np.uint64)
    return int(words[0]) >> 11, np.random.Generator(np.random.Philox(found.spawn(1)[0]))
