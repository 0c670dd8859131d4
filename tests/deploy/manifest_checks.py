"""The default checks of kube-linter and kube-score, by their names there.

Each is a function from all rendered resources to findings, "Kind/name: what". Checks about kinds
that deploy/kubernetes does not have (Deployment, Ingress, CronJob, HorizontalPodAutoscaler) are
one: `absent_kinds`, which fails as soon as such a resource comes and needs them.
"""

import re

CHECKS = {"kube-linter": {}, "kube-score": {}}
# With what is not a workload, a pod template cannot hide from the checks below.
KNOWN_KINDS = {"Certificate", "ConfigMap", "Issuer", "Namespace", "NetworkPolicy",
               "PersistentVolumeClaim", "Pod", "PodDisruptionBudget", "PrometheusRule", "Service",
               "ServiceAccount", "ServiceMonitor", "StatefulSet"}
STABLE_VERSIONS = {"v1", "apps/v1", "policy/v1", "networking.k8s.io/v1",
                   "monitoring.coreos.com/v1", "cert-manager.io/v1"}


def check(tool, *names):
    def add(function):
        for name in names:
            CHECKS[tool][name] = function
        return function
    return add


def name_of(resource):
    return f"{resource['kind']}/{resource['metadata']['name']}"


def of_kind(resources, kind):
    return [each for each in resources if each["kind"] == kind]


def workloads(resources):
    """(workload, pod spec)"""
    return [(each, each["spec"]["template"]["spec"]) for each in of_kind(resources, "StatefulSet")]


def pods(resources):
    """The same, with the pods that are nobody's."""
    return workloads(resources) + [(each, each["spec"]) for each in of_kind(resources, "Pod")]


def containers(resources):
    for workload, pod in pods(resources):
        for container in pod["containers"] + pod.get("initContainers", []):
            yield workload, pod, container


def labels_of(workload):
    template = workload if workload["kind"] == "Pod" else workload["spec"]["template"]
    return template["metadata"]["labels"]


def selects(selector, labels):
    pairs = selector.get("matchLabels", {}) if "matchLabels" in selector or not selector \
        else selector
    return all(labels.get(key) == value for key, value in pairs.items())


@check("kube-linter", "absent-kinds")
@check("kube-score", "absent-kinds")
def absent_kinds(resources):
    """deployment-*, ingress-targets-service, cronjob-has-deadline, horizontalpodautoscaler-*."""
    for each in resources:
        if each["kind"] not in KNOWN_KINDS:
            yield f"{name_of(each)}: a kind whose checks are not written yet"


@check("kube-linter", "dangling-service")
@check("kube-score", "service-targets-pod")
def services_select_pods(resources):
    for service in of_kind(resources, "Service"):
        if not any(selects(service["spec"]["selector"], labels_of(workload))
                   for workload, _ in pods(resources)):
            yield f"{name_of(service)}: selects no pod"


@check("kube-linter", "deprecated-service-account-field", "non-existent-service-account")
def service_accounts_exist(resources):
    names = {each["metadata"]["name"] for each in of_kind(resources, "ServiceAccount")}
    for workload, pod in pods(resources):
        if "serviceAccount" in pod:
            yield f"{name_of(workload)}: serviceAccount is deprecated"
        if pod.get("serviceAccountName") not in names:
            yield f"{name_of(workload)}: service account {pod.get('serviceAccountName')}"


@check("kube-linter", "docker-sock", "sensitive-host-mounts")
def nothing_of_the_host_is_mounted(resources):
    for workload, pod in pods(resources):
        for volume in pod.get("volumes", []):
            if "hostPath" in volume:
                yield f"{name_of(workload)}: volume {volume['name']} is of the host"


@check("kube-linter", "drop-net-raw-capability")
def capabilities_are_dropped(resources):
    for workload, _, container in containers(resources):
        capabilities = container.get("securityContext", {}).get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or capabilities.get("add"):
            yield f"{name_of(workload)}: capabilities {capabilities}"


