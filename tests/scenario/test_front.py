# SPDX-License-Identifier: Apache-2.0
"""The network side of POP3 and IMAP before a login: TLS, certificates, and those who mean harm."""
import base64
import os
import re
import signal
import socket
import ssl
import subprocess

import pytest
from harness.instance import free_port
from harness.sink import certificate
from reading import PASSWORD, Reading, make_certificate


@pytest.fixture(scope="module")
def server():
    with Reading(users=4, settings={"login_client_connection_limit": "20", "login_tls_ask_ccert": "yes",
                                    "login_tls_CAfile": "$config_directory/reading.crt"}) as mail:
        yield mail


def dial(port):
    s = socket.create_connection(("127.0.0.1", port), 60)
    return s, s.makefile("rb")


def certificate_serial(server):
    with socket.create_connection(("127.0.0.1", server.imaps_port), 60) as s:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with context.wrap_socket(s) as t:
            assert t.recv(100)
            return t.getpeercert(binary_form=True)


@pytest.mark.parametrize("port,before,switch,answer,after", [
    ("imap_port", b"", b"a STARTTLS\r\n", b"a OK", b"x CAPABILITY\r\n"),
    ("pop3_port", b"", b"STLS\r\n", b"+OK", b"CAPA\r\n")])
def test_what_came_before_tls_does_not_count(server, port, before, switch, answer, after):
    s, f = dial(getattr(server, port))
    f.readline()
    s.sendall(switch + after + b"b NOOP\r\n")  # in one packet, as somebody between would add it
    assert f.readline().startswith(answer)
    t = server.tls().wrap_socket(s, server_hostname="localhost")
    t.sendall(b"q LOGOUT\r\n" if port == "imap_port" else b"QUIT\r\n")
    got = b""
    while more := t.recv(1000):
        got += more
    if port == "imap_port":
        assert got == b"* BYE Logging out\r\nq OK Logout completed.\r\n"
    else:
        assert got == b"+OK Bye.\r\n"


def test_a_user_name_from_before_stls_is_forgotten(server):
    s, f = dial(server.pop3_port)
    f.readline()
    s.sendall(b"USER u1@read.test\r\n")
    assert f.readline().startswith(b"+OK")
    s.sendall(b"STLS\r\n")
    assert f.readline().startswith(b"+OK")
    t = server.tls().wrap_socket(s, server_hostname="localhost")
    t.sendall(b"PASS " + PASSWORD.encode() + b"\r\n")
    assert t.recv(100).startswith(b"-ERR")


@pytest.mark.parametrize("literal", [b"{4294967295}", b"{99999999999999999999}", b"{4294967295+}", b"{70000+}"])
def test_literals_before_a_login_are_limited(server, literal):
    s, f = dial(server.imap_port)
    f.readline()
    s.sendall(b"a LOGIN u1@read.test " + literal + b"\r\n")
    line = f.readline()
    assert line.startswith((b"a BAD", b"* BYE", b"")) and not line.startswith(b"+"), line


def test_slow_connections_of_a_client_leave_room(server):
    held = []
    refused = 0
    for _ in range(60):
        s, f = dial(server.imap_port)
        refused += b"LIMIT" in f.readline()
        held.append((s, f))
    assert refused > 0
    server.wait_log(r"too many connections without a login")
    for s, f in held:
        f.close()
        s.close()
    server.wait(lambda: can_log_in(server), 30, "a login after they have gone", 0.2)


def test_connections_are_counted_over_all_processes(server):
    """Services of their own are processes of their own."""
    held = [dial(port) for _ in range(12) for port in (server.imap_port, server.pop3_port)]
    assert sum(f.readline().startswith((b"* BYE [LIMIT]", b"-ERR [SYS/TEMP]")) for _, f in held) == 4
    for s, f in held:
        f.close()
        s.close()
    server.wait(lambda: can_log_in(server), 30, "a login after they have gone", 0.2)


def can_log_in(server):
    try:
        server.imap(1).logout()
        return True
    except Exception:
        return False


def test_a_trusted_certificate_logs_in_by_external(server):
    for name, trusted in (("u2@read.test", True), ("u3@read.test", False)):
        cert, key = f"{server.base}/client.crt", f"{server.base}/client.key"
        sign = ["-CA", f"{server.etc}/reading.crt", "-CAkey", f"{server.etc}/reading.key"] if trusted else []
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                        "-subj", f"/CN={name}", "-keyout", key, "-out", cert, *sign], check=True, capture_output=True)
        context = server.tls()
        context.load_cert_chain(cert, key)
        s, _ = dial(server.imaps_port)
        t = context.wrap_socket(s, server_hostname="localhost")
        f = t.makefile("rb")
        assert (b"AUTH=EXTERNAL" in f.readline()) == trusted
        t.sendall(b"a AUTHENTICATE EXTERNAL " + base64.b64encode(name.encode()) + b"\r\n")
        answer = f.readline()
        assert answer.startswith(b"a OK" if trusted else b"a NO"), answer


