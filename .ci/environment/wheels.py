"""The virtual environment: made, filled from the pinned requirement files, repaired and activated."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from probe import Distribution, Python
from steps import Command, StepError, remove

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE.parent / "requirements"

# With a distribution these come from rosdep (package.xml names them) and go with the distribution's own compiled
# code, above all NumPy; the name to import, by the name to install.
FROM_ROSDEP = {
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "pillow": "PIL",
    "pyyaml": "yaml",
    "scipy": "scipy",
    "tqdm": "tqdm",
    "transforms3d": "transforms3d",
}

# Variables of another environment that would leak into this one.
FOREIGN = ("PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "__PYVENV_LAUNCHER__", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")
FOREIGN_WITH_WHEELS = ("PYTHONPATH", "AMENT_PREFIX_PATH", "CMAKE_PREFIX_PATH", "COLCON_PREFIX_PATH", "LD_LIBRARY_PATH")
# A make that runs us hands these down, and the make below CMake would look for the first one's job server.
FROM_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")


class Venv:
    """`.venv` at the project's root."""

    def __init__(self, root: Path, python: Python, distribution: Distribution | None):
        self.root, self.base, self.distribution = root, python, distribution
        self.path = root / ".venv"
        self.stamps = self.path / ".stamps"
        self.logs = root / "log" / "environment"
        self.python = self.path / "bin" / "python"
        self.site_packages = self.path / "lib" / f"python{python.minor}" / "site-packages"

    def env(self) -> dict[str, str]:
        """The environment for programs of the build: this one's, less what belongs to others."""
        foreign = FOREIGN + FROM_MAKE + (() if self.distribution else FOREIGN_WITH_WHEELS)
        env = {name: value for name, value in os.environ.items() if name not in foreign}
        env["PATH"] = f"{self.path / 'bin'}{os.pathsep}{env.get('PATH', os.defpath)}"
        env["VIRTUAL_ENV"] = str(self.path)
        return env

    def check_ours(self) -> None:
        """Never remove an environment that somebody made by hand."""
        if self.path.exists() and not self.stamps.is_dir():
            raise StepError(
                f"{self.path} is there but was not made by `make env`",
                "move it away or remove it (make distclean) and run make env again",
            )

    def create(self) -> None:
        """An empty environment, replacing an older one of ours."""
        # Our mark goes last and comes first, so that what an interrupted run leaves is known as ours.
        for path in self.path.glob("*"):
            if path != self.stamps:
                remove(path)
        remove(self.path)
        self.stamps.mkdir(parents=True)
        # Its packages are not the workspace's.
        (self.path / "COLCON_IGNORE").touch()
        argv = [self.base.executable, "-m", "venv", "--prompt", "da3_ros", self.path]
        if self.distribution:
            argv.insert(3, "--system-site-packages")
        Command(argv, self.logs / "venv.log", self.env(), self.root).wait("run make env PYTHON=... with another one")
        (self.stamps / "python.json").write_text(json.dumps(self.base._asdict()))

    @property
    def requirements(self) -> list[str]:
        """The requirement files of what `make demo` needs."""
        return ["torch", "runtime"] if self.distribution else ["torch", "runtime", "ros", "build"]

    # Steps that are made only when asked for, by the requirement files of each.
    extras = {"test wheels": ("test", "reference"), "optional wheels": ("optional",)}

    def pins(self, names: Iterable[str]) -> list[Path]:
        """The files of these names."""
        return [REQUIREMENTS / f"{name}.txt" for name in names]

    def install_wheels(self) -> None:
        """Everything that `make demo` needs."""
        files = [word for name in self.requirements[1:] for word in ("-r", self.pinned(name))]
        jobs = [["--no-deps", *files]]
        # A torch that is already there may be the only one that fits the machine (Jetson).
        if not self.distribution or "torch" not in self.importable(["torch"]):
            jobs.append(["-r", REQUIREMENTS / "torch.txt"])
        self.pip("wheels", jobs)
        if not self.distribution:
            self.repair_cmake()

    def install_extras(self, step: str) -> None:
        """What one of the steps in ``extras`` installs."""
        files = [word for path in self.pins(self.extras[step]) for word in ("-r", path)]
        self.pip(step.replace(" ", "-"), [["--no-deps", *files]])

    def pip(self, name: str, jobs: list[list]) -> None:
        """Run `pip install` for each list of arguments, all at the same time: their packages are disjoint."""
        commands = []
        for number, job in enumerate(jobs):
            argv = [self.python, "-m", "pip", "install", "--no-input", "--progress-bar=off", *job]
            commands.append(Command(argv, self.logs / f"{name}-{number}.log", self.env(), self.root))
        try:
            for command in commands:
                command.wait("see to the package index, the network or the disk, then run make env again")
        except BaseException as error:
            for command in commands:
                command.stop()
            if isinstance(error, StepError):
                error.harmless = not any("Installing collected" in c.log.read_text(errors="replace") for c in commands)
            raise

    def pinned(self, name: str) -> Path:
        """A requirement file; with a distribution, without what the distribution brings."""
        path = REQUIREMENTS / f"{name}.txt"
        if not self.distribution:
            return path
        present = self.importable(FROM_ROSDEP.values())
        dropped = {package for package, module in FROM_ROSDEP.items() if module in present}
        lines = [line for line in path.read_text().splitlines() if line.partition("==")[0] not in dropped]
        reduced = self.stamps / f"{name}.txt"
        reduced.write_text("\n".join(lines) + "\n")
        return reduced

    def importable(self, modules: Iterable[str]) -> set[str]:
        """Which modules the distribution's interpreter finds without our environment."""
        code = "import importlib.util as u, sys; print(*[m for m in sys.argv[1:] if u.find_spec(m)])"
        answer = subprocess.run(
            [self.base.executable, "-c", code, *modules], capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        return set(answer.stdout.split())

    def repair_cmake(self) -> None:
        """The wheels' exported CMake files name the Python of the machine that built them: name ours instead."""
        argv = [str(self.python), "-c", "import json, sysconfig; print(json.dumps(sysconfig.get_paths()))"]
        paths = json.loads(subprocess.run(argv, env=self.env(), capture_output=True, text=True, check=True).stdout)
        foreign_include = re.compile(r"/opt/python/cp3\d+-cp3\d+t?/include/python3\.\d+t?")
        foreign_packages = re.compile(r"/opt/python/cp3\d+-cp3\d+t?/lib/python3\.\d+t?/site-packages")
        for file in (self.path / "share").rglob("*.cmake"):
            text = file.read_text()
            mended = foreign_include.sub(lambda _: paths["include"], text)
            mended = foreign_packages.sub(lambda _: paths["purelib"], mended)
            if mended != text:
                # pip may have hard-linked the file into its cache: replace it, do not write into it.
                file.unlink()
                file.write_text(mended)

    def activate(self) -> None:
        """Make the environment's interpreters find ROS, the built messages and the source tree; add `da3-ros`."""
        shutil.copy(HERE / "activate.py", self.site_packages / "da3_ros_environment.py")
        (self.site_packages / "da3_ros_environment.pth").write_text("import da3_ros_environment\n")
        # A link, and not the project's root on sys.path: there `import launch` would find the folder launch/.
        link = self.site_packages / "da3_ros"
        remove(link)
        link.symlink_to(os.path.relpath(self.root / "da3_ros", self.site_packages))
        program = self.path / "bin" / "da3-ros"
        program.write_text(f"#!{self.python}\nimport sys\n\nfrom da3_ros.cli.main import main\n\nsys.exit(main())\n")
        program.chmod(0o755)