@check("kube-linter", "duplicate-env-var", "env-var-secret")
def environments_are_clean(resources):
    for workload, _, container in containers(resources):
        names = [variable["name"] for variable in container.get("env", [])]
        if len(set(names)) < len(names):
            yield f"{name_of(workload)}: a variable is there twice: {names}"
        for variable in container.get("env", []):
            if re.search("secret", variable["name"], re.I) and variable.get("value"):
                yield f"{name_of(workload)}: {variable['name']} is in the open"


@check("kube-linter", "host-ipc", "host-network", "host-pid")
def namespaces_are_the_pods_own(resources):
    for workload, pod in pods(resources):
        for field in ("hostIPC", "hostNetwork", "hostPID"):
            if pod.get(field):
                yield f"{name_of(workload)}: {field}"


@check("kube-linter", "invalid-target-ports")
def port_names_are_valid(resources):
    ports = [(each, port["name"], port.get("targetPort")) for each in of_kind(resources, "Service")
             for port in each["spec"]["ports"]]
    ports += [(workload, port["name"], None) for workload, _, container in containers(resources)
              for port in container.get("ports", [])]
    for owner, *names in ports:
        for name in filter(None, names):
            if not re.fullmatch(r"(?=.*[a-z])[a-z0-9]([a-z0-9-]{0,13}[a-z0-9])?", str(name)):
                yield f"{name_of(owner)}: port {name}"


@check("kube-linter", "latest-tag")
@check("kube-score", "container-image-tag")
def images_have_a_version(resources):
    for workload, _, container in containers(resources):
        if not re.fullmatch(r".+:(?!latest$)[\w.-]+", container["image"]):
            yield f"{name_of(workload)}: image {container['image']}"


@check("kube-linter", "liveness-port", "readiness-port", "startup-port")
def probed_ports_are_exposed(resources):
    for workload, _, container in containers(resources):
        exposed = {port["containerPort"] for port in container.get("ports", [])}
        for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
            # One that runs a command names no port.
            port = container.get(probe, {}).get("grpc", {}).get("port")
            if port is not None and port not in exposed:
                yield f"{name_of(workload)}: {probe}"


@check("kube-linter", "mismatching-selector")
def selectors_match_templates(resources):
    for workload, _ in workloads(resources):
        if not selects(workload["spec"]["selector"], labels_of(workload)):
            yield f"{name_of(workload)}: selector"


@check("kube-linter", "no-anti-affinity")
@check("kube-score", "statefulset-has-host-podantiaffinity")
def replicas_avoid_one_host(resources):
    for workload, pod in workloads(resources):
        rules = pod.get("affinity", {}).get("podAntiAffinity", {})
        terms = rules.get("requiredDuringSchedulingIgnoredDuringExecution", []) + [
            each["podAffinityTerm"]
            for each in rules.get("preferredDuringSchedulingIgnoredDuringExecution", [])]
        good = [term for term in terms if term["topologyKey"] == "kubernetes.io/hostname"
                and selects(term["labelSelector"], labels_of(workload))]
        if workload["spec"]["replicas"] >= 2 and not good:
            yield f"{name_of(workload)}: replicas may all be on one node"


@check("kube-linter", "no-extensions-v1beta")
@check("kube-score", "stable-version")
def versions_are_stable(resources):
    for each in resources:
        if each["apiVersion"] not in STABLE_VERSIONS:
            yield f"{name_of(each)}: {each['apiVersion']}"


@check("kube-linter", "no-read-only-root-fs", "privilege-escalation-container",
       "privileged-container", "run-as-non-root")
@check("kube-score", "container-security-context")
def containers_are_restricted(resources):
    for workload, pod, container in containers(resources):
        context = {**pod["securityContext"], **container.get("securityContext", {})}
        good = (context.get("readOnlyRootFilesystem") is True
                and context.get("allowPrivilegeEscalation") is False
                and not context.get("privileged") and context.get("runAsNonRoot") is True
                and context.get("runAsUser", 0) > 10000 and context.get("runAsGroup", 0) > 10000)
        if not good:
            yield f"{name_of(workload)}: security context {context}"


