"""Django's command line for this service.

python manage.py migrate && rota db upgrade --url "$DATABASE_URL"
python manage.py rota_node        # runs the tasks; as many of these as you like
python manage.py runserver        # or gunicorn service.wsgi
"""

from __future__ import annotations

import os
import sys

from django.core.management import execute_from_command_line

if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "service.settings")
    execute_from_command_line(sys.argv)
