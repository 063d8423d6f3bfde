# SPDX-License-Identifier: Apache-2.0
"""Published attacks on mail servers, T08 to T13, T31 to T34 and section 3 of RELIABILITY, where no other test has them. The rest:
T09 test_smtp_client_session and test_report (unit), T13 test_postmap too, T32 and most of T08, T31, T33 local_cases and test_pipe, T33's races test_local, the
set-group-id tools test_setgid. Of section 3: a list that includes itself local_cases, signals at postdrop test_submission, postlogd test_master, postmap by root
test_postmap, record lengths test_queue_file (unit) and fuzz_queue_file, stale reply codes test_smtp_client_session. Not built: postscreen, verify, milters, DANE (T34's TLSA)."""
import glob
import os
import pwd
import random
import re
import shutil
import socket
import socketserver
import ssl
import stat
import struct
import tempfile
import threading

import pytest
from test_submission import GOOD, login, plant, poke, record, sendmail

from harness import Client, Dns, inject, send
from harness import dns as names
from harness.instance import free_port
from harness.sink import certificate

HEAD = b"From: a@src.test\r\nSubject: x\r\n\r\n"


def queued(mail):
    """The envelope and content of the one message in the queue."""
    (_, _, message), = mail.wait(lambda: mail.queue_messages("deferred"), 20, "it is deferred")
    assert not isinstance(message, Exception), message
    return message


def test_addresses_with_commands_in_them_are_addresses(make_mail, sink):
    """T08, T13: what looks like a command or a macro reaches the next host letter by letter, and no shell on the way."""
    mail = make_mail(relay=sink, settings={"mydestination": "local.test", "alias_maps": "inline:{none=none}", "local_recipient_maps": "",
                                           "luser_relay": "$local@far.test", "recipient_delimiter": "+"})
    mark = f"{mail.base}/touched"
    odd = [f"${{run{{/bin/touch {mark}}}}}", f"$(touch {mark})", f"`touch {mark}`", f";touch {mark};", "$mail_owner", "${sender}", "$$", "%n%n%s", "a|b", "x'y"]
    with Client(mail.port) as client:
        client.ehlo()
        for sender in (f'";touch {mark};"@src.test', f'"`touch {mark}`"@src.test', '"|id"@src.test', ";sleep@src.test"):
            assert client.send(sender, [f'"{name}"@far.test' for name in odd], HEAD).code == 250
        assert client.cmd('MAIL FROM:<;sleep 66;>').code == 501
        assert client.send("a@src.test", ['"$user$mail_owner"@local.test'], HEAD).code == 250
    messages = sink.wait_count(5)
    wanted = {name for name in odd}
    assert [m.recipients for m in messages if m.sender == "a@src.test"] == [["_user_mail_owner@far.test"]]  # what luser_relay makes of it
    for message in (m for m in messages if m.sender != "a@src.test"):
        assert {re.sub(r'\\(.)', r'\1', r.rpartition("@")[0].strip('"')) for r in message.recipients} == wanted
    # a recipient's own words are expanded into luser_relay once, and not again
    mail.wait_log(r'orig_to=<"?\$user\$mail_owner"?@local\.test>.*status=sent|to=<"?\$user\$mail_owner"?@far\.test>.*status=sent')
    assert not os.path.exists(mark) and not mail.complaints()


