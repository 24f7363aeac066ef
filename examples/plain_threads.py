"""A plain threaded program with rota inside: digests the files it is given, then stops.

python examples/plain_threads.py sqlite:///digests.db README.md LICENSE
"""

from __future__ import annotations

import hashlib
import signal
import sys
import threading
from pathlib import Path

from rota import BackgroundScheduler, BlockingContext, WorkRegistry

works = WorkRegistry()


@works.register("digest", max_attempts=3, timeout=60)
def digest(ctx: BlockingContext, path: Path) -> str:
    """A file's SHA-256; stops between two blocks when it is cancelled."""
    found = hashlib.sha256()
    with path.open("rb") as file:
        while not ctx.cancelled and (block := file.read(1 << 20)):
            found.update(block)
    return found.hexdigest()


def main(url: str, paths: list[str]) -> int:
    """Digest them, each as a task; at Ctrl-C or SIGTERM wait no longer, the tasks stay."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    with BackgroundScheduler(works, url, concurrency=4) as scheduler:
        handles = scheduler.schedule_many([digest.bind(Path(path).resolve()) for path in paths])
        for path, handle in zip(paths, handles, strict=True):
            while not stop.is_set():
                try:
                    print(handle.result(timeout=0.5), path)
                    break
                except TimeoutError:
                    continue
    return 1 if stop.is_set() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
