"""Files: safetensors model files and writing that leaves a whole file or the old one."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfastnn.io.atomic import atomic_write
    from pyfastnn.io.safetensors import ModelFileError, read, write

__all__ = ["ModelFileError", "atomic_write", "read", "write"]

_HOME = {
    "ModelFileError": "safetensors",
    "atomic_write": "atomic",
    "read": "safetensors",
    "write": "safetensors",
}


def __getattr__(name: str) -> object:
    """Import the module that holds ``name``."""
    if name not in _HOME:
        from pyfastnn._names import unknown

        raise AttributeError(unknown("name in pyfastnn.io", name, __all__))
    from importlib import import_module

    value = getattr(import_module(f"pyfastnn.io.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names."""
    return sorted(__all__)
