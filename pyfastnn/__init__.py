"""pyfastnn: train small and medium neural networks on NumPy arrays at the speed of the machine.

Names are imported on first use, so importing the package costs little.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyfastnn import cs231n, data, diagnose, functional, gates, metrics, nn, optim, report, search
    from pyfastnn._core import __version__, num_threads
    from pyfastnn._threads import set_num_threads
    from pyfastnn.io.export_c import export_c
    from pyfastnn.io.model_file import load
    from pyfastnn.train.ensemble import Ensemble, average_weights
    from pyfastnn.train.history import History
    from pyfastnn.train.many import TrainManyError, train_many
    from pyfastnn.train.trainer import Trainer

_MODULES = ("cs231n", "data", "diagnose", "functional", "gates", "metrics", "nn", "optim", "report", "search")
_HOME = {
    "Ensemble": "pyfastnn.train.ensemble",
    "History": "pyfastnn.train.history",
    "TrainManyError": "pyfastnn.train.many",
    "Trainer": "pyfastnn.train.trainer",
    "__version__": "pyfastnn._core",
    "average_weights": "pyfastnn.train.ensemble",
    "export_c": "pyfastnn.io.export_c",
    "load": "pyfastnn.io.model_file",
    "num_threads": "pyfastnn._core",
    "set_num_threads": "pyfastnn._threads",
    "train_many": "pyfastnn.train.many",
}

__all__ = [
    "Ensemble",
    "History",
    "TrainManyError",
    "Trainer",
    "__version__",
    "average_weights",
    "cs231n",
    "data",
    "diagnose",
    "export_c",
    "functional",
    "gates",
    "load",
    "metrics",
    "nn",
    "num_threads",
    "optim",
    "report",
    "search",
    "set_num_threads",
    "train_many",
]


def __getattr__(name: str) -> Any:
    """Import the module that holds ``name``."""
    if name in _MODULES:
        return import_module(f"pyfastnn.{name}")
    if name not in _HOME:
        from pyfastnn._names import unknown

        raise AttributeError(unknown("name in pyfastnn", name, __all__))
    value = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return __all__
