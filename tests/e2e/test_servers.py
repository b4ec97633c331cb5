"""The templates ``jupyter`` and ``serve``, run by bash with stand-ins for the servers.

The stand-ins are what the scripts rely on: Jupyter's file about a running server (as
jupyter_server 2 writes it), vLLM's ``/health``, Ollama's ``serve`` and ``pull``.
"""

import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from tests.scripts import make_request, rendered

SERVER = f"""#!{sys.executable} -S
import http.server, json, os, signal, sys, time
name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
print(name, words, os.environ.get("A"), os.environ.get("OLLAMA_HOST"), flush=True)
if os.environ.get("DIE") or words[:1] == ["pull"]:
    sys.exit(int(os.environ.get("DIE", "0")))
options = dict(word.lstrip("-").split("=", 1) for word in words if "=" in word)
if name == "vllm":
    port = int(words[words.index("--port") + 1])
elif name == "ollama":
    port = int(os.environ["OLLAMA_HOST"].rsplit(":", 1)[1])
else:
    port = int(options["ServerApp.port"]) + 1  # as if the first one were taken
ready = time.monotonic() + float(os.environ.get("LOADING", "0"))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if time.monotonic() >= ready else 503)
        self.end_headers()
        self.wfile.write(b"x" * 100_000)
    def log_message(self, *args):
        pass
def end(*args):
    print("server ended", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
server = http.server.HTTPServer(("127.0.0.1", port), Handler)
if name == "jupyter":
    file = f"{{os.environ['JUPYTER_RUNTIME_DIR']}}/jpserver-{{os.getpid()}}.json"
    about = {{"base_url": "/", "port": port, "root_dir": options["ServerApp.root_dir"],
             "secure": False, "token": os.environ.get("TOKEN", "abc123"), "version": "2.14.0"}}
    with open(file, "w") as opened:
        json.dump(about, opened, indent=2, sort_keys=True)
server.serve_forever()
"""


@pytest.fixture
def start(tmp_path):
    """Start a script in the background; what it wrote is in the returned file."""
    for program in ("jupyter", "vllm", "ollama"):
        path = tmp_path / program
        path.write_text(SERVER)
        path.chmod(stat.S_IRWXU)
    started = []

    def starter(**fields):
        submission = rendered(make_request(*fields.pop("command", ()), **fields))
        script = tmp_path / "script"
        script.write_text(submission.script)
        output = tmp_path / "output"
        output.touch(mode=0o644)
        env = {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "TMPDIR": str(tmp_path),
            "USER": "u1",
            "SLURM_JOB_ID": str(os.getpid()),
            "SLURMD_NODENAME": "gpu01",
            "SLURM_SUBMIT_HOST": "login1",
            "SLURM_GPUS_ON_NODE": "4",
        }
        with output.open("wb") as file:
            process = subprocess.Popen(
                ["bash", script], env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file,
                cwd=tmp_path,
            )  # fmt: skip
        started.append(process)
        return process, output

    yield starter
    for process in started:
        process.terminate()
        process.wait()


def wait_for(pattern: str, output: Path) -> re.Match[str]:
    for _ in range(200):
        if match := re.search(pattern, output.read_text()):
            return match
        time.sleep(0.1)
    pytest.fail(f"no {pattern!r} in: {output.read_text()}")


def serves(port: str | int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", int(port))) == 0


def test_jupyter_prints_the_tunnel_with_the_port_it_found(start):
    process, output = start(template="jupyter", params=(("root", "/a b"),))
    match = wait_for(r"ssh -N -L (\d+):gpu01:(\d+) u1@login1\n", output)
    assert match[1] == match[2]
    assert f"http://localhost:{match[1]}/lab?token=abc123\n" in output.read_text()
    assert "--ServerApp.root_dir=/a b" in output.read_text()
    assert serves(match[1])
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 128 + signal.SIGTERM
    assert "server ended" in output.read_text()
    assert not serves(match[1])


def test_jupyters_token_is_for_its_owners_eyes(start):
    _, output = start(template="jupyter")
    wait_for("token=", output)
    assert stat.S_IMODE(output.stat().st_mode) == 0o600


def test_jupyter_with_a_password_of_its_own_shows_no_token(start):
    _, output = start(template="jupyter", environment=(("TOKEN", ""),), params=(("login", "l2"),))
    wait_for(r"u1@l2\n\nand open\n\n    http://localhost:\d+/lab\n", output)


def test_jupyter_that_ends_at_once_ends_the_job(start, tmp_path):
    process, output = start(template="jupyter", environment=(("DIE", "1"),))
    assert process.wait(timeout=10) == 1
    assert "jupyter: ended before it was ready" in output.read_text()
    assert not list(tmp_path.glob("tmp.*"))


def test_vllm_is_ready_when_its_health_says_so(start):
    process, output = start(
        template="serve",
        command=("--max-model-len", "8 192"),
        params=(("model", "org/model"),),
        environment=(("A", "1 2"), ("LOADING", "1")),
    )
    port = wait_for(r"serve: READY http://gpu01:(\d+)/v1 \(vllm, org/model, \d+ sec", output)[1]
    words = "['serve', 'org/model', '--host', '0.0.0.0', '--port', '%s', '--tensor-parallel-size',"
    assert f"vllm {words % port} '4', '--max-model-len', '8 192'] 1 2 None\n" in output.read_text()
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
        assert answer.status == 200
    assert "Traceback" not in output.read_text()
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=10) == 128 + signal.SIGTERM
    assert not serves(port)


def test_ollama_has_its_model_before_it_is_ready(start):
    _, output = start(
        template="serve", params=(("model", "llama3:8b"), ("engine", "ollama")),
        environment=(("OLLAMA_HOST", "elsewhere"),),
    )  # fmt: skip
    match = wait_for(r"READY http://gpu01:(\d+)/v1 \(ollama, llama3:8b", output)
    text = output.read_text()[: match.start()]
    assert f"ollama ['serve'] None 0.0.0.0:{match[1]}\n" in text
    assert f"ollama ['pull', 'llama3:8b'] None 127.0.0.1:{match[1]}\n" in text


def test_a_taken_port_is_passed_over(start):
    wanted = 15000 + os.getpid() % 15000
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", wanted))
        other.listen()
        _, output = start(template="serve", params=(("model", "m"),))
        assert int(wait_for(r"READY http://gpu01:(\d+)/", output)[1]) > wanted


def test_a_server_that_dies_gives_the_job_its_code(start):
    process, output = start(template="serve", params=(("model", "m"),), environment=(("DIE", "9"),))
    assert process.wait(timeout=10) == 9
    assert "serve: vllm ended with code 9 before it answered" in output.read_text()


def test_a_server_that_is_never_ready_is_ended(start):
    process, output = start(
        template="serve",
        params=(("model", "m"), ("timeout", "1"), ("port", "15999")),
        environment=(("LOADING", "60"),),
    )
    assert process.wait(timeout=10) == 1
    assert "serve: vllm did not answer within 1 seconds" in output.read_text()
    assert "server ended" in output.read_text()
    assert not serves(15999)
