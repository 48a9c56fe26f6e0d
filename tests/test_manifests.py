"""Dockerfile, compose files, manifests and pools: what one names is there in the other, in the lock, and in Prefect.

``make manifests`` asks the tools for Dockerfiles and for Kubernetes' schema, which are too large for a test.
"""

import json
import re
import tomllib
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore, Posture
from prefect.utilities.templating import apply_values, find_placeholders

from flows import notifying
from mlc.packages import VERSION
from tests.supply import locked

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "docker" / "Dockerfile").read_text(encoding="utf-8")
IGNORED = (DEPLOY / "docker" / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
KUBERNETES = sorted(set((DEPLOY / "kubernetes").glob("*.yaml")) - {DEPLOY / "kubernetes" / "kustomization.yaml"})
COMPOSE = yaml.safe_load((DEPLOY / "docker" / "compose.yaml").read_text(encoding="utf-8"))
POOLS = ("docker", "kubernetes")
ADDRESSES = ("PREFECT_API_URL", "MLFLOW_TRACKING_URI")
IMAGE = f"mlc:{VERSION}"
ADDED = {"docker": {"container_create_kwargs"}, "kubernetes": set()}
"""What newer packages of Prefect know of a pool beside what Prefect itself ships of them."""
ABSENT = {"docker": {"registry_credentials", "network_mode", "container_wait_timeout", "memswap_limit", "privileged"}}
"""What our pools leave at its default."""


def pool(kind: str) -> dict[str, Any]:
    template: dict[str, Any] = json.loads((DEPLOY / kind / "work-pool.json").read_text(encoding="utf-8"))
    return template


def resources() -> Iterator[dict[str, Any]]:
    for path in KUBERNETES:
        yield from yaml.safe_load_all(path.read_text(encoding="utf-8"))


def kinds(kind: str) -> dict[str, dict[str, Any]]:
    return {each["metadata"]["name"]: each for each in resources() if each["kind"] == kind}


def job() -> dict[str, Any]:
    """The job that the pool makes with its defaults."""
    template = pool("kubernetes")
    properties = template["variables"]["properties"].items()
    values = {name: facts["default"] for name, facts in properties if "default" in facts}
    made: dict[str, Any] = apply_values(template["job_configuration"], values, remove_notset=False)["job_manifest"]
    return made


def test_the_image_has_what_runs_and_nothing_else() -> None:
    kept = {line.removeprefix("!") for line in IGNORED if line.startswith("!")}
    needed = {"data", "flows", "mlc", "tasks", "pyproject.toml", "README.md", "LICENSE", "requirements.lock"}
    assert kept == needed
    assert [name for name in kept if not (ROOT / name).exists()] == []
    assert next(line for line in IGNORED if not line.startswith("#")) == "*"


def test_the_image_is_of_the_versions_that_were_tried() -> None:
    torch = re.search(r"^TORCH := torch==(\S+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert torch
    assert f"ARG TORCH={torch[1]}\n" in DOCKERFILE
    required = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    assert f"ARG PYTHON={required.removeprefix('>=')}\n" in DOCKERFILE
    assert "--require-hashes --requirement requirements.lock" in DOCKERFILE
    assert re.search(r"^USER 10001$", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("path", sorted(DEPLOY.rglob("*.*")), ids=lambda path: path.name)
def test_every_image_is_of_this_release_or_of_the_locked_prefect(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for name in re.findall(r"\bmlc:(\d[\w.-]*)", text):
        assert name.removesuffix("-cpu") == VERSION
    for version in re.findall(r"prefecthq/prefect:([\d.]+)-python3\.11", text):
        assert version == locked()["prefect"]


@pytest.mark.parametrize("kind", POOLS)
def test_a_pool_is_one_for_prefect(kind: str) -> None:
    template = pool(kind)
    assert WorkPoolCreate(name="ours", type=kind, base_job_template=template).base_job_template == template
    shipped = json.loads(
        (files("prefect.server.api.collections_data.views") / "aggregate-worker-metadata.json").read_text()
    )
    usual = shipped[f"prefect-{kind}"][kind]["default_base_job_configuration"]["job_configuration"]
    absent = {"cluster_config"} if kind == "kubernetes" else ABSENT[kind]
    assert template["job_configuration"].keys() == (usual.keys() | ADDED[kind]) - absent
    named = {found.name for found in find_placeholders(template["job_configuration"])}
    assert named == template["variables"]["properties"].keys()


def test_a_container_gets_the_gpus_the_volume_and_the_network_of_the_compose_file() -> None:
    given = {name: facts.get("default") for name, facts in pool("docker")["variables"]["properties"].items()}
    assert given["image"] == COMPOSE["x-mlc"]["image"] == IMAGE
    assert given["volumes"] == [f"{COMPOSE['name']}_{volume}:/data" for volume in COMPOSE["volumes"]]
    assert given["networks"] == [f"{COMPOSE['name']}_default"]
    assert given["container_create_kwargs"]["device_requests"][0]["Capabilities"] == [["gpu"]]
    assert given["env"].items() <= COMPOSE["x-mlc"]["environment"].items()


def test_the_services_of_the_compose_file_find_each_other() -> None:
    services = COMPOSE["services"]
    for service in services.values():
        assert service.get("depends_on", {}).keys() <= services.keys()
        # The servers ask nobody who he is.
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
    hosts = {re.sub(r"http://(\w+):.*", r"\1", COMPOSE["x-mlc"]["environment"][name]) for name in ADDRESSES}
    assert hosts <= services.keys()
    over = yaml.safe_load((DEPLOY / "docker" / "compose.gpu.yaml").read_text(encoding="utf-8"))
    assert over["services"].keys() <= services.keys()


def test_a_job_gets_the_gpu_the_memory_and_the_volume_of_the_cluster() -> None:
    spec = job()["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["image"] == IMAGE
    assert container["resources"]["limits"] == {"memory": "24Gi", "nvidia.com/gpu": "1"}
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in spec["volumes"] if "emptyDir" not in volume}
    assert claims == {"mlc-data"} <= kinds("PersistentVolumeClaim").keys()
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in spec["volumes"]}
    assert pool("kubernetes")["variables"]["properties"]["namespace"]["default"] in kinds("Namespace")
    hosts = {re.sub(r"http://(\w+):.*", r"\1", container["env"][name]) for name in ADDRESSES}
    assert hosts <= kinds("Service").keys()


def test_what_the_manifests_name_is_there() -> None:
    listed = yaml.safe_load((DEPLOY / "kubernetes" / "kustomization.yaml").read_text(encoding="utf-8"))
    assert sorted(listed["resources"]) == [path.name for path in KUBERNETES]
    (image,) = listed["images"]
    assert f"{image['newName']}:{image['newTag']}" == IMAGE
    maps = {each["name"]: each["files"] for each in listed["configMapGenerator"]}
    for name, workload in {**kinds("Deployment"), **kinds("Job")}.items():
        spec = workload["spec"]["template"]["spec"]
        labels = workload["spec"]["template"]["metadata"]["labels"]
        assert workload["spec"].get("selector", {"matchLabels": labels})["matchLabels"] == labels, name
        assert spec.get("serviceAccountName", "default") in {*kinds("ServiceAccount"), "default"}
        for volume in spec.get("volumes", ()):
            claim, told = volume.get("persistentVolumeClaim"), volume.get("configMap")
            assert claim["claimName"] in kinds("PersistentVolumeClaim") if claim else told["name"] in maps
    for service in kinds("Service").values():
        found = kinds("Deployment")[service["spec"]["selector"]["app"]]["spec"]["template"]["spec"]["containers"][0]
        assert [port["targetPort"] for port in service["spec"]["ports"]] == [
            port["containerPort"] for port in found["ports"]
        ]


def test_nobody_is_root_and_nobody_may_become_it() -> None:
    pods = [
        workload["spec"]["template"]["spec"] for workload in (*kinds("Deployment").values(), *kinds("Job").values())
    ]
    for pod in (*pods, job()["spec"]["template"]["spec"]):
        assert pod["securityContext"]["runAsNonRoot"] is True
        for container in pod["containers"]:
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "capabilities": {"drop": ["ALL"]},
            }
            assert {"memory"} <= container["resources"]["limits"].keys()


@pytest.mark.parametrize("name", ["deploy", "mlflow", "prefect", "worker"])
def test_both_start_the_same_commands(name: str) -> None:
    workloads = {**kinds("Deployment"), **kinds("Job")}
    command = workloads[name]["spec"]["template"]["spec"]["containers"][0]["command"]
    ours = COMPOSE["services"][name]["command"]
    words = 3 if name in ("prefect", "worker") else 2
    assert command[:words] == ours[:words]


def test_the_automations_are_ones_for_prefect() -> None:
    text = (DEPLOY / "automations.yaml").read_text(encoding="utf-8").replace("BLOCK_DOCUMENT_ID", "0" * 32)
    found = {each["name"]: AutomationCore.model_validate(each) for each in yaml.safe_load(text)["automations"]}
    postures = [each.trigger.posture for each in found.values()]
    assert postures == [Posture.Reactive, Posture.Proactive, Posture.Reactive]
    assert found["mlc: a gate failed"].trigger.expect == {notifying.GATE_EVENT.format("failed")}