def test_line_ends_in_the_envelope_make_no_records(make_mail):
    """T10: parameters, full names and senders with line ends; the queue file says what was meant, or there is none."""
    mail = make_mail(settings={"relayhost": "[127.0.0.1]:1"})
    with Client(mail.port) as client:
        client.ehlo()
        for line in ("MAIL FROM:<a@src.test> AUTH=x+0Ay", "MAIL FROM:<a@src.test> ENVID=x+0AR+00", "MAIL FROM:<a@src.test> ENVID=x+00",
                     'MAIL FROM:<"a\rb"@src.test>', "MAIL FROM:<a@src.test> ENVID=x+0D", "MAIL FROM:<> =\"", "MAIL FROM:<a@src.test> SIZE=99999999999999999999",
                     "MAIL FROM:<a@src.test> SIZE=-1", "MAIL FROM:<a@src.test> SIZE=0x10"):
            assert client.cmd(line).code >= 500, line
        assert client.cmd("MAIL FROM:<a@src.test> ENVID=good+2Bid").code == 250
        for line in ("RCPT TO:<b@far.test> ORCPT=rfc822;a+0Ab", "RCPT TO:<b@far.test> ORCPT=rfc822;a+00", "RCPT TO:<b@far.test> ORCPT=rf\tc822;a", "RCPT TO:<b@far.test>\0x"):
            assert client.cmd(line).code >= 500, line
        assert client.cmd("RCPT TO:<b@far.test> ORCPT=rfc822;q+2Br@far.test").code == 250
        assert client.cmd("DATA").code == 354
        client.raw(HEAD + b"x\r\n.\r\n")
        assert client.read_reply().code == 250
    message = queued(mail)
    assert message["envelope"]["sender"] == "a@src.test" and [r["address"] for r in message["envelope"]["recipients"]] == ["b@far.test"]
    mail.command("postsuper", "-d", "ALL")
    for args in (["-F", "Joe\nBcc: evil@far.test\n\nx", "b@far.test"], ["-f", "a@src.test\nR\x07evil@far.test", "b@far.test"], ["-f", "a@src.test", "b@far.test\nevil@far.test"],
                 ["-V", "x\nNevil", "b@far.test"]):
        status, text = sendmail(mail, *args, stdin=b"Subject: y\n\ny\n", check=False)
        if status:
            assert "Traceback" not in text and status in (64, 65, 67), (args, status, text)
            continue
        message = queued(mail)
        content = message["content"]
        # one header line says who it is, and nobody else became a recipient or a header
        assert not re.search(rb"(?m)^(Bcc:|evil)", content), content
        assert not [r for r in message["envelope"]["recipients"] if r["address"] == "evil@far.test" and args[1] != "a@src.test"]
        assert re.search(rb"(?m)^Subject: y$", content.replace(b"\r", b""))
        mail.command("postsuper", "-d", "ALL")
    assert not mail.complaints()


def test_enormous_envelopes_and_headers_are_bounded(make_mail, sink):
    """T11: 50,000 recipients in a session, a header of 60,000 continuation lines."""
    mail = make_mail(relay=sink, settings={"smtpd_hard_error_limit": "60000", "smtpd_soft_error_limit": "60000"})
    with Client(mail.port, timeout=60) as client:
        client.ehlo()
        client.cmd("MAIL FROM:<a@src.test>")
        codes = {}
        for block in range(50):
            client.raw(b"".join(b"RCPT TO:<r%d@far.test>\r\n" % n for n in range(block * 1000, block * 1000 + 1000)))
            for _ in range(1000):
                code = client.read_reply().code
                codes[code] = codes.get(code, 0) + 1
        assert codes == {250: 1000, 452: 49000}, codes
        assert client.cmd("RSET").code == 250
        assert client.send("a@src.test", ["b@far.test"], b"Subject: x\r\n" + b" y\r\n" * 60_000 + b"\r\nbody\r\n").code == 250
        assert client.send("a@src.test", ["c@far.test"], b"To: " + b"(" * 20_000 + b"\r\nFrom: " + b"<" * 20_000 + b"\r\nCc: " + b"a@b," * 20_000 + b"\r\n\r\nbody\r\n").code == 250
    sink.wait_count(2, 40)
    assert sink.messages[0].content.endswith(b"\r\nbody\r\n") and not mail.complaints()


