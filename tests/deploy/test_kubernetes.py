"""deploy/kubernetes: every overlay rendered, validated, and held to the linters' default checks."""

import copy
import json
import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import unittest

import kubernetes_schemas
import kustomize
import manifest_checks
import yaml

SOURCE = pathlib.Path(os.environ["SINKFORGE_SOURCE_DIR"]).resolve()
BUILD = pathlib.Path(os.environ["SINKFORGE_BUILD_DIR"]).resolve()
OVERLAYS = SOURCE / "deploy/kubernetes/overlays"
NAMES = ["base", *sorted(folder.name for folder in OVERLAYS.iterdir())]

# (overlay, check): why an overlay differs from what the check wants.
DIFFERENCES = {
    ("local-cpu", "container-image-pull-policy"):
        "images are loaded into the local cluster; there is no registry to pull them from",
}


def folder_of(name):
    return OVERLAYS.parent / name if name in ("base", "client") else OVERLAYS / name


# A pod beside them, with nothing of a cluster.
CLIENT = "client"
# The overlay whose traffic is encrypted.
ENCRYPTED = "gpu-tls"
EVERYTHING = [*NAMES, CLIENT]
RENDERS = {name: kustomize.render(folder_of(name)) for name in EVERYTHING}


def find(resources, kind, name):
    (found,) = [each for each in resources
                if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    return found


def key(resource):
    return resource["kind"], resource["metadata"].get("namespace", ""), resource["metadata"]["name"]


def current_kubectl():
    """The render command of a kubectl or kustomize that knows this dialect, or None."""
    for command in (["kustomize", "build"], ["kubectl", "kustomize"]):
        if shutil.which(command[0]) is None:
            continue
        version = subprocess.run([*command[:1], "version", *(["--client"] * (len(command[1]) > 5))],
                                 capture_output=True, text=True, check=False).stdout
        match = re.search(r"v(\d+)\.\d+\.\d+\s*$", version.strip().splitlines()[-1]) \
            if version.strip() else None
        if match and int(match.group(1)) >= 5:
            return command
    return None


def arguments_of(resources, workload):
    """What the pod's first container is started with, each $(VARIABLE) replaced."""
    container = workload["spec"]["template"]["spec"]["containers"][0]
    values = dict(find(resources, "ConfigMap",
                       container["envFrom"][0]["configMapRef"]["name"])["data"])
    fields = {"status.podIP": "127.0.0.1", "metadata.namespace": "sinkforge",
              "metadata.name": workload["metadata"]["name"] + "-0"}

    def expand(text):
        return re.sub(r"\$\((\w+)\)", lambda match: values[match.group(1)], text)

    for each in container["env"]:  # Later ones may name earlier ones.
        values[each["name"]] = expand(each["value"]) if "value" in each \
            else fields[each["valueFrom"]["fieldRef"]["fieldPath"]]
    return [expand(each) for each in container["args"]]


class RenderTest(unittest.TestCase):
    def test_kustomize_itself_renders_the_same(self):
        command = current_kubectl()
        for name in EVERYTHING:
            if command is None:
                # What the other tests read is then this renderer's alone.
                self.assertTrue(RENDERS[name])
                continue
            done = subprocess.run([*command, str(folder_of(name))], capture_output=True, text=True,
                                  check=False)
            self.assertEqual((done.returncode, done.stderr), (0, ""), name)
            theirs = {key(each): each for each in yaml.safe_load_all(done.stdout)}
            ours = {key(each): each for each in RENDERS[name]}
            self.assertEqual(sorted(ours), sorted(theirs), name)
            for each in ours:
                self.assertEqual(ours[each], theirs[each], f"{name}: {each}")

    def test_a_changed_setting_restarts_the_pods(self):
        def worker(resources):
            pod = find(resources, "StatefulSet", "sinkforge-worker")["spec"]["template"]["spec"]
            return pod["containers"][0]["envFrom"][0]["configMapRef"]["name"]

        before = worker(RENDERS["base"])
        self.assertRegex(before, r"^sinkforge-worker-[a-z0-9]{10}$")
        changed = copy.deepcopy(RENDERS["base"])
        settings = find(changed, "ConfigMap", before)
        settings["data"]["SLOTS"] = "2"
        settings["metadata"]["name"] = "sinkforge-worker"
        settings["needs hash"] = True
        for each in kustomize.workloads(changed):
            for source in each["spec"]["template"]["spec"]["containers"][0]["envFrom"]:
                if source["configMapRef"]["name"] == before:
                    source["configMapRef"]["name"] = "sinkforge-worker"
        self.assertNotEqual(worker(kustomize.add_hashes(changed)), before)

    def test_the_renderer_refuses_what_it_does_not_know(self):
        with self.assertRaises(kustomize.UnknownField):
            kustomize.only({"helmCharts": []}, kustomize.KNOWN_FIELDS, "test")
        with self.assertRaises(kustomize.UnknownField):
            kustomize.apply_operation({"a": 1}, {"op": "replace", "path": "/b", "value": 2}, "test")


class SchemaTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.schemas = kubernetes_schemas.schemas()

    def test_every_resource_is_valid(self):
        foreign, seen = set(), set()
        for name in EVERYTHING:
            for version, schemas in self.schemas.items():
                for resource in RENDERS[name]:
                    text = version + json.dumps(resource, sort_keys=True)
                    if text in seen:  # Overlays share most of the base.
                        continue
                    seen.add(text)
                    errors = schemas.errors(resource)
                    if errors is None:
                        foreign.add((name, resource["kind"]))
                        continue
                    self.assertEqual(errors, [], f"{name}, {version}: {key(resource)}")
        self.assertEqual(foreign, {("monitoring", "ServiceMonitor"),
                                   ("monitoring", "PrometheusRule"),
                                   (ENCRYPTED, "Certificate"), (ENCRYPTED, "Issuer")})

    def test_the_schemas_catch_mistakes(self):
        for path, value in (("spec/replicas", "two"), ("spec/template/spec/contaners", []),
                            ("spec/serviceName", None)):
            broken = copy.deepcopy(find(RENDERS["gpu"], "StatefulSet", "sinkforge-worker"))
            *parents, last = path.split("/")
            target = broken
            for step in parents:
                target = target[step]
            if value is None:
                target[last] = {"not": "a name"}
            else:
                target[last] = value
            for version, schemas in self.schemas.items():
                self.assertNotEqual(schemas.errors(broken), [], f"{version}: {path}")


class LinterTest(unittest.TestCase):
    def test_the_default_checks_pass_but_where_it_is_explained(self):
        found = set()
        for name in EVERYTHING:
            for checks in manifest_checks.CHECKS.values():
                for check, function in checks.items():
                    findings = list(function(RENDERS[name]))
                    if (name, check) in DIFFERENCES:
                        found.update([(name, check)] if findings else [])
                        continue
                    self.assertEqual(findings, [], f"{name}: {check}")
        self.assertEqual(found, set(DIFFERENCES), "an explanation that nothing needs any more")

    def test_each_check_can_fail(self):
        """Resources that are wrong in every way that the checks know."""
        broken = copy.deepcopy(RENDERS["gpu"])
        for each in broken:
            each["apiVersion"] = "extensions/v1beta1"
            each["metadata"].setdefault("labels", {})["bad"] = "a/b"
        broken = [each for each in broken
                  if each["kind"] not in ("ServiceAccount", "PodDisruptionBudget")]
        for each in broken:
            if each["kind"] == "Service":
                each["spec"].update(type="NodePort", selector={"nobody": "here"})
                each["spec"]["ports"][0]["targetPort"] = "UPPER"
            if each["kind"] == "NetworkPolicy":
                each["spec"]["podSelector"] = {"matchLabels": {"nobody": "here"}}
            if each["kind"] == "StatefulSet":
                self.spoil(each)
        broken += [{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "bare"}},
                   {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                    "metadata": {"name": "none"},
                    "spec": {"minAvailable": 1, "selector": {"matchLabels": {"nobody": "here"}}}}]
        for tool, checks in manifest_checks.CHECKS.items():
            for check, function in checks.items():
                self.assertNotEqual(list(function(broken)), [], f"{tool}: {check}")

    @staticmethod
    def spoil(workload):
        workload["spec"]["selector"] = {"matchLabels": {"other": "one"}}
        workload["spec"]["replicas"] = 2
        pod = workload["spec"]["template"]["spec"]
        pod.update(serviceAccount="old", hostIPC=True, hostNetwork=True, hostPID=True)
        pod.pop("affinity", None)
        pod["securityContext"] = {"sysctls": [{"name": "net.core.somaxconn", "value": "1"}]}
        pod["volumes"].append({"name": "socket", "hostPath": {"path": "/run/docker.sock"}})
        container = pod["containers"][0]
        container.update(image="sinkforge:latest", imagePullPolicy="Never", securityContext={},
                         resources={"requests": {}, "limits": {}},
                         readinessProbe=container["livenessProbe"],
                         ports=[{"name": "ssh", "containerPort": 22}])
        container["env"] += [{"name": "A_SECRET", "value": "x"}] * 2


