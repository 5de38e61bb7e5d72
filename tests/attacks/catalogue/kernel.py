"""Interfaces of the kernel that no guest needs: each is called with arguments that would do no harm if let through."""
# ruff: noqa: E501 -- guest code stands as it is run, a case a line

from __future__ import annotations

from attacks.model import Attack

# Name of the attack -> what it does, calls as Python, and what they answer.
CALLS: dict[str, tuple[str, str, str]] = {
    "use_keyrings": (
        "add_key, request_key, keyctl: keyrings are in no namespace",
        'call("add_key", b"user", b"x", b"x", 1, -3), call("request_key", b"user", b"x", 0, -3), call("keyctl", 0, -3, 0)',
        "EPERM",
    ),
    "load_bpf": (
        "bpf: make a map, load a program",
        'call("bpf", 0, bytes(72), 72), call("bpf", 5, bytes(72), 72)',
        "EPERM",
    ),
    "use_io_uring": (
        "io_uring, which does calls that no filter sees",
        'call("io_uring_setup", 1, bytes(120)), call("io_uring_enter", 3, 0, 0, 0, 0, 0), call("io_uring_register", 3, 0, 0, 0)',
        "EPERM",
    ),
    "use_linux_aio": ("io_setup, io_submit", 'call("io_setup", 1, bytes(8)), call("io_submit", 0, 0, 0)', "EPERM"),
    "use_userfaultfd": (
        "userfaultfd, also for the own faults only",
        'call("userfaultfd", 0), call("userfaultfd", 1)',
        "EPERM",
    ),
    "measure_by_perf": (
        "perf_event_open on the own process and on all",
        'call("perf_event_open", bytes(128), 0, -1, -1, 0), call("perf_event_open", bytes(128), -1, 0, -1, 0)',
        "EPERM",
    ),
    "load_kernel_modules": (
        "init_module, finit_module, delete_module",
        'call("init_module", b"", 0, b""), call("finit_module", 0, b"", 0), call("delete_module", b"no_such", 0)',
        "EPERM",
    ),
    "replace_kernel": (
        "kexec_load, kexec_file_load, reboot",
        'call("kexec_load", 0, 0, 0, 0), call("kexec_file_load", 0, 0, 0, 0, 0), call("reboot", 0xfee1dead, 672274793, 0, 0)',
        "EPERM",
    ),
    "set_the_clock": (
        "settimeofday, clock_settime, adjtimex, clock_adjtime",
        'call("settimeofday", 0, 0), call("clock_settime", 0, bytes(16)), call("adjtimex", bytes(208)), '
        'call("clock_adjtime", 0, bytes(208))',
        "EPERM",
    ),
    "rename_host": (
        "sethostname, setdomainname",
        'call("sethostname", b"attacked", 8), call("setdomainname", b"attacked", 8)',
        "EPERM",
    ),
    "administer_swap_and_quota": (
        "swapon, swapoff, quotactl, acct, vhangup",
        'call("swapon", b"/no", 0), call("swapoff", b"/no"), call("quotactl", 0, 0, 0, 0), call("acct", 0), call("vhangup")',
        "EPERM",
    ),
    "read_kernel_log": (
        "syslog: read the kernel's log, its size",
        'call("syslog", 3, bytes(64), 64), call("syslog", 10, 0, 0)',
        "EPERM",
    ),
    "touch_machine_ports": (
        "iopl, ioperm, modify_ldt",
        'call("iopl", 3), call("ioperm", 0x80, 1, 1), call("modify_ldt", 0, bytes(64), 64)',
        "EPERM",
    ),
    "change_personality": (
        "personality: no address randomisation, another page layout, other kernels",
        'call("personality", 0x0040000), call("personality", 0x0100000), call("personality", 8)',
        "EPERM",
    ),
    "place_memory": (
        "mbind, set_mempolicy, move_pages, migrate_pages, remap_file_pages",
        'call("mbind", 0, 0, 0, 0, 0, 0), call("set_mempolicy", 0, 0, 0), call("move_pages", 0, 0, 0, 0, 0, 0), '
        'call("migrate_pages", 0, 0, 0, 0), call("remap_file_pages", 0, 0, 0, 0, 0)',
        "EPERM",
    ),
    "see_page_cache": (
        "mincore, cachestat, vmsplice: what others have read",
        'call("mincore", 0, 4096, bytes(8)), call("cachestat", 0, bytes(16), bytes(40), 0), call("vmsplice", 1, 0, 0, 0)',
        "EPERM",
    ),
    "merge_and_evict_pages": (
        "madvise: merge pages with other processes', evict, poison",
        "tried(block.madvise, 12), tried(block.madvise, 21), tried(block.madvise, 100)",
        "EINVAL",
    ),
    "change_inode_flags": (
        "immutable and project flags of a file, by ioctl and by the new calls",
        "tried(fcntl.ioctl, own, 0x40086602, bytes(8)), tried(fcntl.ioctl, own, 0x401c5820, bytes(28)), "
        'call("file_setattr", -100, b"own", bytes(32), 32, 0)',
        "EPERM|ENOTTY EPERM|ENOTTY",
    ),
    "use_dead_calls": (
        "calls that are hardly used: uselib, ustat, sysfs, nfsservctl, lookup_dcookie",
        'call("uselib", b"x"), call("ustat", 0, bytes(32)), call("sysfs", 3, 0, 0), call("nfsservctl", 0, 0, 0), '
        'call("lookup_dcookie", 0, 0, 0)',
        "EPERM",
    ),
    "use_system_v_ipc": (
        "shared memory, semaphores and message queues of System V",
        'call("shmget", 0x42, 4096, 0o1666), call("shmat", 0, 0, 0), call("semget", 0x42, 1, 0o1666), call("msgget", 0x42, 0o1666)',
        "EPERM",
    ),
    "use_message_queues": (
        "POSIX message queues",
        'call("mq_open", b"x", 0o102, 0o666, 0), call("mq_unlink", b"x")',
        "EPERM",
    ),
    "call_unknown_numbers": (
        "call numbers that no kernel has yet",
        "*(('ENOSYS' if libc.syscall(number, 0, 0, 0) == -1 and ctypes.get_errno() == 38 else number) for number in (600, 1000, 0xffff))",
        "ENOSYS",
    ),
}

MACHINE_CODE = """
import mmap
def run(code):
    page = mmap.mmap(-1, 4096, prot=7)
    page.write(code)
    ctypes.CFUNCTYPE(ctypes.c_long)(ctypes.addressof(ctypes.c_char.from_buffer(page)))()
print(in_child(lambda: run(bytes.fromhex("@@"))))
"""

ATTACKS = (
    *(
        Attack(
            name=name,
            action=action,
            wall="seccomp",
            code=f"import fcntl, mmap\nblock, own = mmap.mmap(-1, 4096), open('own', 'w')\nprint(several({calls}))",
            sees=sees,
        )
        for name, (action, calls, sees) in CALLS.items()
    ),
    Attack(
        name="call_as_32_bit",
        action="int 0x80: system calls of another architecture, which have other numbers",
        wall="seccomp",
        code=MACHINE_CODE.replace("@@", "b814000000cd80c3"),  # mov eax, 20 (getpid); int 0x80; ret
        sees="SIGSYS|SIGSEGV",
        machine="x86_64",
    ),
    Attack(
        name="call_as_x32",
        action="system calls with the bit of x32",
        wall="seccomp",
        code=MACHINE_CODE.replace("@@", "b8270000400f05c3"),  # mov eax, 0x40000027 (getpid); syscall; ret
        sees="SIGSYS",
        machine="x86_64",
    ),
)
