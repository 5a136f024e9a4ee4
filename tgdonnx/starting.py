"""Starting a process of our own quickly, and stopping it while it still imports."""

from __future__ import annotations

import importlib.machinery
import os
import signal
import sys
import threading
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NoReturn, Optional

INTERRUPTED = 130

# onnx_ir imports sympy for arithmetic on symbolic dimensions, which hardly a command does, and it is most of the time that
# importing onnx_ir takes. Where a release of onnx_ir calls its module otherwise, the time is lost, and nothing else.
SELDOM_USED = frozenset({"sympy", "onnx_ir._symbolic_shapes"})


class _Postponed(types.ModuleType):
    """A module that is loaded when it is asked for an attribute.

    `importlib.util.LazyLoader` would load it at the next ``import`` of it already, which asks for ``__spec__``.
    """

    def __getattr__(self, name: str) -> Any:
        spec = self.__spec__
        assert spec is not None
        assert isinstance(spec.loader, _Later)
        self.__class__ = types.ModuleType
        if spec.submodule_search_locations is not None:
            self.__path__ = spec.submodule_search_locations
        spec.loader.loader.exec_module(self)
        return getattr(self, name)


class _Later:
    """Loads a module as another loader does, but not yet."""

    def __init__(self, loader: Any) -> None:
        self.loader = loader

    # Without the base classes of importlib.abc, whose import takes longer than all of this module.
    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Optional[types.ModuleType]:
        made: Optional[types.ModuleType] = self.loader.create_module(spec)
        return made

    def exec_module(self, module: types.ModuleType) -> None:
        vars(module).pop("__path__", None)  # an import of a module inside asks for it, and so loads the whole
        module.__class__ = _Postponed


class _Finder:
    """Finds what is seldom used, and has it loaded later."""

    def find_spec(
        self, name: str, path: Optional[Sequence[str]], target: Optional[types.ModuleType] = None
    ) -> Optional[importlib.machinery.ModuleSpec]:
        if name not in SELDOM_USED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Later(spec.loader)  # type: ignore[assignment]  # a loader all the same
        return spec


def postpone_imports() -> None:
    """Makes libraries that are imported but seldom used load at their first use.

    For processes of our own only: how modules are found is not ours to change in a program that imports tgdonnx.
    """
    sys.meta_path.insert(0, _Finder())


@contextmanager
def leaving_on_interrupt() -> Iterator[None]:
    """Makes Ctrl-C end the process at once, for the time of an import.

    Not by an exception: raised in the middle of an import it would be taken for the failure of that import.
    """
    ours = threading.current_thread() is threading.main_thread()  # others may set no handler
    if not (ours and signal.getsignal(signal.SIGINT) is signal.default_int_handler):  # else the parent wants it ignored
        yield
        return
    signal.signal(signal.SIGINT, _leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(_signal: int, _frame: object) -> NoReturn:
    os._exit(INTERRUPTED)
