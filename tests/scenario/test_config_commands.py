# SPDX-License-Identifier: Apache-2.0
"""What an administrator runs around the configuration: postfix check, logrotate and tls, postconf --explain, postmulti, postlock,
postlog, postkick."""
import json
import os
import re
import subprocess
import time

import pytest
from harness.instance import build_dir

TOOLS = f"{build_dir()}/tools"


class Place:
    """A configuration of its own, without a running system."""

    def __init__(self, base):
        self.base, self.etc = base, base / "postfix"
        self.etc.mkdir()
        for name in ("spool", "lib"):
            (base / name).mkdir()
        (self.etc / "master.cf").write_text("smtp inet n - n - - smtpd\n")
        self.write("")

    def write(self, text):
        (self.etc / "main.cf").write_text(
            f"command_directory = {TOOLS}\ndaemon_directory = {TOOLS}\nmyhostname = mx.example.com\nmaillog_file = /dev/stdout\n"
            f"queue_directory = {self.base}/spool/postfix\ndata_directory = {self.base}/lib/postfix\n"
            f"mail_owner = daemon\nsetgid_group = games\n{text}")

    def run(self, program, *args, status=0, **options):
        done = subprocess.run([f"{TOOLS}/{program}", *args], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL,
                              env=dict(os.environ, MAIL_CONFIG=str(self.etc)), **options)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def check_as_json(self):
        """What is said of the configuration, and what went to standard error."""
        done = subprocess.run([f"{TOOLS}/postfix", "-c", str(self.etc), "check", "-j"], capture_output=True, text=True, timeout=60)
        return [json.loads(line) for line in done.stdout.splitlines()], done.stderr

    def setting(self, name):
        return self.run("postconf", "-qh", name).strip()


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


# --- postfix check ---


def test_check_names_the_line_of_what_has_no_effect(place):
    place.write("berkeley_db_read_buffer_size = 5\nqueue_run_delay = 1 hour\nmydestinaton = a\nmynetworks_style = host\n")
    place.run("postfix", "upgrade-configuration")
    text = place.run("postfix", "check", status=1)
    assert re.search(r"main.cf, line 9: parameter berkeley_db_read_buffer_size has no effect: ", text)
    assert re.search(r"main.cf, line 10: parameter queue_run_delay: bad time value", text)


def test_check_and_explain_tell_of_what_does_not_work_yet(place):
    place.write("smtpd_proxy_filter = inet:127.0.0.1:10025\nsmtp_tls_connection_reuse = yes\n")
    text = place.run("postfix", "check")
    assert re.search(r"main.cf, line 9: parameter smtpd_proxy_filter does not work yet: where it is set smtpd refuses all mail for now", text)
    assert re.search(r"main.cf, line 10: parameter smtp_tls_connection_reuse has no effect yet\n", text)
    assert "in a later version; until then: where it is set smtpd refuses" in place.run("postconf", "--explain", "smtpd_proxy_filter")
    assert re.search(r"effect: +none yet; in a later version\n", place.run("postconf", "--explain", "smtp_tls_connection_reuse"))


def test_check_tells_of_tables_that_are_missing_or_old(place):
    source = place.base / "table"
    place.write(f"compatibility_level = 3.11\nvirtual_alias_maps = texthash:{place.base}/nothing, lmdb:{source}\n"
                f"transport_maps = mysql:{place.base}/no.cf\n")
    source.write_text("a b\n")
    place.run("postmap", f"lmdb:{source}")
    later = time.time() + 100
    os.utime(source, (later, later))
    text = place.run("postfix", "check")
    assert f"database {source}.lmdb is older than source file {source}" in text
    assert re.search(rf"main.cf, line 10: table texthash:{place.base}/nothing: ", text)
    assert re.search(rf"table mysql:{place.base}/no.cf: ", text)


