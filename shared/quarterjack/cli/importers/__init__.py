"""Read the schedules of other programs.

What our schedules say differently is noted beside them; what they cannot say is left out and listed.
"""

from collections.abc import Callable, Mapping

from quarterjack.cli.importers import crontab, django, elixir, kubernetes
from quarterjack.cli.importers.outcome import Imported, Options

READERS: Mapping[str, Callable[[str, str, Options], Imported]] = {
    "crontab": crontab.read,
    "kubernetes": kubernetes.read,
    "oban": elixir.read,
    "django-celery-beat": django.read,
}
NEED_WORKER = ("crontab", "kubernetes")

__all__ = ["NEED_WORKER", "READERS", "Imported", "Options"]
