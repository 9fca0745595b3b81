"""Files as people have them, and what becomes of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """A file of another program, the schedules in it, and what must be said of it."""

    text: str
    schedules: Mapping[str, Mapping[str, Any]]
    said: list[str]
    needs_worker: bool = False


CRONTAB = r"""# m h dom mon dow command
SHELL=/bin/bash
MAILTO="ops@example.com"
CRON_TZ=Europe/Prague

# Nightly dump of the main database
30 2 * * * /usr/local/bin/backup.sh --full "$HOME" > /dev/null 2>&1
*/5 9-17 * * mon-fri cd /srv/app && ./poll.py --quick
@daily  /usr/bin/certbot renew
@reboot /srv/app/start.sh
0 8 1,15 * 1 mail -s "It's 8" ana%Hello Ana,%%it is 100\% done
0~30 3 * * * /opt/spread
61 * * * * /bin/never
0 0 * *
TZ=Asia/Tokyo
15 4 * * 7 backup.sh
"""


def shell(cron: str, command: str, **more: Any) -> dict[str, Any]:
    args = {
        "command": command,
        **more.pop("args", {}),
        "env": {"SHELL": "/bin/bash", **more.pop("env", {})},
    }
    plain = {"worker": "run", "cron": cron, "timezone": "Europe/Prague", "args": args}
    return {**plain, "catchup": "skip", "overlap": "allow", **more}


SWEEP = """apiVersion: batch/v1
kind: CronJob
metadata: {name: sweep}
spec:
  schedule: "@every 1h30m"
  concurrencyPolicy: Replace
  jobTemplate: {spec: {template: {spec: {containers: [{name: a, image: b}]}}}}
