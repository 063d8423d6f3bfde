# SPDX-License-Identifier: Apache-2.0
"""postconf beside Debian's postconf 3.7: on the configurations of well-known projects, on defaults, and on generated main.cf and
master.cf. Needs Debian's programs in the tree $PEERS/postfix; $POSTCONF_EXAMPLES says how many generated files (default 40).

What may differ, and why:
* defaults that a newer version changed, or that say how this package was built (DEFAULTS below);
* the line number in "logical line must not start with whitespace": only we give it;
* "is NAME meant to be NAME?": only we say it;
* "missing '=' after attribute name" and "missing '}'": Postfix repeats them, and gives some for main.cf, too;
* new entries go to the end of main.cf in the order of the command line; Postfix's order is that of a hash table;
* {braces} around an argument of a command are kept where the command is shown; Postfix loses them;
* "-o name = value" without braces is three words; where such a line is folded differs;
* -Ffh: Postfix 3.7 has no blank between a command and what follows it;
* "-o{name = value}" is taken as "-o {name = value}"; Postfix 3.7 does so for short ones, and makes rubbish of others;
* a comment behind a service stays there when -F or -P changes the service; Postfix (but for -M) puts it before;
* of two services with one name and type Postfix shows the settings of one twice (-P);
* a word that begins with "#" does not begin a folded line, where it would be a comment; Postfix lets it;
* -Pe takes a value with blanks; Postfix refuses it;
* the built-in texts of notices (-b, -t) are ours; a template's end marker is known also where the file ends without a newline; a name
  that is a parameter, but none of Postfix's bounce daemon, has its value and is no error;
* a file that does not end in a newline gets one before an entry is added; Postfix joins the two.
"""
import os
import re
import pathlib
import subprocess

import pytest
from harness.instance import PEERS, build_dir
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

TREE = f"{PEERS}/postfix"
SAMPLES = pathlib.Path(os.environ.get("DROPIN", pathlib.Path(__file__).parents[3] / "shared/dropin/configs"))
EXAMPLES = int(os.environ.get("POSTCONF_EXAMPLES", "40"))

pytestmark = pytest.mark.skipif(not os.path.exists(f"{TREE}/usr/sbin/postconf"), reason=f"no Debian Postfix in {TREE}")
rounds = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

# Why a default is not that of 3.7.
DEFAULTS = {
    "address_verify_map": "3.11: default_cache_db_type", "postscreen_cache_map": "3.11: default_cache_db_type",
    "alias_database": "3.11: default_database_type", "alias_maps": "3.11: default_database_type",
    "import_environment": "3.12: XDG_RUNTIME_DIR", "milter_default_action": "3.11: shutdown",
    "smtp_tls_dane_insecure_mx_policy": "3.10: dane", "smtp_tls_security_level": "3.11: may, by compatibility_level",
    "smtpd_forbid_bare_newline": "3.9: normalize", "smtpd_forbid_unauth_pipelining": "3.9: yes",
    "tls_export_cipherlist": "3.8: as medium", "tls_low_cipherlist": "3.8: as medium",
    "tls_high_cipherlist": "3.8: old ciphers left out", "tls_medium_cipherlist": "3.8: old ciphers left out",
    "mail_version": "ours", "mail_release_date": "ours", "process_id": "of the process",
    "daemon_directory": "of the build", "html_directory": "of the build", "readme_directory": "of the build",
    "sample_directory": "of the build", "shlib_directory": "of the build", "config_directory": "of the build",
    "meta_directory": "of the build", "manpage_directory": "of the build",
    "command_directory": "of the build", "sendmail_path": "of the build", "mailq_path": "of the build",
    "newaliases_path": "of the build", "data_directory": "of the build", "queue_directory": "of the build",
}


def run(which, directory, *args):
    program = f"{build_dir()}/tools/postconf" if which == "ours" else f"{TREE}/usr/sbin/postconf"
    env = {k: v for k, v in os.environ.items() if k != "MAIL_CONFIG"}
    if which == "peer":
        env["LD_LIBRARY_PATH"] = f"{TREE}/usr/lib/postfix"
    done = subprocess.run([program, "-c", str(directory), *args], capture_output=True, text=True, timeout=60, env=env)
    err = done.stderr.replace(f"{program}: ", "").replace("postconf: ", "").replace(", line 1: logical line", ": logical line").splitlines()
    left_out = (" meant to be ", "missing '=' after attribute name", "missing '}' in")
    return done.returncode, done.stdout, sorted({line for line in err if not any(text in line for text in left_out)})


