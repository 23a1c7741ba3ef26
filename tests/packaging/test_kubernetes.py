"""The Kubernetes manifest in `packaging/kubernetes`: valid by the schemas of Kubernetes, and consistent in itself."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from guide import Guide
from kubernetes_validate import ValidationError, validate
from paths import DOCS, ROOT

from wsserver.config.settings import Settings

MANIFEST = ROOT / "packaging" / "kubernetes" / "wsserver.yaml"
VERSIONS = ("1.29.0", "1.37.0")
"""An old version of Kubernetes, and the newest one of which `kubernetes-validate` has the schemas."""

Resource = dict[str, Any]


@pytest.fixture
def resources() -> dict[str, Resource]:
    """Return the resources by their kind."""
    return {one["kind"]: one for one in yaml.safe_load_all(MANIFEST.read_text("utf-8"))}


@pytest.fixture
def pod(resources: dict[str, Resource]) -> Resource:
    """Return the specification of the pods."""
    found: Resource = resources["Deployment"]["spec"]["template"]["spec"]
    return found


@pytest.fixture
def settings(resources: dict[str, Resource], tmp_path: Path) -> Settings:
    """Return the options that the servers in the pods have."""
    file = tmp_path / "wsserver.toml"
    file.write_text(resources["ConfigMap"]["data"]["wsserver.toml"])
    return Settings.load({}, {}, str(file))


class SchemaTests:
    """`kubernetes-validate`, which has the schemas of Kubernetes."""

    @pytest.mark.parametrize("version", VERSIONS)
    def test_every_resource_is_valid(self, resources: dict[str, Resource], version: str):
        for resource in resources.values():
            validate(resource, version, strict=True)

    def test_a_misspelled_field_is_found(self, resources: dict[str, Resource]):
        """The test above can fail."""
        deployment = resources["Deployment"]
        deployment["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
        with pytest.raises(ValidationError, match="readinesProbe"):
            validate(deployment, VERSIONS[-1], strict=True)


class DocumentationTests:
    """The parts of specifications in the guides."""

    @pytest.mark.parametrize("version", VERSIONS)
    @pytest.mark.parametrize(
        ("page", "beginning", "within"),
        [
            ("how-to/health", "containers:", ("spec",)),
            ("how-to/stop-and-reload", "terminationGracePeriodSeconds:", ("spec",)),
            ("how-to/kubernetes", "# In the ConfigMap", ("spec", "containers")),
            ("reference/configuration", "spec:", ()),
        ],
    )
    def test_every_part_is_valid_in_a_pod(self, page, beginning, within, version: str):
        part = yaml.safe_load(Guide(page).block(beginning))
        if version == VERSIONS[0] and "preStop" in str(part):
            # The comment beside it names the form for these versions.
            part["containers"][0]["lifecycle"]["preStop"] = {"exec": {"command": ["sleep", "5"]}}
        made: Resource = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "test"}}
        container = {"name": "wsserver", "image": "wsserver"}
        if within == ("spec", "containers"):
            made["spec"] = {"containers": [container | part]}
        elif within:
            made["spec"] = part
        else:
            made["spec"] = {"containers": [container]} | part["spec"]
        validate(made, version, strict=True)


class ConsistencyTests:
    """The resources fit each other and the server."""

    def test_a_pod_may_take_longer_to_stop_than_its_server(self, pod: Resource, settings: Settings):
        [container] = pod["containers"]
        [_, before] = container["lifecycle"]["preStop"]["exec"]["command"]
        needed = int(before) + settings.drain_timeout + settings.close_timeout
        assert pod["terminationGracePeriodSeconds"] >= needed

    def test_the_probes_ask_the_paths_that_they_should(self, pod: Resource):
        [container] = pod["containers"]
        paths = {name: probe["httpGet"]["path"] for name, probe in container.items() if name.endswith("Probe")}
        assert paths == {"startupProbe": "/health", "livenessProbe": "/health", "readinessProbe": "/ready"}

    def test_the_documented_probes_of_an_admin_endpoint_fit_the_manifest(self, pod: Resource):
        text = (DOCS / "how-to" / "kubernetes.md").read_text("utf-8")
        [block] = re.findall(r"```yaml\n( +# In the ConfigMap: (.*)\n(?:.*\n)*?)```", text)
        documented, [container] = yaml.safe_load(block[0]), pod["containers"]
        changed = {**container, "ports": documented.pop("ports")}
        for name, probe in documented.items():
            assert probe["httpGet"]["path"] == container[name]["httpGet"]["path"]
            changed[name] = {**container[name], **probe}
        ports = {one["name"]: one["containerPort"] for one in changed["ports"]}
        assert {probe["httpGet"]["port"] for name, probe in changed.items() if name.endswith("Probe")} == {"admin"}
        assert block[1] == f'admin_listen = ["tcp:{ports["admin"]}"]'
        assert container["ports"][0] in changed["ports"]

    def test_ports_names_and_labels_agree(self, resources: dict[str, Resource], pod: Resource, settings: Settings):
        [container] = pod["containers"]
        assert container["ports"] == [{"name": "http", "containerPort": settings.port}]
        [port] = resources["Service"]["spec"]["ports"]
        assert port["targetPort"] == "http"
        [rule] = resources["Ingress"]["spec"]["rules"]
        backend = rule["http"]["paths"][0]["backend"]["service"]
        assert backend == {"name": resources["Service"]["metadata"]["name"], "port": {"name": port["name"]}}
        label = {"app": "wsserver"}
        assert resources["Service"]["spec"]["selector"] == label
        for kind in ("Deployment", "PodDisruptionBudget"):
            assert resources[kind]["spec"]["selector"] == {"matchLabels": label}
        assert resources["Deployment"]["spec"]["template"]["metadata"]["labels"] == label

    def test_the_ingress_waits_longer_than_the_pings(self, resources: dict[str, Resource], settings: Settings):
        annotations = resources["Ingress"]["metadata"]["annotations"]
        timeout = int(annotations["nginx.ingress.kubernetes.io/proxy-read-timeout"])
        assert settings.ping_interval < timeout < settings.keepalive_timeout

    def test_the_server_runs_as_the_user_of_the_image_without_privileges(self, pod: Resource):
        [container] = pod["containers"]
        user = pod["securityContext"]["runAsUser"]
        assert f"USER {user}:{user}\n" in (ROOT / "packaging" / "docker" / "Dockerfile").read_text("utf-8")
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["securityContext"]["readOnlyRootFilesystem"]

    def test_no_secret_is_in_the_manifest(self, resources: dict[str, Resource], settings: Settings):
        assert "Secret" not in resources
        assert not settings.api_key
        assert "kubectl create secret generic wsserver" in (DOCS / "how-to" / "kubernetes.md").read_text("utf-8")
