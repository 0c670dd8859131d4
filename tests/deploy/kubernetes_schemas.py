"""Kubernetes' own JSON schemas, from a package of PyPI that carries them.

The wheel is downloaded once into the build folder, by its hash, and read where it lies.
"""

import json
import os
import pathlib
import subprocess
import sys
import zipfile

import jsonschema

HERE = pathlib.Path(__file__).resolve().parent
# The oldest and the newest release that the manifests are held to.
VERSIONS = ("1.30.0", "1.34.0")
# Resource kinds of the Prometheus operator, which Kubernetes' schemas do not have.
FOREIGN_GROUPS = {"cert-manager.io", "monitoring.coreos.com"}
DEFINITIONS = "https://kubernetes.io/api/_definitions.json"  # What the schemas refer to.


def wheel(build):
    folder = pathlib.Path(build) / "pypi"
    found = sorted(folder.glob("kubernetes_validate-1.34.1-*.whl"))
    if found:
        return found[0]
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes",
               "--requirement", str(HERE / "requirements.txt"), "--dest", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = sorted(folder.glob("kubernetes_validate-1.34.1-*.whl"))
    if done.returncode != 0 or not found:
        raise AssertionError(
            "the Kubernetes schemas are not here and could not be downloaded from PyPI. On a "
            f"machine that reaches it run\n  {' '.join(command)}\nand copy the wheel to {folder}.\n"
            f"{done.stderr}")
    return found[0]


class Schemas:
    def __init__(self, build, version):
        self.archive = zipfile.ZipFile(wheel(build))
        self.folder = f"kubernetes_validate/kubernetes-json-schema/v{version}-local-strict/"
        self.definitions = self.read("_definitions.json")

    def read(self, name):
        return json.loads(self.archive.read(self.folder + name))

    def errors(self, resource):
        """What the schema of its kind has against a resource; None for a foreign kind."""
        group, _, version = resource["apiVersion"].rpartition("/")
        if group in FOREIGN_GROUPS:
            return None
        parts = [resource["kind"].lower(), *([group.split(".")[0]] if group else []), version]
        schema = self.read("-".join(parts) + ".json")
        resolver = jsonschema.RefResolver.from_schema(schema, store={
            DEFINITIONS: self.definitions})
        validator = jsonschema.validators.validator_for(schema)(schema, resolver=resolver)
        return [f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
                for error in validator.iter_errors(resource)]


def schemas():
    return {version: Schemas(os.environ["SINKFORGE_BUILD_DIR"], version) for version in VERSIONS}
