"""Data sets, splits, preprocessing, and streams of rows larger than memory.

Names are imported on first use, so ``import pyfastnn.data`` costs next to nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfastnn.data import preprocessing
    from pyfastnn.data._split import folds, split
    from pyfastnn.data.dataset import Dataset, load, load_features
    from pyfastnn.data.digits import load_digits
    from pyfastnn.data.errors import DataError
    from pyfastnn.data.hdf5 import HDF5
    from pyfastnn.data.preprocessing import (
        PCA,
        Center,
        Compose,
        MaxAbs,
        MinMax,
        Preprocessor,
        Rescale,
        Standardize,
        Whiten,
    )
    from pyfastnn.data.sources import NpyFile, RawFile, Source
    from pyfastnn.data.stream import Stream

__all__ = [
    "HDF5",
    "PCA",
    "Center",
    "Compose",
    "DataError",
    "Dataset",
    "MaxAbs",
    "MinMax",
    "NpyFile",
    "Preprocessor",
    "RawFile",
    "Rescale",
    "Source",
    "Standardize",
    "Stream",
    "Whiten",
    "folds",
    "load",
    "load_digits",
    "load_features",
    "preprocessing",
    "split",
]

_HOME = {
    "Center": "preprocessing",
    "Compose": "preprocessing",
    "DataError": "errors",
    "Dataset": "dataset",
    "HDF5": "hdf5",
    "MaxAbs": "preprocessing",
    "MinMax": "preprocessing",
    "NpyFile": "sources",
    "PCA": "preprocessing",
    "Preprocessor": "preprocessing",
    "RawFile": "sources",
    "Rescale": "preprocessing",
    "Source": "sources",
    "Standardize": "preprocessing",
    "Stream": "stream",
    "Whiten": "preprocessing",
    "folds": "_split",
    "load": "dataset",
    "load_digits": "digits",
    "load_features": "dataset",
    "split": "_split",
}


def __getattr__(name: str) -> object:
    """Import the module that holds ``name``."""
    from importlib import import_module

    if name == "preprocessing":
        return import_module("pyfastnn.data.preprocessing")
    if name.startswith("_"):  # private modules are looked up here before they are imported
        raise AttributeError(f"module 'pyfastnn.data' has no attribute {name!r}")
    if name not in _HOME:
        from pyfastnn._names import unknown

        raise AttributeError(unknown("name in pyfastnn.data", name, __all__))
    value = getattr(import_module(f"pyfastnn.data.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
