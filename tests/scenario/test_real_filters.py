# SPDX-License-Identifier: Apache-2.0
"""Content filters as they are installed: SpamAssassin by pipe(8), ClamAV behind amavisd-new by smtp(8), with the lines of master.cf
that their manuals give. Each has a place, port and rules of its own; nothing is looked up or loaded from anywhere."""
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest
import signing

from harness import instance, send

HEAD = b"From: a@src.test\r\nTo: b@far.test\r\nSubject: x\r\nDate: Mon, 01 Jan 2024 00:00:00 +0000\r\nMessage-ID: <1@src.test>\r\n\r\n"
GTUBE = b"XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X"
VIRUS = b"POSTERN-STAND-IN-VIRUS-7c1f"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="these daemons change their user: needs root")


def needs(*programs):
    missing = [p for p in programs if not shutil.which(p, path="/usr/sbin:/usr/bin")]
    return pytest.mark.skipif(bool(missing), reason=f"not here: {', '.join(missing)}")


@pytest.fixture
def place():
    """A directory that every user may read; ask for it before make_mail, so that it outlives the daemons."""
    path = tempfile.mkdtemp(prefix="filter-")
    os.chmod(path, 0o755)
    yield pathlib.Path(path)
    shutil.rmtree(path, ignore_errors=True)


class Server:
    """A peer's daemon in the foreground, in a process group of its own."""

    def __init__(self, place, name, argv, where):
        self.log, self.name = place / f"{name}.out", name
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/", start_new_session=True,
                                            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(place), "LC_ALL": "C"})
        try:
            self.wait_for(where)
        except BaseException:
            self.stop()
            raise

    def wait_for(self, where, seconds=60):
        end = time.monotonic() + seconds
        while True:
            try:
                with socket.socket(socket.AF_UNIX if isinstance(where, str) else socket.AF_INET) as s:
                    s.settimeout(5)
                    s.connect(where)
                    return
            except OSError:
                assert self.process.poll() is None and time.monotonic() < end, f"{self.name} does not answer:\n{self.log.read_text()[-3000:]}"
                time.sleep(0.1)

    def stop(self):
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, number)
            except ProcessLookupError:
                pass
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                pass


@pytest.fixture
def serve(place):
    """serve(name, argv, where): a running Server; all are stopped at the end."""
    made = []

    def make(name, argv, where):
        made.append(Server(place, name, argv, where))
        return made[-1]
    yield make
    for server in reversed(made):
        server.stop()


# ---- SpamAssassin ----

@pytest.fixture
def spamd(place, serve):
    """Its port. Local tests only, the rules that the package brings, nothing learned."""
    port = instance.free_port()
    (place / "site").mkdir()
    (place / "site" / "local.cf").write_text("use_bayes 0\ndns_available no\nreport_safe 0\nrequired_score 5\n")
    shutil.copy("/etc/spamassassin/v320.pre", place / "site")
    (place / "site" / "init.pre").write_text("loadplugin Mail::SpamAssassin::Plugin::Check\n")
    serve("spamd", ["/usr/sbin/spamd", "-L", "-x", "-u", "nobody", "-i", f"127.0.0.1:{port}", "-m", "2", "--min-children=1", "-s", "stderr",
                    "-C", "/usr/share/spamassassin", f"--siteconfigpath={place}/site", "-H", f"{place}/site", "-r", f"{place}/spamd.pid"],
          ("127.0.0.1", port))
    return port


