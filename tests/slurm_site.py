"""A real SLURM in a folder of its own: two nodes on this host, own munge, own ports.

Needs the programs of Debian's slurmctld, slurmd, slurm-client and munge, and nothing else: no
root, no systemd, no control groups, nothing in /etc. Clients find it by ``SLURM_CONF``.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

PROGRAMS = {
    "slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge",
    "setpriv": "util-linux",
}  # fmt: skip
"""Program -> Debian package."""
NODES = ("n1", "n2")
CPUS = 4
MEMORY_MB = 6000
START_S = 60.0
PATIENCE_S = 60.0

CONF = """\
ClusterName=musedasktest
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ctld_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge/socket
StateSaveLocation={folder}/state
SlurmctldPidFile={folder}/slurmctld.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdSpoolDir={folder}/spool-%n
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
PlugStackConfig={folder}/plugstack.conf
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherParams=OverMemoryKill
JobAcctGatherFrequency=task=2
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/none
ReturnToService=2
SlurmdTimeout=15
KillWait=2
OverTimeLimit=0
MailProg=/bin/true
SchedulerParameters=sched_interval=2,bf_interval=5,batch_sched_delay=1
{nodes}
PartitionName=main Nodes=n1,n2 Default=YES MaxTime=1-00:00:00 State=UP
PartitionName=short Nodes=n1,n2 MaxTime=00:05:00 State=UP
PartitionName=shut Nodes=n1,n2 MaxTime=1-00:00:00 State=DOWN
"""


def missing() -> str:
    """Which programs are missing, or nothing."""
    packages = [package for name, package in PROGRAMS.items() if _program(name) is None]
    return f"no SLURM on this machine: Debian packages {' '.join(packages)}" if packages else ""


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@dataclass
class SlurmSite:
    """A running SLURM."""

    folder: Path
    """All of it."""
    daemons: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    """``munged``, ``slurmctld`` and the nodes' names -> their daemons."""

    @property
    def conf(self) -> Path:
        """Value of SLURM_CONF."""
        return self.folder / "slurm.conf"

    def start(self) -> None:
        """Start everything, and wait until both nodes are idle."""
        self._configure()
        munge = self.folder / "munge"
        self._daemon(
            "munged", "--foreground", "--force", f"--key-file={munge}/key",
            f"--socket={munge}/socket", f"--pid-file={munge}/pid", f"--seed-file={munge}/seed",
            f"--log-file={munge}/log",
        )  # fmt: skip
        wait_until((munge / "socket").exists, "munged has no socket", START_S)
        self.start_controller()
        for node in NODES:
            self.start_node(node)
        wait_until(lambda: self.node_states() == ["idle"] * len(NODES), self._logs, START_S)

    def start_controller(self) -> None:
        """Start slurmctld, anew if it was stopped."""
        self._daemon("slurmctld", "-D", "-f", str(self.conf))

    def start_node(self, node: str) -> None:
        """Start a node's slurmd, anew if it was killed."""
        self._daemon("slurmd", "-D", "-f", str(self.conf), "-N", node, name=node)

    def kill_node(self, node: str) -> None:
        """Let a node die: its slurmd and all of its jobs' processes, at once."""
        jobs = self.squeue("%A", "--states=RUNNING,COMPLETING", f"--nodelist={node}")
        self.kill_daemon(node)
        # A step's daemon that outlives its job tells the controller: the job failed, not the node.
        send(sorted(processes_of(*jobs), key=lambda one: not _is_step(one, self.folder)))

    def down(self, node: str) -> None:
        """Let the controller know of a node's death, which takes it half a minute by itself."""
        self.ask("scontrol", "update", f"NodeName={node}", "State=DOWN", "Reason=dead")

    def empty(self) -> None:
        """End all jobs, and wait for two nodes that can take some."""
        self.ask("scancel", "--user", str(os.getuid()))
        wait_until(lambda: not self.squeue(), lambda: f"they stay: {self.squeue('%A %T %r')}")
        self.wait_for_nodes()

    def expire(self, job: str) -> None:
        """Let a job's walltime be over; the controller sees it within half a minute."""
        self.ask("scontrol", "update", f"JobId={job}", "EndTime=now+1")

    def kill_daemon(self, name: str) -> None:
        """Let one daemon die."""
        daemon = self.daemons.pop(name)
        daemon.kill()
        daemon.wait(10)

    def stop(self) -> None:
        """End all jobs and all daemons; nothing is left."""
        if "slurmctld" in self.daemons:
            with suppress(subprocess.SubprocessError):
                subprocess.run(
                    ["scancel", f"--user={getpass.getuser()}"], env=self.environment, timeout=20,
                    capture_output=True, check=False,
                )  # fmt: skip
        for name in list(self.daemons):
            self.kill_daemon(name)
        # Now that nobody starts new ones.
        while left := alive(self.all_processes()):
            send(left)
            time.sleep(0.1)

    def processes_of_jobs(self) -> list[psutil.Process]:
        """Processes of all jobs, ended ones too, and of their step daemons."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                environment = process.environ()
                is_here = environment.get("SLURM_CONF") == str(self.conf)
                if (is_here and "SLURM_JOB_ID" in environment) or _is_step(process, self.folder):
                    found.append(process)
        return found

    def all_processes(self) -> list[psutil.Process]:
        """Processes that know this SLURM: those of jobs, and its step daemons."""
        return [
            process for process in psutil.process_iter()
            if process.pid != os.getpid() and _is_of(process, str(self.folder))
        ]  # fmt: skip

    @property
    def environment(self) -> dict[str, str]:
        """For clients."""
        return {**os.environ, "SLURM_CONF": str(self.conf)}

    def ask(self, *command: str) -> str:
        """Output of a client command."""
        answer = subprocess.run(
            command, env=self.environment, capture_output=True, text=True, timeout=30, check=False
        )
        assert answer.returncode == 0, f"{command}: {answer.stderr}"
        return answer.stdout

    def squeue(self, what: str = "%A", *more: str) -> list[str]:
        """Lines of squeue."""
        return self.ask("squeue", "-h", "-o", what, *more).splitlines()

    def node_states(self) -> list[str]:
        """State of each node that answers; empty while the controller does not."""
        answer = subprocess.run(
            ["sinfo", "-h", "-N", "-p", "main", "-o", "%t"], env=self.environment,
            capture_output=True, text=True, timeout=30, check=False,
        )  # fmt: skip
        return answer.stdout.split()

    def wait_for_nodes(self) -> None:
        """Wait until both nodes can take jobs."""
        good = {"idle", "mix", "alloc"}
        wait_until(
            lambda: len(self.node_states()) == len(NODES) and set(self.node_states()) <= good,
            self._logs,
        )

    def _configure(self) -> None:
        for name in ("munge", "state"):
            (self.folder / name).mkdir(mode=0o700)
        key = self.folder / "munge" / "key"
        key.touch(0o600)
        key.write_bytes(secrets.token_bytes(1024))
        (self.folder / "plugstack.conf").touch()
        (self.folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
        host = socket.gethostname().partition(".")[0]
        nodes = "\n".join(
            f"NodeName={node} NodeHostname={host} NodeAddr=127.0.0.1 Port={_free_port()} "
            f"CPUs={CPUS} RealMemory={MEMORY_MB} State=UNKNOWN"
            for node in NODES
        )
        self.conf.write_text(CONF.format(
            host=host, ctld_port=_free_port(), user=getpass.getuser(), folder=self.folder,
            nodes=nodes,
        ))  # fmt: skip

    def _daemon(self, program: str, *arguments: str, name: str = "") -> None:
        path = _program(program)
        assert path is not None, missing()
        with open(self.folder / f"{name or program}.out", "ab") as output:
            self.daemons[name or program] = subprocess.Popen(
                # Tied to us: a run of the tests that is killed leaves no SLURM behind.
                ["setpriv", "--pdeathsig", "KILL", path, *arguments], env=self.environment,
                stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
            )  # fmt: skip

    def _logs(self) -> str:
        """Ends of all logs, for whoever has to find out why it does not start."""
        return "\n".join(
            f"{path.name}: {path.read_text(errors='replace')[-1500:]}"
            for path in sorted([*self.folder.glob("*.log"), *self.folder.glob("*.out")])
        )


def _is_step(process: psutil.Process, folder: Path) -> bool:
    """Whether it is a step's daemon: its title has gone over its environment, its log tells."""
    with suppress(psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        if process.name() == "slurmstepd":
            files = [link.readlink() for link in Path(f"/proc/{process.pid}/fd").iterdir()]
            return any(str(file).startswith(f"{folder}/slurmd-") for file in files)
    return False


def _is_of(process: psutil.Process, folder: str) -> bool:
    if _is_step(process, Path(folder)):
        return True
    try:
        if process.environ().get("SLURM_CONF", "").startswith(f"{folder}/"):
            return process.ppid() != os.getpid() or process.name().startswith("slurmstepd")
        return any(folder in word for word in process.cmdline()) and process.ppid() != os.getpid()
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False


def processes_of(*jobs: str) -> list[psutil.Process]:
    """Processes of jobs of this test's SLURM, their step daemons included."""
    found, conf = [], os.environ.get("SLURM_CONF")
    folder = Path(conf or "/nowhere").parent
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            words, environment = " ".join(process.cmdline()), process.environ()
            # Another test's SLURM has jobs of the same numbers.
            is_here = environment.get("SLURM_CONF") == conf
            is_step = any(f"[{job}." in words for job in jobs) and _is_step(process, folder)
            if is_step or (is_here and environment.get("SLURM_JOB_ID") in jobs):
                found.append(process)
    return found


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those that run; a zombie does not."""
    found = []
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            if process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def wait_until(
    condition: Callable[[], Any], why: str | Callable[[], str] = "", seconds: float = PATIENCE_S
) -> Any:
    """Wait for something to be true; give it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.1)
    raise AssertionError(f"waited for {seconds:g} s: {why() if callable(why) else why}")


@contextmanager
def slurm_site() -> Iterator[SlurmSite]:
    """Run a SLURM inside the block; all commands of this process talk to it."""
    # A short path: sockets have room for 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="slurm-"))
    site = SlurmSite(folder)
    before = os.environ.get("SLURM_CONF")
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(site.stop)
        site.start()
        os.environ["SLURM_CONF"] = str(site.conf)
        try:
            yield site
        finally:
            os.environ.pop("SLURM_CONF")
            if before is not None:
                os.environ["SLURM_CONF"] = before


def send(processes: list[psutil.Process], number: int = signal.SIGKILL) -> int:
    """Send a signal to processes that are still there; how many got it."""
    sent = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.send_signal(number)
            sent += 1
    return sent
