"""Files of the host: reading, changing, spying on them."""
# ruff: noqa: E501 -- guest code stands as it is run, a case a line

from __future__ import annotations

import os
from pathlib import Path

from attacks.model import Attack
from attacks.scene import Scene

GONE = {"full": "ENOENT", "container": "EACCES"}  # not there at all; there, and closed by Landlock
ROOT = "own root; Landlock"


def _whole(scene: Scene) -> str:
    """Files that a guest was to destroy are there."""
    missing = [path for path in ("/bin/sh", "/etc/passwd", os.__file__) if not Path(path).exists()]
    return f"gone from the host: {missing}" if missing else ""


def _spy(scene: Scene) -> str:
    """A guest watches files that the host uses, the host uses them, the guest looks at what it has noticed."""
    watched = "/usr/bin/env", "/dev/null"
    with scene.sandbox() as sandbox:
        first = scene.run(
            sandbox,
            f"""
fd = call("inotify_init1", os.O_NONBLOCK)
print(fd if isinstance(fd, str) else [call("inotify_add_watch", fd, p.encode(), 0x21) for p in {watched}])
""",
        )
        for path in watched:
            Path(path).open("rb").close()
        second = scene.run(
            sandbox,
            "print('heard nothing' if isinstance(fd, str) or (heard := tried(os.read, fd, 4096)) == 'EAGAIN' else heard)",
        )
    return first.stdout + second.stdout


