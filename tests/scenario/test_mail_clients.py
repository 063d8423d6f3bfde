# SPDX-License-Identifier: Apache-2.0
"""The programs that people read and send with, against imapd, pop3d and smtpd: each does what it is for, over TLS where it can."""
import glob
import imaplib
import os
import pty
import re
import shutil
import smtplib
import subprocess
import threading
import poplib

import pytest
from reading import PASSWORD, Reading

MESSAGE = b"From: a@src.test\r\nTo: u1@read.test\r\nMessage-ID: <%d@src.test>\r\nSubject: number %d\r\n\r\nbody %d\r\n.\r\nend\r\n"


@pytest.fixture(scope="module")
def server():
    with Reading(users=9, settings={"smtpd_sasl_auth_enable": "yes", "smtpd_tls_security_level": "may", "smtpd_tls_auth_only": "yes",
                                    "mynetworks": "[::1]/128", "smtpd_relay_restrictions": "permit_sasl_authenticated, reject"}) as mail:
        yield mail
        assert not mail.complaints()


def put(server, n, count):
    for i in range(1, count + 1):
        server.put(n, MESSAGE % (i, i, i))


def have(program):
    if not shutil.which(program):
        pytest.skip(f"no {program}")


def run(*argv, folder, check=True, **options):
    """A client with a home of its own; what it wrote."""
    env = {"PATH": "/usr/bin:/bin", "HOME": str(folder), "LC_ALL": "C.UTF-8", "TERM": "vt100"}
    done = subprocess.run(argv, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120, **options)
    if check:
        assert done.returncode == 0, done.stdout.decode("utf-8", "replace")
    return done.stdout


def write(path, text):
    with open(path, "w") as f:
        f.write(text)
    os.chmod(path, 0o600)
    return str(path)


def flags(server, n, folder="INBOX"):
    """{message number: flags} as imaplib sees them."""
    c = server.imap(n)
    c.select(folder, readonly=True)
    answer = c.uid("FETCH", "1:*", "(FLAGS BODY.PEEK[HEADER.FIELDS (SUBJECT)])")[1]
    found = {int(re.search(rb"number (\d+)", text)[1]): set(imaplib.ParseFlags(head)) for head, text in (a for a in answer if isinstance(a, tuple))}
    c.logout()
    return found


def test_python_libraries_with_starttls(server):
    put(server, 1, 2)
    imap = server.imap(1, login=False)
    imap.starttls(server.tls())
    imap.login("u1@read.test", PASSWORD)
    assert imap.select()[1] == [b"2"]
    imap.logout()
    pop = poplib.POP3("localhost", server.pop3_port, timeout=60)
    pop.stls(server.tls())
    pop.user("u1@read.test")
    pop.pass_(PASSWORD)
    assert pop.stat()[0] == 2 and b"\r\n".join(pop.retr(2)[1]) + b"\r\n" == MESSAGE % (2, 2, 2)
    pop.quit()
    with smtplib.SMTP("localhost", server.port) as smtp:
        smtp.starttls(context=server.tls())
        smtp.login("u1@read.test", PASSWORD)
        smtp.sendmail("u1@read.test", ["u1@read.test"], "Subject: number 3\r\n\r\nx\r\n")
    server.wait(lambda: len(flags(server, 1)) == 3, 60, "what was submitted arrives")


