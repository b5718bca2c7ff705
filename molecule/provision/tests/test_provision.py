# Copyright (c) 2026, the pixels.sandbox authors
# GNU General Public License v3.0+ (see LICENSES/GPL-3.0-or-later.txt or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What provisioned sandboxes are like, seen from inside as root and as the user; they were restarted before."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from ansible_collections.pixels.sandbox.tests.support.by_incus import asked, into
from conftest import ODD, Said, as_pixel, run
from testinfra.host import Host

AGENTS = {"claude": "2.1.330", "codex": "0.169.0", "opencode": "1.18.33", "pi": "0.73.1"}
SHOW = "printenv -0 MOL_WRITTEN | od -An -c"
Pixel = Callable[[str], Said]


def shown(text: str) -> str:
    """Return a text as SHOW does."""
    return subprocess.run(
        ["od", "-An", "-c"], input=f"{text}\0".encode(), stdout=subprocess.PIPE, check=True
    ).stdout.decode()


def test_the_user_has_its_numbers_and_no_power(host: Host) -> None:
    said = run(
        host.backend.host,
        "sh",
        "-c",
        "id pixel; getent passwd pixel; stat -c '%U:%G %a' /home/pixel; ls -A /etc/sudoers.d; getent passwd ubuntu || echo no ubuntu",
    )
    assert said.out.splitlines() == [
        "uid=1000(pixel) gid=1000(pixel) groups=1000(pixel),999(systemd-journal)".replace(
            "999", said.out.split("(systemd-journal)")[0].split(",")[-1]
        ),
        "pixel:x:1000:1000::/home/pixel:/bin/bash",
        "pixel:pixel 750",
        "README",
        "pixels",
        "no ubuntu",
    ]
    shadow = host.run("getent shadow pixel").stdout.split(":")
    assert shadow[1] == "*"


def test_what_was_written_for_it_survives_and_nobody_else_reads_it(host: Host, pixel: Pixel) -> None:
    stat = run(host.backend.host, "stat", "-c", "%U %a", "/home/pixel/.config/pixels/environment.sh")
    assert stat.out == "pixel 600\n"
    assert pixel(SHOW).out == shown(ODD)
    assert pixel(f"bash -c '{SHOW}'").out == shown(ODD)
    assert pixel(f"MOL_WRITTEN=other sh -lc '{SHOW}'").out == shown("other")


def test_the_agent_reaches_what_was_named_and_not_what_is_beside_it() -> None:
    address = run("mol-older", "hostname", "-I").out.split()[0]
    knock = f"timeout 5 bash -c 'read -r banner < /dev/tcp/{address}/22 && echo $banner'"
    assert run("mol-mirror", "sh", "-c", knock).out.startswith("SSH-2.0")
    assert as_pixel("mol-agent", knock).rc != 0
    assert run("mol-agent", "sh", "-c", knock).rc != 0
    assert "egress agent" in as_pixel("mol-agent", "cat /etc/pixels-egress.txt").out
    # npm has news of its own to tell meanwhile
    assert as_pixel("mol-agent", "npm view --no-update-notifier npm name 2> /dev/null").out == "npm\n"


def test_keys_are_added_to_those_that_are_there() -> None:
    said = as_pixel("mol-agent", "cut -d' ' -f3- .ssh/authorized_keys; stat -c %a .ssh .ssh/authorized_keys")
    assert said.out.splitlines() == ["of the image", "test", "operator", "700", "600"]
    # nobody else has entered as root
    assert run("mol-agent", "cut", "-d", " ", "-f3-", "/root/.ssh/authorized_keys").out == "operator\n"


def test_it_reads_the_journal_without_further_rights(pixel: Pixel) -> None:
    said = pixel("journalctl -q -n1 -o cat _PID=1")
    assert (said.rc, bool(said.out)) == (0, True)


def test_it_can_install_packages(pixel: Pixel) -> None:
    assert pixel("sudo -n safe-apt update").rc == 0


