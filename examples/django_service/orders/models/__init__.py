"""What is kept of an order."""

from __future__ import annotations

from django.db import models


class Order(models.Model):
    """Something somebody wants; confirmed by a task."""

    item = models.CharField(max_length=100)
    quantity = models.PositiveIntegerField()
    confirmed = models.BooleanField(default=False)
