"""The install space: the messages and the package, built with colcon."""

from __future__ import annotations

import shutil
from pathlib import Path

from steps import Command, StepError, fingerprint, remove
from wheels import HERE, Venv

CHECK = """
import rclpy, torch
from tf2_msgs.msg import TFMessage
from da3_ros.msg import WindowEstimate
for message in (TFMessage, WindowEstimate):
    message.__class__.__import_type_support__()
"""


class Workspace:
    """build/, install/ and log/ at the project's root."""

    def __init__(self, root: Path, venv: Venv):
        self.root, self.venv = root, venv
        self.stamps = root / "build" / ".stamps"
        self.tf2_msgs = root / "build" / "generated" / "tf2_msgs"
        # Wheels bring no tf2_msgs; a distribution does.
        self.names = ["da3_ros"] if venv.distribution else ["tf2_msgs", "da3_ros"]
        self.makes = [root / "install" / name / "share" / name / "package.xml" for name in self.names]

    def sources(self) -> str:
        """Fingerprint of what is compiled or configured."""
        files = [self.root / "CMakeLists.txt", self.root / "package.xml", HERE / "tf2_msgs.py"]
        return fingerprint(*files, *sorted((self.root / "msg").glob("*.msg")))

    def listing(self) -> str:
        """Fingerprint of the names of what is installed as links: contents may change without a build."""
        names = []
        for folder in ("da3_ros", "launch", "config"):
            for path in (self.root / folder).rglob("*"):
                if "__pycache__" not in path.parts and path.is_file():
                    names.append(str(path.relative_to(self.root)))
        return fingerprint(*sorted(names))

    def build(self, clean: bool) -> None:
        """Run colcon; ``clean`` where more than the list of files changed, as old messages would stay behind."""
        self.check_sources()
        if clean:
            for name in ("tf2_msgs", "da3_ros"):
                remove(self.root / "build" / name)
                remove(self.root / "install" / name)
        paths = [self.root]
        env = self.venv.env()
        # Desktop notifications need a desktop; a user's colcon defaults could change the layout.
        env["COLCON_EXTENSION_BLOCKLIST"] = "colcon_core.event_handler.desktop_notification"
        env["COLCON_DEFAULTS_FILE"] = "/dev/null"
        if not self.venv.distribution:
            self.write_tf2_msgs()
            paths.insert(0, self.tf2_msgs)
            env["AMENT_PREFIX_PATH"] = env["CMAKE_PREFIX_PATH"] = str(self.venv.path)
        colcon = shutil.which("colcon", path=env["PATH"])
        if not colcon:
            raise StepError("no colcon found", "apt install python3-colcon-common-extensions, then make env again")
        argv = [colcon, "--log-base", "log", "build", "--symlink-install", "--paths", *paths, "--cmake-args"]
        argv += ["-DBUILD_TESTING=OFF", f"-DPython3_EXECUTABLE={self.venv.python}"]
        mend = "mend that and run make env again"
        if self.venv.distribution:
            mend = "install what is missing (rosdep install --from-paths . --ignore-src) and run make env again"
        Command(argv, self.venv.logs / "colcon.log", env, self.root).wait(mend)

    def check_sources(self) -> None:
        """colcon would only say that it built nothing."""
        for name in ("package.xml", "CMakeLists.txt", "msg"):
            if not (self.root / name).exists():
                raise StepError(f"{self.root / name} is missing", "check out the whole project")

    def write_tf2_msgs(self) -> None:
        """Generate the source package tf2_msgs."""
        remove(self.tf2_msgs)
        self.run_tf2_msgs("write", self.tf2_msgs, "run make env again")

    def check(self) -> None:
        """The built messages have the type hashes that the rest of the world uses, and everything imports."""
        if not self.venv.distribution:
            self.run_tf2_msgs("check", self.root / "install" / "tf2_msgs", "report this: the wheels have changed")
        log = self.venv.logs / "check.log"
        Command([self.venv.python, "-c", CHECK], log, self.venv.env(), self.root / "build").wait(
            "remove build/ and install/ (make clean) and run make env again"
        )

    def run_tf2_msgs(self, action: str, path: Path, mend: str) -> None:
        """Run tf2_msgs.py, which needs the environment's rosbags."""
        log = self.venv.logs / f"tf2_msgs-{action}.log"
        argv = [self.venv.python, HERE / "tf2_msgs.py", action, path]
        Command(argv, log, self.venv.env(), self.root).wait(mend)