def test_a_renewed_certificate_is_shown_without_a_restart(server):
    before = certificate_serial(server)
    make_certificate(server.base)
    for name in ("reading.key", "reading.crt"):
        os.rename(f"{server.base}/{name}", f"{server.etc}/{name}")
    server.wait(lambda: certificate_serial(server) != before, 30, "the new certificate", 0.5)
    server.imap(1, tls=True).logout()


def common_name(port, name, starttls=None):
    args = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", *(["-servername", name] if name else ["-noservername"]), *(["-starttls", starttls] if starttls else [])]
    seen = subprocess.run(args, stdin=subprocess.DEVNULL, capture_output=True, timeout=60).stdout
    subject = re.search(rb"(?m)^subject=.*CN = (.*)$", seen)
    return subject and subject.group(1).decode()


def test_a_name_gets_its_certificate():
    with Reading(users=1) as server:
        pem = {}
        for name in ("one.test", "two.test"):
            pem[name] = base64.b64encode(b"".join(open(f, "rb").read() for f in reversed(certificate(name)))).decode()
        with open(f"{server.etc}/sni", "w") as f:
            f.write(f"one.test {pem['one.test']}\n.two.test {pem['two.test']}\nbad.test nonsense\n")
        server.settings["tls_server_sni_maps"] = f"texthash:{server.etc}/sni"
        server.write_config()
        server.reload()
        server.wait(lambda: common_name(server.imaps_port, "one.test") == "one.test", 30, "the name's certificate", 0.5)
        for port, starttls in ((server.imaps_port, None), (server.pop3s_port, None), (server.imap_port, "imap"), (server.pop3_port, "pop3")):
            assert [common_name(port, n, starttls) for n in ("One.Test", "a.two.test", "two.test", "x" * 255, "..\\", None, "bad.test")] == \
                ["one.test", "two.test", "localhost", "localhost", "localhost", "localhost", None]
        server.wait_log(r"login_tls_server_sni_maps: bad.test: make the table with postmap -F")
        for i in range(60):  # names that a client makes up
            assert common_name(server.imaps_port, f"{i}.two.test") == "two.test"
        server.imap(1, tls=True).logout()


def test_a_hand_over_that_takes_too_long_gets_one_answer_at_most():
    with Reading(users=1, settings={"login_timeout": "4s"}) as server:
        server.imap(1).logout()
        server.kill("imap-session", signal.SIGSTOP)
        try:
            s, f = dial(server.imap_port)
            f.readline()
            s.sendall(f'a LOGIN u1@read.test "{PASSWORD}"\r\n'.encode())
            server.wait_log(r"session of user u1@read.test not started: ", seconds=60)
        finally:
            server.kill("imap-session", signal.SIGCONT)
        try:
            assert f.read() == b""
        except ConnectionResetError:
            pass
        server.wait(lambda: can_log_in(server), 60, "a login afterwards", 0.5)


