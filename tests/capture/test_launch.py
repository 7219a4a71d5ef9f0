"""Test ``vario.capture.launch`` and its hook: what passes through, and what a process without torch pays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from vario.capture.launch import HOOK, environment, launch
from vario.record.reader import open_run

LAUNCH = (
    "import sys; from pathlib import Path; from vario.capture.launch import launch; "
    "sys.exit(launch(sys.argv[2:], Path(sys.argv[1])))"
)


def launched(place: Path, *command: str, **options: object) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", LAUNCH, str(place / "run"), *command],
        capture_output=True,
        timeout=60,
        **options,
    )


def test_streams_arguments_and_code_are_the_scripts_own(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import sys\nsys.stdout.buffer.write(sys.stdin.buffer.read())\n"
        "print(sys.argv[1:], file=sys.stderr)\nsys.exit(7)\n"
    )
    done = launched(tmp_path, str(script), "--lr", "0.1", "--help", input=b"\x00\xffbytes\r\n")
    assert done.returncode == 7
    assert done.stdout == b"\x00\xffbytes\r\n"
    assert done.stderr == b"['--lr', '0.1', '--help']\n"


def test_any_command_and_a_missing_one(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert launch(["sh", "-c", "exit 5"], None) == 5
    assert launch(["sh", "-c", "kill -TERM $$"], None) == 128 + signal.SIGTERM
    assert launch([str(tmp_path / "nothing")], tmp_path / "run") == 127
    assert "cannot start" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
def test_signals_reach_the_command(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import signal, sys, time\n"
        f"signal.signal({int(number)}, lambda n, f: (print('heard', flush=True), sys.exit(9)))\n"
        "print('ready', flush=True)\ntime.sleep(30)\n"
    )
    # whoever runs the tests in the background may have SIGINT ignored, and what is ignored is not passed on
    heeded = f"import signal; signal.signal({int(number)}, signal.SIG_DFL); {LAUNCH}"
    command = [sys.executable, "-c", heeded, str(tmp_path / "run"), str(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == b"heard\n"
        assert process.wait(30) == 9


def test_a_signal_that_comes_before_the_command_is_known_waits_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen

    def slow(*args: Any, **kwargs: Any) -> Any:
        process = popen(*args, **kwargs)
        time.sleep(0.5)  # meanwhile the command may have said that it is ready
        os.kill(os.getpid(), signal.SIGTERM)
        return process

    monkeypatch.setattr(subprocess, "Popen", slow)
    script = "import signal, sys, time; signal.signal(15, lambda n, f: sys.exit(9)); time.sleep(30)"
    assert launch([sys.executable, "-c", script], None) == 9


def test_a_hidden_sitecustomize_is_run_too(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("print('the hidden one')\n")
    done = launched(tmp_path, sys.executable, "-c", "print('script')", env=_with_path(str(tmp_path)))
    # once by the launcher's own Python, where nothing hides it, and once in the command's
    assert done.stdout.splitlines() == [b"the hidden one", b"the hidden one", b"script"]


def test_a_process_without_torch_pays_little_and_does_not_import_it(tmp_path: Path) -> None:
    code = "import sys; print('torch' in sys.modules, 'vario' in sys.modules)"
    env = environment(tmp_path / "run", overhead=0.03, metrics={})
    watched, bare = [], []
    for _ in range(7):
        for env_of, times in ((env, watched), (dict(os.environ), bare)):
            start = time.perf_counter()
            out = subprocess.run(
                [sys.executable, "-c", code], env=env_of, capture_output=True, check=True
            ).stdout
            times.append(time.perf_counter() - start)
            assert out == b"False False\n"
    assert min(watched) - min(bare) < 0.02


def test_a_script_that_first_looks_whether_there_is_a_torch_is_watched_too(tmp_path: Path) -> None:
    code = (
        "import importlib.util; assert all(importlib.util.find_spec('torch') for _ in 'ab'); import torch; "
        "w = torch.nn.Linear(2, 1); o = torch.optim.SGD(w.parameters(), lr=0.1); "
        "[(w(torch.ones(4, 2)).sum().backward(), o.step()) for _ in range(3)]; "
        "print(importlib.util.find_spec('torch') is torch.__spec__)"
    )
    done = launched(tmp_path, sys.executable, "-c", code)
    assert (done.stdout, done.returncode) == (b"True\n", 0)
    assert open_run(tmp_path / "run").main.step_count == 3


def test_metrics_are_read_and_the_output_is_unchanged(tmp_path: Path) -> None:
    script = Path(__file__).parent.parent / "scripts" / "plain_loop.py"
    code = (
        "import sys; from pathlib import Path; from vario.capture.launch import launch; "
        "sys.exit(launch(sys.argv[2:], Path(sys.argv[1]), metrics={'accuracy': r'accuracy ([0-9.]+)'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "run"), str(script)], capture_output=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    printed = [
        float(line.split()[4]) for line in done.stdout.decode().splitlines() if line.startswith("test")
    ]
    steps, values = open_run(tmp_path / "run").main.series("metric/accuracy")
    assert list(steps) == [5, 11, 17]
    assert list(values) == printed


def test_the_hook_folder_is_shipped() -> None:
    assert (HOOK / "sitecustomize.py").exists()


def _with_path(path: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": path}