def test_links_in_directories_that_root_writes_to(make_mail):
    """T12: mail_owner has put links to root's files where daemons and commands make theirs: none is followed."""
    if os.geteuid():
        pytest.skip("needs root's files")
    mail = make_mail(start=False)
    mail.start()
    mail.stop()
    owner = pwd.getpwnam(mail.user)
    tried = 0
    for number, (directory, name) in enumerate([(mail.data, "master.lock"), (mail.data, "prng_exch"), (f"{mail.spool}/private", "smtp"), (f"{mail.spool}/public", "pickup"),
                                                (f"{mail.spool}/journal", "ids"), (mail.spool, "defer/0"), (f"{mail.spool}/private", "new-entry")]):
        victim = f"{mail.base}/victim{number}"
        with open(victim, "w") as f:
            f.write("root's\n")
        os.chmod(victim, 0o600)
        path = f"{directory}/{name}"
        if not os.path.isdir(os.path.dirname(path)) or os.stat(os.path.dirname(path)).st_uid != owner.pw_uid:
            continue  # only what mail_owner may do by himself
        for link in (os.symlink, os.link):
            if os.path.isdir(path) and not os.path.islink(path):
                os.rmdir(path)
            elif os.path.lexists(path):
                os.unlink(path)
            link(victim, path)
            os.chown(path, owner.pw_uid, owner.pw_gid, follow_symlinks=False) if link is os.symlink else None
            mail.command("postfix", "check", check=False)
            mail.command("postfix", "start", check=False)
            mail._read_master()
            if mail.running():
                mail.stop()
            st = os.stat(victim)
            with open(victim) as f:
                assert f.read() == "root's\n", (path, link.__name__)
            assert (st.st_uid, stat.S_IMODE(st.st_mode)) == (0, 0o600), (path, link.__name__, oct(st.st_mode), st.st_uid)
            tried += 1
        if os.path.lexists(path):
            os.unlink(path)
    assert tried >= 6
    mail.start()


def test_an_empty_value_moves_no_argument(make_mail):
    """Section 3: pipe with an empty $extension and $user: each argument stays in its place."""
    mail = make_mail(start=False)
    out = f"{mail.base}/out"
    script = f"{mail.base}/show"
    with open(script, "w") as f:
        f.write(f"#!/bin/sh\nfor a; do echo \"[$a]\"; done >>{out}/args\necho . >>{out}/args\n")
    os.chmod(script, 0o755)
    os.mkdir(out)
    os.chmod(out, 0o777)
    who = login() if os.geteuid() else "nobody"
    mail.settings.update({"default_transport": "show", "recipient_delimiter": "+", "show_destination_recipient_limit": "1"})
    mail.services = [f"show unix - n n - 1 pipe user={who} argv={script} $user $extension $sender -- $domain end"]
    mail.write_config()
    mail.start()
    for to in ("b@far.test", "+x@far.test", "b+@far.test"):
        assert send("", [to], HEAD, port=mail.port).code == 250
    mail.wait_log(r"relay=show,.*status=sent", count=3)
    with open(f"{out}/args") as f:
        for run in f.read().split(".\n")[:3]:
            words = re.findall(r"^\[(.*)\]$", run, re.M)
            assert len(words) == 6 and words[3] == "--" and words[4:] == ["far.test", "end"], words


def test_a_long_from_line_escapes_no_limit(make_mail, sink):
    """Section 3: a From_ line before the header, of 1 MB, by sendmail and SMTP: counted, and no daemon falls over."""
    mail = make_mail(relay=sink, settings={"message_size_limit": "100000"})
    for lead in (b"From ", b"From x@y Mon Jan  1 00:00:00 2024 ", b">From ", b"From" + b" " * 5000):
        status, text = sendmail(mail, "-f", "a@src.test", "b@far.test", stdin=lead + b"x" * 1_000_000 + b"\nSubject: y\n\ny\n", check=False)
        assert status == 69 and "too big" in text, (lead, status, text)
        assert send("a@src.test", ["b@far.test"], lead + b"x" * 1_000_000 + b"\r\nSubject: y\r\n\r\ny\r\n", port=mail.port).code == 552
    assert send("a@src.test", ["b@far.test"], b"From " + b"x" * 50_000 + b"\r\nSubject: y\r\n\r\ny\r\n", port=mail.port).code == 250
    sink.wait_count(1)
    assert len(sink.messages) == 1 and not mail.complaints()