@check("kube-linter", "pdb-max-unavailable", "pdb-min-available",
       "pdb-unhealthy-pod-eviction-policy")
def budgets_allow_evictions(resources):
    for budget in of_kind(resources, "PodDisruptionBudget"):
        spec = budget["spec"]
        if spec.get("maxUnavailable", 0) < 1 or "minAvailable" in spec:
            yield f"{name_of(budget)}: no pod may ever be evicted"
        if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            yield f"{name_of(budget)}: unhealthyPodEvictionPolicy"


@check("kube-linter", "ssh-port")
def nobody_listens_for_ssh(resources):
    for workload, _, container in containers(resources):
        if any(port["containerPort"] == 22 for port in container.get("ports", [])):
            yield f"{name_of(workload)}: port 22"


@check("kube-linter", "unsafe-sysctls")
def no_sysctls_are_set(resources):
    for workload, pod in pods(resources):
        if pod["securityContext"].get("sysctls"):
            yield f"{name_of(workload)}: sysctls"


@check("kube-linter", "unset-cpu-requirements", "unset-memory-requirements")
@check("kube-score", "container-resources")
def resources_are_bounded(resources):
    for workload, _, container in containers(resources):
        for side in ("requests", "limits"):
            missing = {"cpu", "memory", "ephemeral-storage"} - set(container["resources"][side])
            if missing:
                yield f"{name_of(workload)}: {side} without {sorted(missing)}"


@check("kube-score", "container-image-pull-policy")
def images_are_pulled(resources):
    for workload, _, container in containers(resources):
        if container.get("imagePullPolicy") != "Always":
            yield f"{name_of(workload)}: imagePullPolicy {container.get('imagePullPolicy')}"


@check("kube-score", "statefulset-has-poddisruptionbudget")
def workloads_have_budgets(resources):
    for workload, _ in workloads(resources):
        if not any(selects(budget["spec"]["selector"], labels_of(workload))
                   for budget in of_kind(resources, "PodDisruptionBudget")):
            yield f"{name_of(workload)}: no PodDisruptionBudget"


@check("kube-score", "pod-networkpolicy", "networkpolicy-targets-pod")
def pods_and_policies_match(resources):
    policies = of_kind(resources, "NetworkPolicy")
    for workload, _ in pods(resources):
        directions = set()
        for policy in policies:
            if selects(policy["spec"]["podSelector"], labels_of(workload)):
                directions |= set(policy["spec"]["policyTypes"])
        if directions != {"Ingress", "Egress"}:
            yield f"{name_of(workload)}: policies for {sorted(directions)} only"
    for policy in policies:
        if not any(selects(policy["spec"]["podSelector"], labels_of(workload))
                   for workload, _ in pods(resources)):
            yield f"{name_of(policy)}: targets no pod"


@check("kube-score", "pod-probes")
def probes_differ(resources):
    """Of pods that serve somebody."""
    for workload, _, container in containers(resources):
        if workload["kind"] == "Pod" and "ports" not in container:
            continue
        readiness, liveness = container.get("readinessProbe"), container.get("livenessProbe")
        if readiness is None or liveness is None or readiness == liveness:
            yield f"{name_of(workload)}: probes are missing or the same"


@check("kube-score", "service-type")
def services_are_internal(resources):
    for service in of_kind(resources, "Service"):
        if service["spec"].get("type", "ClusterIP") != "ClusterIP":
            yield f"{name_of(service)}: type {service['spec']['type']}"


@check("kube-score", "label-values")
def label_values_are_valid(resources):
    for each in resources:
        for key, value in each["metadata"].get("labels", {}).items():
            if not re.fullmatch(r"([A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?)?", value):
                yield f"{name_of(each)}: label {key}: {value}"
