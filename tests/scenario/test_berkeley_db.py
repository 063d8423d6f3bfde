# SPDX-License-Identifier: Apache-2.0
"""Tables of Berkeley DB, as an old installation has them: read by the module, made anew at the start where there is a text source."""
import os
import pwd
import shutil
import stat
import struct
import subprocess
import tempfile

import pytest
from harness import Client
from harness.instance import PEERS, build_dir

LOAD = "/usr/bin/db5.3_load"
MODULES = f"{os.path.abspath(build_dir())}/lib/table"
TREE = f"{PEERS}/postfix"

pytestmark = [pytest.mark.skipif(not os.path.exists(LOAD), reason=f"no {LOAD}"),
              pytest.mark.skipif(not os.path.exists(f"{MODULES}/postern-db.so"), reason="built without Berkeley DB")]
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs files of several owners")


def make_db(path, pairs, kind="hash", nul="\\00"):
    """A file as Postfix's postmap writes it: a NUL behind keys and values."""
    quoted = "".join(f"{text}{nul}\n" for pair in pairs for text in pair)
    subprocess.run([LOAD, "-T", "-t", kind, str(path)], input=quoted, text=True, check=True, timeout=60)


class Place:
    def __init__(self, directory):
        self.directory = directory
        self.configure(MODULES)

    def configure(self, modules):
        (self.directory / "main.cf").write_text(f"compatibility_level=3.6\nmyhostname=h.test\nshlib_directory={modules}\n")

    def run(self, *args, text="", status=0, tool="postmap"):
        done = subprocess.run([f"{build_dir()}/tools/{tool}", "-c", str(self.directory), *map(str, args)], input=text, capture_output=True,
                              text=True, timeout=60)
        assert done.returncode == status, done.stderr
        self.messages = done.stderr
        return done.stdout


@pytest.fixture
def place(tmp_path):
    os.chmod(tmp_path, 0o755)
    return Place(tmp_path)


@pytest.mark.parametrize("kind", ["hash", "btree"])
@pytest.mark.parametrize("nul", ["\\00", ""])
def test_a_file_without_a_source_is_read(place, kind, nul):
    pairs = {f"key{i}": f"value {i}" for i in range(3000)}
    pairs["long"] = "x" * 20000
    make_db(place.directory / "t.db", pairs.items(), kind, nul)
    table = f"{kind}:{place.directory}/t"
    assert place.run("-q", "KEY77", table) == "value 77\n"
    assert place.run("-q", "long", table) == "x" * 20000 + "\n"
    place.run("-q", "none", table, status=1)
    assert not place.messages
    assert dict(line.split("\t") for line in place.run("-s", table).splitlines()) == pairs


@pytest.mark.parametrize("kind", ["hash", "btree"])
def test_a_file_that_postfix_made_is_read(place, kind):
    if not os.path.exists(f"{TREE}/usr/sbin/postmap"):
        pytest.skip(f"no Debian Postfix in {TREE}")
    peer = place.directory / "peer"
    peer.mkdir()
    (peer / "main.cf").write_text(f"compatibility_level=3.6\nmail_owner=daemon\nsetgid_group=games\nmyhostname=h.test\nqueue_directory={peer}\n"
                                  f"shlib_directory={TREE}/usr/lib/postfix\nmeta_directory={peer}\ndata_directory={peer}\n")
    lines = [f"user{i}@B.test one{i}, two{i}\n" for i in range(2000)]
    (place.directory / "t").write_text("".join(lines))
    subprocess.run([f"{TREE}/usr/sbin/postmap", "-c", str(peer), f"{kind}:{place.directory}/t"], check=True, timeout=60,
                   env=dict(os.environ, LD_LIBRARY_PATH=f"{TREE}/usr/lib/postfix"))
    (place.directory / "t").unlink()
    answers = place.run("-s", f"{kind}:{place.directory}/t").splitlines()
    assert sorted(answers) == sorted(line.strip().lower().replace(" ", "\t", 1) for line in lines)


def test_a_missing_module_is_told_and_is_no_answer(place):
    make_db(place.directory / "t.db", [("a", "1")])
    place.configure(place.directory)
    for tool in ("postmap", "postalias"):
        assert place.run("-q", "a", f"hash:{place.directory}/t", status=1, tool=tool) == ""
        assert "need the package postern-db" in place.messages and "no " + str(place.directory / "t") + " to make it from" in place.messages
    (place.directory / "t").write_text("a 1\n")
    place.run("-q", "a", f"hash:{place.directory}/t", status=1)
    assert f'"postmap {place.directory}/t" makes it' in place.messages


