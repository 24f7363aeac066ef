"""Ask the Django example for an order it keeps and one it refuses; print what came of them."""

from __future__ import annotations

import json
import sys

import django

django.setup()

from django.test import Client  # noqa: E402 - settings first
from orders.scheduling import client  # noqa: E402

from rota.errors import TaskNotFound  # noqa: E402

browser = Client()
kept = browser.post("/orders", {"item": "tea", "quantity": 2}, "application/json").json()
result = client().handle(kept["task"]).result(timeout=20)
refused = browser.post("/orders", {"item": "tea", "quantity": 1000}, "application/json")
try:
    left = client().info(refused.json()["task"]).status
except TaskNotFound:
    left = "nothing"
shown = browser.get(f"/orders/{kept['order']}").json()
answers = {"result": result, "shown": shown, "refused": refused.status_code, "left": left}
sys.stdout.write(json.dumps(answers))
