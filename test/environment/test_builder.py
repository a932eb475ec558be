"""The builder of the environment: what it does again, what it refuses, what it says."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("builder")


def run_builder(root: Path, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(root / ".ci" / "environment")],
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        check=False,
    )


def copy_of_builder(root: Path, folder: Path) -> Path:
    shutil.copytree(root / ".ci", folder / ".ci", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def one_line(text: str) -> bool:
    return text.count("\n") == 1 and "Traceback" not in text


class TestStep:
    def make(self, folder, key="a", **more):
        from steps import Step

        return Step("a step", folder, key, **more)

    def test_done_until_its_inputs_change(self, tmp_path):
        assert not self.make(tmp_path).done
        self.make(tmp_path).run(lambda: None)
        assert self.make(tmp_path).done
        assert not self.make(tmp_path, key="b").done

    def test_not_done_when_what_it_made_is_gone(self, tmp_path):
        made = tmp_path / "made"
        self.make(tmp_path, makes=[made]).run(made.touch)
        assert self.make(tmp_path, makes=[made]).done
        made.unlink()
        assert not self.make(tmp_path, makes=[made]).done

    def test_an_interruption_is_known_afterwards(self, tmp_path):
        def interrupt():
            raise KeyboardInterrupt

        self.make(tmp_path).run(lambda: None)
        with pytest.raises(KeyboardInterrupt):
            self.make(tmp_path).run(interrupt)
        assert self.make(tmp_path).interrupted
        assert not self.make(tmp_path).done

    def test_a_failure_that_changed_nothing_is_no_interruption(self, tmp_path):
        from steps import StepError

        def fail():
            error = StepError("found", "mend")
            error.harmless = True
            raise error

        with pytest.raises(StepError):
            self.make(tmp_path).run(fail)
        assert not self.make(tmp_path).interrupted


class TestCommand:
    def failure(self, tmp_path, code) -> str:
        from steps import Command, StepError

        with pytest.raises(StepError) as error:
            Command([sys.executable, "-c", code], tmp_path / "a.log", dict(os.environ), tmp_path).wait("do this")
        return str(error.value)

    def test_the_first_error_of_the_log_is_the_reason(self, tmp_path):
        text = self.failure(tmp_path, "print('fine\\nERROR: no such wheel\\nmore'); exit(3)")
        assert text.startswith("ERROR: no such wheel (exit status 3); do this (log: ")
        assert text.endswith("a.log)")

    def test_cmake_gives_its_reason_in_the_next_line(self, tmp_path):
        text = self.failure(tmp_path, "print('CMake Error at x:3 (find_package):\\n  No std_msgs\\n'); exit(1)")
        assert "CMake Error at x:3 (find_package): No std_msgs" in text

    def test_else_the_last_line(self, tmp_path):
        assert self.failure(tmp_path, "print('one\\ntwo'); exit(1)").startswith("two (exit")


class TestRefusals:
    def test_white_space_in_the_path(self, root, tmp_path):
        done = run_builder(copy_of_builder(root, tmp_path / "with space"))
        assert done.returncode == 1
        assert one_line(done.stderr)
        assert "white space" in done.stderr

    def test_an_environment_made_by_hand_is_left_alone(self, root, tmp_path):
        copy_of_builder(root, tmp_path)
        precious = tmp_path / ".venv" / "precious"
        precious.parent.mkdir()
        precious.touch()
        (tmp_path / "msg").mkdir()
        for name in ("package.xml", "CMakeLists.txt"):
            shutil.copy(root / name, tmp_path)
        done = run_builder(tmp_path)
        assert done.returncode == 1
        assert one_line(done.stderr)
        assert "make distclean" in done.stderr
        assert precious.exists()

    def test_no_fitting_python(self, tmp_path, monkeypatch):
        import probe

        monkeypatch.setattr(probe, "WHEEL_VERSIONS", ((3, 99),))
        with pytest.raises(probe.StepError, match=r"need CPython 3\.11 or 3\.12, found: .*PYTHON="):
            probe.find_python(None, tmp_path)

    def test_a_python_that_does_not_run(self, tmp_path):
        import probe

        stub = tmp_path / "python3.12"
        stub.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n")
        stub.chmod(0o755)
        assert probe.Python.ask(str(stub)) is None

    @pytest.mark.parametrize(("missing", "hint"), [("headers", "-dev"), ("venv", "-venv")])
    def test_a_python_that_lacks_a_part(self, tmp_path, monkeypatch, missing, hint):
        import probe

        whole = probe.Python("/usr/bin/python3.11", (3, 11, 2), "cpython", headers=True, venv=True, rclpy=False)
        monkeypatch.setattr(probe.Python, "ask", classmethod(lambda cls, path: whole._replace(**{missing: False})))
        with pytest.raises(probe.StepError, match=f"apt install python3.11{hint}"):
            probe.find_python(None, tmp_path)

    def test_no_compiler(self, tmp_path, monkeypatch):
        import probe

        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.delenv("CC", raising=False)
        with pytest.raises(probe.StepError, match="no gcc found"):
            probe.check_compiler()

    def test_a_full_disk(self, tmp_path):
        import probe

        with pytest.raises(probe.StepError, match="GB are needed"):
            probe.check_disk(tmp_path, 1e9)

    def test_a_distribution_without_rclpy(self, tmp_path, monkeypatch):
        import probe

        monkeypatch.setenv("ROS_DISTRO", "jazzy")
        monkeypatch.setenv("AMENT_PREFIX_PATH", "/nowhere")
        monkeypatch.setattr(probe.Python, "ask", classmethod(lambda cls, path, isolated: None))
        with pytest.raises(probe.StepError, match="ros-jazzy-rclpy"):
            probe.find_distribution(tmp_path)


def test_no_distribution_is_seen_where_none_is_sourced(tmp_path, monkeypatch):
    import probe

    # Our own environment sets AMENT_PREFIX_PATH too; containers set ROS_DISTRO without sourcing.
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/somewhere")
    monkeypatch.delenv("ROS_DISTRO", raising=False)
    assert probe.find_distribution(tmp_path) is None
    monkeypatch.setenv("ROS_DISTRO", "kilted")
    monkeypatch.delenv("AMENT_PREFIX_PATH")
    assert probe.find_distribution(tmp_path) is None


def test_foreign_cmake_paths_are_replaced(tmp_path):
    import probe
    import wheels

    python = probe.Python(sys.executable, sys.version_info[:3], "cpython", headers=True, venv=True, rclpy=False)
    venv = wheels.Venv(tmp_path, python, None)
    venv.python = Path(sys.executable)
    file = venv.path / "share" / "x" / "cmake" / "xExport.cmake"
    file.parent.mkdir(parents=True)
    foreign = "/opt/python/cp311-cp311"
    file.write_text(f'"{foreign}/include/python3.11;{foreign}/lib/python3.11/site-packages/numpy/_core/include"')
    venv.repair_cmake()
    assert foreign not in file.read_text()
    assert "numpy/_core/include" in file.read_text()


def test_nothing_of_another_environment_reaches_the_build(tmp_path, monkeypatch):
    import probe
    import wheels

    python = probe.Python(sys.executable, sys.version_info[:3], "cpython", headers=True, venv=True, rclpy=False)
    for name in ("PYTHONPATH", "VIRTUAL_ENV", "MAKEFLAGS", "AMENT_PREFIX_PATH"):
        monkeypatch.setenv(name, "/foreign")
    alone = wheels.Venv(tmp_path, python, None).env()
    assert "/foreign" not in alone.values()
    on_top = wheels.Venv(tmp_path, python, probe.Distribution("kilted", python)).env()
    assert {name for name, value in on_top.items() if value == "/foreign"} == {"PYTHONPATH", "AMENT_PREFIX_PATH"}


def test_a_second_make_env_has_nothing_to_do(root):
    if not (root / ".venv" / ".stamps").is_dir():
        pytest.skip("this environment was not built by make env")
    done = subprocess.run(["make", "env"], cwd=root, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("[env]")] == ["[env] up to date"]
