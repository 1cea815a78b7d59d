"""What a user can get wrong with the local cloud: each is a message that says what, where and what to do."""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra import versions
from infra.cli import main
from infra.cli import test as test_command
from infra.local import addresses, cgroups, cloud, network, paths, preflight, toolchain
from infra.local.progress import Progress
from infra.local.toolchain import ToolchainError

GIB = 1024**3


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def tidepool(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(main.app, arguments)
    return result.exit_code, result.output


def test_without_root_the_message_says_why_and_what_works_without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    [problem] = preflight.problems()
    assert "needs root" in problem
    assert "sudo ./tidepool" in problem
    assert "test --fast" in problem


def test_a_full_disk_names_the_folder_what_is_free_and_how_to_move_it(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(100 * GIB, 99 * GIB, 1 * GIB)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    cache, state = preflight.disk_problems()
    assert f"1.0 GiB are free under the cache folder {paths.cache()}, 20 GiB are needed" in cache
    assert "XDG_STATE_HOME" in state


def test_all_problems_come_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(cgroups, "problems", lambda: ["no control group"])
    monkeypatch.setattr(network, "problems", lambda: ["no namespace"])
    monkeypatch.setattr(preflight, "disk_problems", lambda: ["no disk"])
    monkeypatch.setattr(addresses, "ports_in_use", lambda: ["no port"])
    assert set(preflight.problems()) == {"no control group", "no namespace", "no disk", "no port"}


def test_a_port_in_use_is_named_with_who_needs_it_and_how_to_find_its_owner(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(addresses, "HOST_PORTS", {"moto (the AWS API)": ("127.0.0.1", port)})
        [problem] = addresses.ports_in_use()
    assert f"port {port} of 127.0.0.1, which moto (the AWS API) needs, is in use" in problem
    assert f"sport = :{port}" in problem
    assert addresses.ports_in_use() == []


def test_a_dead_mirror_is_named_with_its_variable_and_nothing_is_built_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv(toolchain.MIRROR_VARIABLE, url)
    monkeypatch.setattr(toolchain, "_from_path", lambda folder: False)
    for ask in (toolchain.require_mirror, lambda: toolchain.prepare(Progress())):
        with pytest.raises(ToolchainError, match="Correct or unset TIDEPOOL_KUBERNETES_MIRROR") as raised:
            ask()
        assert url in str(raised.value)


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A mirror with five servers and a CoreDNS archive; the folder of its files."""
    folder = tmp_path / f"mirror/v{versions.KUBERNETES}/bin/linux/{toolchain.architecture()}"
    folder.mkdir(parents=True)
    coredns = tmp_path / f"mirror/v{versions.COREDNS}"
    coredns.mkdir()
    (tmp_path / "coredns").write_text("#!/bin/sh\n")
    archive = coredns / f"coredns_{versions.COREDNS}_linux_{toolchain.architecture()}.tgz"
    subprocess.run(["tar", "-C", tmp_path, "-czf", archive, "coredns"], check=True)
    for name in toolchain.SERVERS:
        (folder / name).write_text(f"#!/bin/sh\necho {name}\n")
    for file in (archive, *folder.iterdir()):
        file.with_name(file.name + ".sha256").write_text(hashlib.sha256(file.read_bytes()).hexdigest())

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path / "mirror")))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    monkeypatch.setenv(toolchain.MIRROR_VARIABLE, f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(toolchain, "_from_path", lambda folder: False)
    yield folder
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_mirror_gives_verified_programs_that_the_next_start_finds_in_the_cache(
    mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = toolchain.prepare(Progress()).kubernetes
    said = subprocess.run([found / "kubelet"], capture_output=True, text=True, check=True)
    assert said.stdout == "kubelet\n"
    assert (found / "coredns").exists()
    shutil.rmtree(mirror)
    assert toolchain.prepare(Progress()).kubernetes == found


def test_a_download_whose_checksum_differs_is_refused_and_nothing_of_it_is_kept(mirror: Path) -> None:
    (mirror / "kubelet").write_text("#!/bin/sh\nevil\n")
    with pytest.raises(ToolchainError, match="nothing of it was kept"):
        toolchain.prepare(Progress())
    assert not list((paths.cache() / "kubernetes").glob("*/complete"))


def test_programs_that_apt_does_not_give_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(toolchain, "find", lambda program: None)
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(ToolchainError, match="no apt-get to install them: etcd-server containerd runc"):
        toolchain.install_packages(Progress())


def test_what_keeps_packages_from_starting_services_is_there_while_they_are_installed_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machines, new = tmp_path / "sbin" / "policy-rc.d", tmp_path / "etc" / "createcluster.d" / "tidepool.conf"
    machines.parent.mkdir()
    machines.write_text("exit 104")
    monkeypatch.setattr(toolchain._NoServices, "files", {machines: "exit 101", new: "create_main_cluster = false"})
    with toolchain._NoServices():
        assert machines.read_text() == "exit 104"
        assert new.read_text() == "create_main_cluster = false"
    assert machines.read_text() == "exit 104"
    assert not (tmp_path / "etc").exists()


def test_without_uv_the_message_says_who_fetches_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UV", "/the/fetched/uv")
    assert toolchain.uv() == "/the/fetched/uv"
    monkeypatch.delenv("UV")
    monkeypatch.setattr(shutil, "which", lambda program: None)
    with pytest.raises(ToolchainError, match=r"by \./tidepool, which fetches uv"):
        toolchain.uv()


@pytest.mark.parametrize("command", [("run", "x"), ("status",), ("reclaim",)])
def test_commands_that_need_a_cloud_say_how_to_start_one(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "pids", lambda name="": [])
    code, output = tidepool("local", *command)
    assert code == 1
    assert "tidepool local up" in " ".join(output.split())


def test_another_users_cloud_is_named_with_how_to_take_it_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner = tmp_path / "cloud.json"
    owner.write_text('{"state": "/home/ann/.local/state/tidepool/local"}')
    monkeypatch.setattr(cloud, "_OWNER", owner)
    with pytest.raises(cloud.CloudError, match=r"XDG_STATE_HOME=/home/ann/.local/state ./tidepool local down"):
        cloud._require_ours()


def test_logs_of_an_unknown_process_name_the_known_ones() -> None:
    folder = paths.state() / "log"
    folder.mkdir(parents=True)
    (folder / "etcd.log").write_text("hello\n")
    code, output = tidepool("local", "logs", "etdc")
    assert (code, "there are\netcd" in output) == (1, True)
    assert tidepool("local", "logs")[1] == "etcd\n"


def test_the_test_command_says_loudly_what_it_leaves_out_and_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "problems", lambda: ["the local cloud needs root"])
    monkeypatch.setattr(test_command.subprocess, "run", lambda command, cwd: subprocess.CompletedProcess(command, 0))
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(toolchain, "find", lambda program: None)
    monkeypatch.delenv("CI", raising=False)
    code, output = tidepool("test")
    assert (code, "WITHOUT THE TESTS ON THE LOCAL CLOUD" in output, "needs root" in output) == (0, True, True)
    assert "WITHOUT what only root installs" in output
    assert all(
        f"- the Debian package {package}: {why}" in output for package, why in test_command.TEST_PACKAGES.values()
    )
    assert "WITHOUT" not in tidepool("test", "--fast")[1]
    monkeypatch.setenv("CI", "true")
    assert tidepool("test")[0] == 1


def test_no_command_and_an_unknown_one_explain_themselves() -> None:
    done = subprocess.run([sys.executable, "-m", "infra.cli.main", "swim"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "No such command 'swim'" in done.stderr
    assert "demo" in tidepool("--help")[1]