@needs_root
@needs("spamd", "spamc")
def test_spamassassin_by_pipe(place, spamd, make_mail, sink):
    """The usual after-queue script: spamc, then sendmail. Headers are added once; GTUBE is marked; a script that dies keeps the mail."""
    script = place / "spamfilter"
    mail = make_mail(start=False, relay=sink, services=[
        "127.0.0.1:@ inet n - n - - smtpd -o content_filter=spamfilter:dummy",
        f"spamfilter unix - n n - 4 pipe flags=Rq user=nobody:{instance.owner()[1]} argv={script} -f ${{sender}} -- ${{recipient}}"],
        settings={"minimal_backoff_time": "1s", "maximal_backoff_time": "1s", "queue_run_delay": "1s"})
    mail.services[0] = mail.services[0].replace("@", str(mail.port))
    mail.write_config()
    # What comes from sendmail is not filtered again: only smtpd has the content_filter. postdrop is not set-gid here, so it gets its group.
    script.write_text(f"""#!/bin/sh
[ -e {place}/broken ] && exit 75
/usr/bin/spamc -d 127.0.0.1 -p {spamd} -x -E -s 1000000 >{place}/tmp/in.$$
case $? in 0|1) ;; *) rm -f {place}/tmp/in.$$; exit 75 ;; esac
{mail.commands}/sendmail -C {mail.etc} -i "$@" <{place}/tmp/in.$$
status=$?
rm -f {place}/tmp/in.$$
exit $status
""")
    script.chmod(0o755)
    (place / "tmp").mkdir()
    (place / "tmp").chmod(0o1777)
    mail.start()
    (place / "broken").write_text("")
    assert send("a@src.test", ["late@far.test"], HEAD + b"hello\r\n", port=mail.port).code == 250
    mail.wait_log(r"to=<late@far\.test>.*dsn=4\.3\.0, status=deferred \(temporary failure\)")
    (place / "broken").unlink()
    body = b"hello\r\n.\r\n..dots\r\nFrom here\r\n\xfc\r\n"
    assert send("a@src.test", ["ham@far.test"], HEAD + body, port=mail.port).code == 250
    assert send("a@src.test", ["spam@far.test"], HEAD + GTUBE + b"\r\n", port=mail.port).code == 250
    for _ in range(3):
        mail.flush()
    ham = sink.wait(lambda m: "ham@far.test" in m.recipients, 40)
    spam = sink.wait(lambda m: m.recipients == ["spam@far.test"], 40)
    sink.wait(lambda m: m.recipients == ["late@far.test"], 40)
    assert re.search(rb"(?m)^X-Spam-Flag: YES\r$", spam.content) and b"GTUBE" in spam.content
    assert ham.content.endswith(b"\r\n\r\n" + body) and b"X-Spam-Flag" not in ham.content and b"X-Spam-Status: No" in ham.content
    assert all(m.sender == "a@src.test" and m.content.count(b"X-Spam-Checker-Version:") == 1 for m in (ham, spam))
    mail.wait(lambda: mail.is_empty() or mail.flush() and False, 30, "nothing is queued")
    assert len([m for m in sink.messages if m.sender]) == 3 and not mail.complaints()


# ---- ClamAV behind amavisd-new ----

CLAMD = """LocalSocket {place}/run/clamd.sock
DatabaseDirectory {place}/signatures
TemporaryDirectory {place}/tmp
User amavis
Foreground yes
LogFile {place}/clamd.log
"""
AMAVIS = r"""use strict;
$max_servers = 2;
$daemon_user = $daemon_group = 'amavis';
$MYHOME = '{place}/amavis';
$TEMPBASE = "$MYHOME/tmp";
$db_home = "$MYHOME/db";
$helpers_home = "$MYHOME";
$pid_file = "$MYHOME/amavisd.pid";
$lock_file = "$MYHOME/amavisd.lock";
$unix_socketname = undef;
$myhostname = 'filter.test';
$mydomain = 'test';
@local_domains_maps = (1);
@mynetworks = qw(127.0.0.0/8);
$inet_socket_bind = '127.0.0.1';
$inet_socket_port = {port};
$forward_method = $notify_method = 'smtp:[127.0.0.1]:{back}';
$enable_db = 0;
$enable_dkim_verification = 0;
$do_syslog = 0;
$LOGFILE = "$MYHOME/amavis.log";
$log_level = 1;
$X_HEADER_LINE = 'stand-in scanner';
$X_HEADER_TAG = 'X-Virus-Scanned';
@bypass_spam_checks_maps = (1);
$QUARANTINEDIR = undef;
$virus_quarantine_method = undef;
$mailfrom_notify_admin = $mailfrom_notify_recip = $virus_admin = undef;
$final_virus_destiny = D_REJECT;
$final_banned_destiny = $final_bad_header_destiny = D_PASS;
@av_scanners = (['ClamAV-clamd', \&ask_daemon, ["CONTSCAN {{}}\n", '{place}/run/clamd.sock'],
    qr/\bOK$/m, qr/\bFOUND$/m, qr/^.*?: (?!Infected Archive)(.*) FOUND$/m]);
@av_scanners_backup = ();
1;
"""
# As amavisd-new's README.postfix has them.
TO_AMAVIS = "smtp-amavis unix - - n - 2 smtp -o smtp_data_done_timeout=1200 -o smtp_send_xforward_command=yes -o disable_dns_lookups=yes -o max_use=20"
FROM_AMAVIS = ("127.0.0.1:{back} inet n - n - - smtpd -o content_filter= -o smtpd_delay_reject=no -o smtpd_client_restrictions=permit_mynetworks,reject "
               "-o smtpd_helo_restrictions= -o smtpd_sender_restrictions= -o smtpd_recipient_restrictions=permit_mynetworks,reject "
               "-o smtpd_data_restrictions=reject_unauth_pipelining -o smtpd_end_of_data_restrictions= -o smtpd_restriction_classes= "
               "-o mynetworks=127.0.0.0/8 -o smtpd_error_sleep_time=0 -o smtpd_soft_error_limit=1001 -o smtpd_hard_error_limit=1000 "
               "-o smtpd_client_connection_count_limit=0 -o smtpd_client_connection_rate_limit=0 "
               "-o receive_override_options=no_header_body_checks,no_unknown_recipient_checks,no_milters,no_address_mappings "
               "-o smtpd_authorized_xforward_hosts=127.0.0.0/8 -o local_header_rewrite_clients= -o smtpd_milters= -o local_recipient_maps= -o relay_recipient_maps=")


