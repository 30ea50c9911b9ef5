"""The Celery application. Its settings are the CELERY_* names in config/settings.py."""

import os
import signal

from celery import Celery
from celery.signals import worker_process_init

from config.processes import end_with_parent

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("podium")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()


@worker_process_init.connect
def end_with_worker(**_: object) -> None:
    """A pool process must not work on when its worker was killed: the lease would go to somebody else beside it."""
    end_with_parent(os.getppid(), signal.SIGKILL)