def test_check_as_json_has_an_object_on_each_line(place):
    place.write("berkeley_db_read_buffer_size = 5\ncompatibility_level = 0\n")
    found, _ = place.check_as_json()
    assert any(f["level"] == "warning" and "berkeley_db_read_buffer_size" in f["text"] for f in found)
    assert any("backwards-compatible default setting append_dot_mydomain=yes" in f["text"] for f in found)


def test_check_names_values_that_programs_will_not_take(place):
    wrong = {"smtpd_tls_security_level": "encypt", "smtp_tls_protocols": ">=TLSv1.9", "mynetworks": "10.0.0.1/8", "inet_protocols": "ipv5",
             "notify_classes": "bounce, sofware", "canonical_classes": "header", "default_transport": "smpt:[x]",
             "smtpd_tls_cert_file": "/nonexistent.pem", "mailbox_delivery_lock": "flok", "berkeley_db_create_buffer_size": "x", "queue_run_delay": "abc"}
    place.write("".join(f"{name} = {value}\n" for name, value in wrong.items()))
    text = place.run("postfix", "check", status=1)
    for number, name in enumerate(wrong, 9):
        assert re.search(rf"fatal: .*main\.cf, line {number}: (parameter |bad numerical configuration: ){name}\b", text), name
    place.write("deliver_lock_attempts = many\nmax_idle = y\n")
    text = place.run("postfix", "check", status=1)
    assert "bad numerical configuration: deliver_lock_attempts = many" in text and "parameter max_idle: bad time value" in text


def test_check_names_restrictions_that_are_unknown_or_not_built(place):
    place.write("smtpd_recipient_restrictions = permit_mynetworks, rejct_it, reject_unverified_recipient, check_relay_domains, mine, hash:/x,\n"
                "  reject_rbl_client\nsmtpd_restriction_classes = mine\nmine = permit, other_thing\n")
    text = place.run("postfix", "check")
    assert re.search(r'main.cf, line 9: smtpd_recipient_restrictions: unknown smtpd restriction: "rejct_it"', text)
    assert re.search(r"line 9: smtpd_recipient_restrictions: restriction reject_unverified_recipient is not built yet", text)
    assert re.search(r"restriction check_relay_domains is out of date; use reject_unauth_destination", text)
    assert re.search(r"restriction reject_rbl_client needs an argument", text)
    assert re.search(r'line 12: mine: unknown smtpd restriction: "other_thing"', text)
    assert '"mine"' not in text and "permit_mynetworks" not in text


def test_check_looks_at_what_a_service_sets(place):
    with open(place.etc / "master.cf", "a") as f:
        f.write(f"\nown unix - - n - - smtp -o max_idle=5q -o smtp_tls_security_level=x -o smtp_generic_maps=lmdb:{place.base}/none\n"
                " -o { smtpd_client_restrictions = nosuch, permit }\n")
    text = place.run("postfix", "check", status=1)
    assert re.search(r"master.cf, line \d+: service own: -o max_idle: parameter max_idle: bad time value", text)
    assert re.search(r"master.cf, line \d+: service own: -o smtp_tls_security_level: parameter smtp_tls_security_level: unknown word \"x\"", text)
    assert re.search(rf"master.cf, line \d+: service own: -o smtp_generic_maps: table lmdb:{place.base}/none: ", text)
    assert re.search(r'service own: -o smtpd_client_restrictions: .*unknown smtpd restriction: "nosuch"', text)


def test_check_names_what_is_no_table(place):
    place.write("virtual_alias_maps = hasch:/etc/x, word, inline:{a=b}, pcre:/nonexistent, unionmap:{static:a, static:b}\nvirtual_maps =\n"
                "default_filter_nexthop = x\n")
    text = place.run("postfix", "check")
    assert re.search(r"line 9: parameter virtual_alias_maps: unsupported dictionary type: hasch\n", text)
    assert re.search(r'line 9: parameter virtual_alias_maps: "word" is no table', text)
    assert re.search(r"line 9: table pcre:/nonexistent: open /nonexistent: No such file", text)
    assert "inline" not in text and "unionmap" not in text and "no effect" not in text


