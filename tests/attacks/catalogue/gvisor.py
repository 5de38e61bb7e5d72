"""What is seen in the gVisor profile where it is not what the full profile shows: another kernel answers there.

That kernel's devices, /proc and /sys are its own; what is changed there is seen by the guests of one gVisor sandbox at
most, never by the host. The host's canaries are looked at all the same.
"""

from __future__ import annotations

SEES = {
    "list_host_root": "(belljar|bin|dev|etc|home|image|lib|lib32|lib64|libx32|mnt|nix|proc|python|sbin|sys|tmp|usr| )+",
    "change_mode_owner_times": "ENOENT ENOENT (EINVAL|ENOENT) ENOENT ENOENT",
    "write_proc_sys": "EACCES|ENOENT|EACCES ENOENT",
    "read_proc_of_the_machine": ".*gvisor.*",
    "look_into_sys": r"(ENOENT|EACCES|EROFS|\[\]| )+",
    "find_open_descriptors": r"\['0', '1', '2', '3'\]\n/dev/null host host host",
    "kill_by_other_calls": "(ENOSYS|ESRCH|EINVAL| )+",
    "schedule_host_process": "(EINVAL|EPERM|ESRCH| )+",
    "outlive_session_as_daemon": "running False, left 0",
    "run_set_id_programs": r"(True|False) \[\] True",
    "raise_priority": "(-5|EINVAL|ENOSYS|EPERM|EACCES| )+",
    "lower_oom_score": r"(1|5|EACCES|EPERM| )+ b'.*'",
    "find_capabilities": "0 0 0 0 EPERM EPERM",
    "call_as_32_bit": "SIGSYS|SIGSEGV|0",
    "connect_outside_tcp": "(ENETUNREACH|EHOSTUNREACH| )+ at once",
    "send_outside_udp": "(ENETUNREACH|EHOSTUNREACH| )+ at once",
    "ask_cloud_metadata": "(ENETUNREACH|EHOSTUNREACH| )+ at once",
    "connect_abstract_socket": "(EINVAL|ECONNREFUSED| )+",
    "connect_to_neighbour": "(EINVAL|ECONNREFUSED| )+",
    "run_on_as_another_program": "(killed|exited|timeout), alive False, runs on False",
    "send_descriptors_to_host": "True|False",
    "exhaust_descriptors_in_flight": "(full)?, ok",
    "spy_on_host_activity": r"(\[1, 2\]|EPERM|ENOSYS)\nheard nothing",
    "crash_into_host_core_handler": r"\(0, 0\)|\(1, 1\)",
    "touch_host_device": "(True|False) (True|False) (True|False)",
}