class MeaningTest(unittest.TestCase):
    """What no schema knows."""

    def test_every_argument_is_an_option_of_its_program_and_every_variable_is_set(self):
        for name in NAMES:
            for workload in kustomize.workloads(RENDERS[name]):
                container = workload["spec"]["template"]["spec"]["containers"][0]
                program = workload["metadata"]["name"]
                help_text = subprocess.run([BUILD / "bin" / program, "--help"], text=True,
                                           capture_output=True, check=True).stdout
                settings = find(RENDERS[name], "ConfigMap",
                                container["envFrom"][0]["configMapRef"]["name"])["data"]
                known = set(settings) | {each["name"] for each in container["env"]}
                for argument in container["args"]:
                    self.assertIn("  " + argument.split("=")[0], help_text, program)
                # A variable may be made of others.
                texts = container["args"] + [each.get("value", "") for each in container["env"]]
                used = set(re.findall(r"\$\((\w+)\)", " ".join(texts)))
                self.assertEqual(used, known, f"{name}: {program}")

    def test_daemons_start_with_the_arguments_of_the_pods(self):
        """Wrong values would end them with exit code 2, before anything else is looked at."""
        folder = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, folder)
        subprocess.run([SOURCE / "deploy/tls/make-certificates.sh", folder, "tls"], check=True,
                       capture_output=True)
        for name in NAMES:
            for workload in kustomize.workloads(RENDERS[name]):
                container = workload["spec"]["template"]["spec"]["containers"][0]
                arguments = [each.replace("/etc/sinkforge/tls", folder)
                             for each in arguments_of(RENDERS[name], workload)
                             # This machine has neither that folder nor, perhaps, a GPU.
                             if each not in ("--data-root=/data", "--gpus=1")]
                # A file where the data folder should be: the command line is read, and no more.
                done = subprocess.run([BUILD / "bin" / workload["metadata"]["name"], *arguments,
                                       "--data-dir=/dev/null"],
                                      capture_output=True, text=True, check=False)
                self.assertNotIn(done.returncode, (0, 2, 106), done.stderr)
                self.assertIn("/dev/null", done.stderr, container["args"])

    def test_a_worker_has_as_long_to_stop_as_its_grace_and_a_minute(self):
        for name in NAMES:
            worker = find(RENDERS[name], "StatefulSet", "sinkforge-worker")
            pod = worker["spec"]["template"]["spec"]
            settings = find(RENDERS[name], "ConfigMap",
                            pod["containers"][0]["envFrom"][0]["configMapRef"]["name"])["data"]
            minutes = re.fullmatch(r"(\d+)m", settings["GRACE"]).group(1)
            self.assertEqual(pod["terminationGracePeriodSeconds"], 60 * int(minutes) + 60)

    def test_gpus_are_asked_for_where_there_are_some(self):
        for name in NAMES:
            worker = find(RENDERS[name], "StatefulSet", "sinkforge-worker")
            container = worker["spec"]["template"]["spec"]["containers"][0]
            gpus = container["resources"]["limits"].get("nvidia.com/gpu")
            has_gpus = name not in ("base", "local-cpu")
            self.assertEqual(gpus, "1" if has_gpus else None, name)
            self.assertEqual(f"--gpus={gpus}" in container["args"], has_gpus, name)
            self.assertEqual(container["image"].startswith("sinkforge-worker-cuda:"), has_gpus)

    def test_every_pod_keeps_the_standard_that_its_namespace_enforces(self):
        enforced = find(RENDERS["base"], "Namespace", "sinkforge")["metadata"]["labels"]
        self.assertEqual(enforced["pod-security.kubernetes.io/enforce"], "restricted")
        for name in EVERYTHING:
            self.assertTrue(manifest_checks.pods(RENDERS[name]), name)
            for _, pod, container in manifest_checks.containers(RENDERS[name]):
                self.assertEqual(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault")
                self.assertTrue(pod["securityContext"]["runAsNonRoot"])
                self.assertIs(container["securityContext"]["allowPrivilegeEscalation"], False)
                self.assertEqual(container["securityContext"]["capabilities"], {"drop": ["ALL"]})
                kinds = {kind for volume in pod["volumes"] for kind in volume} - {"name"}
                self.assertLessEqual(kinds, {"emptyDir", "persistentVolumeClaim", "configMap",
                                             "secret"})

    def test_the_client_reaches_the_coordinator_and_the_data(self):
        client = find(RENDERS[CLIENT], "Pod", "client")
        (container,) = client["spec"]["containers"]
        host, _, port = container["env"][0]["value"].partition(":")
        service = find(RENDERS["base"], "Service", host)
        self.assertIn(int(port), [each["port"] for each in service["spec"]["ports"]])
        coordinator = find(RENDERS["base"], "StatefulSet", "sinkforge-coordinator")
        served = coordinator["spec"]["template"]["spec"]["containers"][0]["image"]
        self.assertEqual(container["image"], served)
        for policy in ("sinkforge-coordinator", "sinkforge-worker"):
            admitted = [peer["podSelector"] for rule in find(RENDERS["base"], "NetworkPolicy",
                                                             policy)["spec"]["ingress"]
                        for peer in rule["from"] if "podSelector" in peer]
            self.assertTrue(any(manifest_checks.selects(each, client["metadata"]["labels"])
                                for each in admitted), policy)
        (claim,) = [volume["persistentVolumeClaim"] for volume in client["spec"]["volumes"]
                    if "persistentVolumeClaim" in volume]
        find(RENDERS["base"], "PersistentVolumeClaim", claim["claimName"])
        self.assertNotIn("readOnly", claim)
        text = (SOURCE / "deploy/kubernetes/README.md").read_text(encoding="utf-8")
        self.assertIn("kubectl apply --server-side -k deploy/kubernetes/client", text)
        self.assertIn("client:/data/", text)

    def test_every_head_is_exported_where_dashboards_show_them(self):
        for name in NAMES:
            worker = find(RENDERS[name], "StatefulSet", "sinkforge-worker")
            arguments = worker["spec"]["template"]["spec"]["containers"][0]["args"]
            self.assertEqual("--export-importance" in arguments, name == "monitoring", name)

    def test_only_the_monitoring_overlay_needs_the_prometheus_operator(self):
        for name in NAMES:
            kinds = {each["kind"] for each in RENDERS[name]}
            self.assertEqual("ServiceMonitor" in kinds, name == "monitoring")
            self.assertEqual("PrometheusRule" in kinds, name == "monitoring")
            dashboards = [each for each in RENDERS[name] if each["kind"] == "ConfigMap"
                          and "grafana_dashboard" in each["metadata"].get("labels", {})]
            files = sorted(file for each in dashboards for file in each["data"])
            folder = SOURCE / "deploy/grafana/dashboards"
            self.assertEqual(files, sorted(path.name for path in folder.iterdir())
                             if name == "monitoring" else [])

    def test_monitors_name_ports_of_services(self):
        resources = RENDERS["monitoring"]
        for monitor in manifest_checks.of_kind(resources, "ServiceMonitor"):
            services = [each for each in manifest_checks.of_kind(resources, "Service")
                        if manifest_checks.selects(monitor["spec"]["selector"],
                                                   each["metadata"]["labels"])]
            self.assertEqual(len(services), 1, monitor["metadata"]["name"])
            ports = {port["name"] for port in services[0]["spec"]["ports"]}
            self.assertEqual({each["port"] for each in monitor["spec"]["endpoints"]} - ports, set())

    def test_the_operators_rules_are_those_of_prometheus(self):
        groups = []
        for path in sorted((SOURCE / "deploy/prometheus/rules").glob("*.yml")):
            groups += yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        rule = find(RENDERS["monitoring"], "PrometheusRule", "sinkforge")
        self.assertEqual(rule["spec"]["groups"], groups,
                         "run deploy/prometheus/prometheus_rule.py and commit what it writes")

    def test_encrypted_pods_have_certificates_for_the_names_that_they_are_called_by(self):
        resources = RENDERS[ENCRYPTED]
        certificates = {each["spec"]["secretName"]: each["spec"]
                        for each in manifest_checks.of_kind(resources, "Certificate")}
        issuers = {each["metadata"]["name"]
                   for each in manifest_checks.of_kind(resources, "Issuer")}
        for spec in certificates.values():
            self.assertIn(spec["issuerRef"]["name"], issuers)
        called = {"sinkforge-coordinator"}  # by workers and clients; the port is the service's
        for workload in kustomize.workloads(resources):
            options = dict(each[2:].partition("=")[::2]
                           for each in arguments_of(resources, workload))
            host, _, port = options["listen"].rpartition(":")
            name, _, domain = host.partition(".")
            self.assertEqual(name, workload["metadata"]["name"] + "-0")
            self.assertEqual(domain, workload["spec"]["serviceName"]
                             + ".sinkforge.svc.cluster.local")
            pod = workload["spec"]["template"]["spec"]
            names = certificates[self.secret_of(pod)]["dnsNames"]
            self.assertIn("*." + domain, names)
            container = pod["containers"][0]
            mounted = [options[each] for each in ("tls-cert", "tls-key", "tls-ca")]
            self.assertEqual(mounted, [f"/etc/sinkforge/tls/{each}"
                                       for each in ("tls.crt", "tls.key", "ca.crt")])
            # The kubelet itself cannot ask over TLS.
            for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
                (shell, flag, script) = container[probe]["exec"]["command"]
                self.assertEqual((shell, flag), ("sh", "-c"))
                self.assertTrue(script.startswith(f'sinkforge health "$HOST:{port}"'), script)
            if "coordinator" in options:
                called.add(options["coordinator"].rpartition(":")[0])
        self.assertEqual(called, {"sinkforge-coordinator"})
        self.assertIn("sinkforge-coordinator",
                      certificates["sinkforge-coordinator-tls"]["dnsNames"])
        client = find(resources, "Pod", "client")["spec"]
        self.assertIn("client auth", certificates[self.secret_of(client)]["usages"])
        variables = {each["name"] for each in client["containers"][0]["env"]}
        self.assertLessEqual({"SINKFORGE_TLS_CERT", "SINKFORGE_TLS_KEY", "SINKFORGE_TLS_CA"},
                             variables)

    def secret_of(self, pod):
        (secret,) = [each["secret"]["secretName"] for each in pod["volumes"] if "secret" in each]
        (mount,) = [each for each in pod["containers"][0]["volumeMounts"] if each["name"] == "tls"]
        self.assertTrue(mount["readOnly"])
        return secret

    def test_kueue_is_asked_in_its_overlay_alone(self):
        for name in NAMES:
            worker = find(RENDERS[name], "StatefulSet", "sinkforge-worker")
            self.assertEqual(worker["metadata"]["labels"].get("kueue.x-k8s.io/queue-name"),
                             "sinkforge" if name == "gpu-kueue" else None)


if __name__ == "__main__":
    unittest.main()
