"""The tree that the rules look at: every file of the repository that people write."""

import dataclasses
import os
import pathlib
import re

# Build outputs, and what version control keeps for itself (in a linked work tree .git is a file).
LEFT_OUT = {".git", "build", "out", "__pycache__"}
BINARY = {".safetensors", ".png", ".bin"}

INCLUDE = re.compile(r'^\s*#\s*include\s+([<"])([^>"]+)[>"]')


@dataclasses.dataclass
class File:
    path: str  # Relative to the root, with slashes.
    text: str
    executable: bool = False

    @property
    def lines(self):
        return self.text.splitlines()

    @property
    def suffix(self):
        return pathlib.PurePosixPath(self.path).suffix

    @property
    def is_cpp(self):
        return self.suffix in {".h", ".cc", ".cu", ".cuh"}

    @property
    def is_code(self):
        return self.is_cpp or self.suffix in {".py", ".sh"} or self.path == ".ci/run"

    def under(self, *folders):
        return any(self.path.startswith(folder + "/") for folder in folders)

    def includes(self):
        """(line number, header, whether in quotes) of every include."""
        for number, line in enumerate(self.lines, 1):
            match = INCLUDE.match(line)
            if match:
                yield number, match.group(2), match.group(1) == '"'

    def code_lines(self):
        """(number, line) without // comments; block comments are not our style."""
        for number, line in enumerate(self.lines, 1):
            yield number, line.split("//")[0]


class Tree:
    def __init__(self, files):
        self.files = {file.path: file for file in files}

    def __iter__(self):
        return iter(sorted(self.files.values(), key=lambda file: file.path))

    def cpp(self):
        return [file for file in self if file.is_cpp]


def read_tree(root):
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(set(folders) - LEFT_OUT)
        for name in sorted(set(names) - LEFT_OUT):
            path = pathlib.Path(folder) / name
            if path.suffix in BINARY or path.is_symlink():
                continue
            try:
                text = path.read_text(encoding="utf-8")
            except (UnicodeDecodeError, FileNotFoundError):
                continue  # Not text, or gone since the folder was listed.
            files.append(File(path.relative_to(root).as_posix(), text, os.access(path, os.X_OK)))
    return Tree(files)
