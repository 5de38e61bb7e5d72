"""Privileges: becoming more than an unprivileged process, by programs, ids, capabilities, namespaces or mounts."""
# ruff: noqa: E501 -- guest code stands as it is run, a case a line

from __future__ import annotations

from attacks.model import Attack

NEW = {
    "mount": 0x00020000,
    "cgroup": 0x02000000,
    "uts": 0x04000000,
    "ipc": 0x08000000,
    "user": 0x10000000,
    "pid": 0x20000000,
    "net": 0x40000000,
    "time": 0x00000080,
}

_NAMESPACES = tuple(
    attack
    for kind, flag in NEW.items()
    for attack in (
        Attack(
            name=f"unshare_{kind}_namespace",
            action=f"unshare into a new {kind} namespace",
            wall="seccomp",
            code=f'print(call("unshare", {flag:#x}), call("unshare", {flag | 0x10000000:#x}))',
            sees="EPERM EPERM",
        ),
        Attack(
            name=f"clone_{kind}_namespace",
            action=f"clone a child into a new {kind} namespace",
            wall="seccomp",
            code=f'print(call("clone", {flag:#x} | signal.SIGCHLD, 0), call("clone", {flag | 0x10000000:#x} | signal.SIGCHLD, 0))',
            sees="EPERM EPERM",
        ),
    )
    if not (kind == "time" and attack.name.startswith("clone"))
)

