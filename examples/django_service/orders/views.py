"""Orders over HTTP."""

from __future__ import annotations

import json

from django.db import transaction
from django.http import HttpRequest, JsonResponse
from django.shortcuts import get_object_or_404

from orders.models import Order
from orders.scheduling import schedule_on_commit
from orders.works import confirm

STOCK = 100


def order(request: HttpRequest) -> JsonResponse:
    """Keep an order and schedule its confirmation: both, or neither."""
    asked = json.loads(request.body)
    with transaction.atomic():
        kept = Order.objects.create(item=asked["item"], quantity=asked["quantity"])
        task = schedule_on_commit(confirm.bind(order_id=kept.pk), key=str(kept.pk))
        if kept.quantity > STOCK:
            transaction.set_rollback(True)
            return JsonResponse({"detail": "not so many", "task": task}, status=409)
    return JsonResponse({"order": kept.pk, "task": task}, status=202)


def show(_: HttpRequest, number: int) -> JsonResponse:
    """One order as it stands."""
    kept = get_object_or_404(Order, pk=number)
    return JsonResponse({"item": kept.item, "confirmed": kept.confirmed})