def serves_nobody(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as f:
            return b": u" not in f.read()
    except OSError:
        return False


def made_ahead(server):
    """Children of the spawner, which is the starter's child, that serve nobody yet."""
    found = {p.pid: p.parent for p in server.processes("imap-session")}
    spawners = [pid for pid, parent in found.items() if parent in found and found[parent] not in found]
    return [pid for pid, parent in found.items() if parent in spawners and serves_nobody(pid)]


def memory_has(pid, text):
    with open(f"/proc/{pid}/maps") as f:
        regions = [(int(a, 16), int(b, 16)) for a, b in re.findall(r"^([0-9a-f]+)-([0-9a-f]+) rw", f.read(), re.M)]
    with open(f"/proc/{pid}/mem", "rb", 0) as f:
        for start, end in regions:
            f.seek(start)
            if text in f.read(end - start):
                return True
    return False


@pytest.mark.skipif(os.geteuid() != 0, reason="reads the memory of others")
def test_processes_that_were_made_ahead_know_nobody():
    with Reading(users=2) as server:
        for user in (1, 2):
            server.imap(user).logout()
        server.wait(lambda: len(made_ahead(server)) == 2, 30, "two processes made ahead", 0.2)
        for pid in made_ahead(server):
            assert memory_has(pid, b"imap-session")
            for user in (1, 2):
                assert not memory_has(pid, f"maildir:{server.maildir(user)}".encode())


def test_processes_that_were_made_ahead_and_died_are_missed_by_nobody():
    with Reading(users=3) as server:
        server.imap(1).logout()

        def ahead():
            return made_ahead(server)
        server.wait(lambda: len(ahead()) == 2, 30, "two processes made ahead", 0.2)
        killed = ahead()
        for pid in killed:
            os.kill(pid, signal.SIGKILL)
        server.wait(lambda: len(ahead()) == 2 and not set(ahead()) & set(killed), 30, "two others", 0.2)
        server.imap(2).logout()
        server.imap(3).logout()
        server.stop()
        assert not ahead()


V2 = b"\r\n\r\n\0\r\nQUIT\n"
V2_CLIENT = V2 + b"\x21\x11\0\x0c\xc0\0\x02\x02\xc6\x33\x64\x02\x0f\xa0\0\x8f"  # 192.0.2.2 to 198.51.100.2
V1_CLIENT = b"PROXY TCP4 192.0.2.1 198.51.100.2 4000 143\r\n"


@pytest.fixture(scope="module")
def behind_proxy():
    ports = [free_port() for _ in range(3)]
    proxy = "-o login_upstream_proxy_protocol=haproxy"
    with Reading(users=1, settings={"login_upstream_proxy_timeout": "2s", "login_client_connection_limit": "10"}, services=[
            f"127.0.0.1:{ports[0]} inet n - n - - imapd {proxy}", f"127.0.0.1:{ports[1]} inet n - n - - imapd {proxy} -o login_tls_wrappermode=yes",
            f"127.0.0.1:{ports[2]} inet n - n - - pop3d {proxy}"]) as mail:
        mail.proxied_imap, mail.proxied_imaps, mail.proxied_pop3 = ports
        yield mail


@pytest.mark.parametrize("header,client", [(V1_CLIENT, "192.0.2.1"), (V2_CLIENT, "192.0.2.2")], ids=["v1", "v2"])
def test_a_proxy_says_whose_a_connection_is(behind_proxy, header, client):
    s, f = dial(behind_proxy.proxied_imap)
    s.sendall(header + b"a LOGIN u1@read.test x\r\n")  # what follows in the same packet is the client's
    assert b"LOGINDISABLED" in f.readline()  # it is not in login_plaintext_networks, as the proxy is
    assert f.readline().startswith(b"a NO")
    s.close()
    behind_proxy.wait_log(rf"connect from unknown\[{client}\]")
    s, _ = dial(behind_proxy.proxied_imaps)
    s.sendall(header)
    t = behind_proxy.tls().wrap_socket(s, server_hostname="localhost")
    f = t.makefile("rb")
    assert f.readline().startswith(b"* OK")
    t.sendall(f'a LOGIN u1@read.test "{PASSWORD}"\r\n'.encode())
    assert f.readline().startswith(b"a OK")
    behind_proxy.wait_log(rf"unknown\[{client}\]: login user=u1@read.test, method=LOGIN, TLS")


def test_a_proxys_own_connections_are_its_own(behind_proxy):
    for header in (b"PROXY UNKNOWN\r\n", V2 + b"\x20\0\0\0"):
        s, f = dial(behind_proxy.proxied_pop3)
        for byte in header:
            s.sendall(bytes([byte]))
        assert f.readline().startswith(b"+OK")
        s.sendall(f"USER u1@read.test\r\nPASS {PASSWORD}\r\n".encode())  # 127.0.0.1 may
        assert [f.readline()[:3] for _ in range(2)] == [b"+OK"] * 2
        s.close()


def test_a_network_of_ipv6_is_one_client(behind_proxy):
    def greeting(address):
        s, f = dial(behind_proxy.proxied_imap)
        s.sendall(f"PROXY TCP6 {address} ::1 4000 143\r\n".encode())
        held.append((s, f))
        return f.readline()
    held = []
    assert [b"LIMIT" in greeting(f"2001:db8:1:2:{n}::{n}") for n in range(1, 13)] == [False] * 10 + [True] * 2
    assert b"LIMIT" not in greeting("2001:db8:1:3::1")
    for s, f in held:
        f.close()
        s.close()


def test_who_is_no_proxy_is_not_served(behind_proxy):
    starts = [b"a NOOP\r\n", b"PROXY TCP4 192.0.2.1 198.51.100.2 4000\r\n", b"PROXY TCP4 192.0.2.1", V2 + b"\x21\x11\xff\xff", V2[:-1] + b"X\x21\x11", b"\x16\x03\x01\x02", b""]
    for count, start in enumerate(starts, 1):
        s, f = dial(behind_proxy.proxied_imap)
        s.sendall(start)
        try:
            assert f.read() == b""
        except ConnectionResetError:
            pass
        behind_proxy.wait_log(r"warning: haproxy read: ", count=count)


def test_a_link_to_another_users_mail_leads_nowhere(server):
    """Virtual users share a uid: what keeps them apart is what each one's process may reach."""
    if os.geteuid():
        pytest.skip("needs Landlock in a process that began as root")
    server.put(3, b"Subject: secret of u3\r\n\r\nx\r\n")
    c = server.imap(4)  # whose mailbox is made now
    assert c.select("INBOX")[0] == "OK"
    os.symlink(server.maildir(3), f"{server.maildir(4)}/.theirs")
    assert c.select("theirs")[0] == "NO"
    c.logout()
