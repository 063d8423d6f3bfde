# SPDX-License-Identifier: Apache-2.0
"""postmap and postalias beside Debian's, on generated tables: the same answers, exit codes and messages. Needs Debian's programs in the
tree $PEERS/postfix; $POSTMAP_EXAMPLES says how many tables of each kind (default 25)."""
import os
import re
import subprocess

import pytest
from harness.instance import PEERS, build_dir
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

TREE = f"{PEERS}/postfix"
PLUGINS = os.environ.get("PEER_PLUGINS", f"{TREE}/usr/lib/postfix")
EXAMPLES = int(os.environ.get("POSTMAP_EXAMPLES", "25"))

pytestmark = pytest.mark.skipif(not os.path.exists(f"{TREE}/usr/sbin/postmap"), reason=f"no Debian Postfix in {TREE}")
rounds = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    directory = tmp_path_factory.mktemp("postmap")
    (directory / "main.cf").write_text(
        f"compatibility_level=3.6\nmail_owner=daemon\nsetgid_group=games\nmyhostname=h.test\n"
        f"shlib_directory={PLUGINS}\nmeta_directory={directory}\nqueue_directory={directory}\ndata_directory={directory}\n"
    )
    (directory / "dynamicmaps.cf").write_text(
        "pcre postfix-pcre.so dict_pcre_open\nlmdb postfix-lmdb.so dict_lmdb_open mkmap_lmdb_open\n"
        "cdb postfix-cdb.so dict_cdb_open mkmap_cdb_open\n"
    )
    return directory


def normal(text, directory):
    """Messages without what differs for a reason: names of files of another kind, words of the C library's errors."""
    text = text.replace(str(directory), "DIR")
    text = re.sub(r"DIR/t\.(db|lmdb|cdb)|\b(hash|lmdb|cdb|btree):DIR/t\b", "TABLE", text)
    # where Postfix names the source and we the file
    text = re.sub(r"(warning: )(DIR/t|TABLE): duplicate", r"\1TABLE: duplicate", text)
    return text


def run(which, tool, directory, *args, text=""):
    program = f"{build_dir()}/tools/{tool}" if which == "ours" else f"{TREE}/usr/sbin/{tool}"
    env = dict(os.environ)
    if which == "peer":
        env["LD_LIBRARY_PATH"] = f"{TREE}/usr/lib/postfix"
    done = subprocess.run([program, "-c", str(directory), *args], input=text.encode("utf-8", "surrogateescape"),
                          capture_output=True, timeout=60, env=env, cwd=directory)
    out = done.stdout.decode("utf-8", "surrogateescape")
    err = done.stderr.decode("utf-8", "surrogateescape")
    # Postfix opens some tables more than once
    return done.returncode, out, list(dict.fromkeys(normal(err, directory).splitlines()))


def compare(tool, directory, *args, text="", ordered=True):
    ours = run("ours", tool, directory, *args, text=text)
    peer = run("peer", tool, directory, *args, text=text)
    if not ordered:
        ours, peer = ((r[0], sorted(r[1].splitlines()), sorted(r[2])) for r in (ours, peer))
        ours, peer = tuple(ours), tuple(peer)
    assert ours[:2] == peer[:2], args
    # which lines they complain of, and whether they give up; the words may differ
    lines = [sorted(set(re.findall(r"line (\d+)", "\n".join(m for m in r[2] if "must not start" not in m)))) for r in (ours, peer)]
    assert lines[0] == lines[1], (ours[2], peer[2])
    fatal = [any(": fatal: " in line for line in r[2]) for r in (ours, peer)]
    assert fatal[0] == fatal[1], (ours[2], peer[2])
    return ours


def write(directory, lines):
    (directory / "t").write_bytes("".join(line + "\n" for line in lines).encode("utf-8", "surrogateescape"))


# ---- fixed keys ----

word = st.text(alphabet='abcXY019.@+-_%"\\\'(),:;<>[]{}$#!=/é', min_size=1, max_size=8)
blank = st.sampled_from([" ", "\t", "  ", " \t "])
pair = st.builds(lambda k, b, v, e: k + b + v + e, word, blank, st.lists(word, max_size=3).map(" ".join), st.sampled_from(["", " "]))
odd = st.sampled_from(["", " ", "#comment", " # indented comment", "  continued here", "\tx", "key", '"a b" quoted key', '"a b',
                       "k: v", "KEY upper", "key lower", "ÄÖ fold", "é x", "x \udcff", "\udcfe y", "a\\ b c", '"a\\"b" c', "# \\"])
source = st.lists(st.one_of(pair, pair, odd), max_size=12)


