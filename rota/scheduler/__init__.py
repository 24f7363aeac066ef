"""The in-process engine: timer, dispatcher, runners, executor.

The ``Scheduler`` that services embed is put together in ``rota/app.py``; this room
runs things at their time and knows nothing of storage.
"""

from rota.scheduler.engine import Engine, ScheduledCall

__all__ = ["Engine", "ScheduledCall"]
