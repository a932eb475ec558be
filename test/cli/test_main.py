"""The command line: quick help, one clear line for what the user can mend, exit codes."""

import subprocess
import sys

import pytest

from da3_ros.cli.main import COMMANDS, main


@pytest.mark.parametrize("arguments", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help(arguments, capsys):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 0
    assert "usage: da3-ros" in capsys.readouterr().out


def test_help_does_not_wait_for_torch_or_ros():
    code = (
        "import sys\nfrom da3_ros.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit(bool({'torch', 'rclpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["bringup", "--config", "nothing"], "there is no configuration file 'nothing'"),
        (["bringup", "-p", "window.sets"], "-p takes NAME:=VALUE"),
        (["demo", "--images", "nothing"], "--images nothing is no folder"),
        (["demo", "--cameras", "0"], "at least one camera"),
        (["demo", "--cameras", "2", "--process-res", "5"], "model.process_res must be"),
        (["demo", "--device", "gpu"], "model.device must be"),
    ],
)
def test_what_the_user_can_mend_is_one_line_and_code_2(arguments, said, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1 and said in captured.err
    assert not list(tmp_path.iterdir()), "nothing was written"


def test_an_unknown_command_lists_those_there_are(capsys):
    with pytest.raises(SystemExit) as end:
        main(["fly"])
    assert end.value.code == 2
    assert "demo" in capsys.readouterr().err