ATTACKS = (
    *_NAMESPACES,
    Attack(
        name="clone3_namespaces",
        action="clone3 with CLONE_NEWUSER, where no filter sees the flags",
        wall="seccomp",
        code='print(call("clone3", struct.pack("Q8Q", 0x10000000, *[0] * 8), 72))',
        sees="ENOSYS",
    ),
    Attack(
        name="enter_namespaces",
        action="setns into the namespaces of process 1, of the parent and of the host",
        wall="seccomp; own /proc",
        code="""
fds = [tried(os.open, f"/proc/{pid}/ns/{kind}", 0) for pid in ("self", 1, os.getppid(), "@host_pid@") for kind in ("mnt", "user", "net")]
print(several(*(call("setns", fd, 0) for fd in fds if isinstance(fd, int)), call("setns", 0, 0), call("setns", 3, 0)))
""",
        sees="EPERM",
    ),
    Attack(
        name="change_root",
        action="chroot and pivot_root",
        wall="seccomp",
        code='print(tried(os.chroot, "."), call("pivot_root", b".", b"."))',
        sees="EPERM EPERM",
    ),
    Attack(
        name="mount_old_calls",
        action="mount a tmpfs, a proc, a bind; remount read-write; unmount",
        wall="seccomp",
        code="""
os.mkdir("m")
print(several(call("mount", b"tmpfs", b"m", b"tmpfs", 0, 0), call("mount", b"proc", b"m", b"proc", 0, 0),
    call("mount", b"/", b"m", 0, 4096, 0), call("mount", 0, b"/usr/lib", 0, 32 | 4096, 0), call("mount", 0, b"/", 0, 32, 0),
    call("umount2", b"/proc", 2), call("umount2", b"/", 2)))
""",
        sees="EPERM",
    ),
    Attack(
        name="mount_new_calls",
        action="fsopen, fsconfig, fsmount, fspick, open_tree, move_mount, mount_setattr",
        wall="seccomp",
        code="""
print(several(call("fsopen", b"tmpfs", 0), call("fsconfig", 0, 6, 0, 0, 0), call("fsmount", 0, 0, 0),
    call("fspick", -100, b"/", 0), call("open_tree", -100, b"/", 1), call("open_tree", -100, b"/", 0x8001),
    call("move_mount", -100, b"/", -100, b"/mnt", 0), call("mount_setattr", -100, b"/", 0x8000, bytes(32), 32),
    call("statmount", bytes(32), bytes(64), 64, 0), call("listmount", bytes(32), bytes(64), 8, 0)))
""",
        sees="EPERM",
    ),
    Attack(
        name="run_set_id_programs",
        action="run mount, umount, sudo, pkexec, chsh: programs with the set-id bit",
        wall="no_new_privs; nosuid; user namespace",
        code="""
import subprocess
status = open("/proc/self/status").read()
found = [entry.path for entry in os.scandir("/usr/bin") if entry.is_file() and entry.stat().st_mode & 0o6000]
os.makedirs("m")
words = {"mount": ["-t", "tmpfs", "x", "m"], "umount": ["/proc"], "sudo": ["-n", "id"], "pkexec": ["id"], "chsh": ["-s", "/bin/sh"]}
tries = {path: words[os.path.basename(path)] for path in found if os.path.basename(path) in words}
started = [subprocess.Popen([path, *rest], stdin=subprocess.DEVNULL, stdout=-3, stderr=-3) for path, rest in tries.items()]
gained = [path for path, child in zip(tries, started) if child.wait(4) == 0]
euid = subprocess.run(["/usr/bin/env", "id", "-u"], capture_output=True, text=True).stdout.strip()
print("NoNewPrivs:\\t1" in status, gained, euid != "0")
""",
        sees=r"True \[\] True",
    ),
    Attack(
        name="leave_set_id_program",
        action="make a program with the set-id bit, for other users of the host",
        wall="seccomp; nosuid",
        code="""
open("program", "w").write("#!/bin/sh\\nid\\n")
print(tried(os.chmod, "program", 0o4755), tried(os.open, "other", os.O_CREAT | os.O_WRONLY, 0o6755), bool(os.stat("program").st_mode & 0o6000))
""",
        sees={"full": "EPERM EPERM False", "container": "None EPERM False"},
    ),
    Attack(
        name="change_ids",
        action="setuid, setgid, setgroups, setresuid, setfsuid to root and to others",
        wall="seccomp; no capability",
        code="""
print(several(tried(os.setuid, 0), tried(os.setgid, 0), tried(os.setgroups, [0]), tried(os.setresuid, 0, 0, 0),
    tried(os.setreuid, 0, 0), call("setfsuid", 0), call("setfsgid", 0), tried(os.setuid, 1)))
""",
        sees="EPERM",
    ),
    Attack(
        name="find_capabilities",
        action="look for any capability, and try to raise some",
        wall="capabilities dropped",
        code="""
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
print(*(int(status.get("Cap" + name, "0"), 16) for name in ("Inh", "Prm", "Eff", "Amb")),
    call("capset", struct.pack("Ii", 0x20080522, 0), struct.pack("6I", *[0xffffffff] * 6)), call("prctl", 47, 2, 21))
""",
        sees="0 0 0 0 EPERM EPERM",
    ),
    Attack(
        name="undo_walls_by_prctl",
        action="undo what stands: no_new_privs, securebits, dumpable, parent-death signal, seccomp, speculation",
        wall="seccomp",
        code="""
options = {"PDEATHSIG": (1, 0), "DUMPABLE": (4, 1), "KEEPCAPS": (8, 1), "SECUREBITS": (28, 0), "SECCOMP": (22, 1),
    "MM": (35, 1, 0), "PTRACER": (0x59616d61, -1), "SPECULATION": (53, 0, 2), "NNP": (38, 0), "TSC": (26, 2)}
print(several(*(call("prctl", *values) for values in options.values())))
""",
        sees="EPERM|EINVAL EPERM",
    ),
    Attack(
        name="build_own_walls",
        action="install seccomp filters with a supervisor, Landlock rulesets",
        wall="seccomp",
        code="""
print(several(call("seccomp", 1, 8, 0), call("seccomp", 2, 0, bytes(4)), call("landlock_create_ruleset", 0, 0, 1),
    call("landlock_restrict_self", 3, 0), call("lsm_get_self_attr", 100, 0, bytes(8), 0)))
""",
        sees="EPERM",
    ),
    Attack(
        name="run_program_from_working_folder",
        action="write a program, make it executable, run it",
        wall="noexec; Landlock",
        code="""
import shutil, subprocess
shutil.copy("/bin/true", "program")
os.chmod("program", 0o755)
print(tried(subprocess.run, ["./program"]))
""",
        sees="EACCES",
    ),
    Attack(
        name="run_program_from_memory",
        action="memfd_create and execveat, memfd_secret",
        wall="seccomp",
        code='print(several(call("memfd_create", b"x", 0), call("execveat", 0, b"", 0, 0, 0x1000), call("memfd_secret", 0)))',
        sees="EPERM",
    ),
    Attack(
        name="raise_priority",
        action="negative niceness, real-time and deadline scheduling, real-time I/O",
        wall="rlimits; no capability",
        code="""
attribute = struct.pack("IIQiIQQQ", 48, 6, 0, 0, 0, 1000000, 10000000, 10000000)
print(several(tried(os.nice, -5), tried(os.sched_setscheduler, 0, os.SCHED_FIFO, os.sched_param(1)),
    tried(os.sched_setscheduler, 0, os.SCHED_RR, os.sched_param(50)), call("sched_setattr", 0, attribute, 0),
    call("ioprio_set", 1, 0, 1 << 13 | 0)))
""",
        sees="EPERM|EACCES EPERM",
    ),
    Attack(
        name="raise_limits",
        action="raise the own resource limits",
        wall="rlimits; no capability",
        code="""
import resource
def more(name):
    number = getattr(resource, "RLIMIT_" + name)
    hard = resource.getrlimit(number)[1]
    resource.setrlimit(number, (hard + 1, hard + 1))
print(several(*(tried(more, name) for name in ("NOFILE", "NPROC", "FSIZE", "CORE", "MEMLOCK", "RTPRIO", "SIGPENDING"))))
""",
        sees="ValueError",
    ),
    Attack(
        name="lower_oom_score",
        action="make the kernel spare this process when memory runs out",
        wall="rlimits (the score may only rise); Landlock",
        code='print(several(write("/proc/self/oom_score_adj", b"-1000"), write("/proc/self/oom_score_adj", b"0")), read("/proc/self/oom_score_adj"))',
        sees=r"(EACCES|EPERM|EACCES EPERM) b'1000\\n'",
    ),
)