def compare(directory, *args):
    ours, peer = run("ours", directory, *args), run("peer", directory, *args)
    if ours[0] != 0 and peer[0] != 0:
        return ours
    assert ours == peer, args
    return ours


@pytest.mark.parametrize("name", sorted(os.listdir(SAMPLES)) if SAMPLES.is_dir() else [])
def test_published_configurations_are_shown_as_postfix_shows_them(name):
    for option in ("-n", "-nf", "-Mf", "-Pf", "-F"):
        compare(SAMPLES / name, option)


def test_defaults_are_those_of_postfix_but_for_known_reasons(tmp_path):
    (tmp_path / "main.cf").write_text("")
    (tmp_path / "master.cf").write_text("")
    tables = [dict(line.split(" =", 1) for line in run(who, tmp_path, "-d")[1].splitlines()) for who in ("ours", "peer")]
    ours, peer = tables
    assert not set(peer) - set(ours)
    assert not [f"{name} ={ours[name]}, not{peer[name]}" for name in peer
                if ours[name] != peer[name] and name not in DEFAULTS]


# --- generated files ---

NAMES = ["relayhost", "mydestination", "smtpd_recipient_restrictions", "own", "own2", "mua_x", "virtual_alias_maps",
         "relay_destination_concurrency_limit", "smtp_destination_recipient_limit", "queue_run_delay", "default_rbl_reply",
         "mail_name", "maildrop_time_limit", "policy_time_limit", "accounts_server_host", "accounts_foo", "body_checks",
         "smtpd_banner", "stress", "nosuch_thing"]
VALUES = ["", "a", "a b", "a,  b", "${own}", "$(own2)", "${own?x}", "${own:y}", "${own?{x}:{y}}", "${own ? {x} : {y}}",
          "${{$stress} == {a} ? {b} : {c}}", "$$", "$nosuch", "ldap:accounts", "proxy:mysql:accounts", "hash:/etc/x",
          "check_client_access { inline:{a=b}}", '"q"', "5m", "#x", "a # b", "a=b", "= c", "mua_x own", "${{1} <level {2} ? {a}}",
          "${{3} < {20}}", "static:{ a b }", "long " * 30, "x" * 100, "$own-x", "${{a}!={$own}?{x}}", "pgsql:/nonexistent/x.cf"]
ARGUMENTS = ["-o own=x", "-o { own2 = a b }", "-o smtpd_banner=$own", "-v", "flags=Rq user=x argv=/bin/x ${recipient}",
             "-o mua_x=$nosuch", "-o stress=", "-o relayhost=[a]", "-o syslog_name=postfix/x", "-o mynetworks=127.0.0.0/8,[::1]/128",
             "-o nosuch_thing=$own2", "argv=/x #y", "-D", "a" * 70, "-o syslog_name=postfix/$service_name", "-o own2=$process_name",
             "-o { own2 = a $service_name }", "-o service_name=x"]
SERVICES = ["smtp", "relay", "maildrop", "policy", "127.0.0.1:10025", "[::1]:25", "own"]

break_in = st.sampled_from(["", "", "# c\n", "\n", "   \n", " # c\n"])
blank = st.sampled_from(["", " ", "\t", "  "])
entry = st.builds(lambda b, n, x, y, v, more: f"{b}{n}{x}={y}{v}" + "".join(f"\n{c}{i}{w}" for c, i, w in more) + "\n", break_in,
                  st.sampled_from(NAMES), blank, blank, st.sampled_from(VALUES),
                  st.lists(st.tuples(break_in, st.sampled_from([" ", "\t", "    "]), st.sampled_from(VALUES)), max_size=2))
# Circles of names end Postfix's postconf, whatever it was asked; ours, too, but the tests would then see nothing else.
main_cf = st.lists(entry, max_size=7).map("".join).filter(lambda text: "\nown" not in "\n" + text or not re.search(r"\$[({]?own", text.split("own", 1)[1]))
fields = st.builds(lambda s, t, p, u, c, w, m, cmd: [s, t, "n" if t == "inet" else p, u, c, w, m, cmd], st.sampled_from(SERVICES),
                   st.sampled_from(["unix", "unix", "inet", "inet", "fifo", "pass"]), st.sampled_from("-yn"), st.sampled_from("-yn"),
                   st.sampled_from("-yn"), st.sampled_from(["-", "0", "60", "1000?"]), st.sampled_from(["-", "0", "1", "50"]),
                   st.sampled_from(["smtp", "smtpd", "pipe", "spawn", "cleanup", "local", "virtual", "lmtp", "qmgr", "error"]))
