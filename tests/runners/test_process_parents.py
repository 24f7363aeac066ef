"""Worker processes and the program that started them: its death, its main module."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from tests.runners.parts import PATIENCE, end_of

ROOT = Path(__file__).parents[2]

BUSY = """
    import asyncio, os, sys
    from rota.core.clock import SystemClock
    from rota.scheduler.processes import ProcessRunner

    async def main(fork):
        runner = ProcessRunner(loop=asyncio.get_running_loop(), clock=SystemClock())
        await asyncio.gather(*(runner.run("tests.runners.functions:who", {}) for _ in range(2)))
        running = asyncio.create_task(
            runner.run("tests.runners.functions:kill_self", {"number": 0})
        )
        await asyncio.sleep(0)
        if fork and os.fork() == 0:
            sys.stdin.read()  # and with it the files of its parent
            os._exit(0)
        print(os.getpid(), *runner.pids, flush=True)
        await running

    asyncio.run(main(len(sys.argv) > 1))
"""

MAIN = """
    import asyncio, os
    from rota import Scheduler, WorkRegistry

    works = WorkRegistry()

    @works.register("here", runner="process")
    def here(text: str) -> list[str]:
        return [text, __name__, str(os.getppid())]

    async def main():
        async with Scheduler(works) as scheduler:
            found = await (await scheduler.schedule(here.bind("hello"))).result(30)
            assert found == ["hello", "__mp_main__", str(os.getpid())], found
            print("well")

    if __name__ == "__main__":
        asyncio.run(main())
"""


@pytest.mark.parametrize("fork", [False, True])
def test_children_end_when_their_parent_is_killed(tmp_path: Path, fork: bool) -> None:
    script = tmp_path / "parent.py"
    script.write_text(textwrap.dedent(BUSY))
    command = [sys.executable, str(script), *(["fork"] if fork else [])]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={"PYTHONPATH": str(ROOT)},
        text=True,
    ) as parent:
        assert parent.stdout is not None
        pid, *pids = map(int, parent.stdout.readline().split())
        assert pid == parent.pid
        assert len(pids) == 2
        parent.kill()
        assert all(end_of(child) for child in pids)


@pytest.mark.parametrize("form", ["file", "module"])
def test_works_of_the_main_program_are_found(tmp_path: Path, form: str) -> None:
    (tmp_path / "program.py").write_text(textwrap.dedent(MAIN))
    arguments = ["program.py"] if form == "file" else ["-m", "program"]
    ended = subprocess.run(
        [sys.executable, *arguments],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=PATIENCE,
        text=True,
    )
    assert ended.stdout == "well\n", ended.stderr


def test_a_main_program_without_a_guard_does_not_start_processes_without_end(
    tmp_path: Path,
) -> None:
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(MAIN).replace('if __name__ == "__main__":', "if True:"))
    ended = subprocess.run(
        [sys.executable, str(script)],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        timeout=PATIENCE,
        text=True,
    )
    assert ended.returncode == 1
    assert "a worker process cannot start worker processes" in ended.stderr