"""

KUBERNETES = f"""# two of them, and something else
apiVersion: batch/v1
kind: CronJob
metadata: {{name: reports, namespace: Billing, labels: {{app: x}}}}
spec:
  schedule: "0 6 * * ?"
  timeZone: Europe/Berlin
  suspend: true
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 600
  successfulJobsHistoryLimit: 3
  jobTemplate:
    spec:
      activeDeadlineSeconds: 3600
      backoffLimit: 2
      template:
        spec:
          serviceAccountName: reporter
          restartPolicy: OnFailure
          containers:
          - name: main
            image: example/reports:1.2
            command: ["python", "-m", reports]
            env:
            - {{name: LEVEL, value: debug}}
            - {{name: TOKEN, valueFrom: {{secretKeyRef: {{name: s, key: t}}}}}}
            resources: {{limits: {{cpu: 1}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: x}}
---
{SWEEP}---
apiVersion: batch/v1
kind: CronJob
metadata: {{name: empty}}
spec: {{schedule: "0 0 31 2 *", jobTemplate: {{spec: {{template: {{spec: {{containers: [{{image: b}}]}}}}}}}}}}
"""

OBAN = """import Config
# comment with "quotes
config :my_app, Oban,
  repo: MyApp.Repo,
  queues: [default: 10, mail: 5],
  plugins: [
    {Oban.Plugins.Pruner, max_age: 300},
    {Oban.Plugins.Cron,
     timezone: "America/Chicago",
     crontab: [
       {"*/2 * * * *", MyApp.MinuteWorker},
       {"0 * * * *", MyApp.HourlyWorker, args: %{custom: "arg", "n" => 1_000, list: [1, :two, nil]}},
       {"0 0 * * *", MyApp.DailyWorker, max_attempts: 1, queue: :mail, priority: 3, tags: ["a", "B"]},
       {"0 12 13 * FRI", MyApp.Friday},
       {"0 12 1-7 * MON", MyApp.FirstMonday},
       {"5/15 * * * *", MyApp.Quarter, meta: %{x: 1}},
       {"@daily", MyApp.Night, args: %{"at" => System.get_env("AT")}},
       {"@reboot", MyApp.Boot},
       {"@daily", MyApp.MinuteWorker, args: %{v: "a#{1 + 1}"}},
       {"@weekly", MyApp.MinuteWorker, name: "weekly"},
     ] ++ extra()}
  ]
"""


def oban(cron: str, worker: str, **more: Any) -> dict[str, Any]:
    plain = {"worker": worker, "cron": cron, "timezone": "America/Chicago"}
    return {**plain, "catchup": "skip", "overlap": "allow", **more}


BEAT = """[
{"model": "django_celery_beat.crontabschedule", "pk": 1, "fields": {"minute": "30", "hour": "7", "day_of_week":
 "fri-mon", "day_of_month": "*", "month_of_year": "*", "timezone": "Europe/Paris"}},
{"model": "django_celery_beat.crontabschedule", "pk": 2, "fields": {"minute": "0", "hour": "4", "day_of_week":
 "sunday", "day_of_month": "13", "month_of_year": "*", "timezone": "UTC"}},
{"model": "django_celery_beat.intervalschedule", "pk": 1, "fields": {"every": 90, "period": "seconds"}},
{"model": "django_celery_beat.periodictasks", "pk": 1, "fields": {"last_update": "2026-01-01T00:00:00Z"}},
{"model": "auth.user", "pk": 1, "fields": {}},
{"model": "django_celery_beat.periodictask", "pk": 1, "fields": {"name": "Send: newsletters!", "task": "news.send",
 "interval": null, "crontab": 1, "solar": null, "clocked": null, "args": "[1, \\"x\\"]", "kwargs":
 "{\\"who\\": \\"all\\"}",
 "queue": "mail", "exchange": null, "routing_key": null, "headers": "{}", "priority": 4, "expires":
 "2030-01-01T00:00:00Z", "expire_seconds": 60, "one_off": false, "start_time": null, "enabled": false, "last_run_at":
 "2026-01-01T00:00:00Z", "total_run_count": 3, "date_changed": "2026-01-01T00:00:00Z", "description": "All of them"}},
{"model": "django_celery_beat.periodictask", "pk": 2, "fields": {"name": "poll", "task": "poll", "interval": 1,
 "crontab": null, "args": "[]", "kwargs": "{}", "enabled": true, "one_off": false}},
{"model": "django_celery_beat.periodictask", "pk": 3, "fields": {"name": "both", "task": "poll", "crontab": 2}},
{"model": "django_celery_beat.periodictask", "pk": 4, "fields": {"name": "once", "task": "poll", "interval": 1,
 "one_off": true}}]"""


def beat(
    task: Mapping[str, Any] | None = None, crontab: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Make a fixture with one task t, at five unless told otherwise."""
    times = {
        "minute": "0",
        "hour": "5",
        "day_of_week": "*",
        "day_of_month": "*",
        "month_of_year": "*",
    }
    return [
        {
            "model": "django_celery_beat.crontabschedule",
            "pk": 1,
            "fields": times | dict(crontab or {}),
        },
        {
            "model": "django_celery_beat.periodictask",
            "pk": 1,
            "fields": {"name": "t", "task": "t", "crontab": 1} | dict(task or {}),
        },
    ]


SAMPLES = {
    "crontab": Sample(
        text=CRONTAB,
        needs_worker=True,
        schedules={
            "backup.sh": shell(
                "30 2 * * *",
                '/usr/local/bin/backup.sh --full "$HOME" > /dev/null 2>&1',
                description="Nightly dump of the main database",
            ),
            "poll.py": shell("*/5 9-17 * * mon-fri", "cd /srv/app && ./poll.py --quick"),
            "certbot": shell("@daily", "/usr/bin/certbot renew"),
            "mail": shell(
                "0 8 1,15 * 1",
                'mail -s "It\'s 8" ana',
                args={"input": "Hello Ana,\n\nit is 100% done\n"},
            ),
            "spread": shell("H(0-30) 3 * * *", "/opt/spread"),
            "backup.sh-2": shell("15 4 * * 7", "backup.sh", env={"TZ": "Asia/Tokyo"}),
        },
        said=[
            "line 3: MAILTO='ops@example.com': nothing is mailed here",
            "left out: line 10: '@reboot /srv/app/start.sh'",
            "line 12: 0~30 3 * * * became H(0-30) 3 * * *",
            "left out: line 13: never: '61' in the minute field",
            "left out: line 14: '0 0 * *': there is no command",
            "line 16: TZ is for the command only",
        ],
    ),
    "kubernetes": Sample(
        text=KUBERNETES,
        needs_worker=True,
        schedules={
            "reports": {
                "worker": "run",
                "cron": "0 6 * * *",
                "timezone": "Europe/Berlin",
                "overlap": "skip",
                "catchup": "last",
                "catchup_window": "600s",
                "timeout": "3600s",
                "max_attempts": 3,
                "paused": "suspended in Kubernetes",
                "args": {
                    "image": "example/reports:1.2",
                    "command": ["python", "-m", "reports"],
                    "env": {"LEVEL": "debug"},
                },
                "tags": ["billing"],
            },
            "sweep": {
                "worker": "run",
                "cron": "@every 1h30m",
                "timezone": "Etc/UTC",
                "overlap": "cancel_previous",
                "catchup": "last",
                "max_attempts": 7,
                "args": {"image": "b"},
            },
        },
        said=[
            "not carried over: spec.successfulJobsHistoryLimit, "
            "spec.jobTemplate.spec.template.spec.serviceAccountName, metadata.labels",
            "env TOKEN: its value comes from elsewhere",
            "not carried over from the container: resources",
            "the kind 'ConfigMap' is no CronJob",
            "empty: '0 0 31 2 *' names a date that does not exist",
        ],
    ),
    "oban": Sample(
        text=OBAN,
        schedules={
            "MyApp.MinuteWorker": oban("*/2 * * * *", "MyApp.MinuteWorker"),
            "MyApp.HourlyWorker": oban(
                "0 * * * *",
                "MyApp.HourlyWorker",
                args={"custom": "arg", "n": 1000, "list": [1, "two", None]},
            ),
            "MyApp.DailyWorker": oban(
                "0 0 * * *",
                "MyApp.DailyWorker",
                max_attempts=1,
                queue="mail",
                priority=3,
                tags=["a", "b"],
            ),
            "MyApp.FirstMonday": oban("0 12 * * 1#1", "MyApp.FirstMonday"),
            "MyApp.Quarter": oban("5-59/15 * * * *", "MyApp.Quarter"),
            "weekly": oban("@weekly", "MyApp.MinuteWorker"),
        },
        said=[
            "left out: line 14: MyApp.Friday: it runs when the day of month is 13 and the weekday is FRI, both",
            "MyApp.Quarter: line 16: not carried over: meta".partition(": ")[2],
            "left out: line 17: MyApp.Night: 'System . get_env",
            "left out: line 18: MyApp.Boot runs @reboot",
            "left out: line 19: MyApp.MinuteWorker",
            "left out: line 10: what is added to the list is Elixir",
        ],
    ),
    "django-celery-beat": Sample(
        text=BEAT,
        schedules={
            "Send:-newsletters": {
                "worker": "news.send",
                "cron": "30 7 * * 5,6,0,1",
                "timezone": "Europe/Paris",
                "end_at": "2030-01-01T00:00:00Z",
                "args": {"args": [1, "x"], "who": "all"},
                "queue": "mail",
                "description": "All of them",
                "catchup": "last",
                "overlap": "allow",
                "paused": "disabled in django-celery-beat",
            },
            "poll": {
                "worker": "poll",
                "cron": "every 90 seconds",
                "catchup": "last",
                "overlap": "allow",
            },
        },
        said=[
            "named 'Send: newsletters!' there",
            "positional arguments became the list args.args",
            "not carried over: expire_seconds '60', priority '4'",
            "left out: task 'both': runs when the day of month is 13",
            "left out: task 'once': it runs once only",
        ],
    ),
}