def test_settings_of_registries_are_there(host: Host, pixel: Pixel) -> None:
    assert "index-url = http" in host.file("/etc/pip.conf").content_string
    assert pixel("echo $NPM_CONFIG_REGISTRY").out.startswith("http")


def test_pip_of_an_environment_of_the_user_installs_from_the_index() -> None:
    (told,) = [line for line in run("mol-agent", "cat", "/etc/pip.conf").out.splitlines() if "index-url" in line]
    index = told.removeprefix("index-url = ")
    made = as_pixel("mol-agent", "sudo -n safe-apt install -y python3-venv && python3 -m venv environment")
    assert made.rc == 0, made.out
    pip = "environment/bin/pip --disable-pip-version-check"
    # what pip config get finds is less than what counts
    assert f"global.index-url='{index}'" in as_pixel("mol-agent", f"{pip} config list 2> /dev/null").out.splitlines()
    said = as_pixel("mol-agent", f"{pip} install six && environment/bin/python -c 'import six'")
    assert said.rc == 0, said.out


def test_names_resolve(host: Host) -> None:
    said = host.run("getent hosts px-mol-mirror.incus || resolvectl query px-mol-mirror.incus")
    # the confined one knows the names of its policy, and no others
    assert (said.rc == 0) == (host.backend.host == "mol-older")


def test_sessions_outlive_who_starts_them(host: Host) -> None:
    name = host.backend.host
    assert run(name, "px-session", "start", "build", "--", "sh", "-c", f"{SHOW} > ~/seen; exit 3").rc == 0
    assert (
        run(name, "px-session", "start", "--chdir", "/srv", "stays", "--", "sh", "-c", "pwd > ~/where; sleep 1000").rc
        == 0
    )
    assert run(name, "px-session", "start", "stays", "--", "false").rc == 0
    found = {}
    for _turn in range(50):
        found = {entry["name"]: entry for entry in json.loads(run(name, "px-session", "list").out)}
        if found["build"]["exit_code"] is not None:
            break
    assert (found["build"]["state"], found["build"]["exit_code"]) == ("exited", 3)
    assert (found["stays"]["state"], found["stays"]["exit_code"]) == ("running", None)
    assert as_pixel(name, "cat seen").out == shown(ODD)
    assert as_pixel(name, "cat where").out == "/srv\n"
    assert "detach" in host.file("/etc/profile.d/pixels-session.sh").content_string
    for session in ("build", "stays"):
        run(name, "px-session", "stop", session)
    assert json.loads(run(name, "px-session", "list").out) == []
    for wrong in (["start", "a b"], ["start", "-x"], ["attach", "x", "--", "y"], ["stop"], []):
        assert run(name, "px-session", *wrong).rc != 0


def test_no_variable_of_a_session_is_an_argument_or_left_in_a_file(host: Host) -> None:
    name = host.backend.host
    script = "SECRET=hunter2 px-session start quiet -- sleep 1000"
    assert as_pixel(name, script).rc == 0
    assert as_pixel(name, "px-session start other -- sh -c 'env > ~/others.env; sleep 1000'").rc == 0
    try:
        seen = run(name, "sh", "-c", "for file in /proc/[0-9]*/cmdline; do tr '\\0' ' ' < $file; echo; done").out
        assert "sleep 1000" in seen
        assert "hunter2" not in seen
        assert as_pixel(name, "grep -rl hunter2 ~ ; ls -A ~ | grep px-session-").out == ""
        assert "hunter2" not in as_pixel(name, "cat others.env").out
    finally:
        run(name, "px-session", "stop", "quiet")
        run(name, "px-session", "stop", "other")


