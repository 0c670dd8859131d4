"""Renders the part of kustomize's dialect that deploy/kubernetes uses, and refuses the rest.

For machines without a current kubectl; where there is one, the tests compare the two renders.
"""

import copy
import hashlib
import json
import pathlib
import re

import yaml

KNOWN_FIELDS = {"apiVersion", "kind", "namespace", "resources", "components", "labels", "images",
                "replicas", "configMapGenerator", "generatorOptions", "patches"}
CLUSTER_KINDS = {"Namespace"}
WORKLOAD_KINDS = {"StatefulSet", "Deployment", "DaemonSet"}


class UnknownField(Exception):
    """The file uses something that this renderer does not know."""


def only(mapping, known, where):
    unknown = set(mapping) - set(known)
    if unknown:
        raise UnknownField(f"{where}: {sorted(unknown)}")


def render(folder):
    """The resources of a kustomization, in no order that means anything."""
    return apply_kustomization(pathlib.Path(folder), [])


def apply_kustomization(folder, resources):
    path = folder / "kustomization.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    only(config, KNOWN_FIELDS, path)
    for name in config.get("resources", []):
        found = folder / name
        if found.is_dir():
            resources = resources + render(found)
        else:
            text = found.read_text(encoding="utf-8")
            resources = resources + [each for each in yaml.safe_load_all(text) if each]
    options = config.get("generatorOptions", {})
    only(options, {"disableNameSuffixHash", "labels"}, path)
    for generator in config.get("configMapGenerator", []):
        resources = resources + [config_map(folder, generator, options)]
    for name in config.get("components", []):
        resources = apply_kustomization(folder / name, resources)
    for patch in config.get("patches", []):
        apply_patch(resources, patch, path)
    if "namespace" in config:
        set_namespace(resources, config["namespace"])
    for labels in config.get("labels", []):
        only(labels, {"pairs", "includeTemplates"}, path)
        add_labels(resources, labels)
    for image in config.get("images", []):
        only(image, {"name", "newName", "newTag"}, path)
        set_image(resources, image)
    for replicas in config.get("replicas", []):
        for each in workloads(resources):
            if each["metadata"]["name"] == replicas["name"]:
                each["spec"]["replicas"] = replicas["count"]
    return add_hashes(resources)


def config_map(folder, generator, options):
    only(generator, {"name", "literals", "files"}, folder)
    data = dict(literal.split("=", 1) for literal in generator.get("literals", []))
    for name in generator.get("files", []):
        data[pathlib.PurePath(name).name] = (folder / name).read_text(encoding="utf-8")
    metadata = {"name": generator["name"]}
    if "labels" in options:
        metadata["labels"] = dict(options["labels"])
    made = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    if not options.get("disableNameSuffixHash"):
        made["needs hash"] = True
    return made


def add_hashes(resources):
    """Names end in a hash of the content, and who refers to them follows."""
    renamed = {}
    for each in resources:
        if each.pop("needs hash", False):
            name = each["metadata"]["name"]
            # The name is left empty, as kustomize itself does.
            content = {"data": each["data"], "kind": "ConfigMap", "name": ""}
            text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
            for character in "&<>":  # As Go's encoder writes them.
                text = text.replace(character, f"\\u{ord(character):04x}")
            digest = hashlib.sha256(text.encode()).hexdigest()[:10]
            renamed[name] = f"{name}-{digest.translate(str.maketrans('013ae', 'ghkmt'))}"
            each["metadata"]["name"] = renamed[name]
    for each in workloads(resources):
        for container in each["spec"]["template"]["spec"]["containers"]:
            for source in container.get("envFrom", []):
                reference = source["configMapRef"]
                reference["name"] = renamed.get(reference["name"], reference["name"])
    return resources


def workloads(resources):
    return [each for each in resources if each["kind"] in WORKLOAD_KINDS]


def set_namespace(resources, namespace):
    for each in resources:
        if each["kind"] not in CLUSTER_KINDS:
            each["metadata"]["namespace"] = namespace


def add_labels(resources, labels):
    for each in resources:
        each["metadata"].setdefault("labels", {}).update(labels["pairs"])
    for each in workloads(resources) if labels.get("includeTemplates") else ():
        templates = [each["spec"]["template"], *each["spec"].get("volumeClaimTemplates", [])]
        for template in templates:
            template["metadata"].setdefault("labels", {}).update(labels["pairs"])


def pod_specs(resources):
    return ([each["spec"]["template"]["spec"] for each in workloads(resources)]
            + [each["spec"] for each in resources if each["kind"] == "Pod"])


def set_image(resources, image):
    for pod in pod_specs(resources):
        for container in pod["containers"]:
            name, _, tag = container["image"].partition(":")
            if name == image["name"]:
                tag = image.get("newTag", tag)
                name = image.get("newName", name)
                container["image"] = f"{name}:{tag}" if tag else name


def apply_patch(resources, patch, path):
    only(patch, {"target", "patch"}, path)
    only(patch["target"], {"kind", "name"}, path)
    kind, name = patch["target"]["kind"], patch["target"].get("name")
    targets = [each for each in resources
               if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    if not targets:
        raise UnknownField(f"{path}: a patch of {patch['target']}, which is not there")
    for operation in yaml.safe_load(patch["patch"]):
        for target in targets:
            apply_operation(target, operation, path)


def apply_operation(target, operation, path):
    *parents, last = [re.sub("~1", "/", step).replace("~0", "~")
                      for step in operation["path"].split("/")[1:]]
    for step in parents:
        target = target[int(step) if isinstance(target, list) else step]
    if isinstance(target, list) and last == "-" and operation["op"] == "add":
        target.append(copy.deepcopy(operation["value"]))
        return
    key = int(last) if isinstance(target, list) else last
    present = key < len(target) if isinstance(target, list) else key in target
    if operation["op"] not in ("add", "replace") or (operation["op"] == "replace") > present:
        raise UnknownField(f"{path}: {operation}")
    target[key] = copy.deepcopy(operation["value"])
