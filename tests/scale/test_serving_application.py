"""What is deployed: the options Serve gets, the config file, and the manifests for Kubernetes."""

import asyncio
import re
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import yaml

kubernetes_validate = pytest.importorskip("kubernetes_validate", reason="comes with `make install-dev`")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray Serve's own, at its import
    pytest.importorskip("ray.serve", reason="Ray is not installed: pip install -e '.[scale]', or `make install-dev`")

from pydantic import ValidationError  # noqa: E402
from ray.serve.schema import ServeDeploySchema  # noqa: E402
from typer.testing import CliRunner  # noqa: E402

from cli.app import app  # noqa: E402
from scale.serving import replica  # noqa: E402
from scale.serving.application import ReplicaSet, assemble  # noqa: E402
from scale.serving.environment import ENVIRONMENT  # noqa: E402
from scale.serving.policy import QueuedTokens  # noqa: E402
from service.settings import Settings  # noqa: E402

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "ray" / "serve.yaml"
KUBERNETES = ROOT / "configs" / "kubernetes"
KUBERNETES_VERSION = "1.31"


def deployed(**fields: Any) -> Any:
    return assemble(ReplicaSet(**fields), Settings(drain_seconds=7))._bound_deployment


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((KUBERNETES / name).read_text()))


def test_a_fixed_number_of_replicas_and_the_router_by_query() -> None:
    found = deployed(min_replicas=3, threads=2, affinity_bound=9)
    assert (found.num_replicas, found.ray_actor_options["num_cpus"]) == (3, 2)
    config = found._deployment_config
    assert config.autoscaling_config is None
    assert config.request_router_config.request_router_class == "scale.serving.router.PrefixRouter"
    assert config.request_router_config.request_router_kwargs == {"bound": 9}
    assert config.graceful_shutdown_timeout_s > 7, "the service's own drain comes first"
    settings, key = found.init_args
    assert (settings.workers, settings.num_threads, len(key)) == (3, 2, 32)
    assert deployed(affinity=False)._deployment_config.request_router_config.is_default_request_router()


def test_autoscaling_goes_by_queued_tokens_between_the_bounds() -> None:
    config = deployed(min_replicas=1, max_replicas=5, target_waiting_tokens=77)._deployment_config.autoscaling_config
    assert (config.min_replicas, config.max_replicas) == (1, 5)
    policy = config.policy.get_policy()
    assert policy is QueuedTokens or policy.__name__ == "QueuedTokens"
    assert config.policy.policy_kwargs == {"target_tokens": 77}


def test_the_key_of_handles_is_the_settings_own_where_there_is_one() -> None:
    settings = Settings(handle_key="0123456789abcdef0123")  # type: ignore[arg-type]
    assert assemble(ReplicaSet(), settings)._bound_deployment.init_args[1] == b"0123456789abcdef0123"


async def test_a_replica_whose_engine_dies_ends_and_one_that_never_served_only_says_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended = asyncio.get_running_loop().create_future()
    monkeypatch.setattr(replica.os, "_exit", ended.set_result)
    monkeypatch.setattr(replica, "LAST_ANSWERS_S", 0.0)
    for has_served in (False, True):
        plain = replica.Replica.__bases__[0]  # without what Serve puts around it
        one = plain.__new__(plain)
        one._error, one._has_served = None, has_served
        await one.check_health()
        one._fail(ValueError("no such graph"))
        with pytest.raises(replica.EngineEnded, match="ValueError: no such graph"):
            await one.check_health()
        if not has_served:
            await asyncio.sleep(0.05)
            assert not ended.done()
    assert await asyncio.wait_for(ended, 10) == 4


def test_the_config_file_is_one() -> None:
    schema = ServeDeploySchema.model_validate(yaml.safe_load(CONFIG.read_text()))
    (application,) = schema.applications
    module, _, name = application.import_path.partition(":")
    assert (module, name) == ("scale.serving.application", "build")
    wanted = ReplicaSet.model_validate(application.args)
    settings = Settings(**wanted.settings)
    assert wanted.max_replicas == 8
    assert settings.drain_seconds == 10
    with pytest.raises(ValidationError):
        ReplicaSet.model_validate(application.args | {"max_replica": 3})


