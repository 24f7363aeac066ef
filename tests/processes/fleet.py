"""Start node programs, talk to them over pipes, wait for what they tell, and end them all."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from rota.core.context import Token
from rota.testing import history

ROOT = Path(__file__).resolve().parents[2]
#: What has not come by then does not come.
PATIENCE = 30.0

Line = dict[str, Any]


class NodeProcess:
    """One node program; lines it told are kept in order, and each is waited for at most once.

    ``news`` is notified of every line.
    """

    def __init__(
        self, config: Line, directory: Path, news: threading.Condition, code: Path
    ) -> None:
        name = config["name"]
        path = directory / f"{name}.json"
        path.write_text(json.dumps(config), encoding="utf-8")
        self.name = name
        self.log = directory / f"{name}.log"
        with self.log.open("a", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.processes.node", str(path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=code,
            )
        self.told: list[Line] = []
        self._waited: set[int] = set()
        self._news = news
        self._calls = 0
        threading.Thread(target=self._read, daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, and wait until the process is gone."""
        self._process.kill()
        self._process.wait(PATIENCE)

    def end(self) -> None:
        """End it however it stands, and close the pipes."""
        self.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def exit_code(self) -> int:
        return self._process.wait(PATIENCE)

    def send(self, do: str, **arguments: Any) -> int:
        """Give a command; its answer is to be waited for by the number returned."""
        self._calls += 1
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, "call": self._calls, **arguments}) + "\n")
        self._process.stdin.flush()
        return self._calls

    def answer(self, call: int, *, patience: float = PATIENCE) -> Any:
        """What the command answered; an error it raised fails the test."""
        line = self.wait("answer", patience=patience, call=call)
        assert "error" not in line, f"{line['error']}: {line['message']}"
        return line["value"]

    def ask(self, do: str, *, patience: float = PATIENCE, **arguments: Any) -> Any:
        return self.answer(self.send(do, **arguments), patience=patience)

    def wait(self, kind: str, *, patience: float = PATIENCE, **facts: Any) -> Line:
        """The next line of this kind with these facts, also of those told already."""
        return self.wait_for(
            lambda line: line["is"] == kind and facts.items() <= line.items(),
            f"{kind} {facts}",
            patience,
        )

    def wait_for(
        self, wanted: Callable[[Line], bool], what: str, patience: float = PATIENCE
    ) -> Line:
        """The next line that is wanted and was not waited for before."""
        found = self.wait_first(wanted, patience)
        assert found is not None, f"{self.name} did not tell {what}\n{self.story()}"
        return found

    def wait_first(self, wanted: Callable[[Line], bool], patience: float) -> Line | None:
        """As ``wait_for``, but None if it does not come."""

        def find() -> int | None:
            for at, line in enumerate(self.told):
                if at not in self._waited and wanted(line):
                    return at + 1
            return None

        with self._news:
            place = self._news.wait_for(find, patience)
            if place is None:
                return None
            self._waited.add(place - 1)
            return self.told[place - 1]

    def wait_tasks(self, kind: str, tasks: Iterable[str], **facts: Any) -> list[Line]:
        """One line of this kind for each of the tasks, in the order told."""
        left = set(tasks)
        found = []
        while left:
            line = self.wait_for(
                lambda line: (
                    line["is"] == kind and line["task"] in left and facts.items() <= line.items()
                ),
                f"{kind} {facts} of {len(left)} tasks",
            )
            left.discard(line["task"])
            found.append(line)
        return found

    def tells_none(self, kinds: set[str], seconds: float) -> None:
        """For so long, nothing of these kinds is told, and the process lives."""
        bad = self.wait_first(lambda line: line["is"] in kinds, seconds)
        assert bad is None, f"{self.name} told {bad}\n{self.story()}"
        assert self._process.poll() is None, self.story()

    def all_told(self, kind: str) -> list[Line]:
        """What was told of this kind up to now."""
        with self._news:
            return [line for line in self.told if line["is"] == kind]

    def story(self) -> str:
        """What it told and logged last, for a test that fails."""
        with self._news:
            told = "\n".join(json.dumps(line) for line in self.told[-30:])
        log = self.log.read_text(encoding="utf-8")[-6000:]
        return f"{self.name} told:\n{told}\nand logged:\n{log}"

    def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            for text in self._process.stdout:
                line = json.loads(text)
                with self._news:
                    self.told.append(line)
                    self._news.notify_all()
        except ValueError:
            return  # closed under us, or a line half written by a killed process