def test_a_step_goes_on_without_who_started_it_and_is_joined(host: Host) -> None:
    name = host.backend.host
    # it ends when it is let, however slow the machine is
    script = "echo $HOME $A; until test -e ~/go; do sleep 0.2; done; rm ~/go; echo end"
    told = json.dumps({"argv": ["sh", "-c", script], "user": "pixel", "env": {"A": "it's"}, "timeout": 120})
    with subprocess.Popen(
        into(name, "px-step", "run", "slow"), stdin=subprocess.PIPE, stdout=subprocess.DEVNULL
    ) as first:
        assert first.stdin
        first.stdin.write(told.encode())
        first.stdin.close()
        for _turn in range(100):
            if "slow: running" in [
                f"{entry['name']}: {entry['state']}" for entry in json.loads(run(name, "px-step", "list").out)
            ]:
                break
        first.kill()
    with subprocess.Popen(
        into(name, "px-step", "run", "slow"), stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as second:
        assert second.stdin
        assert second.stdout
        second.stdin.write(told.encode())
        second.stdin.close()
        assert second.stdout.readline() == b"joining step slow, which runs\n"
        assert as_pixel(name, "touch go").rc == 0
        assert (second.stdout.read(), second.wait(60)) == (b"", 0)
    (entry,) = [entry for entry in json.loads(run(name, "px-step", "list", "5").out) if entry["name"] == "slow"]
    assert (entry["state"], entry["result"], entry["exit_code"]) == ("done", "success", 0)
    assert entry["log"] == "/home/pixel it's\nend"
    log = host.file("/var/log/pixels/slow.log")
    assert (log.user, log.mode) == ("root", 0o600)


@pytest.mark.parametrize(
    ("argv", "timeout", "result", "code"),
    [
        (["sh", "-c", "echo why; exit 7"], 60, "exit-code", 7),
        (["sh", "-c", "sleep 170 & sleep 170"], 1, "timeout", None),
    ],
)
def test_a_step_that_fails_says_how(host: Host, argv: list[str], timeout: int, result: str, code: int | None) -> None:
    name = host.backend.host
    said = run(name, "px-step", "run", "bad", text=json.dumps({"argv": argv, "user": "pixel", "timeout": timeout}))
    assert said.rc != 0
    assert f"step bad ended with {result}" in said.out
    (entry,) = [entry for entry in json.loads(run(name, "px-step", "list").out) if entry["name"] == "bad"]
    assert (entry["state"], entry["result"], entry["exit_code"]) == ("failed", result, code)
    assert run(name, "pgrep", "-f", "sleep 17[0]").rc != 0
    assert run(name, "ls", "-A", "/run/pixels-steps").out == ""


def test_links_of_the_user_lead_root_nowhere() -> None:
    plant = "mv .config .kept; ln -s /root .config; mkdir -p .ssh; mv .ssh .kept-ssh; ln -s /root .ssh"
    assert as_pixel("mol-near", plant).rc == 0
    before = run("mol-near", "find", "/root", "-maxdepth", "1", "-printf", "%p %u %m\\n").out
    command = [
        "ansible-playbook",
        "-i",
        "localhost,",
        "pixels.sandbox.sandbox",
        "-e",
        json.dumps({"names": "mol-near", **again()}),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode != 0
    assert "step account failed" in done.stdout + done.stderr
    assert run("mol-near", "find", "/root", "-maxdepth", "1", "-printf", "%p %u %m\\n").out == before


def again() -> dict[str, object]:
    """Return settings that differ from those of before, so that the playbook provisions again."""
    return {
        "egress": "unrestricted",
        "devtools": False,
        "account_environment": {"A": "1"},
        "account_authorized_keys": ["ssh-ed25519 AAAA x"],
    }


@pytest.mark.parametrize(
    ("plant", "words"),
    [
        (
            "echo 'pixel ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/past",
            ["may do more as root until now", "make a new sandbox"],
        ),
        (
            "cp /bin/sh /usr/local/bin/past; chmod 4755 /usr/local/bin/past; touch /etc/systemd/system/past; chown pixel /etc/systemd/system/past",
            ["/usr/local/bin/past has rights of its own", "/etc/systemd/system/past can be changed by pixel"],
        ),
        ("passwd -d root", ["root has an empty password"]),
    ],
)
def test_what_a_root_of_before_has_left_is_found(plant: str, words: list[str]) -> None:
    run("mol-near", "sh", "-c", plant)
    # it could be changed by the user, and is not afterwards
    loosen = "chown pixel /usr/local/sbin/safe-apt; chmod 777 /usr/local/sbin/safe-apt; echo touch /root/owned >> /usr/local/sbin/safe-apt"
    run("mol-near", "sh", "-c", loosen)
    try:
        options = ["-i", "mol-near,", "-c", "pixels.sandbox.incus", "-e", "ansible_python_interpreter=/usr/bin/python3"]
        done = subprocess.run(
            ["ansible", "all", *options, "-m", "ansible.builtin.include_role", "-a", "name=pixels.sandbox.safe_apt"],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode != 0
        for part in words:
            assert part.lower() in (done.stdout + done.stderr).lower()
        said = run(
            "mol-near", "sh", "-c", "stat -c '%U %a' /usr/local/sbin/safe-apt; grep -c owned /usr/local/sbin/safe-apt"
        )
        assert said.out == "root 755\n0\n"
    finally:
        clear = "rm -f /etc/sudoers.d/past /usr/local/bin/past /etc/systemd/system/past; usermod -p '*' root"
        run("mol-near", "sh", "-c", clear)


MISE_ARCHIVE = """
set -e
mkdir -p /srv/archive && cd /srv/archive && mkdir -p tree/DEBIAN tree/usr/bin
printf 'Package: mise\\nVersion: 1\\nArchitecture: all\\nMaintainer: x <x@example.com>\\nDescription: stand-in\\n' > tree/DEBIAN/control
printf '#!/bin/sh\\necho stand-in\\n' > tree/usr/bin/mise; chmod 755 tree/usr/bin/mise
dpkg-deb --build tree mise.deb > /dev/null
{ dpkg-deb --field mise.deb; echo "Filename: ./mise.deb"; echo "Size: $(stat -c %s mise.deb)"; \
  echo "SHA256: $(sha256sum mise.deb | cut -d' ' -f1)"; } > Packages
echo 'deb [trusted=yes] file:/srv/archive ./' > /etc/apt/sources.list.d/mise.list
apt-get -qq update
"""


@pytest.mark.parametrize("source", ["url", "wrong", "package"])
def test_mise_comes_in_each_way_and_only_with_its_checksum(source: str) -> None:
    mirror = run("mol-mirror", "hostname", "-I").out.split()[0]
    settings: dict[str, object] = {
        "mise_source": "url",
        "mise_url": f"http://{mirror}:8099/mise",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    if source == "wrong":
        settings["mise_checksums"] = {"x64": "0" * 64, "arm64": "0" * 64}
    if source == "package":
        settings["mise_source"] = "package"
        assert run("mol-older", "sh", "-c", MISE_ARCHIVE).rc == 0
    run("mol-older", "rm", "-f", "/usr/local/bin/mise")
    command = ["ansible", "all", "-i", "mol-older,", "-c", "pixels.sandbox.incus", "-e", json.dumps(settings)]
    role = ["-m", "ansible.builtin.include_role", "-a", "name=pixels.sandbox.mise"]
    done = subprocess.run([*command, *role], capture_output=True, text=True, timeout=300, check=False)
    said = run("mol-older", "mise", "--version")
    if source == "wrong":
        assert done.returncode != 0
        assert said.rc != 0
    else:
        assert done.returncode == 0, done.stdout + done.stderr
        assert said.out.startswith({"url": "2026.9.15 ", "package": "stand-in"}[source]), said.out


@pytest.mark.parametrize("agent", AGENTS)
def test_each_agent_runs_as_the_user_and_for_nobody_else(agent: str) -> None:
    for argv in (
        ("su", "-l", "pixel", "-c", f"{agent} --version"),
        ("setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "env", "HOME=/home/pixel", agent, "--version"),
    ):
        said = run("mol-agent", *argv)
        assert (said.rc, AGENTS[agent] in said.out) == (0, True), said.out
    said = run("mol-agent", agent, "--version")
    assert said.rc == 126
    assert said.out.startswith(f"{agent} belongs to the user pixel\n")


def test_the_other_tools_are_there() -> None:
    said = as_pixel(
        "mol-agent", "node --version && npm --version && fd --version && rg --version && git --version && cc --version"
    )
    assert said.rc == 0, said.out
    assert said.out.startswith("v24.")


def test_a_session_has_all_three_kinds_of_variables() -> None:
    # the guest was restarted since: what the session wrote is there, the session is not
    assert json.loads(run("mol-agent", "px-session", "list").out) == []
    for kind in ("WRITTEN", "SESSION", "FORWARDED"):
        assert as_pixel("mol-agent", f"cat story.MOL_{kind}").out == shown(ODD)


def test_steps_of_the_provisioning_can_be_read_later() -> None:
    (step,) = [entry for entry in json.loads(run("mol-agent", "px-step", "list", "3").out) if entry["name"] == "tools"]
    assert (step["state"], step["exit_code"]) == ("done", 0)
    assert step["log"]


def ssh(user: str, address: str, key: Path, *more: str) -> subprocess.CompletedProcess[str]:
    """Have a command run over SSH: the user shows its variable, root its number."""
    options = [
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
        "-o",
        "BatchMode=yes",
        "-o",
        "IdentitiesOnly=yes",
        "-i",
        str(key),
    ]
    command = ["ssh", "-F", "none", *more, *options, f"{user}@{address}", SHOW if user == "pixel" else "id -u"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


KEY = Path(os.environ["PIXELS_CACHE"]) / "test-key"
OPERATOR_KEY = Path(os.environ["PIXELS_CACHE"]) / "operator/.ssh/id_ed25519"


def test_a_command_over_ssh_has_the_variables_and_a_password_does_not_help() -> None:
    state = asked("/1.0/instances/px-mol-older/state")
    address = next(entry["address"] for entry in state["network"]["eth0"]["addresses"] if entry["family"] == "inet")
    assert ssh("pixel", address, KEY).stdout == shown(ODD)
    assert ssh("root", address, KEY).stdout == "0\n"
    refused = ssh("pixel", address, KEY, "-o", "PubkeyAuthentication=no")
    assert refused.returncode != 0
    assert "password" not in refused.stderr.split("(")[-1]


def test_the_operator_enters_a_confined_one_by_a_published_port() -> None:
    port = ("-p", "22922")
    assert ssh("pixel", "127.0.0.1", OPERATOR_KEY, *port).stdout == shown(ODD)
    assert ssh("root", "127.0.0.1", OPERATOR_KEY, *port).stdout == "0\n"
    assert ssh("root", "127.0.0.1", KEY, *port).returncode != 0


def test_an_ssh_server_listens_itself_where_it_is_wanted_and_else_nothing_does() -> None:
    listens = ("ss", "-Hltn", "sport = :22")
    for wanted in (True, False):
        socket = "systemctl disable -q --now ssh.service; systemctl enable -q --now ssh.socket"
        assert run("mol-older", "sh", "-c", socket).rc == 0
        assert ":22 " in run("mol-older", *listens).out
        settings = {"account_ssh": wanted, "ansible_python_interpreter": "/usr/bin/python3"}
        command = ["ansible", "all", "-i", "mol-older,", "-c", "pixels.sandbox.incus", "-e", json.dumps(settings)]
        role = ["-m", "ansible.builtin.include_role", "-a", "name=pixels.sandbox.account tasks_from=access"]
        done = subprocess.run([*command, *role], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (":22 " in run("mol-older", *listens).out) == wanted
        enabled = run("mol-older", "systemctl", "is-enabled", "ssh.service", "ssh.socket").out.split()
        assert enabled == ["enabled" if wanted else "disabled", "disabled"]
