"""django-pglock, for benches: takes and releases an advisory lock as often as the last argument says
on the database of the first, and prints the nanoseconds of one pair."""

import sys
import time
from urllib.parse import parse_qs, urlsplit

import django
from django.conf import settings

url, times = sys.argv[1], int(sys.argv[2])
where = parse_qs(urlsplit(url).query)
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "postgres",
            "USER": "postgres",
            "HOST": where["host"][0],
            "PORT": where.get("port", ["5432"])[0],
        }
    },
    INSTALLED_APPS=["pgactivity", "pglock"],
)
django.setup()

import pglock  # noqa: E402  (needs Django's settings)

with pglock.advisory("bench"):
    pass
begun = time.perf_counter_ns()
for _ in range(times):
    with pglock.advisory("bench"):
        pass
print((time.perf_counter_ns() - begun) / times)