def test_crafted_files_can_be_looked_at(make_mail):
    """Section 3: mailq reads what users put into maildrop/ before anybody checked it, and broken files of other queues."""
    mail = make_mail(settings={"relayhost": "[127.0.0.1]:1"}, services=["pickup unix n - n 0 1 pickup"])
    dice = random.Random(1)
    assert send("a@src.test", ["b@far.test"], HEAD + b"x\r\n", port=mail.port).code == 250
    mail.wait(lambda: mail.queue_files("deferred")["deferred"], 20, "it is deferred")
    with open(mail.queue_files("deferred")["deferred"][0], "rb") as f:
        real = f.read()
    kinds = [GOOD, real, record("S", b"x" * 60000) + GOOD, record("p", b"%15d" % 3) + GOOD, b"C" + b"\xff" * 20, GOOD[:9], record("R", b"") * 3000,
             record("T", b"99999999999999999999 1") + GOOD, record("S", b"a\n\x1b[2Jb") + record("R", b"\xff\0") + record("M", b""), b""]
    for n in range(120):
        data = bytearray(kinds[n % len(kinds)])
        for _ in range(n // len(kinds)):
            if data:
                data[dice.randrange(min(len(data), 300))] = dice.choice((0, 1, 0x7f, 0x80, 0xff, dice.randrange(256)))
        if n % 2:
            plant(mail, f"{0xABCDE0000 + n:X}", bytes(data), 0o744)
        else:
            path = f"{mail.spool}/{dice.choice(('hold', 'deferred/A', 'incoming'))}"
            os.makedirs(path, exist_ok=True)
            path += f"/{0xABCDE0000 + n:X}"
            with open(path, "wb") as f:
                f.write(bytes(data))
            os.chmod(path, 0o700)
            os.chown(path, mail.uid if not os.geteuid() else -1, -1)
    for args in (["-p"], ["-j"], ["-p"]):
        done = mail.command("postqueue", *args)
        assert "b@far.test" in done.stdout and "\x1b" not in done.stdout and done.returncode == 0
    for path in [p for paths in mail.queue_files().values() for p in paths][:40]:
        done = mail.command("postcat", path, check=False)
        assert done.returncode in (0, 1, 65, 69), (path, done.returncode, done.stdout)
    poke(mail)
    mail.flush()
    assert send("a@src.test", ["after@far.test"], HEAD + b"x\r\n", port=mail.port).code == 250
    mail.wait_log(r"to=<after@far\.test>.*status=deferred")
    assert not mail.complaints()


def test_odd_queue_ids_touch_nothing(make_mail):
    """Section 3 and 4: short, long and path-like ids for postsuper, postcat, postqueue."""
    mail = make_mail(settings={"relayhost": "[127.0.0.1]:1"})
    assert send("a@src.test", ["b@far.test"], HEAD + b"x\r\n", port=mail.port).code == 250
    mail.wait(lambda: mail.queue_files("deferred")["deferred"], 20, "it is deferred")
    outside = f"{mail.base}/ABCDEF1"
    with open(outside, "w") as f:
        f.write("x")
    for ident in ("", "A", "0", ".", "..", "../../ABCDEF1", "/etc/passwd", outside, "A" * 5000, "ABCDEF\n1", "-d", "*", "deferred/A", "\xff\xfe", "ALLL", "all"):
        for command, option in (("postsuper", "-d"), ("postsuper", "-h"), ("postsuper", "-r"), ("postqueue", "-i"), ("postcat", "-q")):
            done = mail.command(command, option, ident, check=False)
            assert done.returncode not in (134, 135, 136, 139, -6, -7, -8, -11), (command, ident, done.stdout)
    assert os.path.exists(outside) and len(mail.queue_files("deferred")["deferred"]) == 1 and not mail.queue_files("hold")["hold"]
    assert not mail.complaints()


class Hostile(socketserver.StreamRequestHandler):
    def handle(self):
        while True:
            lines = []
            while (line := self.rfile.readline()) not in (b"\n", b""):
                lines.append(line)
            if not lines:
                return
            self.server.asked += 1
            try:
                self.wfile.write(self.server.answer)
            except OSError:
                return
            if self.server.hang_up:
                return


@pytest.fixture
def hostile():
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Hostile)
    server.daemon_threads, server.asked, server.answer, server.hang_up = True, 0, b"", True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def test_hostile_policy_answers_permit_nothing(make_mail, sink, hostile):
    """T34: what is no answer defers; a bare code is no permission; no line of the answer gets into the reply as one of its own."""
    mail = make_mail(start=False, relay=sink, settings={
        "smtpd_policy_service_try_limit": "1", "smtpd_policy_service_retry_delay": "1s", "smtpd_policy_service_timeout": "3s", "smtpd_hard_error_limit": "1000",
        "smtpd_recipient_restrictions": f"check_policy_service inet:127.0.0.1:{hostile.server_address[1]}, permit"})
    mail.start()
    for answer in (b"", b"\n", b"\n\n", b"action\n\n", b"action=\n", b"act", b"=\n\n", b"action=5.7.2\n\n", b"action=5.7.2", b"action=PREPEND\n\n", b"action=nonsense x\n\n",
                   b"action=\0DUNNO\n\n", b"result=DUNNO\n\n", b"action=550 5.7.1\n\n", b"action=REJECT \r\n250 ok\n\n",
                   b"action=REJECT " + b"x" * 100_000 + b"\n\n", b"x" * 1_000_000, b"\xff" * 100 + b"\n\n", b"action=999 x\n\n", b"action=250 fine\n\n"):
        hostile.answer = answer
        with Client(mail.port, timeout=30) as client:
            client.ehlo()
            client.cmd("MAIL FROM:<a@src.test>")
            reply = client.cmd("RCPT TO:<b@far.test>")
            if answer in (b"action=250 fine\n\n", b"\n", b"\n\n"):
                assert reply.code // 100 in (2, 4, 5)
            else:
                assert reply.code // 100 in (4, 5), (answer[:60], reply.lines)
            assert all(len(line) < 2048 for line in reply.lines)
            assert client.cmd("NOOP").code == 250  # one reply, and no other behind it
    assert not mail.complaints()