def test_curl_lists_fetches_appends_and_sends(server, tmp_path):
    have("curl")
    put(server, 2, 2)
    common = ["curl", "-sS", "--max-time", "60", "--cacert", f"{server.etc}/reading.crt", "-u", f"u2@read.test:{PASSWORD}"]
    imaps, pop3s = f"imaps://localhost:{server.imaps_port}", f"pop3s://localhost:{server.pop3s_port}"
    assert b'"." INBOX' in run(*common, f"{imaps}/", folder=tmp_path)
    assert run(*common, f"{imaps}/INBOX;MAILINDEX=2", folder=tmp_path) == MESSAGE % (2, 2, 2)
    assert run(*common, f"{pop3s}/1", folder=tmp_path) == MESSAGE % (1, 1, 1)
    (tmp_path / "m").write_bytes(MESSAGE % (3, 3, 3))
    run(*common, "-T", "m", f"{imaps}/INBOX", folder=tmp_path)
    assert set(flags(server, 2)) == {1, 2, 3}
    (tmp_path / "m").write_bytes(MESSAGE % (4, 4, 4))
    run(*common, "--ssl-reqd", f"smtp://localhost:{server.port}", "--mail-from", "u2@read.test", "--mail-rcpt", "u2@read.test", "-T", "m", folder=tmp_path)
    server.wait(lambda: set(flags(server, 2)) == {1, 2, 3, 4}, 60, "what curl sent arrives")


def test_msmtp_submits(server, tmp_path):
    have("msmtp")
    config = write(tmp_path / "rc", f"account default\nhost localhost\nport {server.port}\ntls on\ntls_starttls on\n"
                   f"tls_trust_file {server.etc}/reading.crt\nauth on\nuser u3@read.test\npassword {PASSWORD}\nfrom u3@read.test\n")
    run("msmtp", "-C", config, "u3@read.test", folder=tmp_path, input=MESSAGE % (1, 1, 1))
    server.wait(lambda: 1 in flags(server, 3), 60, "what msmtp sent arrives")
    bad = write(tmp_path / "bad", open(config).read().replace(PASSWORD, "wrong"))
    assert b"authentication failed" in run("msmtp", "-C", bad, "u3@read.test", folder=tmp_path, check=False, input=b"x\n")


def test_fetchmail_takes_each_message_once(server, tmp_path):
    have("fetchmail")
    put(server, 4, 3)
    for protocol, port, options in (("pop3", server.pop3s_port, "uidl"), ("imap", server.imaps_port, "")):
        config = write(tmp_path / "rc", f"poll localhost protocol {protocol} port {port} {options} auth password user \"u4@read.test\" password \"{PASSWORD}\" "
                       f"ssl sslcertck sslcertfile \"{server.etc}/reading.crt\" {'keep' if protocol == 'pop3' else 'fetchall'} mda \"cat >>{tmp_path}/{protocol}\"\n")
        argv = ["fetchmail", "-f", config, "--nodetach", "--nosyslog", "--pidfile", f"{tmp_path}/pid", "-i", f"{tmp_path}/ids"]
        run(*argv, folder=tmp_path)
        again = subprocess.run(argv, cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}, capture_output=True, timeout=120)
        assert again.returncode == 1, again  # no mail
        text = (tmp_path / protocol).read_bytes()
        assert [text.count(b"body %d\n.\nend" % i) for i in (1, 2, 3)] == [1, 1, 1]
    assert flags(server, 4) == {}


def maildir(folder):
    return sorted(glob.glob(f"{folder}/new/*") + glob.glob(f"{folder}/cur/*"))


def test_mbsync_syncs_both_ways_and_then_rests(server, tmp_path):
    have("mbsync")
    put(server, 5, 4)
    config = write(tmp_path / "rc", f"IMAPAccount a\nHost localhost\nPort {server.imaps_port}\nUser u5@read.test\nPass \"{PASSWORD}\"\nSSLType IMAPS\n"
                   f"CertificateFile {server.etc}/reading.crt\n\nIMAPStore far\nAccount a\n\nMaildirStore near\nPath {tmp_path}/m/\nInbox {tmp_path}/m/INBOX\n"
                   "SubFolders Verbatim\n\nChannel c\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSync All\nSyncState *\n")
    os.mkdir(tmp_path / "m")

    def sync():
        run("mbsync", "-c", config, "c", folder=tmp_path)
        c = server.imap(5)
        c.select(readonly=True)
        far = c.uid("SEARCH", "ALL")[1]
        c.logout()
        return [os.path.basename(path) for path in maildir(near)], far
    near = f"{tmp_path}/m/INBOX"
    before = sync()
    assert len(maildir(near)) == 4
    assert sync() == before
    first = next(path for path in maildir(near) if b"number 1\n" in open(path, "rb").read())
    os.rename(first, re.sub(r"/(new|cur)/([^:]*).*", r"/cur/\2:2,FS", first))
    write(f"{near}/new/1.2.here", (MESSAGE % (5, 5, 5)).decode().replace("\r", ""))
    c = server.imap(5)
    c.create("Work")
    c.select()
    c.store("2", "+FLAGS", "\\Deleted")
    c.expunge()
    c.copy("3", "Work")
    c.logout()
    before = sync()
    assert set(flags(server, 5)) == {1, 3, 4, 5} and {b"\\Seen", b"\\Flagged"} <= flags(server, 5)[1]
    assert len(maildir(near)) == 4 and len(maildir(f"{tmp_path}/m/Work")) == 1
    assert sync() == before