service = st.builds(lambda b, f, sep, args: b + sep.join(f) + "".join(s + a for s, a in args) + "\n",
                    st.sampled_from(["", "# c\n", "\n"]), fields, st.sampled_from([" ", "  ", "\t"]),
                    st.lists(st.tuples(st.sampled_from([" ", "\n  ", "\n# c\n  "]), st.sampled_from(ARGUMENTS)), max_size=3))
master_cf = st.lists(service, max_size=4).map("".join)
shown = st.sampled_from([["-n"], ["-nf"], ["-x", "mail_name", "smtpd_banner"], ["-h", "own"], ["-H", "relayhost", "nosuch"], ["-Mf"], ["-M", "smtp"],
                         ["-Mf", "smtp/inet", "*/unix"], ["-F"], ["-Ff", "smtp"], ["-Fh", "*/*/command"], ["-P"], ["-Pf"],
                         ["-Ph", "*/*/own"], ["-C", "user"], ["-C", "service"], ["-d", "mail_name"],
                         ["-o", "stress=zz", "-x", "mail_name"], ["-nH"], ["-PH"], ["-M", "nosuch/inet"], ["-Px"], ["-Px", "*/unix/own2"],
                         ["-Mx"], ["-Mfx"], ["-Fx"], ["-o", "own=zz", "-Px"], ["-o", "process_name=zz", "-x", "mail_name"]])


def put(directory, main, master):
    (directory / "main.cf").write_text(main)
    (directory / "master.cf").write_text(master)
    os.utime(directory / "main.cf", (1, 1))  # Postfix waits for a file that is young


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("postconf")


@rounds
@given(main_cf, master_cf, shown)
def test_generated_files_are_shown_alike(place, main, master, args):
    names = [tuple(line.split()[:2]) for line in master.splitlines() if line[:1].strip() and line[0] != "#"]
    assume(len(set(names)) == len(names) or not any(arg.startswith("-P") for arg in args))
    put(place, main, master)
    compare(place, *args)


def master_text(place, args):
    """master.cf; where comments may stand elsewhere, its other lines and then those."""
    lines = (place / "master.cf").read_text().splitlines()
    if args[0][1] not in "FP":
        return lines
    is_comment = [not line.strip() or line.strip()[0] == "#" for line in lines]
    return [line for line, comment in zip(lines, is_comment) if not comment] + [line for line, comment in zip(lines, is_comment) if comment]


target = st.builds(lambda s, t: f"{s}/{t}", st.sampled_from(SERVICES), st.sampled_from(["inet", "unix", "*"]))
edits = st.one_of(
    st.builds(lambda n, v: ["-e", f"{n} = {v}"], st.sampled_from(NAMES), st.sampled_from(VALUES)),
    st.builds(lambda o, n: [o, n], st.sampled_from(["-#", "-X"]), st.sampled_from(NAMES)),
    st.builds(lambda o, t: [o, t], st.sampled_from(["-M#", "-MX"]), target),
    st.builds(lambda s, t, a: ["-Me", f"{s}/{t}={s} {t} - n n - - smtp {a}"], st.sampled_from(SERVICES), st.sampled_from(["inet", "unix"]),
              st.sampled_from(ARGUMENTS)),
    st.builds(lambda t, f: ["-Fe", f"{t}/{f}"], target, st.sampled_from(["chroot=n", "wakeup=60?", "process_limit=5", "command=smtp -v", "bogus=1"])),
    st.builds(lambda t, n, v: ["-Pe", f"{t}/{n}={v}"], target, st.sampled_from(["own", "stress", "new"]), st.sampled_from(["", "a", "$own", "5"])),
    st.builds(lambda t, n: ["-PX", f"{t}/{n}"], target, st.sampled_from(["own", "stress", "new"])),
)


