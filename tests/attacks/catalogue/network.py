"""The network and sockets: nothing leads out, and that is known at once."""
# ruff: noqa: E501 -- guest code stands as it is run, a case a line

from __future__ import annotations

from attacks.model import Attack

NET = "network namespace; seccomp"
AT_ONCE = """
import socket
started = time.monotonic()
def show(*seen):
    print(*seen, end=" ")
def connect(family, kind, address):
    with socket.socket(family, kind) as sock:
        sock.settimeout(5)
        sock.connect(address)
        return "connected"
"""
DONE = '\nprint("at once" if time.monotonic() - started < 1 else time.monotonic() - started)'
SEES = {"full": "ENETUNREACH at once", "container": "EPERM at once"}


def _out(name: str, action: str, body: str, sees: dict[str, str] | str = SEES) -> Attack:
    return Attack(name=name, action=action, wall=NET, code=AT_ONCE + body + DONE, sees=sees)


ATTACKS = (
    _out(
        "connect_outside_tcp",
        "connect to addresses of the internet by TCP, IPv4 and IPv6",
        "show(several(*(tried(connect, f, socket.SOCK_STREAM, (a, 443)) for f, a in"
        " ((socket.AF_INET, '1.1.1.1'), (socket.AF_INET, '192.168.0.1'), (socket.AF_INET6, '2606:4700::1111')))))",
    ),
    _out(
        "send_outside_udp",
        "send a datagram to the internet and to the local network's broadcast",
        "show(several(*(tried(connect, socket.AF_INET, socket.SOCK_DGRAM, (a, 53)) for a in ('8.8.8.8', '10.0.0.1'))))",
    ),
    _out(
        "look_up_names",
        "DNS: look up a name on the internet",
        "show(several(tried(socket.getaddrinfo, 'example.com', 80), tried(socket.gethostbyname, 'example.org')))",
        "(gaierror|EPERM|OSError| )+ at once",
    ),
    _out(
        "fetch_over_http",
        "fetch a page with urllib",
        "import urllib.request\nshow(tried(urllib.request.urlopen, 'http://1.1.1.1', timeout=5))",
        "URLError at once",
    ),
    _out(
        "ask_cloud_metadata",
        "connect to the metadata service of clouds, 169.254.169.254",
        "show(tried(connect, socket.AF_INET, socket.SOCK_STREAM, ('169.254.169.254', 80)))",
    ),
    _out(
        "connect_host_loopback",
        "connect to a service of the host's on 127.0.0.1, TCP and UDP",
        "show(several(tried(connect, socket.AF_INET, socket.SOCK_STREAM, ('127.0.0.1', @port@))))\n"
        "tried(lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', @udp@)))",
        {"full": "ECONNREFUSED at once", "container": "EPERM at once"},
    ),
    Attack(
        name="ping_outside",
        action="ICMP: raw and ping sockets",
        wall=NET,
        code="""
import socket
kinds = ((socket.SOCK_RAW, socket.IPPROTO_ICMP), (socket.SOCK_DGRAM, socket.IPPROTO_ICMP), (socket.SOCK_RAW, socket.IPPROTO_RAW))
print(several(*(tried(socket.socket, socket.AF_INET, *kind) for kind in kinds)))
""",
        sees="EPERM",
    ),
    Attack(
        name="open_odd_sockets",
        action="packet, netlink, AF_ALG, vsock, Bluetooth, CAN, TIPC, XDP, RDS, key and MCTP sockets",
        wall="seccomp",
        code="""
import socket
families = dict(packet=17, netlink=16, alg=38, vsock=40, bluetooth=31, can=29, tipc=30, xdp=44, rds=21, key=15, mctp=45, ax25=3,
    appletalk=5, x25=9, nfc=39, kcm=41, smc=43, qipcrtr=42, phonet=35, ieee802154=36)
print(several(*(tried(socket.socket, family, kind) for family in families.values() for kind in (1, 2, 3, 5))))
""",
        sees="EPERM",
    ),
    Attack(
        name="configure_interfaces",
        action="set addresses, flags and routes of interfaces, make one",
        wall="seccomp; no capability",
        code="""
import fcntl, socket
fd = tried(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
fd = 3 if isinstance(fd, str) else fd
requests = (0x8914, 0x8916, 0x8922, 0x890b, 0x8924, 0x89a0, 0x400454ca)
print(several(*(tried(fcntl.ioctl, fd, request, struct.pack("16sh22x", b"lo", 0)) for request in requests)))
""",
        sees="ENOTTY",
    ),
    Attack(
        name="attach_socket_programs",
        action="socket options that attach filters and protocols, or reach a peer's process",
        wall="seccomp",
        code="""
import socket
ours, theirs = socket.socketpair()
options = ((1, 26), (1, 50), (1, 51), (1, 52), (6, 31), (0, 64), (1, 77), (1, 56), (1, 36), (1, 8192))
print(several(*(tried(ours.setsockopt, level, option, 1) for level, option in options),
    *(tried(ours.getsockopt, 1, option) for option in (77, 31, 59, 26))))
""",
        sees="ENOPROTOOPT",
    ),
    Attack(
        name="connect_abstract_socket",
        action="connect to an abstract Unix socket of the host's",
        wall="network namespace; Landlock (scope); seccomp",
        code="""
import socket
print(several(*(tried(lambda: socket.socket(socket.AF_UNIX, kind).connect("\\0@abstract@")) for kind in (1, 2, 5))))
""",
        sees={"full": "ECONNREFUSED", "container": "EPERM"},
    ),
    Attack(
        name="connect_named_socket",
        action="connect to a Unix socket of the host's that is open to all; send to it from a socket pair",
        wall="own root; seccomp",
        code="""
import socket
ours, theirs = socket.socketpair()
print(several(tried(lambda: socket.socket(socket.AF_UNIX).connect("@listener@")), tried(lambda: ours.connect("@listener@"))),
    tried(lambda: ours.sendto(b"x", "@listener@")), tried(lambda: ours.sendmsg([b"x"], [], 0, "/run/docker.sock")))
""",
        sees={"full": "(ENOENT|EISCONN| )+ EISCONN EISCONN", "container": "EPERM EISCONN EISCONN"},
    ),
    Attack(
        name="connect_session_socket_elsewhere",
        action="connect, bind and listen on the session's own socket (descriptor 3)",
        wall="the kernel: it is connected; seccomp",
        code="""
import socket
own = socket.socket(fileno=os.dup(3))
print(several(tried(own.connect, "/run/docker.sock"), tried(own.bind, "/tmp/x"), tried(own.listen), tried(own.sendto, b"", "/x")))
""",
        sees={"full": "(EISCONN|EINVAL|ENOENT|None| )+", "container": "EISCONN EPERM"},
    ),
    Attack(
        name="see_host_connections",
        action="find listeners and Unix sockets of the host in /proc/self/net",
        wall="network namespace",
        code="""
text = b"".join(data for name in ("tcp", "udp", "unix") if isinstance(data := read("/proc/self/net/" + name, 1 << 22), bytes))
print(b":%04X" % @port@ in text, b":%04X" % @udp@ in text, b"@abstract@" in text, b"@listener@" in text)
""",
        sees="False False False False",
    ),
    Attack(
        name="use_own_loopback",
        action="a server and a client on the own loopback: works, without reaching another's",
        wall="network namespace",
        profiles=("full", "gvisor"),
        code="""
import socket
server = socket.create_server(("127.0.0.1", @port@))
client = socket.create_connection(("127.0.0.1", @port@), timeout=2)
client.sendall(b"inside")
print(server.accept()[0].recv(9))
""",
        sees="b'inside'",
    ),
    Attack(
        name="serve_outside",
        action="listen on every address, for others to connect",
        wall="network namespace; seccomp",
        code="""
import socket
print(tried(lambda: socket.create_server(("0.0.0.0", 18231)).getsockname()))
""",
        sees={"full": r"\('0.0.0.0', 18231\)", "container": "EPERM"},
    ),
)