@pytest.fixture
def amavis(place, serve):
    """(the port of amavisd, the port that it hands back to)."""
    port, back = instance.free_port(), instance.free_port()
    names = {"place": place, "port": port, "back": back}
    for name in ("signatures", "tmp", "run", "amavis", "amavis/tmp", "amavis/db"):
        (place / name).mkdir()
        shutil.chown(place / name, "amavis", "amavis")
    place.chmod(0o755)
    (place / "signatures" / "test.ndb").write_text(f"Postern.StandIn:0:*:{VIRUS.hex()}\n")
    (place / "clamd.conf").write_text(CLAMD.format(**names))
    serve("clamd", ["/usr/sbin/clamd", "-F", "-c", f"{place}/clamd.conf"], f"{place}/run/clamd.sock")
    (place / "amavisd.conf").write_text(AMAVIS.format(**names))
    shutil.chown(place / "amavisd.conf", "root", "root")
    serve("amavisd", ["/usr/sbin/amavisd", "-c", f"{place}/amavisd.conf", "foreground"], ("127.0.0.1", port))
    return port, back


@needs_root
@needs("amavisd", "clamd")
def test_clamav_behind_amavisd(place, amavis, make_mail, sink):
    """Clean mail comes back whole, with the first client's name; a virus is refused and its sender told; while amavisd is away, mail waits."""
    port, back = amavis
    mail = make_mail(relay=sink, services=[TO_AMAVIS, FROM_AMAVIS.format(back=back)],
                     settings={"content_filter": f"smtp-amavis:[127.0.0.1]:{port}", "virtual_alias_maps": "inline:{{list@far.test = one@far.test, two@far.test}}"})
    body = b"hello\r\n.\r\n..dots\r\nFrom here\r\n\xfc" + b"y" * 900 + b"\r\n"
    assert send("a@src.test", ["list@far.test"], HEAD + body, port=mail.port).code == 250
    clean = sink.wait(lambda m: m.sender == "a@src.test", 40)
    assert sorted(clean.recipients) == ["one@far.test", "two@far.test"] and clean.content.endswith(b"\r\n\r\n" + body)
    assert clean.content.count(b"X-Virus-Scanned: stand-in scanner") == 1
    first = mail.log(r"client=\S+\[127\.0\.0\.1\]$")[0]
    mail.wait_log(rf"client=.*orig_queue_id={first.queue_id}, orig_client=\S+\[127\.0\.0\.1\]")
    mail.wait_log(r"relay=127\.0\.0\.1\[127\.0\.0\.1\]:%d, .*status=sent \(250 2\.0\.0 from MTA\(smtp:\[127\.0\.0\.1\]:%d\): 250 2\.0\.0 Ok: queued as" % (port, back),
                  count=2)
    assert send("a@src.test", ["b@far.test"], HEAD + b"begin\r\n" + VIRUS + b"\r\n", port=mail.port).code == 250
    mail.wait_log(r"to=<b@far\.test>.*dsn=5\.7\.0, status=bounced \(host 127\.0\.0\.1\[127\.0\.0\.1\] said: 554 5\.7\.0 .*INFECTED: Postern\.StandIn", 30)
    report = sink.wait(lambda m: m.recipients == ["a@src.test"], 30)
    assert report.sender == "" and b"INFECTED: Postern.StandIn" in report.content
    mail.wait(mail.is_empty, 20, "nothing is queued")
    assert len(sink.messages) == 2 and not mail.complaints()


@needs_root
@needs("amavisd", "clamd")
@pytest.mark.skipif(bool(signing.missing()), reason=signing.missing())
def test_signatures_survive_amavisd(place, amavis, make_mail, sink):
    port, back = amavis
    mail = make_mail(relay=sink, services=[TO_AMAVIS, FROM_AMAVIS.format(back=back)], settings={"content_filter": f"smtp-amavis:[127.0.0.1]:{port}"})
    signer = signing.Signer()
    try:
        for kind in signer.KINDS:
            assert send("a@src.test", ["b@far.test"], signer.sign(kind), port=mail.port).code == 250
        sink.wait_count(len(signer.KINDS), 40)
        for message in sink.messages:
            kind = re.search(rb"(?m)^Message-ID: <(.*)@src\.test>", message.content)[1].decode()
            assert b"X-Virus-Scanned: stand-in" in message.content and signer.verify(kind, message.content) == "", (kind, message.content[:600])
    finally:
        signer.close()
    assert not mail.complaints()
