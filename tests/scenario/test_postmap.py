# SPDX-License-Identifier: Apache-2.0
"""postmap and postalias: files, rights, damaged tables, tables that change."""
import json
import os
import re
import pathlib
import pwd
import shutil
import stat
import subprocess
import tempfile
import time

import pytest
from harness.instance import build_dir


class Tables:
    def __init__(self, directory):
        self.directory = directory
        (directory / "main.cf").write_text("compatibility_level=3.6\nmyhostname=h.test\n")

    def path(self, name):
        return self.directory / name

    def run(self, *args, tool="postmap", text="", status=0):
        done = subprocess.run([f"{build_dir()}/tools/{tool}", "-c", str(self.directory), *map(str, args)], input=text, capture_output=True, text=True, timeout=60)
        assert done.returncode == status, done.stderr
        self.messages = done.stderr
        return done.stdout


@pytest.fixture
def tables(tmp_path):
    os.chmod(tmp_path, 0o755)
    if not os.access(f"{build_dir()}/tools/postmap", os.X_OK):
        pytest.fail("no postmap") if os.environ.get("POSTERN_BUILD") else pytest.skip("no postmap")
    return Tables(tmp_path)


def test_a_table_is_made_asked_changed_and_listed(tables):
    tables.path("t").write_text("One first value\ntwo 2\n# no\n  three 3\n")
    for kind in ("hash", "btree", "lmdb"):
        tables.run(f"{kind}:{tables.path('t')}")
    assert tables.run("-q", "ONE", f"hash:{tables.path('t')}") == "first value\n"
    tables.run("-q", "nobody", f"hash:{tables.path('t')}", status=1)
    tables.run("-i", f"hash:{tables.path('t')}", text="four 4\n")
    tables.run("-d", "two", f"hash:{tables.path('t')}")
    tables.run("-d", "two", f"hash:{tables.path('t')}", status=1)
    assert tables.run("-s", f"hash:{tables.path('t')}") == "four\t4\none\tfirst value\n"
    assert json.loads(tables.run("-jq", "one", f"hash:{tables.path('t')}")) == {"key": "one", "value": "first value"}


def test_many_entries_survive_a_hundred_changes_in_place(tables):
    tables.path("t").write_text("".join(f"key{i} value{i}\n" for i in range(3000)))
    tables.run(f"lmdb:{tables.path('t')}")
    tables.run("-ri", f"lmdb:{tables.path('t')}", text="".join(f"key{i} new{i}\n" for i in range(0, 3000, 30)))
    answers = dict(line.split("\t") for line in tables.run("-s", f"lmdb:{tables.path('t')}").splitlines())
    assert answers == {f"key{i}": f"{'value' if i % 30 else 'new'}{i}" for i in range(3000)}


def test_a_new_table_takes_mode_from_its_source_and_keeps_what_is_there(tables):
    source, made = tables.path("t"), tables.path("t.lmdb")
    source.write_text("a b\n")
    for mode, wanted in ((0o600, 0o600), (0o640, 0o640), (0o666, 0o644)):
        source.chmod(mode)
        made.unlink(missing_ok=True)
        tables.run(f"lmdb:{source}")
        assert stat.S_IMODE(made.stat().st_mode) == wanted
    made.chmod(0o600)
    tables.run(f"lmdb:{source}")
    assert stat.S_IMODE(made.stat().st_mode) == 0o600
    made.unlink()
    tables.run("-p", f"lmdb:{source}")
    assert stat.S_IMODE(made.stat().st_mode) == 0o644
    assert not tables.path("t.lmdb.tmp").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_root_makes_a_table_as_the_owner_of_its_source_or_directory(tables, request):
    """RELIABILITY.md section 3: postmap by root in a directory that is not root's."""
    user = pwd.getpwnam("nobody")
    theirs = pathlib.Path(tempfile.mkdtemp(prefix="postmap-"))  # where others may enter
    request.addfinalizer(lambda: shutil.rmtree(theirs))
    os.chown(theirs, user.pw_uid, user.pw_gid)
    (theirs / "t").write_text("a b\n")
    tables.run(f"lmdb:{theirs}/t")
    assert (theirs / "t.lmdb").stat().st_uid == user.pw_uid
    # a link to what root alone may write, and one to what root alone may read
    victim = tables.path("victim")
    victim.write_text("precious")
    (theirs / "t.lmdb.tmp").symlink_to(victim)
    tables.run(f"lmdb:{theirs}/t", status=1)
    assert victim.read_text() == "precious"
    secret = tables.path("secret")
    secret.write_text("root secret\n")
    secret.chmod(0o600)
    (theirs / "s").symlink_to(secret)
    tables.run(f"lmdb:{theirs}/s", status=1)
    assert not (theirs / "s.lmdb").exists()