@rounds
@given(main_cf, master_cf, edits)
def test_generated_files_are_edited_alike(place, main, master, args):
    results = []
    for which in ("ours", "peer"):
        put(place, main, master)
        results.append((run(which, place, *args), (place / "main.cf").read_text(), master_text(place, args)))
    assert results[0] == results[1], args


# --- options together ---


@pytest.mark.parametrize("first", "abdefFhHlmMnpPtxX#")
def test_pairs_of_options_are_refused_as_postfix_refuses_them(tmp_path, first):
    refused = "specify one of|do not specify"
    for second in "aAbdefFhHlmMnpPtxX#":
        if first > second:
            put(tmp_path, "relayhost = q\n", "smtp inet n - n - - smtpd -o a=1\n")
            said = [bool(re.search(refused, "\n".join(run(which, tmp_path, f"-{first}{second}", "relayhost")[2]))) for which in ("ours", "peer")]
            assert said[0] == said[1], first + second
            assert (tmp_path / "main.cf").read_text() == "relayhost = q\n" or not said[0]
    if first in "dfhHnx":
        assert "specify one of" in "".join(run("ours", tmp_path, f"-{first}", "relayhost = a")[2])
        assert (tmp_path / "main.cf").read_text() == "relayhost = q\n"


# --- texts of notices ---

TEMPLATES = ["failure_template = <<EOF", "delay_template=<<  EOF", " success_template = <<EOF  ", "verify_template =\t<<EOF", "failure_template = <<X Y",
             "nosuch_template = <<EOF", "delay_template = one line", "failure_template = <<'EOF'", "failure_template = <<", "failure_template <<EOF",
             "# comment", "", "  ", "= x", "success_template =", "Failure_template = <<EOF"]
TEMPLATE_HEADERS = ["From: a", "from:b <c>", "Subject : x", "SUBJECT:  y z ", "Postmaster-Subject: p", "Charset: utf-8", "Charset: US-ASCII", "Charset:",
                    "Foo: bar", "Subject: \u00fc", " Subject: no", ":x", "Subject", "Charset: iso-8859-1"]
TEMPLATE_LINES = ["plain", "", " ", "$$", "$myhostname and ${mydomain}", "$(own)", "${own?x}", "${nosuch:y}", "$nosuch", "${", "$delay_warning_time_hours",
                  "$maximal_queue_lifetime_days d", "$delay_warning_time_foo", "\u00dcbung", ".dot", "#x", "$maximal_queue_lifetime_seconds", "$empty.", "From: b"]
template = st.builds(lambda start, headers, blank, body, end: [start, *headers, *blank, *body, *end], st.sampled_from(TEMPLATES),
                     st.lists(st.sampled_from(TEMPLATE_HEADERS), max_size=2), st.sampled_from([[""], [""], [" "], ["", ""], []]),
                     st.lists(st.sampled_from(TEMPLATE_LINES), max_size=4), st.sampled_from([["EOF"], ["EOF"], ["EOF"], ["EOF", "X Y"], ["EOF "], []]))


def templates_shown(which, directory, option):
    """The exit code; if it is 0, {name: what stands between <<EOF and EOF} without what is built in, and whether the tool complained."""
    code, out, err = run(which, directory, option, str(directory / "bounce.cf"))
    if code != 0:
        return code, {}, False
    found = dict(re.findall(r"^(\w+) = <<EOF\n(.*?\n)EOF\n(?=\n\w+ = <<EOF\n|\Z)", out, re.S | re.M))
    ignored = any("ignoring this template" in line or "result \"" in line for line in err)
    return code, {name: text.split("This is the mail system at host ")[0] for name, text in found.items()}, ignored


@rounds
@given(parts=st.lists(template, min_size=1, max_size=3), option=st.sampled_from(["-b", "-t"]))
def test_templates_of_notices_are_shown_as_postfix_shows_them(parts, option, place):
    put(place, "compatibility_level = 3.6\nmyhostname = h.test\nmydomain = d.test\nown = value of $myhostname\nempty =\n"
        f"delay_warning_time = 90m\ndaemon_directory = {TREE}/usr/lib/postfix/sbin\nmail_owner = daemon\nsetgid_group = games\n", "")
    (place / "bounce.cf").write_text("".join(line + "\n" for part in parts for line in part), encoding="utf-8")
    os.utime(place / "bounce.cf", (1, 1))
    assert templates_shown("ours", place, option) == templates_shown("peer", place, option)
