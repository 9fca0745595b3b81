"""CronJob manifests of Kubernetes: the container of a CronJob becomes the args of one job."""

import re
from typing import Any

from quarterjack.cli.importers.outcome import Imported, Options
from quarterjack.cli.problems import quoted
from quarterjack.cli.tree import Node, read_documents

OVERLAPS = {"Allow": "allow", "Forbid": "skip", "Replace": "cancel_previous"}
BACKOFF_LIMIT = 6
ZONE = re.compile(r"(?:CRON_TZ|TZ)=(\S+)\s+(.*)", re.DOTALL)
KEPT = {
    "spec": {
        "schedule",
        "timeZone",
        "suspend",
        "concurrencyPolicy",
        "startingDeadlineSeconds",
        "jobTemplate",
    },
    "spec.jobTemplate": {"spec"},
    "spec.jobTemplate.spec": {"activeDeadlineSeconds", "backoffLimit", "template"},
    "spec.jobTemplate.spec.template": {"spec"},
    "spec.jobTemplate.spec.template.spec": {"containers", "restartPolicy"},
    "metadata": {"name", "namespace"},
}
IN_CONTAINER = {"name", "image", "command", "args", "env", "workingDir"}


def read(path: str, text: str, options: Options) -> Imported:
    """Read every CronJob of the documents; other kinds are listed as left out."""
    found = Imported()
    for document in read_documents(path, text):
        for node in _items(document):
            _take(node, found, options)
    if any("timezone" not in fields for fields in found.schedules.values()):
        for fields in found.schedules.values():
            fields.setdefault("timezone", options.zone)
        if options.timezone is None:
            found.head.append("Without timeZone the controller's zone counts; Etc/UTC is assumed.")
    return found


def _items(document: Node) -> list[Node]:
    kind, items = document.get("kind"), document.get("items")
    if (
        kind is not None
        and str(kind.value).endswith("List")
        and items
        and isinstance(items.value, list)
    ):
        return items.value
    return [] if document.value is None else [document]


def _take(node: Node, found: Imported, options: Options) -> None:
    where, kind = f"line {node.line}", _text(node, "kind")
    if kind != "CronJob":
        found.head.append(f"{where}: the kind {quoted(kind)} is no CronJob: passed over.")
        return None
    name, expression = _text(node, "metadata", "name"), _text(node, "spec", "schedule")
    if not name or not expression:
        missing = "spec.schedule" if name else "metadata.name"
        return found.leave(where, f"the CronJob {quoted(name or '')} has no {missing}")
    notes = _not_carried(node)
    fields: dict[str, Any] = {"worker": options.worker}
    zone = _text(node, "spec", "timeZone")
    if match := ZONE.fullmatch(expression):
        zone, expression = match[1], match[2]
    fields["cron"] = " ".join("*" if part == "?" else part for part in expression.split())
    if zone:
        fields["timezone"] = zone
    if expression.startswith("@every"):
        notes.append("@every counts from 1970 here, not from the last change of the CronJob")
    try:
        fields |= _policies(node, notes)
        fields["args"] = _container(node, notes)
    except _Unusable as error:
        return found.leave(f"line {error.line}", f"the CronJob {quoted(name)}: {error}")
    if namespace := _text(node, "metadata", "namespace"):
        fields["tags"] = [namespace.lower()]
        notes.append(f"the namespace {namespace} became a tag")
    return found.add(name, fields, notes, where=where)


class _Unusable(Exception):
    """A value that Kubernetes would not take either."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(text)
        self.line = line


def _policies(node: Node, notes: list[str]) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    policy = _text(node, "spec", "concurrencyPolicy") or "Allow"
    if policy not in OVERLAPS:
        raise _Unusable(node.line, f"the concurrencyPolicy {quoted(policy)} is unknown")
    fields["overlap"] = OVERLAPS[policy]
    deadline = _number(node, "spec", "startingDeadlineSeconds")
    if deadline == 0:
        fields["catchup"] = "skip"
    elif deadline is not None:
        fields |= {"catchup": "last", "catchup_window": f"{deadline}s"}
    else:
        fields["catchup"] = "last"
    if timeout := _number(node, "spec", "jobTemplate", "spec", "activeDeadlineSeconds"):
        fields["timeout"] = f"{timeout}s"
        notes.append("activeDeadlineSeconds counts for all attempts together there, for each here")
    limit = _number(node, "spec", "jobTemplate", "spec", "backoffLimit")
    fields["max_attempts"] = (BACKOFF_LIMIT if limit is None else limit) + 1
    suspended = node.get("spec", "suspend")
    if suspended is not None and suspended.value is True:
        fields["paused"] = "suspended in Kubernetes"
    return fields


def _container(node: Node, notes: list[str]) -> dict[str, Any]:
    containers = node.get("spec", "jobTemplate", "spec", "template", "spec", "containers")
    if containers is None or not isinstance(containers.value, list) or not containers.value:
        raise _Unusable(node.line, "it has no container")
    first = containers.value[0]
    if not isinstance(first.value, dict):
        raise _Unusable(first.line, "its container is no mapping")
    if len(containers.value) > 1:
        names = ", ".join(str(_text(each, "name")) for each in containers.value[1:])
        notes.append(f"only the first container is taken, not {names}")
    args = {
        key: each.plain()
        for key in ("image", "command", "args", "workingDir")
        if (each := first.get(key)) is not None
    }
    if env := _env(first, notes):
        args["env"] = env
    if rest := sorted(first.value.keys() - IN_CONTAINER):
        notes.append(f"not carried over from the container: {', '.join(rest)}")
    return args


def _env(container: Node, notes: list[str]) -> dict[str, str]:
    given = container.get("env")
    found: dict[str, str] = {}
    for each in given.value if given is not None and isinstance(given.value, list) else []:
        name, value = _text(each, "name"), each.get("value")
        if name and value is not None:
            found[name] = str(value.value)
        else:
            notes.append(f"env {name}: its value comes from elsewhere; give it to the worker")
    return found


def _not_carried(node: Node) -> list[str]:
    """Name the keys that mean something there and nothing here."""
    lost = []
    for path, kept in KEPT.items():
        inner = node.get(*path.split("."))
        if inner is not None and isinstance(inner.value, dict):
            lost += [f"{path}.{key}" for key in inner.value if key not in kept]
    return [f"not carried over: {', '.join(lost)}"] if lost else []


def _text(node: Node, *path: str) -> str | None:
    found = node.get(*path)
    return None if found is None or found.value is None else str(found.plain())


def _number(node: Node, *path: str) -> int | None:
    found = node.get(*path)
    if found is None or found.value is None:
        return None
    if type(found.value) is not int or not 0 <= found.value <= 10**9:
        raise _Unusable(
            found.line, f"{path[-1]} is {quoted(found.plain())}: not a number of 0 or more"
        )
    return found.value