ATTACKS = (
    Attack(
        name="read_host_shadow",
        action="open /etc/shadow",
        wall=ROOT,
        code='print(read("/etc/shadow"))',
        sees=GONE,
    ),
    Attack(
        name="read_file_open_to_all",
        action="open a file in the host's temporary folder that has mode 0644",
        wall=ROOT,
        code='print(read("@canary@"))',
        sees=GONE,
    ),
    Attack(
        name="read_home_folder",
        action="open a file in the home folder of the user who runs Belljar, list the folder",
        wall=ROOT,
        code='print(several(read("@home@/private"), tried(os.listdir, "@home@")))',
        sees=GONE,
    ),
    Attack(
        name="read_belljar_itself",
        action="open the host's side of Belljar's code",
        wall=ROOT,
        code='print(read("@code@"))',
        sees=GONE,
    ),
    Attack(
        name="list_host_root",
        action="list /, which shows what the sandbox's root holds",
        wall=ROOT,
        code='print(" ".join(sorted(os.listdir("/"))) if tried(os.listdir, "/") != "EACCES" else "EACCES")',
        sees={
            "full": "(belljar|bin|dev|etc|home|image|lib|lib32|lib64|libx32|mnt|nix|proc|python|sbin|tmp|usr| )+",
            "container": "EACCES",
        },
    ),
    Attack(
        name="list_host_etc",
        action="list /etc",
        wall=ROOT,
        code='print(" ".join(sorted(tried(os.listdir, "/etc"))) if tried(os.listdir, "/etc") != "EACCES" else "EACCES")',
        sees={
            "full": r"(alternatives|group|hostname|hosts|ld\.so\.cache|localtime|nsswitch\.conf|passwd|resolv\.conf| )+",
            "container": "EACCES",
        },
    ),
    Attack(
        name="read_host_accounts",
        action="look up the host's accounts in /etc/passwd",
        wall=ROOT,
        code='print(tried(lambda: open("/etc/passwd").read().split("\\n")[:-1]))',
        sees={"full": r"\['root:x:0:0::/:/bin/false', 'user:x:1000:1000::/home/user:/bin/sh'\]", "container": "EACCES"},
    ),
    Attack(
        name="read_host_environment",
        action="look for a secret of the host's environment in the own environment",
        wall="the zygote is started with an empty environment",
        code='print(any("CANARY" in key for key in os.environ), b"CANARY" in read("/proc/self/environ"))',
        sees="False False",
    ),
    Attack(
        name="search_own_memory",
        action="search all of the own memory, which was the zygote's, for the host's secrets",
        wall="the zygote never had them",
        code="""
import re
pattern, found = re.compile(rb"belljar[-]secret-[0-9a-f]{32}|BELLJAR[_]CANARY="), 0
with open("/proc/self/maps") as maps, open("/proc/self/mem", "rb", 0) as memory:
    for line in maps:
        start, end = (int(word, 16) for word in line.split()[0].split("-"))
        if line.split()[1][0] == "r" and end < 1 << 47:
            try:
                memory.seek(start)
                data = memory.read(end - start)
            except OSError:
                continue
            found += len(pattern.findall(data))
print(found)
""",
        sees="0",
    ),
    Attack(
        name="write_system_files",
        action="create and overwrite files in /usr/bin, /usr/lib, /etc, /",
        wall="read-only mounts; Landlock",
        code="""
places = ("/usr/bin/new", "/usr/bin/env", "/usr/lib/new", "/etc/passwd", "/etc/new", "/new", "/bin/sh")
print(several(*map(write, places)))
""",
        sees={"full": "EACCES|EROFS|EACCES EROFS|EROFS ETXTBSY", "container": "(EACCES|EROFS| )+"},
        after=_whole,
    ),
    Attack(
        name="write_image",
        action="overwrite, create, rename and delete files of the image and the standard library",
        wall="read-only mounts; Landlock",
        code="""
import IPython
package = IPython.__file__
print(several(write(package), write(os.path.dirname(package) + "/new.py"), tried(os.unlink, package),
    tried(os.rename, package, package + "x"), tried(os.unlink, os.__file__), write(os.__file__),
    tried(os.truncate, package, 0), write(sys.executable)))
""",
        sees="(EACCES|EROFS|ETXTBSY| )+",
        after=_whole,
    ),
    Attack(
        name="change_canary_file",
        action="write, append, truncate, delete, rename a file of the host that is open to all (mode 0666)",
        wall=ROOT,
        code="""
path = "@folder@/open to all"
print(several(write(path), tried(open, path, "a"), tried(os.truncate, path, 0), tried(os.unlink, path),
    tried(os.rename, path, path + "x"), tried(os.replace, path, "@folder@/secret")))
""",
        sees=GONE,
    ),
    Attack(
        name="change_mode_owner_times",
        action="chmod, chown, utime, setxattr on a file of the host that belongs to the same user",
        wall="own root; seccomp, since Landlock does not cover these",
        code="""
path = "@canary@"
print(tried(os.chmod, path, 0o777), tried(os.utime, path, (1, 1)), tried(os.chown, path, 0, 0),
    tried(os.setxattr, path, "user.x", b"x"), tried(os.getxattr, path, "user.x"))
""",
        sees={
            "full": "ENOENT ENOENT ENOENT ENOENT ENOENT",
            "container": "None None EPERM (EOPNOTSUPP|ENOTSUP) (EOPNOTSUPP|ENOTSUP)",
        },
    ),
    Attack(
        name="touch_host_device",
        action="change times, mode and owner of the host's /dev/null",
        wall="own root; seccomp",
        code="""
before = os.stat("/dev/null")
tried(os.utime, "/dev/null", (1, 1)), tried(os.utime, "/dev/null", None), tried(os.chmod, "/dev/null", 0o600)
tried(os.chown, "/dev/null", 1000, 1000)
after = os.stat("/dev/null")
print(*(getattr(after, name) == getattr(before, name) for name in ("st_mtime_ns", "st_mode", "st_uid")))
""",
        sees="True True True",
    ),
    Attack(
        name="link_host_file",
        action="hard link to a file of the host, and to one of the image, from the working folder",
        wall="own root; Landlock (refer)",
        code="""
print(several(tried(os.link, "@canary@", "link"), tried(os.link, "/bin/sh", "link"), tried(os.link, os.__file__, "link")))
""",
        sees="(EACCES|ENOENT|EXDEV|EPERM| )+",
    ),
    Attack(
        name="follow_link_to_host_file",
        action="read and write a file of the host through a symbolic link in the working folder",
        wall=ROOT,
        code="""
os.symlink("@canary@", "link"), os.symlink("@folder@", "folder")
print(several(read("link"), read("folder/secret"), tried(os.listdir, "folder"), tried(open, "folder/open to all", "a")))
""",
        sees=GONE,
    ),
    Attack(
        name="climb_with_dots",
        action="climb out of the working folder with ..",
        wall=ROOT,
        code="""
up = "../" * 40
os.chdir(os.environ["HOME"])
print(several(read(up + "@canary@"[1:]), read(up + "etc/shadow")))
""",
        sees=GONE,
    ),
    Attack(
        name="climb_through_proc",
        action="read host files through /proc/self/root, /proc/1/root and /proc/self/cwd",
        wall=ROOT,
        code="""
places = ["/proc/self/root", "/proc/1/root", "/proc/self/cwd/../../../../../..", "/proc/@host_pid@/root", "/proc/@host_pid@/cwd"]
print(several(*(read(place + "@canary@") for place in places)))
""",
        sees={"full": "EACCES ENOENT|ENOENT", "container": "EACCES"},
    ),
    Attack(
        name="leave_by_handle",
        action="open a file by its handle (open_by_handle_at), as shocker did",
        wall="seccomp",
        code="""
handle = struct.pack("IiQ", 8, 1, 2)
print(call("name_to_handle_at", -100, b"/", ctypes.create_string_buffer(128), ctypes.create_string_buffer(8), 0),
    call("open_by_handle_at", 0, handle, 0))
""",
        sees="EPERM EPERM",
    ),
    Attack(
        name="read_kernel_memory",
        action="open /proc/kcore, /dev/mem, /dev/kmem, /dev/port, /proc/kallsyms",
        wall=ROOT,
        code='print(several(*map(read, ("/proc/kcore", "/dev/mem", "/dev/kmem", "/dev/port", "/proc/kallsyms"))))',
        sees={"full": "ENOENT", "container": "EACCES|EACCES ENOENT"},
    ),
    Attack(
        name="open_devices",
        action="open disks, loop devices, terminals, fuse, kvm, tun, kmsg, vsock",
        wall=ROOT,
        code="""
names = "sda vda nvme0n1 loop0 loop-control tty tty0 console ptmx fuse kvm net/tun kmsg vsock vhost-net uinput hpet"
print(several(*(tried(os.open, "/dev/" + name, mode) for name in names.split() for mode in (os.O_RDONLY, os.O_RDWR))))
""",
        sees={"full": "ENOENT", "container": "(EACCES|ENOENT|ENXIO| )+"},
    ),
    Attack(
        name="make_device_nodes",
        action="mknod a block device, /dev/mem and /dev/null anew",
        wall="seccomp; no capability; nodev",
        code="""
import stat
print(several(*(tried(os.mknod, "node", kind | 0o666, os.makedev(a, b)) for kind, a, b in
    ((stat.S_IFBLK, 254, 0), (stat.S_IFBLK, 8, 0), (stat.S_IFCHR, 1, 1), (stat.S_IFCHR, 1, 3), (stat.S_IFSOCK, 0, 0)))))
""",
        sees="EPERM",
    ),
    Attack(
        name="write_proc_sys",
        action="write core_pattern, modprobe, sysrq-trigger, ip_forward",
        wall=ROOT,
        code="""
names = "sys/kernel/core_pattern sys/kernel/modprobe sysrq-trigger sys/net/ipv4/ip_forward sys/kernel/hostname sys/vm/drop_caches"
print(several(*(write("/proc/" + name, b"1") for name in names.split())))
""",
        sees={"full": "ENOENT", "container": "EACCES|EACCES ENOENT"},
    ),
    Attack(
        name="read_proc_of_the_machine",
        action="read /proc/cmdline, meminfo, modules, kmsg, keys, interrupts, iomem, sched_debug, 1/environ",
        wall="own /proc (subset=pid); Landlock",
        code="""
names = "cmdline meminfo modules kmsg keys interrupts iomem version cpuinfo uptime loadavg sysvipc/shm timer_list"
print(several(*(read("/proc/" + name) for name in names.split())))
""",
        sees={"full": "ENOENT", "container": "EACCES|EACCES ENOENT"},
    ),
    Attack(
        name="look_into_sys",
        action="list /sys, read and write control groups and kernel parameters there",
        wall=ROOT,
        code="""
print(several(tried(os.listdir, "/sys"), tried(os.listdir, "/sys/fs/cgroup"), write("/sys/fs/cgroup/cgroup.procs"),
    write("/sys/fs/cgroup/memory/release_agent"), write("/sys/fs/cgroup/unified/cgroup.procs"),
    read("/sys/kernel/notes"), write("/sys/module/kernel/parameters/panic")))
""",
        sees={"full": "ENOENT", "container": "(EACCES|ENOENT|EROFS| )+"},
    ),
    Attack(
        name="read_mount_table",
        action="find the host's folders in /proc/self/mountinfo",
        wall="own root (the table names where the image lies, no more); Landlock",
        code="""
try:
    text = open("/proc/self/mountinfo").read()
    print("@folder@" in text, "@home@" in text, "/sys" in text)
except PermissionError:
    print("EACCES")
""",
        sees={"full": "False False False", "container": "EACCES"},
    ),
    Attack(
        name="lock_host_file",
        action="flock a file of the host and a file of the image's that the host itself locks (.in-use)",
        wall=ROOT,
        code="""
import fcntl, IPython
def lock(path):
    with open(path) as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
image = IPython.__file__
while not os.path.exists(image + "/.in-use") and image != "/":
    image = os.path.dirname(image)
print(tried(lock, "@canary@"), tried(lock, image + "/.in-use"))
""",
        sees={"full": "ENOENT ENOENT", "container": "EACCES (EACCES|EAGAIN)"},
    ),
    Attack(
        name="watch_host_file",
        action="inotify, fanotify and dnotify on a file and folder of the host",
        wall=ROOT + "; seccomp",
        code="""
import fcntl
fd = call("inotify_init1", 0)
watch = fd if isinstance(fd, str) else call("inotify_add_watch", fd, b"@folder@", 0xfff)
print(watch, call("fanotify_init", 0, 0), tried(lambda: fcntl.fcntl(os.open("/usr/bin", 0), fcntl.F_NOTIFY, 1)))
""",
        sees={"full": "(ENOENT|EPERM) EPERM EPERM", "container": "EPERM EPERM EPERM"},
    ),
    Attack(
        name="spy_on_host_activity",
        action="be told by inotify when the host opens a program or device that the sandbox shares with it",
        wall="seccomp",
        drive=_spy,
        sees="(EPERM|ENOSYS)\nheard nothing",
    ),
    Attack(
        name="lease_host_file",
        action="take a lease on a shared file, which stops those who open it",
        wall="seccomp",
        code='import fcntl\nprint(tried(lambda: fcntl.fcntl(os.open("/bin/sh", 0), fcntl.F_SETLEASE, fcntl.F_RDLCK)))',
        sees="EPERM",
    ),
    Attack(
        name="find_open_descriptors",
        action="list /proc/self/fd for descriptors that the zygote or the host has left open",
        wall="descriptors closed",
        code="""
fds = {fd: tried(os.readlink, f"/proc/self/fd/{fd}") for fd in sorted(os.listdir("/proc/self/fd"))}
print([fd for fd in fds if fds[fd] != "ENOENT"])
print(fds["0"], *(fds[fd].split(":")[0] for fd in "123"))
""",
        sees=r"\['0', '1', '2', '3'\]\n/dev/null pipe pipe socket",
    ),
    Attack(
        name="use_openat2",
        action="openat2, whose flags no filter sees",
        wall="seccomp",
        code='print(call("openat2", -100, b"/etc/shadow", struct.pack("QQQ", 0, 0, 0), 24))',
        sees="ENOSYS",
    ),
)