def test_check_as_json_has_postconf_warnings_too(place):
    place.write(f"smptd_banner = x\nsmptd_hello = {'y' * 5000}\n")
    found, errors = place.check_as_json()
    assert any(f["level"] == "warning" and f["text"].endswith("main.cf: unused parameter: smptd_banner=x") for f in found)
    assert any("unused parameter: smptd_hello=yyy" in f["text"] for f in found)
    assert "unused" not in errors and not [f for f in found if f["level"] == "fatal"]


# --- postfix logrotate ---


def test_logrotate_begins_a_new_log_and_loses_no_line(make_mail):
    mail = make_mail(settings={"maillog_file_compressor": ""})
    log = f"{mail.base}/log"
    with open(f"{log}/mail.log") as f:
        before = f.read()
    mail.command("postfix", "logrotate")
    old = [name for name in os.listdir(log) if re.fullmatch(r"mail\.log\.\d{8}-\d{6}", name)]
    assert len(old) == 1 and open(f"{log}/{old[0]}").read().startswith(before)
    mail.reload()
    mail.wait_log(r"reload -- version")


# --- postfix tls ---


def test_tls_is_turned_on_only_where_nothing_is_set(place):
    place.run("postfix", "tls", "all-default-client")
    place.run("postfix", "tls", "enable-client")
    assert place.setting("smtp_tls_security_level") == "may"
    place.run("postfix", "tls", "all-default-client", status=1)
    before = (place.etc / "main.cf").read_text()
    assert "nothing was changed" in place.run("postfix", "tls", "enable-client", status=1)
    assert (place.etc / "main.cf").read_text() == before


def test_keys_and_certificates_are_made_and_deployed_in_pairs(place):
    place.run("postfix", "tls", "enable-server", "-a", "ecdsa", "mail.example.com", "mx.example.com")
    cert, key = place.setting("smtpd_tls_eccert_file"), place.setting("smtpd_tls_eckey_file")
    assert os.stat(key).st_mode & 0o077 == 0
    names = subprocess.run(["openssl", "x509", "-in", cert, "-noout", "-ext", "subjectAltName"], capture_output=True, text=True).stdout
    assert "DNS:mail.example.com, DNS:mx.example.com" in names
    record = place.run("postfix", "tls", "output-server-tlsa")
    assert re.fullmatch(r"_25\._tcp\.mx\.example\.com\. IN TLSA 3 1 1 [0-9a-f]{64}\n", record)
    assert "BEGIN CERTIFICATE REQUEST" in place.run("postfix", "tls", "output-server-csr", "-k", "ecdsa")
    time.sleep(1.1)  # names of files have the second in them
    text = place.run("postfix", "tls", "new-server-key", "-a", "ecdsa")
    other = re.search(r"key: (\S+)", text)[1]
    assert place.setting("smtpd_tls_eckey_file") == key
    assert "is not for the key" in place.run("postfix", "tls", "deploy-server-cert", cert, other, status=1)
    place.run("postfix", "tls", "deploy-server-cert", other.replace("eckey", "eccert"), other)
    assert place.setting("smtpd_tls_eckey_file") == other


# --- postconf ---


def test_explain_tells_where_a_setting_is_and_who_overrides_it(place):
    place.write("relayhost = [$myhostname]\n")
    (place.etc / "master.cf").write_text("smtp inet n - n - - smtpd\nout unix - - n - - smtp\n  -o relayhost=[b]\n")
    text = place.run("postconf", "--explain", "relayhost")
    assert f"set in:   {place.etc}/main.cf, line 9\n" in text and "that is:  [mx.example.com]\n" in text
    assert f"but in:   {place.etc}/master.cf, line 2, service out/unix: -o relayhost=[b]\n" in text
    assert "is relayhots meant to be relayhost?" in place.run("postconf", "--explain", "relayhots")


