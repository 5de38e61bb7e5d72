"""Guest code that attacks share: it is put before the code of each."""

from __future__ import annotations

import json
import platform
import re
from collections.abc import Mapping

from belljar.sandbox.syscalls import read_numbers

PRELUDE = '''
import ctypes, errno, os, signal, struct, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def call(name, *args):
    """A system call by name: its value, or the name of its error."""
    wide = [a if isinstance(a, (bytes, ctypes.Array, ctypes.Structure)) else ctypes.c_long(a) for a in args]
    wide += [ctypes.c_long(0)] * (6 - len(wide))
    number = NR.get(name)
    if number is None:
        return "EPERM"  # this machine has no such call
    value = libc.syscall(ctypes.c_long(number), *wide)
    return value if value != -1 else errno.errorcode[ctypes.get_errno()]
def tried(function, *args, **more):
    """What a function returns, or the name of its error."""
    try:
        return function(*args, **more)
    except OSError as error:
        return errno.errorcode.get(error.errno) or type(error).__name__
    except Exception as error:
        return type(error).__name__
def read(path, size=65536):
    """What a file begins with, or the name of the error."""
    def opened():
        with open(path, "rb", 0) as file:
            return file.read(size)
    return tried(opened)
def write(path, data=b"x"):
    def opened():
        with open(path, "wb", 0) as file:
            return file.write(data)
    return tried(opened)
def in_child(function):
    """Run it in a child process: the name of the signal that ended it, or its exit status."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            function()
        except BaseException:
            os._exit(99)
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
def frame(text, blob=b""):
    text = text if isinstance(text, bytes) else text.encode()
    return struct.pack(">II", len(text), len(blob)) + text + blob
def send(data):
    """Bytes on the session's own socket, as the runner sends its frames."""
    view = memoryview(data)
    while view:
        view = view[os.write(3, view):]
def several(*names):
    """Each different name once, in order: EPERM, or EACCES ENOENT."""
    return " ".join(sorted({str(name) for name in names}))
'''


def build(code: str, places: Mapping[str, object]) -> str:
    """The code of an attack, ready to run: numbers of the calls it names, the prelude, places filled in."""
    numbers = read_numbers()[platform.machine()]
    used = {name: numbers[name] for name in re.findall(r"\"(\w+)\"", code) if name in numbers}
    filled = re.sub(r"@(\w+)@", lambda match: str(places[match[1]]), code)
    return f"NR = {json.dumps(used)}\n{PRELUDE}\n{filled}"