@rounds
@given(lines=source, extra=st.lists(word, max_size=5), flags=st.sampled_from([[], [], ["-w"], ["-r"], ["-f"]]))
def test_fixed_keys_answer_as_postfix_does(place, lines, extra, flags):
    write(place, lines)
    keys = extra + [line.split()[0] for line in lines if line.split()] + ["KEY", "äö", '"a b"', ""]
    keys = "".join(key + "\n" for key in keys)
    compare("postmap", place, "-q", "-", f"texthash:{place}/t", text=keys)
    for name in ("t.lmdb", "t.db"):
        (place / name).unlink(missing_ok=True)
    compare("postmap", place, *flags, f"hash:{place}/t", ordered=False)
    compare("postmap", place, "-q", "-", f"hash:{place}/t", text=keys)
    compare("postmap", place, "-s", f"hash:{place}/t", ordered=False)


@rounds
@given(lines=source)
def test_changes_in_place_are_as_postfix_makes_them(place, lines):
    write(place, ["a 1", "b 2"])
    for name in ("t.lmdb", "t.db"):
        (place / name).unlink(missing_ok=True)
    compare("postmap", place, f"hash:{place}/t")
    text = "".join(line + "\n" for line in lines)
    compare("postmap", place, "-ri", f"hash:{place}/t", text=text, ordered=False)
    keys = "".join(line.split()[0] + "\n" for line in lines[::2] if line.split())
    compare("postmap", place, "-d", "-", f"hash:{place}/t", text=keys)
    compare("postmap", place, "-d", "a", f"hash:{place}/t")
    compare("postmap", place, "-s", f"hash:{place}/t", ordered=False)


# ---- aliases ----

target = st.sampled_from(["bob", "a@b.test", "|/bin/cmd", '"|/bin/cmd x  y"', ":include:/x/y", "/var/mail/x", '"x y"@z', "a.b", "<u@h>",
                          "Name <u@h>", "(comment)", "a\\b", '"q\\"z"', "[1.2.3.4]", "x;", "é", "a b"])
name = st.sampled_from(["root", "ROOT", "a.b", '"a b"', "a b", "x-y", '"q\\"z"', "(c) y", "u@h", "", "é", "k\\z", "p+q", "'s'"])
alias = st.builds(lambda n, s, t: n + s + t, name, st.sampled_from([":", ": ", " : ", ":\t", " "]),
                  st.lists(target, max_size=4).flatmap(lambda l: st.sampled_from([", ", ",", " , ", " "]).map(lambda s: s.join(l))))


@rounds
@given(lines=st.lists(st.one_of(alias, alias, odd), max_size=10))
def test_aliases_are_read_as_postfix_reads_them(place, lines):
    write(place, lines)
    for suffix in ("t.lmdb", "t.db"):
        (place / suffix).unlink(missing_ok=True)
    compare("postalias", place, f"hash:{place}/t", ordered=False)
    ours, peer = (run(which, "postalias", place, "-s", f"hash:{place}/t") for which in ("ours", "peer"))
    strip = lambda r: sorted(line for line in r[1].splitlines() if not line.startswith("YP_LAST_MODIFIED"))
    assert strip(ours) == strip(peer)


# ---- patterns ----

piece = st.sampled_from(["a", "b", "foo", "bar", "@", "\\.", ".", ".*", "x+", "(foo|bar)", "(a)", "([a-c]*)", "[^x]", "^", "$", "\\/", "(b)?", "{2}",
                         "[[:digit:]]+", "example", "|", "ß", "A", "(", "[", "\\b", "(?:z|example)", "test", "é"])
regex = st.lists(piece, min_size=1, max_size=6).map("".join)
result = st.sampled_from(["OK", "$1", "${1}x", "$(1)", "$2", "$$x", "$", "${a}", "REJECT $1 and $2", "", "550 no  blanks", "$1$1", "$0", "${1", "$a"])
rule = st.builds(lambda n, r, f, t: f"{n}/{r}/{f} {t}", st.sampled_from(["", "", "", "!", "! ", "!!"]), regex,
                 st.sampled_from(["", "", "", "i", "m", "x", "ii", "z", "im"]), result)
block = st.sampled_from(["if /foo/", "if !/foo/", "endif", "ENDIF", "IF /a/ extra", "endif x", "if", "ifx", "if /(/", "iffy", "/a", "|a| pipe",
                         "unknown request", "!", "# c", " /b/ indented", "/x/"])
subject = st.lists(st.sampled_from(["a", "b", "foo", "bar", "x", "@", ".", "example", "1", "test", "ß", "É", "Foo", " ", "/"]), min_size=1, max_size=7).map("".join)


