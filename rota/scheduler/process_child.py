"""The program of a worker process: calls the functions its parent names, one at a time."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import json
import os
import queue
import runpy
import select
import signal
import socket
import struct
import sys
import threading
import types
from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple

from rota.core import failure
from rota.core.clock import seconds
from rota.core.codec import dump
from rota.core.outcome import RAISABLE, Again, Done, Fail, Outcome
from rota.core.program import GRACE
from rota.core.signature import Signature
from rota.errors import InvalidArgument, InvalidParams, PayloadTooLarge

#: Each message is its length in this form, then so many bytes of JSON.
LENGTH = struct.Struct(">I")
#: An outcome goes up to this size to the parent, where middleware may still make it smaller.
RESULT_LIMIT = 16_000_000

#: How often a child looks whether its parent is still there.
LOOK = 1.0

_OUTCOMES = (Done, *RAISABLE)


class Setup(NamedTuple):
    """What a parent tells its child at the start; goes by command line, as JSON."""

    socket: int
    parent: int
    path: list[str]
    argv: list[str]
    main_name: str | None
    main_path: str | None


def main(setup: Setup) -> None:
    """Serve until the parent hangs up or is gone."""
    # SIGINT of a terminal is for the parent, which decides what becomes of its runs.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    with contextlib.suppress(Exception):  # stderr may be closed
        faulthandler.enable()
    sys.argv = setup.argv
    Child(setup).serve()


class Child:
    """Reads requests in a thread of its own, runs them in the main thread."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._socket = socket.socket(fileno=setup.socket)
        self._socket.set_inheritable(False)
        self._inbox: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._known: dict[str, tuple[Callable[..., Any], Signature]] = {}
        self._main: types.ModuleType | None = None
        self._busy = False

    def serve(self) -> None:
        threading.Thread(target=self._read, name="rota-parent", daemon=True).start()
        while (frame := self._inbox.get()) is not None:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)  # the last run may have changed it
            text = self._answer(json.loads(frame))
            for stream in (sys.stdout, sys.stderr):
                with contextlib.suppress(Exception):  # closed or replaced by the function
                    stream.flush()
            answer = text.encode()
            self._busy = False
            with contextlib.suppress(OSError):
                self._socket.sendall(LENGTH.pack(len(answer)) + answer)

    def _read(self) -> None:
        """Take requests; when the parent is gone, end, whatever the main thread does."""
        parent = _Parent(self._socket, self._setup.parent)
        while (frame := parent.receive()) is not None:
            self._busy = True
            self._inbox.put(frame)
        self._inbox.put(None)
        if self._busy:
            os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(GRACE)
        os._exit(1)

    def _answer(self, request: dict[str, Any]) -> str:
        """Call the function; the answer as JSON."""
        try:
            outcome = self._call(request)
        except RAISABLE as raised:
            outcome = raised
        except BaseException as error:  # noqa: BLE001 - SystemExit too is an outcome here
            return _raised(error)
        try:
            if isinstance(outcome, Done):
                return _told_result(outcome.result, request["limit"], keep=request["keep"])
            return _told(outcome, request["limit"])
        except PayloadTooLarge as error:
            return _told(Fail(str(error)), RESULT_LIMIT)
        except InvalidArgument as error:
            return _told(Fail(str(error), error=failure.to_json(error)), RESULT_LIMIT)
        except Exception as error:  # noqa: BLE001 - an outcome with impossible fields
            return _raised(error)

    def _call(self, request: dict[str, Any]) -> Outcome:
        function, signature = self._find(request["location"])
        try:
            arguments = signature.decode(request["params"])
        except InvalidParams as error:
            return Fail(
                f"params do not fit {request['work']}: {error}", error=failure.to_json(error)
            )
        value = function(**arguments)
        outcome: Outcome = value if isinstance(value, _OUTCOMES) else Done(value)
        if isinstance(outcome, Done) and outcome.result is not None:
            try:
                return Done(signature.result.to_json(outcome.result, "result"))
            except InvalidParams as error:
                return Fail(str(error), error=failure.to_json(error))
        return outcome

    def _find(self, location: str) -> tuple[Callable[..., Any], Signature]:
        """The function under ``module:qualname``, imported here the first time."""
        found = self._known.get(location)
        if found is None:
            module, _, qualname = location.partition(":")
            target: Any = (
                self._main_module() if module == "__main__" else importlib.import_module(module)
            )
            for name in qualname.split("."):
                target = getattr(target, name)
            # A decorated function's name stands for its registration, which has both.
            signature = getattr(target, "signature", None)
            if isinstance(signature, Signature):
                found = target.fn, signature
            else:
                found = target, Signature.of(target)
            self._known[location] = found
        return found

    def _main_module(self) -> types.ModuleType:
        """The parent's main module, run here once under another name, as multiprocessing does."""
        if self._main is None:
            name, path = self._setup.main_name, self._setup.main_path
            main = types.ModuleType("__mp_main__")
            if name is not None:
                contents = runpy.run_module(name, run_name="__mp_main__", alter_sys=True)
            elif path is not None:
                contents = runpy.run_path(path, run_name="__mp_main__")
            else:
                raise ImportError(
                    "the main program has no file another process could import; "
                    "define works with runner='process' in a module"
                )
            main.__dict__.update(contents)
            sys.modules["__mp_main__"] = main
            self._main = main
        return self._main


class _Parent:
    """The other end of the socket, and whether its process lives."""

    def __init__(self, link: socket.socket, pid: int) -> None:
        self._link = link
        self._pid = pid

    def receive(self) -> bytes | None:
        """One message; None when there will be no more."""
        head = self._take(LENGTH.size)
        return None if head is None else self._take(LENGTH.unpack(head)[0])

    def _take(self, count: int) -> bytes | None:
        taken = bytearray()
        while len(taken) < count:
            try:
                # Looked at anew now and then: a fork of the parent may keep the other end open
                # when the parent is gone, and the function may have closed this one.
                while not select.select([self._link], [], [], LOOK)[0]:
                    if os.getppid() != self._pid:
                        return None
                piece = self._link.recv(count - len(taken))
            except OSError:
                return None
            if not piece:
                return None
            taken += piece
        return bytes(taken)


def _raised(error: BaseException) -> str:
    return json.dumps({"raised": json.loads(failure.to_json(error))})


def _told_result(result: object, limit: int, *, keep: bool) -> str:
    """A result as JSON; the error of one that is too large names the scheduler's own limit."""
    try:
        text = dump(result, "result", limit=limit)
    except PayloadTooLarge as error:
        if error.size > RESULT_LIMIT:
            if keep:
                raise
            text = "null"
        else:
            text = dump(result, "result", limit=RESULT_LIMIT)
    return f'{{"outcome":"Done","fields":{{"result":{text}}}}}'


def _told(outcome: Outcome, limit: int) -> str:
    """The outcome's class and fields as JSON, in plain values."""
    told = {field.name: getattr(outcome, field.name) for field in fields(outcome)}
    if isinstance(outcome, Again) and outcome.params is not None:
        dump(outcome.params, "params", limit=limit)
    if told.get("after") is not None:
        told["after"] = seconds(told["after"], "after")
    if "reason" in told:
        told["reason"] = failure.reason(told["reason"])
    if "error" in told:
        told["error"] = failure.noted(told["error"])
    for flag in ("beyond_max", "recurring"):
        if flag in told:
            told[flag] = bool(told[flag])
    return dump(
        {"outcome": type(outcome).__name__, "fields": told},
        "outcome",
        limit=max(limit, RESULT_LIMIT),
    )