class Fleet:
    """The nodes of one test on one database; ``end`` ends every process, by its pid."""

    def __init__(self, *, url: str, schema: str | None, directory: Path) -> None:
        self.url = url
        self.schema = schema
        self.directory = directory
        self._news = threading.Condition()  #: any node told something
        self._nodes: list[NodeProcess] = []
        self._others: list[int] = []

    @property
    def kind(self) -> str:
        return self.url.partition(":")[0]

    def launch(
        self, name: str, *, works: Iterable[str] = ("quick", "hold"), **more: Any
    ) -> NodeProcess:
        """Start a node without waiting for it; what is no option of ours is the scheduler's.

        ``code`` is the tree whose node program and rota it runs, this one unless said.
        """
        code = more.pop("code", ROOT)
        own = {key: more.pop(key) for key in ("open", "die_after_claim") if key in more}
        options = {"lease": 3, "heartbeat": 1, "poll": 1, "concurrency": 4, **more}
        if self.schema is not None:
            options["schema"] = self.schema
        config = {
            "url": self.url,
            "name": name,
            "works": list(works),
            "history": str(self.directory / f"{name}.jsonl"),
            "options": options,
            **own,
        }
        node = NodeProcess(config, self.directory, self._news, code)
        self._nodes.append(node)
        return node

    def start(self, name: str, **more: Any) -> NodeProcess:
        """Start a node and wait until it is up."""
        node = self.launch(name, **more)
        node.wait("up")
        return node

    def start_all(self, names: Iterable[str], **more: Any) -> list[NodeProcess]:
        """Start nodes side by side and wait until all are up."""
        nodes = [self.launch(name, **more) for name in names]
        for node in nodes:
            node.wait("up")
        return nodes

    def wait_tasks(self, kind: str, tasks: Iterable[str], **facts: Any) -> dict[str, Line]:
        """One line of this kind for each task, from whichever node; by task."""
        wanted = set(tasks)
        found: dict[str, Line] = {}

        def all_there() -> bool:
            for node in self._nodes:
                for line in node.told:
                    told = line["is"] == kind and facts.items() <= line.items()
                    if told and line["task"] in wanted:
                        found[line["task"]] = line
            return len(found) == len(wanted)

        with self._news:
            there = self._news.wait_for(all_there, PATIENCE)
        stories = "" if there else "\n\n".join(node.story() for node in self._nodes)
        assert there, f"{kind} of {len(found)} tasks, not of {len(wanted)}\n{stories}"
        return found

    def tells_none(self, kinds: set[str], seconds: float) -> None:
        """For so long, no node tells anything of these kinds, and all live."""
        until = time.monotonic() + seconds
        for node in self._nodes:
            node.tells_none(kinds, max(0.0, until - time.monotonic()))
        for node in self._nodes:
            node.tells_none(kinds, 0.0)

    def adopt(self, pid: int) -> None:
        """Another process to be ended with the fleet."""
        self._others.append(pid)

    def history(self) -> list[history.Event]:
        """What all nodes wrote down."""
        return history.read(sorted(self.directory.glob("*.jsonl")))

    def end(self) -> None:
        for pid in self._others:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for node in self._nodes:
            node.end()


def with_unwritten(events: list[history.Event], infos: Iterable[Line]) -> list[history.Event]:
    """The history, with endings the database has and their killed node had no time to note."""
    noted = {event.task for event in events if isinstance(event, history.Accepted)}
    return events + [
        history.Accepted(info["id"], Token(*info["token"]), info["status"], info["finished"])
        for info in infos
        if info["id"] not in noted and info["status"] in history.TERMINAL
    ]
