"""Objects made of settings: layers, losses and update rules.

What is compiled stands on the settings of all three. Those of layers and losses are fixed once they are made, so no plan can be older than
they are; those of update rules may change, are checked as the constructor checks them, and counted (`pyfastnn.optim.Optimizer.version`).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar

from pyfastnn._names import helpful_keywords, unknown


class Settings:
    """Base of objects whose attributes are the arguments of their constructor."""

    _made: bool = False

    def __init_subclass__(cls) -> None:
        """Let every constructor answer unknown keywords helpfully, and say when the object is made."""
        super().__init_subclass__()
        if "__init__" in cls.__dict__:
            cls.__init__ = _finishing(helpful_keywords(cls.__init__))  # type: ignore[method-assign]

    def __setattr__(self, name: str, value: object) -> None:
        """Ask `_changed` what an attribute of an object that is made becomes; names with an underscore are nobody's settings."""
        if self._made and not name.startswith("_"):
            value = self._changed(name, value)
        object.__setattr__(self, name, value)

    def _changed(self, name: str, value: object) -> object:
        """Return what an attribute becomes.

        Raises
        ------
        AttributeError
            If there is no such setting, or it is fixed.
        TypeError, ValueError
            If the value does not fit.
        """
        known = self._settings()
        if name not in known:
            raise AttributeError(f"{type(self).__name__}: {unknown('setting', name, known)}")
        return value

    def _settings(self) -> dict[str, Any]:
        """Return the settings by name."""
        return {name: value for name, value in vars(self).items() if not name.startswith("_")}


class FixedSettings(Settings):
    """Base of objects whose settings never change: layers and losses."""

    _otherwise: ClassVar[str] = ""
    """What to do instead; ``{}`` stands for the call that makes another one."""

    def _changed(self, name: str, value: object) -> object:
        super()._changed(name, value)
        owner = type(self).__name__
        instead = self._otherwise.format(f"{owner}({name}={value!r})")
        raise AttributeError(f"{owner}: {name!r} is fixed, because plans are compiled for it; {instead}")


def _finishing(init: Callable[..., None]) -> Callable[..., None]:
    """Return a constructor that marks the object as made when it is the outermost one, that of the object's own class."""

    @wraps(init)
    def made(self: Settings, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        if type(self).__init__ is made:
            self.__dict__["_made"] = True

    return made