def test_such_a_file_is_never_hidden_by_one_change_and_never_written(place):
    file, table = place.directory / "t.db", f"hash:{place.directory}/t"
    make_db(file, [("a", "1"), ("b", "2")])
    before = file.read_bytes()
    place.run("-i", table, text="c 3\n", status=1)
    assert "can only be read" in place.messages
    place.run("-d", "a", table, status=1)
    assert "can only be read" in place.messages
    assert not (place.directory / "t.lmdb").exists() and file.read_bytes() == before
    # the way that the message names
    place.run("-i", f"lmdb:{place.directory}/t", text=place.run("-s", table))
    place.run("-i", table, text="c 3\n")
    assert place.run("-s", table) == "a\t1\nb\t2\nc\t3\n"
    assert file.read_bytes() == before


def page_size(data):
    return struct.unpack_from("<I", data, 20)[0]


def damaged(data):
    """(name, bytes): a file that was cut, that is noise, that is of a newer kind, whose leaves lead round in a circle."""
    size = page_size(data)
    yield "cut", data[:len(data) // 2 + 7]
    yield "noise", b"\x5a" * len(data)
    yield "empty", b""
    yield "version", data[:16] + struct.pack("<I", 99) + data[20:]
    circle = bytearray(data)
    leaves = [at for at in range(0, len(data), size) if data[at + 25] == 5]
    assert len(leaves) > 2
    for leaf in leaves:
        struct.pack_into("<I", circle, leaf + 16, leaves[0] // size)
    yield "circle", bytes(circle)
    counts = bytearray(data)
    for leaf in leaves:
        struct.pack_into("<H", counts, leaf + 20, 0xfffe)
    yield "counts", bytes(counts)
    places = bytearray(data)
    for leaf in leaves:
        places[leaf + 26:leaf + 426] = b"\xff\xfe" * 200
    yield "places", bytes(places)


def test_a_damaged_file_is_an_error_and_no_crash(place):
    file, table = place.directory / "t.db", f"btree:{place.directory}/t"
    make_db(file, [(f"key{i:05}", f"value {i}") for i in range(2000)], "btree")
    for name, data in damaged(file.read_bytes()):
        file.write_bytes(data)
        place.run("-q", "key01999", table, status=1)
        assert f"open database {file}: " in place.messages, name
    file.unlink()
    file.mkdir()
    place.run("-q", "key01999", table, status=1)
    assert "not a regular file" in place.messages


@needs_root
def test_the_library_is_nobody_and_reaches_nothing(place):
    """The file is readable to root alone: it is opened by us and by nobody else."""
    file = place.directory / "t.db"
    make_db(file, [("a", "1")])
    os.chmod(file, 0o600)
    trace = place.directory / "trace"
    done = subprocess.run(["strace", "-f", "-o", str(trace), "-e", "trace=setresuid,openat,pread64,capset", f"{build_dir()}/tools/postmap", "-c",
                           str(place.directory), "-q", "a", f"hash:{place.directory}/t"], capture_output=True, text=True, timeout=60)
    assert done.stdout == "1\n", done.stderr
    lines = trace.read_text().splitlines()
    left = next(i for i, line in enumerate(lines) if "setresuid(65534, 65534, 65534)" in line)
    reader = lines[left].split()[0]
    opened = [line for line in lines[left:] if line.startswith(reader) and "openat(" in line]
    assert opened and all("/proc/self/fd/" in line or " = -1 " in line for line in opened)


def rcpt(mail, recipient="a@b.test"):
    with Client(mail.port) as smtp:
        smtp.ehlo("c.test")
        smtp.cmd("MAIL FROM:<a@src.test>")
        return smtp.cmd(f"RCPT TO:<{recipient}>").code


def test_a_daemon_answers_from_such_a_file_and_sees_it_change(make_mail, sink):
    mail = make_mail(relay=sink, start=False)
    make_db(f"{mail.etc}/access.db", [("a@b.test", "550 no")])
    mail.settings.update({"shlib_directory": MODULES, "smtpd_recipient_restrictions": f"check_recipient_access hash:{mail.etc}/access"})
    mail.write_config()
    mail.start()
    assert rcpt(mail) == 550 and rcpt(mail, "x@b.test") == 250
    make_db(f"{mail.etc}/new.db", [("a@b.test", "551 moved")])
    with open(f"{mail.etc}/new.db", "rb") as new, open(f"{mail.etc}/access.db", "r+b") as old:
        old.write(new.read())  # in its place, as Postfix's postmap does
    mail.wait(lambda: rcpt(mail) == 551, 30, "the change to be seen")
    assert not mail.complaints()


def test_a_daemon_without_the_module_defers(make_mail, sink):
    mail = make_mail(relay=sink, start=False)
    make_db(f"{mail.etc}/access.db", [("a@b.test", "550 no")])
    mail.settings.update({"shlib_directory": mail.etc, "smtpd_recipient_restrictions": f"check_recipient_access hash:{mail.etc}/access"})
    mail.write_config()
    mail.start()
    assert rcpt(mail) == 451 and rcpt(mail, "x@b.test") == 451
    assert mail.wait_log("need the package postern-db")


# ---- what `postfix start` makes anew ----

def old_installation(make_mail, sink, **settings):
    mail = make_mail(relay=sink, start=False)
    mail.settings.update({"shlib_directory": MODULES, **settings})
    mail.write_config()
    return mail


def table(path, pairs, owner=None, separator=" "):
    """A source and its FILE.db, which is newer."""
    with open(path, "w") as source:
        source.writelines(f"{key}{separator}{value}\n" for key, value in pairs)
    make_db(f"{path}.db", pairs)
    os.utime(path, (1000000000, 1000000000))
    if owner:
        for file in (path, f"{path}.db"):
            os.chown(file, owner.pw_uid, owner.pw_gid)


def postfix_start(mail):
    done = mail.command("postfix", "start")
    mail.wait_port(mail.port, 30)
    mail._read_master()
    return done.stdout


def content(directory):
    """Of each file: its bytes, owner, mode and time."""
    found = {}
    for name in os.listdir(directory):
        st = os.lstat(f"{directory}/{name}")
        with open(f"{directory}/{name}", "rb") as f:
            found[name] = (f.read(), st.st_uid, st.st_gid, st.st_mode, st.st_mtime)
    return found


def test_an_old_installation_starts_as_it_is(make_mail, sink):
    mail = old_installation(make_mail, sink)
    etc = mail.etc
    mail.settings.update({
        "alias_maps": f"hash:{etc}/aliases", "alias_database": f"hash:{etc}/aliases", "maps": f"hash:{etc}", "virtual_alias_domains": "v.test",
        "virtual_alias_maps": f"$maps/virtual, proxy:btree:{etc}/more", "smtpd_recipient_restrictions": f"check_recipient_access btree:{etc}/access",
        "smtpd_sender_restrictions": f"check_sender_access hash:{etc}/sourceless"})
    mail.write_config()
    for name, pairs in {"virtual": [("a@v.test", "a@far.test")], "more": [("b@v.test", "b@far.test")],
                        "access": [("no@far.test", "550 no")]}.items():
        table(f"{etc}/{name}", pairs)
    table(f"{etc}/aliases", [("root", "admin@far.test")], separator=": ")
    os.chmod(f"{etc}/access", 0o640)
    make_db(f"{etc}/sourceless.db", [("bad@src.test", "550 not you")])
    before = content(etc)
    out = postfix_start(mail)
    assert out.count("making ") == 4 and "warning" not in out
    after = content(etc)
    assert {name: after[name] for name in before} == before
    assert set(after) - set(before) == {f"{name}.lmdb" for name in ("aliases", "virtual", "more", "access")}
    assert stat.S_IMODE(os.stat(f"{etc}/access.lmdb").st_mode) == 0o640
    assert "root\tadmin@far.test\n" in mail.command("postalias", "-s", f"hash:{etc}/aliases").stdout.replace(":", "")
    assert rcpt(mail, "a@v.test") == 250 and rcpt(mail, "b@v.test") == 250 and rcpt(mail, "c@v.test") == 550 and rcpt(mail, "no@far.test") == 550
    with Client(mail.port) as smtp:
        smtp.ehlo("c.test")
        smtp.cmd("MAIL FROM:<bad@src.test>")
        assert smtp.cmd("RCPT TO:<a@v.test>").code == 550
    mail.stop()
    assert "making" not in postfix_start(mail)
    assert not mail.complaints()


def test_a_source_that_was_edited_since_is_told(make_mail, sink):
    mail = old_installation(make_mail, sink)
    mail.settings["smtpd_recipient_restrictions"] = f"check_recipient_access hash:{mail.etc}/access"
    mail.write_config()
    table(f"{mail.etc}/access", [("a@b.test", "550 no")])
    with open(f"{mail.etc}/access", "a") as f:
        f.write("c@b.test 550 new\n")
    os.utime(f"{mail.etc}/access", (4000000000, 4000000000))
    assert "access.db was made from it: the changes take effect now" in postfix_start(mail)
    assert rcpt(mail, "c@b.test") == 550


@pytest.fixture
def foreign(request):
    """A directory that belongs to another user, and he."""
    user = pwd.getpwnam("news")
    directory = tempfile.mkdtemp(prefix="tables-")
    request.addfinalizer(lambda: shutil.rmtree(directory))
    os.chmod(directory, 0o755)
    os.chown(directory, user.pw_uid, user.pw_gid)
    return directory, user


def started_with(make_mail, sink, directory, name="t"):
    mail = old_installation(make_mail, sink, smtpd_recipient_restrictions=f"check_recipient_access hash:{directory}/{name}")
    return mail, postfix_start(mail)


def is_made(directory, name="t"):
    return os.path.lexists(f"{directory}/{name}.lmdb")


@needs_root
@pytest.mark.parametrize("place_of", ["his", "his group's", "root's"])
def test_a_table_of_another_user_is_made_as_he(make_mail, sink, foreign, place_of):
    directory, user = foreign
    if place_of != "his":
        os.chown(directory, 0, user.pw_gid)
        os.chmod(directory, 0o2775 if place_of == "his group's" else 0o755)
    table(f"{directory}/t", [("a@b.test", "550 no")], user)
    mail, out = started_with(make_mail, sink, directory)
    if place_of == "root's":  # where he can't put a file
        assert "could not be made" in out and not is_made(directory)
    else:
        assert "could not be made" not in out and os.stat(f"{directory}/t.lmdb").st_uid == user.pw_uid
    assert rcpt(mail) == 550 and rcpt(mail, "x@b.test") == 250


@needs_root
def test_nothing_of_roots_is_reached_through_a_directory_of_another(make_mail, sink, foreign, tmp_path):
    directory, user = foreign
    secret, victim = tmp_path / "secret", tmp_path / "victim"
    secret.write_text("a@b.test 550 secret\n")
    secret.chmod(0o600)
    victim.write_text("precious")
    for name in ("link", "tmp", "hard", "roots", "dblink", "unreadable"):
        table(f"{directory}/{name}", [("a@b.test", "550 no")], user)
    os.unlink(f"{directory}/link")
    os.symlink(secret, f"{directory}/link")
    os.symlink(victim, f"{directory}/tmp.lmdb.tmp")
    os.link(f"{directory}/hard.db", f"{directory}/other")
    os.chown(f"{directory}/roots.db", 0, 0)
    os.rename(f"{directory}/dblink.db", f"{directory}/dblink.real")
    os.symlink("dblink.real", f"{directory}/dblink.db")
    os.chown(f"{directory}/unreadable", 0, 0)
    os.chmod(f"{directory}/unreadable", 0o600)
    names = ("link", "tmp", "hard", "roots", "dblink", "unreadable")
    mail = old_installation(make_mail, sink, smtpd_recipient_restrictions=", ".join(f"check_recipient_access hash:{directory}/{name}" for name in names))
    out = postfix_start(mail)
    for name in names:
        assert not os.path.exists(f"{directory}/{name}.lmdb"), name
        told = f"hash:{directory}/{name} could not be made" if name in ("link", "tmp", "unreadable") else f"{directory}/{name}.lmdb is not made from"
        assert told in out, (name, out)
    assert victim.read_text() == "precious" and os.stat(victim).st_uid == 0
    assert rcpt(mail) == 550 and rcpt(mail, "x@b.test") == 250, "they are read as they are"


@needs_root
def test_a_directory_in_one_that_others_write_is_not_roots(make_mail, sink, foreign):
    """It can be renamed, and another be put in its place."""
    directory, user = foreign
    os.mkdir(f"{directory}/inner", 0o755)
    table(f"{directory}/inner/t", [("a@b.test", "550 no")])
    mail, out = started_with(make_mail, sink, f"{directory}/inner")
    assert "inner/t.lmdb is not made from" in out and not is_made(f"{directory}/inner")
    assert rcpt(mail) == 550


@needs_root
def test_a_directory_that_its_owner_may_not_write(make_mail, sink, foreign):
    directory, user = foreign
    table(f"{directory}/t", [("a@b.test", "550 no")], user)
    os.chmod(directory, 0o555)
    mail, out = started_with(make_mail, sink, directory)
    assert f"table hash:{directory}/t could not be made" in out and not is_made(directory)
    assert rcpt(mail) == 550 and rcpt(mail, "x@b.test") == 250


def test_without_the_module_the_start_names_what_can_not_be_read(make_mail, sink):
    mail = old_installation(make_mail, sink)
    mail.settings.update({"shlib_directory": mail.etc, "smtpd_recipient_restrictions": f"check_recipient_access hash:{mail.etc}/access"})
    mail.write_config()
    make_db(f"{mail.etc}/access.db", [("a@b.test", "550 no")])
    assert "need the package postern-db" in postfix_start(mail)