@pytest.mark.parametrize("kind", ["lmdb", "cdb"])
def test_a_damaged_file_is_an_error_and_not_an_answer(tables, kind):
    source, made = tables.path("t"), tables.path(f"t.{kind}")
    source.write_text("".join(f"key{i} {'x' * (i % 50)}y\n" for i in range(500)))
    tables.run(f"{kind}:{source}")
    whole = made.read_bytes()
    for size in (0, 100, 2000, len(whole) // 2):
        made.write_bytes(whole[:size])
        tables.run("-q", "-", f"{kind}:{source}", text="".join(f"key{i}\n" for i in range(500)), status=1)
        assert "fatal" in tables.messages and f"t.{kind}" in tables.messages, (size, tables.messages)
    made.unlink()
    made.mkdir()
    tables.run("-q", "a", f"{kind}:{source}", status=1)
    assert "not a regular file" in tables.messages


def test_a_table_that_is_cut_while_it_is_open_is_an_error_and_no_crash(tables):
    source, made = tables.path("t"), tables.path("t.lmdb")
    source.write_text("".join(f"key{i} {'x' * 200}{i}\n" for i in range(5000)))
    tables.run(f"lmdb:{source}")
    process = subprocess.Popen([f"{build_dir()}/tools/postmap", "-c", str(tables.directory), "-q", "-", f"lmdb:{source}"], text=True, bufsize=1,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdin.write("key1\n")
    assert process.stdout.readline() == f"key1\t{'x' * 200}1\n"
    os.truncate(made, 8192)
    out, err = process.communicate("".join(f"key{i}\n" for i in range(5000)), timeout=60)
    assert process.returncode == 1 and "t.lmdb: the file is damaged" in err


def test_a_table_that_is_replaced_is_seen_by_who_has_it_open(tables):
    source = tables.path("t")
    for kind, suffix in (("lmdb", True), ("texthash", False)):
        source.write_text("a 1\n")
        os.utime(source, (1, 1))
        if suffix:
            tables.run(f"{kind}:{source}")
        process = subprocess.Popen([f"{build_dir()}/tools/postmap", "-c", str(tables.directory), "-q", "-", f"{kind}:{source}"], text=True, bufsize=1,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process.stdin.write("a\n")
        assert process.stdout.readline() == "a\t1\n"
        source.write_text("a 2\n")
        if suffix:
            tables.run(f"{kind}:{source}")
        for _ in range(100):
            time.sleep(0.2)
            process.stdin.write("a\n")
            if process.stdout.readline() == "a\t2\n":
                break
        else:
            pytest.fail(f"{kind}: the new value was never seen")
        process.communicate(timeout=60)


def test_text_that_makes_no_sense_is_told_with_file_and_line(tables):
    source = tables.path("t")
    source.write_text("a 1\n" + "long " + "x" * (2 << 20) + "\nb 2\n")
    tables.run("-q", "a", f"texthash:{source}")
    assert f"{source}, line 2: line is longer" in tables.messages
    source.write_bytes(b"a 1\nb \0 2\n")
    tables.run("-q", "a", f"texthash:{source}", status=1)
    assert f"{source}, line 2: has a NUL byte" in tables.messages
    tables.run("-q", "a", f"texthash:{tables.directory}", status=1)
    assert "is a directory" in tables.messages


def test_a_table_that_vanishes_while_it_is_open_is_an_error(tables):
    source = tables.path("t")
    for kind in ("lmdb", "cdb", "texthash", "regexp"):
        source.write_text("/a/ 1\n" if kind == "regexp" else "a 1\n")
        made = tables.path(f"t.{kind}") if kind in ("lmdb", "cdb") else source
        if made != source:
            tables.run(f"{kind}:{source}")
        process = subprocess.Popen([f"{build_dir()}/tools/postmap", "-c", str(tables.directory), "-q", "-", f"{kind}:{source}"], text=True, bufsize=1,
                                   stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdin.write("a\n")
        assert process.stdout.readline() == "a\t1\n"
        made.unlink()
        for _ in range(100):
            time.sleep(0.2)
            try:
                process.stdin.write("a\n")
            except BrokenPipeError:
                break
            if process.stdout.readline() == "":
                break
        assert process.wait(60) == 1, kind
        assert re.search(rf"open.*{made.name}: No such file", process.stderr.read()), kind


@pytest.mark.skipif(os.getuid() != 0, reason="root is needed to become another user")
def test_an_unreadable_table_is_an_error_that_names_it(request):
    directory = pathlib.Path(tempfile.mkdtemp(prefix="postmap-")) # others may enter it
    request.addfinalizer(lambda: shutil.rmtree(directory))
    os.chmod(directory, 0o755)
    tables = Tables(directory)
    source = tables.path("t")
    source.write_text("a 1\n")
    for kind in ("lmdb", "cdb", "texthash", "regexp", "cidr"):
        made = tables.path(f"t.{kind}") if kind in ("lmdb", "cdb") else source
        if made != source:
            tables.run(f"{kind}:{source}")
        os.chmod(made, 0o600)
        copy = subprocess.run([f"{build_dir()}/tools/postmap", "-c", str(tables.directory), "-q", "a", f"{kind}:{source}"], capture_output=True, text=True,
                              user=65534, group=65534, extra_groups=[], timeout=60)
        os.chmod(made, 0o644)
        assert copy.returncode == 1 and re.search(rf"{made.name}: Permission denied", copy.stderr), (kind, copy.stderr)


def test_a_pattern_that_goes_astray_is_an_error(tables):
    """RELIABILITY.md section 4: (a+)+ must neither hang nor count as no match."""
    tables.path("p").write_text("/^(a+)+$/ REJECT\n/./ OK\n")
    tables.run("-q", "a" * 40 + "!", f"pcre:{tables.path('p')}", status=1)
    assert "match limit exceeded" in tables.messages and "line 1" in tables.messages


@pytest.mark.parametrize("kind", ["pcre", "regexp"])
def test_what_was_matched_is_not_expanded_again(tables, kind):
    """RELIABILITY.md T13."""
    tables.path("p").write_text("/^(.*)@(.*)$/ got $1 at ${2}, $$1\n")
    key = "${run{x}}$2$(1)${mail_name}@$1"
    assert tables.run("-q", key, f"{kind}:{tables.path('p')}") == "got ${run{x}}$2$(1)${mail_name} at $1, $1\n"


@pytest.mark.parametrize("kind", ["pcre", "regexp"])
def test_the_first_of_many_patterns_decides(tables, kind):
    rules = [f"/word{i}x/ {i}" for i in range(0, 400)] + ["if /block/", "/^[a-z]+ 1$/ shape", "!/word/ none", "endif", "/word/ rest"]
    tables.path("p").write_text("\n".join(rules) + "\n")
    wanted = {"word7x and word3x": "3", "Word399X": "399", "word400x": "rest", "block 1": "shape", "a block": "none", "block word": "rest"}
    answers = tables.run("-q", "-", f"{kind}:{tables.path('p')}", text="".join(k + "\n" for k in [*wanted, "other"]))
    assert dict(line.split("\t") for line in answers.splitlines()) == wanted


def test_header_fields_and_body_lines_of_a_message_are_keys(tables):
    tables.path("p").write_text("/^Subject: (.*)/ S:$1\n/^X-Inner/ inner\n/body/ B\n")
    message = "From: a\nSubject: one\n  two\nContent-Type: multipart/mixed; boundary=b\n\nbody of none\n--b\nX-Inner: 1\n\nbody text\n--b--\n"
    table = f"regexp:{tables.path('p')}"
    assert tables.run("-hq", "-", table, text=message) == "Subject: one\n  two\tS:one\n  two\n"
    assert "X-Inner: 1\tinner\n" in tables.run("-hmq", "-", table, text=message)
    assert "body text\tB\n" in tables.run("-bq", "-", table, text=message)


def test_aliases_have_one_form_and_the_marks_that_others_look_for(tables):
    tables.path("al").write_text('Root:  bob ,carol\n"John Doe": "|/bin/x  y"\nbad line\n')
    tables.run(f"hash:{tables.path('al')}", tool="postalias")
    assert "line 3: need name:value pair" in tables.messages
    listed = dict(line.split(":\t") for line in tables.run("-s", f"hash:{tables.path('al')}", tool="postalias").splitlines())
    assert listed.pop("YP_LAST_MODIFIED").isdigit()
    assert listed == {"root": "bob, carol", "john doe": '"|/bin/x  y"', "@": "@", "YP_MASTER_NAME": "h.test"}
