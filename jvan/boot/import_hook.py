"""Meets the first `import jittor`: refuses in one line what cannot work, says when the core is compiled, tidies up after."""

from __future__ import annotations

import contextlib
import glob
import os
import sys

from .. import _stop
from .._say import say
from ..errors import JittorRebuilt, JittorUnavailable
from .cache import check_cache, check_rights
from .cuda import check_cuda
from .onednn import check_onednn
from .python import check_compiler, check_headers, check_numpy, check_python, check_python_config, hide_unfit_cupy
from .settings import BROKEN
from .shell import QUOTED, check_paths, refused

# the last two again, since the user may have moved HOME or mended something after `import jvan`
FATAL = (
    check_python, check_numpy, check_compiler, check_paths, check_headers, check_cache, check_rights, check_python_config,
    check_onednn,
)  # fmt: skip
DOCTOR = "python -m jvan.doctor says more"


def install() -> None:
    """Put the hook at the head of the import system, once; it takes itself away when Jittor has been imported."""
    if not any(isinstance(finder, ImportHook) for finder in sys.meta_path):
        sys.meta_path.insert(0, ImportHook())


class ImportHook:
    """A finder that wraps the loader of `jittor` and `jittor_utils` and finds nothing else."""

    def __init__(self):
        self.inside = False

    def find_spec(self, name, path=None, target=None):
        if name == "jit_utils_core":
            return self._found(name, path, target, CoreLoader)
        if name not in ("jittor", "jittor_utils") or self.inside:
            return None
        spec = self._found(name, path, target, lambda loader: Loader(self, loader))
        if spec is None and name == "jittor":
            raise JittorUnavailable("Jittor is not installed; to mend it: pip install jittor==1.3.11.0")
        return spec

    def _found(self, name, path, target, wrapped):
        """The others' spec, its loader wrapped."""
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find and find(name, path, target)
            if spec:
                if spec.loader is not None:
                    spec.loader = wrapped(spec.loader)
                return spec
        return None

    def check(self) -> None:
        """Raise JittorUnavailable for the first thing that Jittor cannot start without."""
        for check in (*FATAL, lambda: check_cuda(assembled=True)):
            _demand(check())

    def leave(self) -> None:
        with contextlib.suppress(ValueError):
            sys.meta_path.remove(self)


class Loader:
    """The real loader with a check before and a tidying after; the module keeps only the real one."""

    def __init__(self, hook: ImportHook, loader):
        self.hook, self.loader = hook, loader

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        self.hook.check()
        return self.loader.create_module(spec)

    def exec_module(self, module) -> None:
        module.__spec__.loader = module.__loader__ = self.loader
        self.hook.inside = True
        from ..children import jittors_question_kept_safe  # 8 ms, which Jittor's import takes anyway

        try:
            with _process_kept(), _one_line_errors(), jittors_question_kept_safe():
                if module.__name__ == "jittor":
                    _announce_compilation()
                    hide_unfit_cupy()
                self.loader.exec_module(module)
        finally:
            self.hook.inside = False
        _stop.end_if_met()
        if module.__name__ == "jittor":
            self.hook.leave()


class CoreLoader:
    """Of Jittor's C++ that, when it is loaded, makes Ctrl-C end the process at once: a command goes on to end in order."""

    def __init__(self, loader):
        self.loader = loader

    def __getattr__(self, name):
        return getattr(self.loader, name)

    def create_module(self, spec):
        try:
            return self.loader.create_module(spec)
        finally:
            _stop.listen_again()


def _demand(finding) -> None:
    if finding.status == BROKEN:
        raise JittorUnavailable(f"Jittor cannot start: {finding.name}: {finding.what}; to mend it: {finding.fix}")


def _announce_compilation() -> None:
    import jittor_utils  # Jittor's own first step; it alone knows where this machine's core lies

    if os.name != "nt" and QUOTED.search(jittor_utils.cache_path):  # the name of a git branch is a part of it
        _demand(refused("the cache", jittor_utils.cache_path))
    cache = glob.escape(jittor_utils.cache_path)
    compiled = glob.glob(f"{cache}/jittor_core*.so") or glob.glob(f"{cache}/cu*/jittor_core*.so")
    if compiled and "JVAN_RESTARTED" not in os.environ:  # after a rebuilt part the core follows
        return
    if os.environ.get("OMPI_COMM_WORLD_RANK", "0") == "0":
        say("compiling Jittor's core for this machine, once: about two minutes")


@contextlib.contextmanager
def _one_line_errors():
    try:
        yield
    except JittorUnavailable:
        raise
    except (Exception, SystemExit) as error:  # Jittor exits where it has rebuilt a part of itself and wants a new start
        if isinstance(error, SystemExit):
            raise JittorRebuilt("Jittor compiled a part of itself anew and must be started again") from error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise JittorUnavailable(f"Jittor cannot start: {type(error).__name__}: {reason[-600:]}; {DOCTOR}") from error


@contextlib.contextmanager
def _process_kept():
    """Undo what Jittor's import does to the whole process and nobody asked for.

    It stops TLS certificates from being verified in every later download; raises the recursion limit to a
    million, so that endless recursion is a crash and no exception; and exits at Ctrl-C without any clean-up.
    """
    import signal
    import ssl
    import threading
    import warnings

    https, depth = ssl._create_default_https_context, sys.getrecursionlimit()
    interrupt = signal.getsignal(signal.SIGINT)
    try:
        with warnings.catch_warnings():
            for category in (SyntaxWarning, DeprecationWarning):  # of Jittor's source, not of the user's
                warnings.simplefilter("ignore", category)
            yield
    finally:
        ssl._create_default_https_context = https
        sys.setrecursionlimit(depth)
        if interrupt is not None and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, interrupt)
