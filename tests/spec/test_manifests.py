"""The manifests for Kubernetes say what the services take, and what the documentation promises of them."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from quarterjack_worker import settings
from quarterjack_worker.supervisor import LAST_STEPS
from tests.conftest import TestDatabase

ROOT = Path(__file__).parents[2]
MANIFESTS = ROOT / "deploy" / "kubernetes"
CONNECTIONS = {"quarterjack-scheduler": 8, "quarterjack-worker": 17, "quarterjack-admin": 6}
LOCKED = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}


def documents() -> list[dict[str, Any]]:
    listed = yaml.safe_load((MANIFESTS / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed) == sorted(
        file.name for file in MANIFESTS.glob("*.yaml") if file.name != "kustomization.yaml"
    )
    return [each for file in listed for each in yaml.safe_load_all((MANIFESTS / file).read_text())]


def the(kind: str, name: str) -> dict[str, Any]:
    [found] = [
        each for each in documents() if (each["kind"], each["metadata"]["name"]) == (kind, name)
    ]
    spec: dict[str, Any] = found["spec"]
    return spec


def pods() -> list[dict[str, Any]]:
    return [each["spec"]["template"]["spec"] for each in documents() if "template" in each["spec"]]


def containers() -> list[dict[str, Any]]:
    return [container for pod in pods() for container in pod["containers"]]


WORKER = the("Deployment", "quarterjack-worker")["template"]["spec"]
TOLD = settings.parse(WORKER["containers"][0]["args"])


def test_each_setting_is_one_that_is_documented() -> None:
    documented = (ROOT / "docs" / "deploying.md").read_text()
    for container in containers():
        names = [each["name"] for each in container["env"]]
        assert "DATABASE_URL" in names
        assert [name for name in names if f"`{name}`" not in documented] == []


def test_each_image_is_one_that_the_dockerfile_builds() -> None:
    built = re.search(r"# PACKAGE: (.*)", (ROOT / "Dockerfile").read_text())
    assert built is not None
    assert {each["image"] for each in containers()} == set(
        re.findall(r"quarterjack[\w-]*(?= \(|,|\.)", built[1])
    )


def test_no_container_may_do_more_than_it_must() -> None:
    assert all(pod["securityContext"]["runAsNonRoot"] for pod in pods())
    assert [each["securityContext"] for each in containers()] == [LOCKED] * len(containers())
    assert all("memory" in each["resources"]["limits"] for each in containers())


def test_probes_ask_what_is_answered_where_it_listens() -> None:
    for container in containers():
        if container["name"] == "migrate":
            continue
        [port] = container["ports"]
        probes = container["livenessProbe"], container["readinessProbe"]
        assert [each["httpGet"]["port"] for each in probes] == [port["name"]] * 2
        assert [each["httpGet"]["path"] for each in probes] == ["/live", "/ready"]
        said = json.dumps([container.get("args"), container["env"]])
        assert str(port["containerPort"]) in said


def test_a_worker_that_goes_has_the_time_that_it_may_take() -> None:
    assert WORKER["terminationGracePeriodSeconds"] > TOLD.grace + LAST_STEPS


def test_there_are_connections_for_all_that_may_run() -> None:
    many = {
        "quarterjack-scheduler": the("Deployment", "quarterjack-scheduler")["replicas"],
        "quarterjack-worker": the("ScaledObject", "quarterjack-worker")["maxReplicaCount"],
        "quarterjack-admin": the("Deployment", "quarterjack-admin")["replicas"],
    }
    needed = sum(CONNECTIONS[name] * number for name, number in many.items())
    parameters = the("Cluster", "quarterjack-database")["postgresql"]["parameters"]

    assert needed < int(parameters["max_connections"]) - 10


@pytest.mark.newest_postgres
async def test_workers_are_scaled_by_what_waits_and_runs_in_their_queues(
    database: TestDatabase,
) -> None:
    [trigger] = the("ScaledObject", "quarterjack-worker")["triggers"]
    query = trigger["metadata"]["query"]
    await database.pool.execute(
        """
        INSERT INTO oban_jobs (queue, worker, state)
        SELECT queue, 'w', state::oban_job_state
        FROM unnest(ARRAY['maintenance', 'default', 'other']) AS queue,
          unnest(ARRAY['available', 'executing', 'scheduled', 'completed']) AS state
        """
    )

    assert set(re.findall(r"'(\w+)'", query)) == {*TOLD.queues, "available", "executing"}
    assert await database.pool.fetchval(query) == 4