def pattern_table(place, kind, lines, keys):
    write(place, lines)
    compare("postmap", place, "-q", "-", f"{kind}:{place}/t", text="".join(key + "\n" for key in ["first", *keys]))


@rounds
@given(lines=st.lists(st.one_of(rule, rule, rule, block), max_size=12), keys=st.lists(subject, max_size=10))
def test_regexp_answers_as_postfix_does(place, lines, keys):
    pattern_table(place, "regexp", lines, keys)


@pytest.mark.skipif(not os.path.exists(f"{PLUGINS}/postfix-pcre.so"), reason="Debian's postfix-pcre is not there")
@rounds
@given(lines=st.lists(st.one_of(rule, rule, rule, block), max_size=12), keys=st.lists(subject, max_size=10))
def test_pcre_answers_as_postfix_does(place, lines, keys):
    pattern_table(place, "pcre", lines, keys)


address = st.sampled_from(["10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "10.1.2.3/32", "0.0.0.0/0", "::/0", "2001:db8::/32", "2001:db8::1", "[2001:db8::]/32",
                           "[::1]", "10.1.2.3/8", "10.0.0.0/33", "10.0.0", "x", "[10.0.0.0/8]", "[10.0.0.0]/8", "[::1", "[::1]x", "10.0.0.0/", "1.2.3.4.5",
                           "::ffff:10.1.2.3", "010.1.2.3", "10.1.2.0/24", "/8", "10.1.2.3/x", "2001:DB8::/32"])
# A rule without text: Postfix 3.7 leaves it out, later ones and ours take an empty text.
cidr_rule = st.builds(lambda n, a, t: f"{n}{a}{t}", st.sampled_from(["", "", "", "!", "! ", "!!"]), address, st.sampled_from([" OK", " one two", "\tX"]))
cidr_block = st.builds(lambda w, n, a, x: f"{w} {n}{a}{x}", st.sampled_from(["if", "IF"]), st.sampled_from(["", "!"]), address, st.sampled_from(["", " x"]))
cidr_odd = st.sampled_from(["endif", "ENDIF x", "endif", "if", "# c", " 10.0.0.0/8 indented", "!", "iffy", "endifx"])
host = st.sampled_from(["10.1.2.3", "10.1.2.4", "10.2.0.1", "192.0.2.1", "2001:db8::1", "2001:db8:0:0::2", "::1", "x", "", "10.1.2.3 ", "[::1]",
                        "::ffff:10.1.2.3", "010.1.2.3", "2001:DB8::1"])


@rounds
@given(lines=st.lists(st.one_of(cidr_rule, cidr_rule, cidr_rule, cidr_block, cidr_odd), max_size=14), keys=st.lists(host, max_size=10))
def test_cidr_answers_as_postfix_does(place, lines, keys):
    write(place, lines)
    compare("postmap", place, "-q", "-", f"cidr:{place}/t", text="".join(key + "\n" for key in ["first", *keys]))


# ---- tables in a name ----

@pytest.mark.parametrize("table", [
    "inline:{a=b}", "inline:{ a=b, c = d }", "inline:{ {a = b c} , {d=e} }", "inline:{}", "inline:{a}", "inline:{=b}", "inline:a=b", "inline:{a=}",
    "inline:{a=b, a=c}", "inline:{A=b}", "static:x", "static:{x y}", "static:{ x y }", "static:{x", "static:", "fail:x", "fail:",
    "unionmap:{static:a, inline:{a=b}}", "unionmap:{static:a,static:b}", "unionmap:{}", "unionmap:{static}", "unionmap:static:a",
    "pipemap:{inline:{a=b},inline:{b=c}}", "pipemap:{inline:{a=x},inline:{b=c}}", "pipemap:{}", "randmap:{x}", "randmap:{}", "randmap:x",
    "regexp:{{/a/ b}}", "regexp:{ {/(a)/ $1$1} {/x/ y} }", "regexp:{}", "regexp:{/a/ b}", "cidr:{{10.0.0.0/8 x}}", "nosuch:x", "hash:", ":x",
    "environ:", "environ:x", "unix:passwd.byname", "unix:group.byname", "unix:x", "dbm:x",
])
def test_tables_in_a_name_answer_as_postfix_does(place, table):
    ours, peer = (run(which, "postmap", place, "-q", "-", table, text="a\nA\nb\nx\nroot\n10.1.1.1\nHOME\n") for which in ("ours", "peer"))
    assert ours[:2] == peer[:2], (ours, peer)