class OddDns(Dns):
    """MX, A and TXT records whose data is any bytes."""
    data = b""

    def _record(self, owner, record):
        if record[0] not in ("MX", "A", "AAAA"):
            return super()._record(owner, record)
        return names.encode_name(owner) + struct.pack("!HHIH", names.TYPES[record[0]], 1, 0, len(self.data)) + self.data


def test_malformed_records_of_every_length_defer(make_mail):
    """T34: MX and address records with 0 to 32 bytes of data: no crash, no delivery to a wrong place, nothing bounced for good but by a
    record that says so."""
    zone = {f"n{n}.test": [("MX", 10, "x"), ("A", "x")] for n in range(33)}
    dns = OddDns(zone, ttl=0).start()
    try:
        mail = make_mail(dns=dns, settings={"smtp_tcp_port": "1", "smtp_connect_timeout": "1s", "inet_protocols": "all"})
        for n in range(33):
            dns.data = bytes(random.Random(n).choices((0, 1, 63, 64, 192, 193, 255, 12), k=n))
            assert send("a@src.test", [f"b@n{n}.test"], HEAD, port=mail.port).code == 250
            mail.wait_log(rf"to=<b@n{n}\.test>.*status=(deferred|bounced)", seconds=30)
        assert not mail.log(r"status=sent") and not mail.complaints()
    finally:
        dns.stop()


def test_sessions_of_one_service_are_no_good_at_another(make_mail, sink):
    """Section 3: what a client proved to one service of master.cf, or was offered there, says nothing at the other."""
    cert, key = certificate("mail.test")
    other = free_port()
    mail = make_mail(relay=sink, start=False, services=[f"127.0.0.1:{other} inet n - n - - smtpd -o syslog_name=other"],
                     settings={"smtpd_tls_security_level": "may", "smtpd_tls_cert_file": "$config_directory/cert.pem", "smtpd_tls_key_file": "$config_directory/key.pem"})
    shutil.copy(cert, f"{mail.etc}/cert.pem")
    shutil.copy(key, f"{mail.etc}/key.pem")
    mail.start()
    mail.wait_port(other)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.minimum_version = context.maximum_version = version
        session, seen = None, []
        for port in (mail.port, mail.port, other, mail.port):
            with Client(port) as smtp:
                smtp.ehlo("h.test")
                assert smtp.cmd("STARTTLS").code == 220
                smtp.sock = context.wrap_socket(smtp.sock, session=session)
                smtp.ehlo("h.test")
                seen.append(smtp.sock.session_reused)
                session = session or smtp.sock.session
                smtp.quit()
        assert seen[2] is False and seen[0] is False, (version, seen)
        assert version == ssl.TLSVersion.TLSv1_3 or seen[1] is True, seen