@pytest.mark.parametrize("document", documents("deployment.yaml"), ids=lambda one: str(one["kind"]))
def test_the_plain_manifests_fit_kubernetes_schemas(document: dict[str, Any]) -> None:
    kubernetes_validate.validate(document, KUBERNETES_VERSION, strict=True)


def test_a_pod_of_the_ray_service_fits_kubernetes_schemas() -> None:
    (service,) = documents("rayservice.yaml")
    cluster = service["spec"]["rayClusterConfig"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for group in groups:
        # KubeRay's own schema is not at hand; what it makes pods of is.
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, "spec": group["template"]["spec"]}
        kubernetes_validate.validate(pod, KUBERNETES_VERSION, strict=True)
    assert yaml.safe_load(service["spec"]["serveConfigV2"]) == yaml.safe_load(CONFIG.read_text())
    assert f"ray[data,serve]=={cluster['rayVersion']}" in (ROOT / "pyproject.toml").read_text()


def test_pods_run_as_nobody_on_a_read_only_root_and_are_probed_where_we_answer() -> None:
    (service,) = documents("rayservice.yaml")
    cluster = service["spec"]["rayClusterConfig"]
    deployment = documents("deployment.yaml")[0]
    specs = [
        g["template"]["spec"] for g in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"], deployment["spec"])
    ]
    for spec in specs:
        assert spec["securityContext"]["runAsNonRoot"]
        (container,) = spec["containers"]
        context = container["securityContext"]
        assert (context["readOnlyRootFilesystem"], context["allowPrivilegeEscalation"]) == (True, False)
        assert context["capabilities"] == {"drop": ["ALL"]}
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    paths = {name: container[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert paths == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    names = {one["name"]: one.get("value") for one in container["env"]}
    known = {f"ANSWER_FIRST_{field.upper()}" for field in Settings.model_fields}
    assert set(names) <= known
    grace = deployment["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > int(names["ANSWER_FIRST_STOP_DELAY_SECONDS"]) + int(names["ANSWER_FIRST_DRAIN_SECONDS"]) + 5


def test_the_autoscaler_goes_by_the_series_that_the_adapter_offers() -> None:
    scaler = next(one for one in documents("deployment.yaml") if one["kind"] == "HorizontalPodAutoscaler")
    (metric,) = [one["pods"]["metric"]["name"] for one in scaler["spec"]["metrics"] if one["type"] == "Pods"]
    (rule,) = yaml.safe_load((KUBERNETES / "prometheus_adapter.yaml").read_text())["rules"]["custom"]
    assert rule["name"]["as"] == metric
    assert rule["seriesQuery"].startswith(metric)
    assert metric == "relevance_waiting_tokens"
    assert 'watch("waiting_tokens"' in (ROOT / "service" / "app.py").read_text()


def test_the_image_for_ray_has_the_environment_of_its_nodes() -> None:
    text = re.sub(r"\\\n\s*", " ", (ROOT / "Dockerfile").read_text())
    (stage,) = re.findall(r"^FROM rayproject/ray\S* AS ray$.*?(?=^FROM )", text, re.MULTILINE | re.DOTALL)
    assert {name for name, value in ENVIRONMENT.items() if f"{name}={value}" not in stage} == set()


@pytest.mark.parametrize("replicas", ["0", "x", "3-2", "2-", "-1"])
def test_a_number_of_replicas_that_is_none_is_refused(replicas: str) -> None:
    result = CliRunner().invoke(app, ["serve", f"--replicas={replicas}"])
    assert "give a number" in str(result.exception)


def test_without_ray_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [one for one in sys.modules if one.partition(".")[0] == "ray" or one.startswith("scale.serving")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    result = CliRunner().invoke(app, ["serve", "--replicas", "2"])
    assert str(result.exception).startswith("Ray Serve (ray) is not installed")
    assert "'.[scale]'" in str(result.exception)