def test_offlineimap_syncs_both_ways(server, tmp_path):
    have("offlineimap")
    put(server, 6, 3)
    config = write(tmp_path / "rc", "[general]\naccounts = a\nmetadata = %s/meta\n[Account a]\nlocalrepository = l\nremoterepository = r\n"
                   "[Repository l]\ntype = Maildir\nlocalfolders = %s/m\n[Repository r]\ntype = IMAP\nremotehost = localhost\nremoteport = %d\n"
                   "remoteuser = u6@read.test\nremotepass = %s\nssl = yes\nsslcacertfile = %s/reading.crt\n"
                   % (tmp_path, tmp_path, server.imaps_port, PASSWORD, server.etc))

    def sync():
        run("offlineimap", "-c", config, "-o", "-u", "basic", folder=tmp_path)
    sync()
    near = f"{tmp_path}/m/INBOX"
    assert len(maildir(near)) == 3
    first = next(path for path in maildir(near) if b"number 1\n" in open(path, "rb").read())
    os.rename(first, re.sub(r"/(new|cur)/([^:]*).*", r"/cur/\2:2,S", first))
    write(f"{near}/new/9.9.here", (MESSAGE % (7, 7, 7)).decode().replace("\r", ""))
    sync()
    assert set(flags(server, 6)) == {1, 2, 3, 7} and b"\\Seen" in flags(server, 6)[1]
    sync()
    assert len(maildir(near)) == 4


def test_mutt_flags_and_copies_over_imap(server, tmp_path):
    have("mutt")
    put(server, 7, 2)
    config = write(tmp_path / "rc", f"set certificate_file={server.etc}/reading.crt imap_user=u7@read.test imap_pass='{PASSWORD}'\n"
                   f"set folder=imaps://localhost:{server.imaps_port}/ spoolfile=+INBOX quit=yes confirmcreate=no confirmappend=no wait_key=no delete=yes mark_old=no resolve=no sort=mailbox-order\n"
                   "push '<first-entry><flag-message><copy-message>=Kept<enter><last-entry><delete-message><sync-mailbox><exit>'\n")
    us, its = pty.openpty()
    client = subprocess.Popen(["mutt", "-n", "-F", config], stdin=its, stdout=its, stderr=its, start_new_session=True, cwd=tmp_path,
                              env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "TERM": "vt100", "LC_ALL": "C.UTF-8"})
    os.close(its)
    screen = []

    def read():
        try:
            while data := os.read(us, 4096):
                screen.append(data)
        except OSError:
            pass
    reader = threading.Thread(target=read, daemon=True)
    reader.start()
    try:
        client.wait(60)
    except subprocess.TimeoutExpired:
        pytest.fail(f"mutt hangs: {b''.join(screen)[-2000:]!r}")
    finally:
        client.kill()
        reader.join(5)
        os.close(us)
    assert set(flags(server, 7)) == {1} and b"\\Flagged" in flags(server, 7)[1], b"".join(screen)[-2000:]
    assert set(flags(server, 7, "Kept")) == {1}