def test_json_holds_what_the_text_holds(place):
    place.write('smtpd_banner = "q" \\ x\n')
    (place.etc / "master.cf").write_text("out unix - - n - 5 smtp\n  -o { smtp_helo_name = a b }\n")
    assert {"name": "smtpd_banner", "value": '"q" \\ x'} in [json.loads(l) for l in place.run("postconf", "-jn").splitlines()]
    service = json.loads(place.run("postconf", "-jM", "out"))
    assert service["process_limit"] == "5" and service["arguments"] == ["-o", "smtp_helo_name=a b"]
    assert json.loads(place.run("postconf", "-jF", "out/unix/chroot")) == {"service": "out", "type": "unix", "field": "chroot", "value": "n"}
    assert json.loads(place.run("postconf", "-jP", "out")) == {"service": "out", "type": "unix", "parameter": "smtp_helo_name", "value": "a b"}


def test_files_that_can_not_be_used_are_named_with_the_line(place):
    (place.etc / "main.cf").write_bytes(b"a = 1\nb = \0\n")
    assert "main.cf, line 2: has a NUL byte in it" in place.run("postconf", "-n", status=1)
    (place.etc / "main.cf").unlink()
    (place.etc / "main.cf").mkdir()
    assert re.search(r"main\.cf: Is a directory", place.run("postconf", "-n", status=1))


# --- postmulti ---


def test_an_instance_lives_from_create_to_destroy(place):
    place.run("postmulti", "-e", "init")
    place.run("postmulti", "-I", "postfix-out", "-G", "mta", "-e", "create")
    assert place.run("postmulti", "-l").splitlines()[1].split() == ["postfix-out", "mta", "n", f"{place.base}/postfix-out"]
    assert place.run("postmulti", "-x", "-i", "postfix-out", "sh", "-c", "echo $queue_directory $multi_instance_name") == \
        f"{place.base}/spool/postfix-out postfix-out\n"
    place.run("postmulti", "-e", "enable", "-i", "postfix-out")
    assert [json.loads(line)["enabled"] for line in place.run("postmulti", "-lj").splitlines()] == [True, True]
    assert "is enabled" in place.run("postmulti", "-e", "destroy", "-i", "postfix-out", status=1)
    place.run("postmulti", "-e", "disable", "-i", "postfix-out")
    mail = place.base / "spool/postfix-out/hold/ABC"
    mail.write_text("")
    assert "there is mail in" in place.run("postmulti", "-e", "destroy", "-i", "postfix-out", status=1)
    mail.unlink()
    place.run("postmulti", "-e", "destroy", "-i", "postfix-out")
    assert len(place.run("postmulti", "-l").splitlines()) == 1 and not (place.base / "postfix-out").exists()


# --- the small ones ---


def test_postlock_keeps_others_out(place):
    box = place.base / "box"
    place.write("deliver_lock_attempts = 1\n")
    place.run("postlock", str(box), "sh", "-c", f"test -e {box}.lock; exit $((7 + $?))", status=7)
    assert not os.path.exists(f"{box}.lock")
    holder = subprocess.Popen([f"{TOOLS}/postlock", "-c", str(place.etc), str(box), "sh", "-c", "echo; read x"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    holder.stdout.readline()
    assert "fatal: lock" in place.run("postlock", str(box), "true", status=75)
    holder.communicate(b"\n")
    place.run("postlock", str(box), "true")


def test_postkick_writes_to_a_fifo_and_complains_of_what_is_not_there(place):
    public = place.base / "spool/postfix/public"
    public.mkdir(parents=True)
    os.mkfifo(public / "pickup")
    fd = os.open(public / "pickup", os.O_RDONLY | os.O_NONBLOCK)
    place.run("postkick", "public", "pickup", "W")
    assert os.read(fd, 10) == b"W"
    os.close(fd)
    assert "No such file" in place.run("postkick", "public", "qmgr", "W", status=1)


def test_postlog_writes_to_the_log_of_a_running_system(make_mail):
    mail = make_mail()
    subprocess.run([f"{TOOLS}/postlog", "-c", mail.etc, "-t", "postfix/script", "-p", "warn", "two", "words"], check=True, timeout=30)
    mail.wait_log(r"two words")
