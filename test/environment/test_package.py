"""The files that describe the package agree with each other and with the code."""

import ast
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from importlib import metadata

import pytest

# What a module is called where it is installed from, if that is another name.
PACKAGES = {"cv2": "opencv-python-headless", "PIL": "pillow", "yaml": "pyyaml"}
ROSDEP = {
    "cv2": "python3-opencv",
    "huggingface_hub": "python3-huggingface-hub-pip",
    "lz4": "python3-lz4",
    "numpy": "python3-numpy",
    "PIL": "python3-pil",
    "rosbags": "python3-rosbags-pip",
    "torch": "python3-pytorch-pip",
    "tqdm": "python3-tqdm",
    "transforms3d": "python3-transforms3d",
    "yaml": "python3-yaml",
}
# No rosdep key exists; package.xml says so in a comment.
NO_ROSDEP_KEY = {"gtsam", "isal", "mcap", "safetensors"}
# Never required, and guarded where they are imported: the reference to compare with, and setup.py's extras.
OPTIONAL = {
    *("depth_anything_3", "evo", "gsplat", "matplotlib", "onnxruntime", "open3d", "ray", "rerun", "scipy", "triton"),
}


@pytest.fixture
def manifest(root):
    return ElementTree.parse(root / "package.xml").getroot()


def declared(manifest) -> set[str]:
    return {element.text for element in manifest if element.tag.endswith("depend")}


def pins(root, *names: str) -> dict[str, str]:
    lines = [line for name in names for line in (root / ".ci/requirements" / f"{name}.txt").read_text().splitlines()]
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def imported_modules(root) -> set[str]:
    """Top-level names of everything that da3_ros imports, but for itself and the standard library."""
    names = set()
    for path in (root / "da3_ros").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name.partition(".")[0] for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"da3_ros"}


def test_one_version_everywhere(root, manifest):
    version = manifest.findtext("version")
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    said = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=root, capture_output=True, text=True, check=True
    )
    assert said.stdout.split()[-1] == version
    assert "VERSION" not in re.search(r"project\(.*?\)", (root / "CMakeLists.txt").read_text()).group()


@pytest.mark.ros
def test_the_installed_package_has_that_version(manifest):
    assert metadata.version("da3_ros") == manifest.findtext("version")


def test_build_type_and_licence(root, manifest):
    assert manifest.findtext("export/build_type") == "ament_cmake"
    assert manifest.findtext("license") == "Apache-2.0"
    assert "Apache License" in (root / manifest.find("license").get("file")).read_text()


def test_cmake_lists_every_message_and_what_it_uses(root, manifest):
    cmake = (root / "CMakeLists.txt").read_text()
    files = sorted(f"msg/{path.name}" for path in (root / "msg").glob("*.msg"))
    assert sorted(re.findall(r"^\s*(msg/\w+\.msg)", cmake, re.MULTILINE)) == files
    used = {package for name in files for package in re.findall(r"^(\w+)/\w+", (root / name).read_text(), re.MULTILINE)}
    named = set(re.search(r"DEPENDENCIES ([\w\s]+)\)", cmake).group(1).split())
    assert used == named
    assert named <= declared(manifest)
    for package in named:
        assert f"find_package({package} REQUIRED)" in cmake


def test_every_import_is_declared(root, manifest):
    undeclared = []
    third_party = pins(root, "runtime", "torch")
    for module in sorted(imported_modules(root) - OPTIONAL):
        package = PACKAGES.get(module, module.replace("_", "-"))
        if package in third_party:
            fine = module in NO_ROSDEP_KEY or ROSDEP.get(module) in declared(manifest)
        else:
            fine = module in declared(manifest)
        if not fine:
            undeclared.append(module)
    assert undeclared == []


def test_setup_py_asks_for_the_pinned_packages(root):
    setup = (root / "setup.py").read_text()
    wanted = re.findall(r'"([\w-]+)', re.search(r"install_requires=\[(.*?)\]", setup, re.DOTALL).group(1))
    pinned = pins(root, "runtime", "torch")
    assert [name for name in wanted if name.lower().replace("_", "-") not in pinned] == []


def test_a_new_users_demo_compares_trajectories(root):
    """Its table says how far off the way is: what that takes is there without the wheels of the tests."""
    assert {"evo", "scipy"} <= pins(root, "runtime").keys()


def test_requirements_are_pinned_and_listed_once(root):
    seen = {}
    for path in sorted((root / ".ci/requirements").glob("*.txt")):
        for line in path.read_text().splitlines():
            if not line or line.startswith("#"):
                continue
            # pip runs two of the files at once and most of them with --no-deps: one exact version, in one place.
            assert re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line), f"{path.name}: {line}"
            name = line.partition("==")[0]
            assert name not in seen, f"{name} is in {seen.get(name)} and {path.name}"
            seen[name] = path.name
    assert len(seen) > 100


@pytest.mark.parametrize(
    "target", ["env", "demo", "test", "test-optional", "lint", "bench", "clean", "distclean", "help"]
)
def test_make_has_the_targets(root, target):
    assert subprocess.run(["make", "-n", target], cwd=root, capture_output=True, check=False).returncode == 0


def test_nothing_but_the_agreed_names_at_the_top(root):
    tracked = subprocess.run(["git", "ls-files"], cwd=root, capture_output=True, text=True, check=False)
    if tracked.returncode:
        pytest.skip("not a git checkout")
    allowed = {"da3_ros", "launch", "config", "msg", "test", "docs", ".ci", "package.xml", "setup.py", "README.md"}
    allowed |= {"CMakeLists.txt", "Makefile", "LICENSE", "pyproject.toml", ".gitignore"}
    assert {line.partition("/")[0] for line in tracked.stdout.splitlines()} <= allowed