def descriptors(mail, *commands):
    """How many descriptors the instance's processes of these names have open."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/comm"):
        try:
            with open(path) as f:
                name = f.read().strip()
            if name in commands and os.readlink(os.path.dirname(path) + "/cwd").startswith(mail.spool):
                found[f"{name}[{path.split('/')[2]}]"] = len(os.listdir(os.path.dirname(path) + "/fd"))
        except OSError:
            pass
    return found


FORKS = "clone,clone3,fork,vfork"


@pytest.mark.skipif(bool(inject.unavailable()), reason=inject.unavailable())
@pytest.mark.parametrize("daemon", ["local", "pipe"])
def test_no_process_is_to_be_had(daemon, make_mail):
    """Section 3: a fork() that fails defers the mail and leaves no descriptor open."""
    if os.geteuid() and daemon == "local":
        pytest.skip("needs users")
    first, second = ("games", "daemon") if daemon == "local" else ("x@far.test", "x@far.test")
    helper = {"local": "courier-helper", "pipe": "exec-helper"}[daemon]
    spool = tempfile.mkdtemp(prefix="forks-", dir="/tmp")
    os.chmod(spool, 0o1777)
    who = login() if os.geteuid() else "nobody"
    mail = make_mail(start=False, wrap=[daemon], services=[f"show unix - n n - 1 pipe user={who} argv=/bin/true"], settings={
        "mydestination": "local.test", "myorigin": "local.test", "alias_maps": "inline:{none=none}", "local_recipient_maps": "", "mail_spool_directory": spool, "biff": "no", "forward_path": "",
        "default_transport": "show", "maximal_backoff_time": "4000s", "minimal_backoff_time": "4000s", "queue_run_delay": "4000s"})
    try:
        inject.arm(mail, daemon, f"-e trace={FORKS} -e inject={FORKS}:error=EAGAIN:syscall=getpid:when=2+")
        mail.start()
        assert send("a@src.test", [first if "@" in first else f"{first}@local.test"], HEAD, port=mail.port).code == 250
        mail.wait_log(r"status=sent")

        def fails(count):
            for _ in range(count):
                assert send("a@src.test", [second if "@" in second else f"{second}@local.test"], HEAD, port=mail.port).code == 250
            return count
        mail.wait_log(r"dsn=4\.3\.0, status=deferred", count=fails(3))
        before = descriptors(mail, daemon, helper)
        assert len(before) == 2, before
        mail.wait_log(r"dsn=4\.3\.0, status=deferred", count=3 + fails(20), seconds=40)
        after = descriptors(mail, daemon, helper)
        assert before.keys() == after.keys() and all(after[name] <= before[name] + 2 for name in before), (before, after)
        assert not mail.log(r"status=bounced")
    finally:
        shutil.rmtree(spool, ignore_errors=True)


def test_public_sockets_bear_rubbish(make_mail, sink):
    """T30, section 3 (f): random bytes, huge lengths and half messages at every socket that local users reach; the daemons go on."""
    mail = make_mail(relay=sink)
    dice = random.Random(3)
    tried = 0
    for place in ("public", "private"):
        for name in sorted(os.listdir(f"{mail.spool}/{place}")):
            path = f"{mail.spool}/{place}/{name}"
            if not stat.S_ISSOCK(os.stat(path).st_mode):
                continue
            for data in (b"", b"\0", b"\xff" * 64, b"\x7f\xff\xff\xff" + b"x" * 100, dice.randbytes(4000), b"W" * 100):
                with socket.socket(socket.AF_UNIX) as s:
                    s.settimeout(5)
                    try:
                        s.connect(path)
                        s.sendall(data)
                    except OSError:
                        continue
                    tried += 1
    assert tried > 60
    assert send("a@src.test", ["b@far.test"], HEAD, port=mail.port).code == 250
    sink.wait_count(1, 40)
    assert not mail.complaints()


def test_slow_contents_keep_nobody_waiting(make_mail, sink):
    """G6: as many as cleanup takes at once, that come a line a second or not at all; one that comes as it should gets through beside them."""
    mail = make_mail(relay=sink, settings={"smtpd_client_connection_count_limit": "0", "smtpd_timeout": "600s"})
    end, slow = threading.Event(), [Client(mail.port, timeout=120) for _ in range(70)]
    try:
        for client in slow:
            client.ehlo()
            for command, code in (("MAIL FROM:<a@src.test>", 250), ("RCPT TO:<b@far.test>", 250), ("DATA", 354)):
                assert client.cmd(command).code == code
            client.raw(b"Subject: slow\r\n\r\n" + (b"x" * 70 + b"\r\n") * 2000)

        def drip():
            while not end.wait(1):
                for client in slow[::2]:
                    client.raw(b"slow\r\n")
        dripping = threading.Thread(target=drip)
        dripping.start()
        with Client(mail.port, timeout=120) as client:
            client.ehlo()
            assert client.send("a@src.test", ["b@far.test"], b"Subject: good\r\n\r\n" + (b"y" * 70 + b"\r\n") * 3000).code == 250
        end.set()
        dripping.join()
        for client in slow:
            client.raw(b".\r\n")
        codes = [(reply.code, reply.enhanced) for reply in (client.read_reply() for client in slow)]
    finally:
        end.set()
        for client in slow:
            client.close()
    assert set(codes) <= {(250, "2.0.0"), (451, "4.3.2")}
    assert 1 <= codes.count((451, "4.3.2"))
    sink.wait_count(codes.count((250, "2.0.0")) + 1, 120)


def test_nobody_is_made_to_send_reports_to_strangers(make_mail, sink):
    """Section 4, backscatter: who is unknown is refused at RCPT; nothing is told to the null sender, or for VRFY; a message that fails in many places makes one report."""
    mail = make_mail(relay=sink, settings={"mydestination": "local.test", "myorigin": "local.test", "alias_maps": "inline:{{list = no1x no2x no3x}}", "smtpd_hard_error_limit": "1000",
                                           "local_recipient_maps": "inline:{{list = x}} regexp:{{/^some/ x}}"})
    with Client(mail.port) as client:
        client.ehlo()
        for sender in ("victim@far.test", ""):
            assert client.cmd(f"MAIL FROM:<{sender}>").code == 250
            assert client.cmd("RCPT TO:<nobodyx@local.test>").code == 550 and client.cmd("VRFY nobodyx@local.test").code in (252, 550)
            assert client.cmd("RSET").code == 250
        # what is found out too late: tables that know more than there is
        assert client.send("", [f"some{n}@local.test" for n in range(50)], HEAD).code == 250
        mail.wait(lambda: len(mail.log(r"dsn=5\.1\.1, status=bounced \(unknown user")) == 50, 30, "all fail")
        mail.wait(lambda: not mail.queued(), 20, "the queue is empty")
        assert not sink.messages
        assert client.send("a@src.test", [*(f"some{n}@local.test" for n in range(50)), "list@local.test"], HEAD).code == 250
    mail.wait(lambda: not mail.queued() and sink.messages, 30, "the report is sent")
    (report,) = sink.messages
    assert report.sender == "" and report.recipients == ["a@src.test"] and report.content.count(b"\r\nFinal-Recipient:") == 51
    assert not mail.complaints()


def test_mail_in_a_circle_ends(make_mail):
    """Section 4: two servers that are each other's relay. The message ends when it has too many hops, with one report, which ends the same way and makes none."""
    back = free_port()
    mail = make_mail(start=False, services=[f"127.0.0.1:{back} inet n - n - - smtpd -o myhostname=other.test -o smtpd_peername_lookup=no"],
                     settings={"relayhost": f"[127.0.0.1]:{back}", "smtp_helo_name": "third.test", "hopcount_limit": "20"})
    mail.start()
    mail.wait_port(back)
    assert send("a@src.test", ["b@far.test"], HEAD, port=mail.port).code == 250
    mail.wait_log(r"to=<b@far\.test>.*status=bounced .*too many hops", seconds=40)
    mail.wait_log(r"to=<a@src\.test>.*status=bounced .*too many hops", seconds=40)
    mail.wait(lambda: not mail.queued(), 20, "the queue is empty")
    assert len(mail.log(r"sender non-delivery notification")) == 1
    assert 30 <= len(mail.log(r"from=<.*queue active")) <= 44
    assert not mail.complaints()
