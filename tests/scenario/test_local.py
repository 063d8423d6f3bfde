# SPDX-License-Identifier: Apache-2.0
"""Delivery to mailboxes on this host: local(8) and virtual(8)."""
import contextlib
import fcntl
import glob
import grp
import json
import mailbox
import os
import pwd
import random
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import time

import pytest

from harness import Client, inject, send
from harness.instance import PEERS, free_port

CONTENT = b"From: a@src.test\r\nSubject: x\r\n\r\nhello\r\nFrom me\r\n.\r\n"
ROOT = os.geteuid() == 0


@pytest.fixture
def user():
    """Somebody who may have mail: as root an account of the system, else who runs the test."""
    if not ROOT:
        return pwd.getpwuid(os.geteuid()).pw_name
    return next(n for n in ("games", "daemon", "bin") if any(p.pw_name == n for p in pwd.getpwall()))


@pytest.fixture
def place():
    """A directory that every user reaches (pytest's own are closed) and may write to."""
    top = tempfile.mkdtemp(prefix="local-", dir="/tmp")
    os.chmod(top, 0o755)
    os.mkdir(f"{top}/place")
    os.chmod(f"{top}/place", 0o1777)
    yield f"{top}/place"
    shutil.rmtree(top, ignore_errors=True)


def settings(place, **more):
    return {"mydestination": "local.test", "myorigin": "local.test", "mail_spool_directory": place, "alias_maps": "inline:{none=none}",
            "local_recipient_maps": "", "recipient_delimiter": "+", "biff": "no", "forward_path": "", **more}


def own(path, user):
    if ROOT:
        os.chown(path, pwd.getpwnam(user).pw_uid, -1)


def read(path):
    with open(path, "rb") as f:
        return f.read()


def messages(path):
    """Contents of an mbox, by its From_ lines."""
    return re.split(rb"(?m)^From .*\n", read(path))[1:] if os.path.exists(path) else []


def maildir_files(path):
    return sorted(glob.glob(f"{path}/new/*"))


def test_mailbox_gets_the_message(make_mail, place, user):
    mail = make_mail(settings=settings(place))
    assert send("a@src.test", [f"{user}@local.test"], CONTENT, port=mail.port).code == 250
    line = mail.wait_log(r"status=sent \(delivered to mailbox\)")[0].text
    assert f"to=<{user}@local.test>, relay=local," in line and "dsn=2.0.0" in line
    text = read(f"{place}/{user}")
    assert text.startswith(b"From a@src.test  ") and text.endswith(b"\nhello\n>From me\n.\n\n")
    assert f"\nReturn-Path: <a@src.test>\nX-Original-To: {user}@local.test\nDelivered-To: {user}@local.test\n".encode() in text
    assert not os.path.exists(f"{place}/{user}.lock")
    st = os.stat(f"{place}/{user}")
    assert st.st_uid == pwd.getpwnam(user).pw_uid and st.st_mode & 0o777 == 0o600
    assert not mail.complaints()


def test_maildir_gets_the_message(make_mail, place, user):
    mail = make_mail(settings=settings(place + "/"))
    body = CONTENT + b"\x00\xff\r\n" + b"x" * 5000 + b"\r\n"
    assert send("a@src.test", [f"{user}@local.test"], body, port=mail.port).code == 250
    mail.wait_log(r"status=sent \(delivered to maildir\)")
    (name,) = maildir_files(f"{place}/{user}")
    assert read(name).startswith(b"Return-Path: <a@src.test>\n")
    assert read(name).endswith(b"\nhello\nFrom me\n.\n\x00\xff\n" + b"x" * 5000 + b"\n")
    assert os.listdir(f"{place}/{user}/tmp") == []


def test_large_message_arrives_byte_for_byte(make_mail, place, user):
    mail = make_mail(settings=settings(place + "/", message_size_limit="40000000", mailbox_size_limit="40000000"))
    body = bytes(random.Random(1).choice(b"abc.\xe4F") for _ in range(60)) + b"\r\n"
    body = b"Subject: x\r\n\r\n" + body * 50000
    assert send("a@src.test", [f"{user}@local.test", f"{user}+b@local.test"], body, port=mail.port).code == 250
    mail.wait_log(r"status=sent \(delivered to maildir\)", seconds=60, count=2)
    for name in maildir_files(f"{place}/{user}"):
        assert read(name).endswith(body.replace(b"\r\n", b"\n"))


def test_other_programs_locks_are_waited_for(make_mail, place, user):
    """A program that holds the mailbox by fcntl and dotlock, as mail readers do, sees nothing change, and loses nothing."""
    path = f"{place}/{user}"
    with open(path, "w") as f:
        f.write("From x@y  Thu Jan  1 00:00:00 1970\nSubject: old\n\nold\n\n")
    os.chmod(path, 0o600)
    own(path, user)
    mail = make_mail(settings=settings(place))
    box = mailbox.mbox(path)
    box.lock()
    try:
        assert send("a@src.test", [f"{user}@local.test"], CONTENT, port=mail.port).code == 250
        time.sleep(1)
        before = read(path)
        assert len(messages(path)) == 1 and not mail.log(r"status=sent")
        with open(path, "r+b") as f:  # rewritten in place, as mail readers do
            f.write(before.replace(b"old\n\n", b"new\n\n"))
    finally:
        box.unlock()
        box.close()
    mail.wait_log(r"status=sent \(delivered to mailbox\)", seconds=30)
    assert len(messages(path)) == 2 and b"\nnew\n" in read(path)


def test_flock_is_waited_for(make_mail, place, user):
    path = f"{place}/{user}"
    open(path, "w").close()
    os.chmod(path, 0o600)
    own(path, user)
    mail = make_mail(settings=settings(place, mailbox_delivery_lock="flock"))
    with open(path, "r+") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        assert send("a@src.test", [f"{user}@local.test"], CONTENT, port=mail.port).code == 250
        time.sleep(0.7)
        assert read(path) == b""
    mail.wait_log(r"status=sent \(delivered to mailbox\)", seconds=30)


def test_procmail_and_we_take_turns(make_mail, place, user):
    """Both add to one mbox at once; each message stays whole."""
    if not ROOT or not shutil.which("procmail"):
        pytest.skip("needs root and procmail")
    path, count = f"{place}/{user}", 15
    mail = make_mail(settings=settings(place))
    rc = os.path.dirname(place) + "/rc"  # not where everybody may write
    with open(rc, "w") as f:
        f.write(f"MAILDIR={place}\nDEFAULT={path}\nLOCKEXT=.lock\nLOCKSLEEP=1\n:0:\n{path}\n")
    os.chmod(rc, 0o644)

    def others():
        for i in range(count):
            text = f"From p@src.test  Thu Jan  1 00:00:00 1970\nFrom: p\nSubject: p{i}\n\nprocmail {i} end\n".encode()
            subprocess.run(["procmail", "-m", rc], input=text, user=pwd.getpwnam(user).pw_uid, group=grp.getgrnam("mail").gr_gid, extra_groups=[], check=True)
    thread = threading.Thread(target=others)
    thread.start()
    for i in range(count):
        assert send("a@src.test", [f"{user}@local.test"], f"Subject: x\r\n\r\nours {i} end\r\n".encode(), port=mail.port).code == 250
    thread.join()
    mail.wait_log(r"status=sent \(delivered to mailbox\)", seconds=60, count=count)
    found = messages(path)
    assert len(found) == 2 * count
    assert sorted(re.findall(rb"(?m)^(?:ours|procmail) \d+ end$", read(path))) == sorted(
        f"{who} {i} end".encode() for who in ("ours", "procmail") for i in range(count))
    assert all(m.endswith(b"end\n\n") for m in found)


def is_whole(text):
    begin, end = re.search(rb"(?m)^begin (\d+)$", text), re.search(rb"(?m)^end (\d+)\n\n\Z", text)
    return begin and end and begin.group(1) == end.group(1)


@contextlib.contextmanager
def killing(mail, name, pause=0.05):
    """SIGKILL for the instance's processes of that name, at random moments; gives a list of those so far."""
    dice, stop, killed = random.Random(8), threading.Event(), []

    def killer():
        while not stop.is_set():
            for path in glob.glob("/proc/[0-9]*/comm"):
                try:
                    with open(path) as f:
                        mine = f.read() == name + "\n" and os.readlink(os.path.dirname(path) + "/cwd").startswith(mail.base)
                    if mine and dice.random() < 0.5:
                        os.kill(int(path.split("/")[2]), signal.SIGKILL)
                        killed.append(path)
                except OSError:
                    pass
            time.sleep(dice.random() * pause)
    thread = threading.Thread(target=killer)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


def test_killed_couriers_damage_nothing(make_mail, place, user):
    """P2: SIGKILL at any moment: every message that was acknowledged arrives whole, and nothing half is left."""
    mail = make_mail(settings=settings(place, minimal_backoff_time="1s", maximal_backoff_time="2s", queue_run_delay="1s",
                                       local_destination_concurrency_limit="5", virtual_mailbox_domains="v.test", virtual_mailbox_base=place,
                                       virtual_mailbox_maps="static:dir/", virtual_uid_maps=f"static:{pwd.getpwnam(user).pw_uid}",
                                       virtual_gid_maps=f"static:{pwd.getpwnam(user).pw_gid}", virtual_minimum_uid="1",
                                       message_size_limit="20000000", mailbox_size_limit="0", virtual_mailbox_limit="0"))
    dice, count = random.Random(7), 40
    os.mkdir(f"{place}/dir", 0o700)
    os.chown(f"{place}/dir", pwd.getpwnam(user).pw_uid, -1)

    with killing(mail, "courier"):
        with Client(mail.port) as client:
            client.ehlo()
            for i in range(count):
                size = dice.choice([100, 5000, 100000, 2000000])
                body = f"Subject: x\r\n\r\nbegin {i}\r\n".encode() + b"y" * 70 * 1 + (b"z" * 60 + b"\r\n") * (size // 62) + f"end {i}\r\n".encode()
                assert client.send("a@src.test", [f"{user}@local.test" if i % 2 else f"{user}@v.test"], body).code == 250
        time.sleep(3)
    mail.flush()

    def all_there():
        found = read(f"{place}/{user}") if os.path.exists(f"{place}/{user}") else b""
        found += b"".join(read(n) for n in maildir_files(f"{place}/dir"))
        return all(re.search(rb"(?m)^end %d$" % i, found) for i in range(count)) and not mail.queued()
    mail.wait(all_there, 60, "all messages arrive")
    for text in messages(f"{place}/{user}") + [read(n) + b"\n" for n in maildir_files(f"{place}/dir")]:
        assert is_whole(text), text[-300:]


def test_mailbox_is_not_swapped_for_a_link(make_mail, place, user):
    """T33: a user exchanges his mailbox for a link to a file of root's, again and again, while mail comes in."""
    if not ROOT:
        pytest.skip("needs two users")
    victim, path, end = f"{place}/victim", f"{place}/{user}", threading.Event()
    with open(victim, "w") as f:
        f.write("root's\n")
    os.chmod(victim, 0o666)  # the worst case: the file system would let the user write there

    def swap():
        while not end.is_set():
            for make in (lambda: os.symlink(victim, path + ".x"), lambda: os.link(victim, path + ".x"), lambda: os.mkfifo(path + ".x"),
                         lambda: open(path + ".x", "w").close() or own(path + ".x", user)):
                try:
                    make()
                    os.rename(path + ".x", path)
                except OSError:
                    pass
    mail = make_mail(settings=settings(place, deliver_lock_attempts="1"))
    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for i in range(30):
            send("a@src.test", [f"{user}@local.test"], CONTENT, port=mail.port)
        mail.wait_log(r"status=(sent|bounced|deferred)", seconds=60, count=30)
    finally:
        end.set()
        thread.join()
    assert read(victim) == b"root's\n"
    assert not mail.complaints()


def other_user(user):
    return next(p for p in pwd.getpwall() if p.pw_uid not in (0, pwd.getpwnam(user).pw_uid))


@pytest.mark.parametrize("kind", ["directory", "link", "root's link"])
def test_who_was_first_in_a_sticky_spool_gets_no_mail_of_others(make_mail, place, user, kind):
    """T33, for Maildirs: another user has made the directory of that name, where he could take away what comes; or a link to somewhere."""
    if not ROOT:
        pytest.skip("needs users")
    other, path, elsewhere = other_user(user), f"{place}/{user}", f"{os.path.dirname(place)}/elsewhere"
    if kind == "directory":
        made = [path, *(f"{path}/{name}" for name in ("tmp", "new", "cur"))]
        for name in made:
            os.mkdir(name)
            os.chmod(name, 0o777)
            os.chown(name, other.pw_uid, other.pw_gid)
    else:
        os.mkdir(elsewhere, 0o700)
        own(elsewhere, user)
        os.symlink(elsewhere, path)
        os.chown(path, other.pw_uid if kind == "link" else 0, -1, follow_symlinks=False)
    mail = make_mail(settings=settings(place + "/"))
    assert send("a@src.test", [f"{user}@local.test"], CONTENT, port=mail.port).code == 250
    if kind == "root's link":
        mail.wait_log(r"status=sent \(delivered to maildir\)")
        assert len(maildir_files(elsewhere)) == 1
        return
    line = mail.wait_log(r"status=(deferred|bounced|sent)")[0].text
    assert "is not owned by recipient" in line if kind == "directory" else "is a symbolic link" in line, line
    assert not [name for _, _, names in os.walk(path) for name in names] and not (os.path.exists(elsewhere) and os.listdir(elsewhere))


@pytest.mark.parametrize("who", ["owner", "another"])
def test_a_list_is_its_owners_not_that_of_who_links_to_it(make_mail, place, user, who):
    """Where lists may name commands, these run as the list's owner: a link of another's to a file of his makes no list of his of it."""
    if not ROOT:
        pytest.skip("needs users")
    top, other = os.path.dirname(place), other_user(user)
    os.mkdir(f"{top}/lists")
    os.chown(f"{top}/lists", other.pw_uid, -1)
    with open(f"{top}/received", "w") as f:
        f.write(f'"|id -un >{place}/ran"\n')
    own(f"{top}/received", user)
    os.symlink(f"{top}/received", f"{top}/lists/list")
    os.chown(f"{top}/lists/list", pwd.getpwnam(user).pw_uid if who == "owner" else other.pw_uid, -1, follow_symlinks=False)
    mail = make_mail(settings=settings(place, alias_maps=f"inline:{{ {{list = :include:{top}/lists/list}} }}", allow_mail_to_commands="alias, forward, include"))
    assert send("a@src.test", ["list@local.test"], CONTENT, port=mail.port).code == 250
    if who == "owner":
        mail.wait_log(r"status=sent \(delivered to command")
        assert read(f"{place}/ran").decode().strip() == user
    else:
        mail.wait_log(r"dsn=4\.3\.5, status=deferred \(mail system configuration error")
        assert mail.log(r"is a link of another user's") and not os.path.exists(f"{place}/ran")


@pytest.mark.parametrize("kind", ["mbox", "maildir"])
def test_full_disk_defers_and_leaves_nothing(make_mail, place, user, kind):
    if not ROOT:
        pytest.skip("mounts a small file system")
    slash = "/" if kind == "maildir" else ""
    os.mkdir(f"{place}/small", 0o755)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128k,mode=1777", "tmpfs", f"{place}/small"], check=True)
    try:
        mail = make_mail(settings=settings(f"{place}/small{slash}", mailbox_size_limit="0"))
        body = b"Subject: x\r\n\r\n" + b"y" * 70 + b"\r\n" + (b"z" * 70 + b"\r\n") * 1000
        for _ in range(3):
            assert send("a@src.test", [f"{user}@local.test"], body, port=mail.port).code == 250
        mail.wait_log(r"dsn=4\.3\.1, status=deferred \((cannot update mailbox|maildir delivery failed).* No space left on device\)", count=2)
        path = f"{place}/small/{user}"
        if slash:
            (name,) = maildir_files(path)
            assert read(name).endswith(b"z\n") and not os.listdir(f"{path}/tmp") and not os.listdir(f"{path}/cur")
            os.unlink(name)
        else:
            assert len(messages(path)) == 1 and read(path).endswith(b"z\n\n")
            os.unlink(path)
        mail.flush()
        mail.wait_log(r"status=sent", count=2)
        mail.stop()
    finally:
        subprocess.run(["umount", "-l", f"{place}/small"], check=True)


def test_alias_with_many_members_is_one_message(make_mail, place):
    if not ROOT:
        pytest.skip("needs users")
    names = [p.pw_name for p in pwd.getpwall() if p.pw_uid][:15]
    mail = make_mail(settings=settings(place, alias_maps="inline:{{all = %s}}" % " ".join(names)))
    assert send("a@src.test", ["all@local.test"], CONTENT, port=mail.port).code == 250
    mail.wait_log(r"orig_to=<all@local.test>.*delivered to mailbox", count=len(names))
    assert all(len(messages(f"{place}/{n}")) == 1 for n in names)


def couriers(mail):
    """How many processes of single users there are."""
    count = 0
    for path in glob.glob("/proc/[0-9]*/comm"):
        try:
            with open(path) as f:
                count += f.read() == "courier\n" and os.readlink(os.path.dirname(path) + "/cwd").startswith(mail.spool)
        except OSError:
            pass
    return count


@pytest.mark.parametrize("kind", ["mbox", "maildir"])
def test_one_process_stores_for_many_users_as_each_of_them(make_mail, place, kind):
    """What is not simple (a lock, a link, a .forward file) is left to a process of that user alone."""
    if not ROOT:
        pytest.skip("needs users")
    users = [p for p in pwd.getpwall() if p.pw_uid and p.pw_gid][:12]
    names, slash = [p.pw_name for p in users], "/" if kind == "maildir" else ""
    locked, linked, forwarding, taken = names[:4]
    mail = make_mail(settings=settings(place + slash, alias_maps="inline:{{all = %s}}" % " ".join(names), forward_path=f"{place}/$user.forward",
                                       mailbox_delivery_lock="flock"))
    with open(f"{place}/{forwarding}.forward", "w") as f:
        f.write(f"\\{forwarding}\n{place}/{forwarding}.copy\n")
    own(f"{place}/{forwarding}.forward", forwarding)
    outside = os.path.dirname(place) + "/outside"
    if slash:
        os.mkdir(outside, 0o755)
    else:
        open(outside, "w").close()
    os.symlink(outside, f"{place}/{linked}")
    if slash:
        os.mkdir(f"{place}/{taken}", 0o700)  # root's
    with open(f"{place}/{locked}.held", "w"), open(f"{place}/{locked}" if not slash else f"{place}/x", "a") as box:
        if not slash:
            os.fchown(box.fileno(), users[0].pw_uid, users[0].pw_gid)
            os.fchmod(box.fileno(), 0o600)
            fcntl.flock(box, fcntl.LOCK_EX)
        assert send("a@src.test", ["all@local.test"], CONTENT, port=mail.port).code == 250
        mail.wait_log(r"delivered to (mailbox|maildir)", count=len(names) - (3 if slash else 2))
        assert slash or not messages(f"{place}/{locked}")
    failed = {linked, taken} if slash else {linked}
    mail.wait_log(r"orig_to=<all@local.test>, relay=local.*status=(sent|bounced|deferred)", seconds=30, count=len(names) + 1)  # one has a file too
    for p in users:
        path = f"{place}/{p.pw_name}"
        if p.pw_name not in failed:
            (name,) = maildir_files(path) if slash else [path]
            assert slash or len(messages(path)) == 1
            st = os.stat(name)
            assert (st.st_uid, st.st_gid, st.st_mode & 0o777) == (p.pw_uid, p.pw_gid, 0o600), p.pw_name
            assert "X-Original-To: all@local.test\nDelivered-To: ".encode() in read(name) and b"\nhello\n" in read(name)
            assert not slash or os.listdir(f"{path}/tmp") == []
    assert os.path.getsize(f"{place}/{forwarding}.copy") > 0
    assert os.listdir(outside) == [] if slash else os.path.getsize(outside) == 0
    assert 0 < couriers(mail) < len(names) - 3


def test_processes_of_many_users_that_hang_hold_up_nobody_else(make_mail, place):
    """As with a mailbox on a server that has gone: three at a time may be in the hands of such a process."""
    if not ROOT or inject.unavailable():
        pytest.skip("needs users" if not ROOT else inject.unavailable())
    names = [p.pw_name for p in pwd.getpwall() if p.pw_uid and p.pw_gid][:9]
    lists = ", ".join("{list%d = %s}" % (n, " ".join(names)) for n in range(4))
    mail = make_mail(start=False, wrap=["local"], settings=settings(place + "/", alias_maps="inline:{%s}" % lists))
    inject.arm(mail, "local", "-e trace=syncfs -e inject=syncfs:delay_enter=100s")
    mail.start()
    for n in range(4):
        assert send("a@src.test", [f"list{n}@local.test"], CONTENT, port=mail.port).code == 250
    mail.wait_log(r"delivered to maildir", seconds=60, count=len(names))
    assert len({line.queue_id for line in mail.log(r"delivered to maildir")}) == 1
    mail.kill_all()


def test_a_command_that_reads_nothing_keeps_no_other_large_message_waiting(make_mail, place, user):
    """Any user may have such a command in his .forward file."""
    mail = make_mail(settings=settings(place, alias_maps='inline:{ {slow = "|exec sleep 300"} }'))
    body = CONTENT + (b"x" * 70 + b"\r\n") * 40000
    assert send("a@src.test", ["slow@local.test"], body, port=mail.port).code == 250
    mail.wait(lambda: couriers(mail), 20, "the command is started")
    time.sleep(1)
    assert send("a@src.test", [f"{user}@local.test"], body, port=mail.port).code == 250
    mail.wait_log(r"delivered to mailbox", seconds=30)
    assert len(messages(f"{place}/{user}")) == 1 and not mail.log(r"to=<slow@local\.test>")
    mail.kill_all()


def test_files_and_commands_differ_by_case(make_mail, place):
    """An address stands once in a list, however it is written; "Out" and "out" are two files."""
    mail = make_mail(settings=settings(place, alias_maps=f'inline:{{ {{all = {place}/Out, {place}/out, "|cat >{place}/C", "|cat >{place}/c", x@far.test, X@Far.test}} }}',
                                       default_privs=pwd.getpwuid(os.geteuid()).pw_name if not ROOT else "nobody"))
    mail.settings["default_transport"] = "discard"
    mail.write_config()
    mail.reload()
    assert send("a@src.test", ["all@local.test"], CONTENT, port=mail.port).code == 250
    mail.wait_log(r"relay=local.*status=sent", count=5)
    assert all(os.path.getsize(f"{place}/{name}") for name in ("Out", "out", "C", "c"))
    assert len(mail.wait_log(r"relay=none.*to=<x@far\.test>|to=<x@far\.test>, .*relay=none")) == 1


def test_lists_of_lists_do_not_double_with_each_level(make_mail, place, user):
    """40 levels of two lists, each with both of the next: a million million ways, and one message."""
    lists = ["{a%d = a%d b%d}, {b%d = a%d b%d}" % (n, n + 1, n + 1, n, n + 1, n + 1) for n in range(40)]
    mail = make_mail(settings=settings(place, alias_maps="inline:{%s, {a40 = %s}, {b40 = %s}}" % (", ".join(lists), user, user)))
    assert send("a@src.test", ["a0@local.test"], CONTENT, port=mail.port).code == 250
    mail.wait_log(r"delivered to mailbox", seconds=30)
    assert len(messages(f"{place}/{user}")) == 1 and not mail.complaints()


@pytest.mark.parametrize("kind", ["mbox", "maildir"])
def test_a_killed_process_of_many_users_damages_nothing(make_mail, place, kind):
    """Whatever it was at: all members have every message, whole."""
    if not ROOT:
        pytest.skip("needs users")
    names, slash = [p.pw_name for p in pwd.getpwall() if p.pw_uid and p.pw_gid][:12], "/" if kind == "maildir" else ""
    mail = make_mail(settings=settings(place + slash, alias_maps="inline:{{all = %s}}" % " ".join(names), minimal_backoff_time="1s",
                                       maximal_backoff_time="2s", queue_run_delay="1s", stale_lock_time="3s"))
    count, dice = 0, random.Random(9)
    with killing(mail, "courier-group", pause=0.005) as killed, Client(mail.port) as client:
        client.ehlo()
        while (count < 20 or len(killed) < 6) and count < 400:  # they live for some milliseconds
            i, count = count, count + 1
            body = f"Subject: x\r\n\r\nbegin {i}\r\n".encode() + (b"z" * 60 + b"\r\n") * dice.choice([1, 100, 3000]) + f"end {i}\r\n".encode()
            assert client.send("a@src.test", ["all@local.test"], body).code == 250
        time.sleep(1)
    assert killed

    def texts(name):
        return [read(n) + b"\n" for n in maildir_files(f"{place}/{name}")] if slash else messages(f"{place}/{name}")

    def all_there():
        return not mail.queued() and all(set(range(count)) <= {int(n) for n in re.findall(rb"(?m)^end (\d+)$", b"".join(texts(name)))}
                                         for name in names)
    mail.flush()
    mail.wait(all_there, 90, "all have all messages", step=0.5)
    for name in names:
        assert all(is_whole(text) for text in texts(name)), name


def test_forwarded_mail_is_a_new_message(make_mail, make_sink, place, user):
    sink = make_sink()
    mail = make_mail(relay=sink, settings=settings(place, alias_maps="inline:{{list = x@far.test y@far.test}}"))
    assert send("a@src.test", ["list@local.test"], CONTENT, port=mail.port).code == 250
    mail.wait_log(r"to=<list@local.test>, relay=local,.*status=sent \(forwarded as [0-9A-F]+\)")
    message = sink.wait(lambda m: set(m.recipients) == {"x@far.test", "y@far.test"})
    assert message.sender == "a@src.test" and b"\nDelivered-To: list@local.test\r\n" in message.content


def test_deferred_member_keeps_the_rest_from_being_forwarded(make_mail, make_sink, place):
    sink = make_sink()
    mail = make_mail(relay=sink, settings=settings(place, alias_maps='inline:{{list = x@far.test "|exit 75"}}'))
    assert send("a@src.test", ["list@local.test"], CONTENT, port=mail.port).code == 250
    mail.wait_log(r"dsn=4.3.0, status=deferred \(temporary failure\)")
    assert not sink.messages and not mail.log(r"forwarded as")


def test_virtual_mailboxes(make_mail, place, user):
    ids = pwd.getpwnam(user)
    tables = {
        "virtual_mailbox_domains": "v.test", "virtual_mailbox_base": place, "virtual_minimum_uid": "1", "smtpd_reject_unlisted_recipient": "no",
        "virtual_mailbox_maps": "inline:{ box@v.test=box, dir@v.test=dir/, box+x@v.test=extended, up@v.test=../up, poor@v.test=poor }",
        "virtual_uid_maps": f"inline:{{ box@v.test={ids.pw_uid}, dir@v.test={ids.pw_uid}, up@v.test={ids.pw_uid}, poor@v.test=zero }}",
        "virtual_gid_maps": f"static:{ids.pw_gid}"}
    mail = make_mail(settings=settings(place, **tables))
    for name in ("box", "BOX", "box+x", "box+y", "dir", "none", "up", "poor"):
        assert send("a@src.test", [f"{name}@v.test"], CONTENT, port=mail.port).code == 250
    mail.wait_log(r"relay=virtual,.*status=", count=7)
    mail.wait(lambda: len(messages(f"{place}/box")) == 3 and messages(f"{place}/extended") and maildir_files(f"{place}/dir"), 15, "mail is stored")
    assert b"\nX-Original-To: BOX@v.test\n" in read(f"{place}/box")
    assert not os.path.exists(os.path.dirname(place) + "/up")
    mail.wait_log(r'none@v.test>.*dsn=5.1.1, status=bounced \(unknown user: "none@v.test"\)')
    mail.wait_log(r"(up|poor)@v.test.*dsn=4.3.5, status=deferred", count=2)
    assert not mail.complaints()


def test_soft_bounce_keeps_mail_of_unknown_users(make_mail, place, user):
    ids = pwd.getpwnam(user)
    mail = make_mail(settings=settings(place, virtual_mailbox_domains="v.test", virtual_mailbox_base=place, virtual_mailbox_maps="inline:{box@v.test=box}",
                                       virtual_uid_maps=f"static:{ids.pw_uid}", virtual_gid_maps=f"static:{ids.pw_gid}", virtual_minimum_uid="1",
                                       soft_bounce="yes", smtpd_reject_unlisted_recipient="no"))
    assert send("a@src.test", ["none@v.test", "box@v.test", "no-such-user@local.test"], CONTENT, port=mail.port).code == 250
    mail.wait_log(r"to=<box@v\.test>.*status=sent")
    mail.wait_log(r"to=<none@v\.test>.*dsn=4\.1\.1, status=deferred \(unknown user")
    mail.wait_log(r"to=<no-such-user@local\.test>.*dsn=4\.1\.1, status=deferred \(unknown user")
    assert not mail.log(r"status=bounced|non-delivery")


def test_uid_below_the_minimum_is_refused(make_mail, place, user):
    mail = make_mail(settings=settings(place, virtual_mailbox_domains="v.test", virtual_mailbox_base=place, virtual_mailbox_maps="static:box",
                                       virtual_uid_maps="static:0", virtual_gid_maps="static:1"))
    assert send("a@src.test", ["x@v.test"], CONTENT, port=mail.port).code == 250
    mail.wait_log(r"warning: .*below virtual_minimum_uid")
    mail.wait_log(r"dsn=4.3.5, status=deferred")
    assert not os.path.exists(f"{place}/box")


def test_nothing_but_the_helper_keeps_root(make_mail, place, user):
    """G8: after a delivery, the daemon and the couriers have given root up, and hold no capability."""
    if not ROOT:
        pytest.skip("needs root to give up")
    mail = make_mail(settings=settings(place))
    assert send("a@src.test", [f"{user}@local.test"], CONTENT, port=mail.port).code == 250
    mail.wait_log(r"status=sent \(delivered to mailbox\)")
    seen = set()
    for path in glob.glob("/proc/[0-9]*/status"):
        try:
            with open(path) as f:
                text = f.read()
            if not os.readlink(os.path.dirname(path) + "/cwd").startswith(mail.spool):
                continue
        except OSError:
            continue
        name = re.search(r"Name:\t(.*)", text).group(1)
        if name in ("local", "courier"):
            seen.add(name)
            assert "Uid:\t0" not in text and re.search(r"CapEff:\t0+\n", text), text
    assert seen == {"local", "courier"}


def test_mailbox_transport_passes_recipients_on(make_mail, make_sink, place, user):
    """To another agent, with aliases done before."""
    sink = make_sink()
    mail = make_mail(relay=sink, settings=settings(place, mailbox_transport=f"smtp:[{sink.host}]:{sink.port}", alias_maps=f"inline:{{ al={user} }}"))
    assert send("a@src.test", ["al@local.test"], CONTENT, port=mail.port).code == 250
    assert sink.wait(lambda m: m.recipients == [f"{user}@local.test"])
    assert not os.path.exists(f"{place}/{user}")


def test_fallback_transport_takes_who_is_unknown_here(make_mail, make_sink, place, user):
    other, mapped = make_sink(), make_sink()
    mail = make_mail(settings=settings(place, fallback_transport=f"smtp:[{other.host}]:{other.port}", local_recipient_maps="",
                                       fallback_transport_maps=f"inline:{{ {{ moved = smtp:[{mapped.host}]:{mapped.port} }} }}"))
    assert send("a@src.test", ["stranger+x@local.test", "moved@local.test", f"{user}@local.test"], CONTENT, port=mail.port).code == 250
    assert other.wait(lambda m: m.recipients == ["stranger+x@local.test"]) and mapped.wait(lambda m: m.recipients == ["moved@local.test"])
    mail.wait_log(rf"to=<{user}@local\.test>, relay=local, .*status=sent \(delivered to mailbox\)")
    assert not mail.complaints()


def test_the_queue_shows_why_local_mail_waits(make_mail, place, user):
    mail = make_mail(settings=settings(place, alias_maps='inline:{{cmd="|echo the tape is out; exit 75"}}', queue_run_delay="1000s"))
    assert send("a@src.test", ["cmd@local.test"], CONTENT, port=mail.port).code == 250
    line, = mail.wait_log(r"to=<cmd@local\.test>.*dsn=4\.3\.0, status=deferred \(temporary failure\. Command output: the tape is out\)")
    mail.wait(lambda: mail.queue_files("deferred")["deferred"], 15, "it is a file")
    shown = mail.command("postqueue", "-p").stdout
    assert line.queue_id in shown and "(temporary failure. Command output: the tape is out)" in shown and "cmd@local.test" in shown
    entry = json.loads(mail.command("postqueue", "-j").stdout)
    assert entry["queue_id"] == line.queue_id and entry["recipients"] == [{"address": "cmd@local.test", "delay_reason": "temporary failure. Command output: the tape is out"}]
    text = mail.command("postcat", "-q", line.queue_id).stdout
    assert "recipient: cmd@local.test" in text and "Subject: x" in text


@pytest.fixture
def dovecot(place, user):
    """Dovecot's LMTP server on a Unix socket and on TCP; its Maildirs are place/home/NAME/Maildir."""
    if not ROOT or not os.path.exists("/usr/lib/dovecot/lmtp"):
        pytest.skip("needs root and dovecot-lmtpd")
    top, port = os.path.dirname(place), free_port()
    os.mkdir(f"{place}/home", 0o755)
    os.chown(f"{place}/home", pwd.getpwnam(user).pw_uid, -1)
    with open(f"{top}/dovecot.conf", "w") as f:
        f.write(f"""base_dir = {top}/run
state_dir = {top}/state
protocols = lmtp
listen = 127.0.0.1
log_path = {top}/dovecot.log
ssl = no
first_valid_uid = 1
auth_username_format = %n
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid={pwd.getpwnam(user).pw_uid} gid={pwd.getpwnam(user).pw_gid} home={place}/home/%n allow_all_users=yes
}}
mail_location = maildir:~/Maildir
service lmtp {{
  unix_listener {top}/lmtp {{
    mode = 0666
  }}
  inet_listener lmtp {{
    address = 127.0.0.1
    port = {port}
  }}
}}
""")
    server = subprocess.Popen(["dovecot", "-F", "-c", f"{top}/dovecot.conf"], stdin=subprocess.DEVNULL)
    for _ in range(100):
        if os.path.exists(f"{top}/lmtp"):
            break
        time.sleep(0.1)
    yield f"{top}/lmtp", port
    server.terminate()
    server.wait(20)


def test_dovecots_lmtp_takes_what_local_passes_on(make_mail, place, user, dovecot):
    path, port = dovecot
    for n, transport in enumerate((f"lmtp:unix:{path}", f"lmtp:inet:[127.0.0.1]:{port}")):
        mail = make_mail(settings=settings(place, mailbox_transport=transport, alias_maps=f"inline:{{ al={user} }}"),
                         services=["lmtp unix - - n - - lmtp"])  # in a chroot it would see sockets below the queue only
        assert send("a@src.test", ["al@local.test"], CONTENT, port=mail.port).code == 250
        mail.wait_log(r"relay=.*status=sent \(250 2.0.0 .*Saved\)", seconds=30)
        files = maildir_files(f"{place}/home/{user}/Maildir")
        assert len(files) == n + 1 and all(b"hello\n" in read(name) for name in files)


CYRUS = next((root for root in ("", f"{PEERS}/cyrus") if os.path.exists(f"{root}/usr/lib/cyrus/bin/lmtpd")), None)  # installed, or unpacked


@pytest.fixture
def cyrus(place, user):
    """Cyrus's LMTP server on a Unix socket and on TCP: (socket, port, a function that gives the messages of a folder)."""
    if not ROOT or CYRUS is None:
        pytest.skip("needs root and cyrus-common")
    top, port, programs = os.path.dirname(place), free_port(), f"{CYRUS}/usr/lib/cyrus/bin"
    for name in ("cyrus", "cyrus/conf", "cyrus/spool", "cyrus/run"):
        os.mkdir(f"{top}/{name}")
        os.chown(f"{top}/{name}", pwd.getpwnam(user).pw_uid, -1)
    with open(f"{top}/imapd.conf", "w") as f:
        f.write(f"configdirectory: {top}/cyrus/conf\npartition-default: {top}/cyrus/spool\ncyrus_user: {user}\nunixhierarchysep: on\nvirtdomains: off\n"
                f"autocreate_quota: 0\nautocreate_post: yes\nlmtpsocket: {top}/cyrus/lmtp\nproc_path: {top}/cyrus/run\n"
                f"mboxname_lockpath: {top}/cyrus/run/lock\nsievedir: {top}/cyrus/sieve\n")
    with open(f"{top}/cyrus.conf", "w") as f:
        f.write(f'START {{\n recover cmd="{programs}/ctl_cyrusdb -C {top}/imapd.conf -r"\n}}\nSERVICES {{\n'
                f' lmtpunix cmd="{programs}/lmtpd -C {top}/imapd.conf -a" listen="{top}/cyrus/lmtp" prefork=0\n'
                f' lmtp cmd="{programs}/lmtpd -C {top}/imapd.conf -a" listen="127.0.0.1:{port}" prefork=0\n}}\n')
    env = dict(os.environ, LD_LIBRARY_PATH=f"{CYRUS}/usr/lib/x86_64-linux-gnu:{CYRUS}/usr/lib") if CYRUS else None
    server = subprocess.Popen([f"{programs}/master", "-C", f"{top}/imapd.conf", "-M", f"{top}/cyrus.conf", "-p", f"{top}/cyrus/run/pid"],
                              stdin=subprocess.DEVNULL, env=env)
    for _ in range(200):
        if os.path.exists(f"{top}/cyrus/lmtp"):
            break
        time.sleep(0.1)
    yield f"{top}/cyrus/lmtp", port, lambda: [read(path) for path in sorted(glob.glob(f"{top}/cyrus/spool/**/[0-9]*.", recursive=True))]
    server.terminate()
    server.wait(20)


def test_cyruss_lmtp_takes_what_local_passes_on(make_mail, place, user, cyrus):
    """To each recipient his own verdict, over one connection; 8-bit, dots and long lines come out as they went in."""
    path, port, stored = cyrus
    body = CONTENT + b"\xe4\xf6\xfc\r\n..two dots\r\n" + b"x" * 900 + b"\r\n"
    for n, transport in enumerate((f"lmtp:unix:{path}", f"lmtp:inet:[127.0.0.1]:{port}")):
        mail = make_mail(settings=settings(place, mailbox_transport=transport, alias_maps=f"inline:{{ al={user} }}"),
                         services=["lmtp unix - - n - - lmtp"])
        assert send("a@src.test", ["al@local.test"], body, port=mail.port).code == 250
        mail.wait_log(r"relay=.*status=sent \(250 2\.1\.5 (Ok|Success)", seconds=30)
        assert len(stored()) == n + 1 and all(text.endswith(body.partition(b"\r\n\r\n")[2]) for text in stored())
    mail = make_mail(settings=settings(place, virtual_transport=f"lmtp:unix:{path}", virtual_mailbox_domains="v.test"), services=["lmtp unix - - n - - lmtp"])
    assert send("a@src.test", ["one@v.test", "two@v.test", "bad/name@v.test"], body, port=mail.port).code == 250
    mail.wait_log(r"to=<(one|two)@v\.test>.*status=sent", seconds=30, count=2)
    mail.wait_log(r"to=<bad/name@v\.test>.*dsn=4\.\d\.\d, status=deferred \(host .* said: 451")
    assert len(stored()) == 4


def test_the_owner_of_a_list_is_told_of_what_fails(make_mail, make_sink, place, user):
    """Commands of an alias are no messages of their own: their failures are told at once, and to the owner alone."""
    sink = make_sink()
    aliases = f"{place}/aliases"
    with open(aliases, "w") as f:
        f.write(f'list: {user}, "|echo not today; exit 69", "|exit 65"\nowner-list: boss@far.test\n'
                f'free: "|exit 69"\nslow: "|exit 75", "|exit 69"\nowner-slow: boss@far.test\n')
    mail = make_mail(relay=sink, settings=settings(place, alias_maps=f"lmdb:{aliases}", queue_run_delay="1000s"), start=False)
    mail.command("postalias", f"lmdb:{aliases}")
    mail.start()
    send("a@src.test", ["list@local.test"], CONTENT, port=mail.port)
    mail.wait_log(r"to=<list@local\.test>.*status=bounced \(.*not today")
    sink.wait(lambda m: b"not today" in m.content)
    told = [m for m in sink.messages if m.sender == ""]
    assert told and {r for m in told for r in m.recipients} == {"boss@far.test"}
    assert b"\r\nX-Postfix-Sender: rfc822; a@src.test\r\n" in told[0].content and b"\r\nReturn-Path: <a@src.test>\r\n" in told[0].content
    send("a@src.test", ["free@local.test"], CONTENT, port=mail.port)
    sink.wait(lambda m: m.recipients == ["a@src.test"])
    send("b@src.test", ["slow@local.test"], CONTENT, port=mail.port)
    mail.wait_log(r"to=<slow@local\.test>.*status=deferred")
    sink.wait(lambda m: m.recipients == ["boss@far.test"] and b"slow@local.test" in m.content)
    assert not [m for m in sink.messages if m.recipients == ["b@src.test"]]
    mail.wait(lambda: len(messages(f"{place}/{user}")) == 1, 10, "the member has it")
    mail.settings["soft_bounce"] = "yes"
    mail.write_config()
    mail.reload()
    count = len(sink.messages)
    send("c@src.test", ["list@local.test"], CONTENT, port=mail.port)
    mail.wait(lambda: len(mail.queue_files("deferred")["deferred"]) == 2, 20, "it stays")
    assert len(sink.messages) == count


@pytest.mark.skipif(not ROOT, reason="comsat's port is below 1024: needs root")
def test_comsat_is_told_where_the_message_begins(make_mail, place, user):
    """The port is fixed (512/udp), so the listener is on it."""
    import socket
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.settimeout(15)
        end = time.monotonic() + 60
        while True:  # somebody else's test may have it
            try:
                listener.bind(("127.0.0.1", 512))
                break
            except OSError:
                assert time.monotonic() < end, "the port is taken"
                time.sleep(0.1)
        mail = make_mail(settings=settings(place, biff="yes"))
        starts = []
        for _ in range(2):
            starts.append(os.path.getsize(f"{place}/{user}") if starts else 0)
            assert send("a@src.test", [f"{user}+box@local.test"], CONTENT, port=mail.port).code == 250
            assert listener.recv(1000) == f"{user}@{starts[-1]}".encode()
            assert read(f"{place}/{user}")[starts[-1]:].startswith(b"From a@src.test")
        mail.settings["biff"] = "no"
        mail.write_config()
        mail.reload()
        assert send("a@src.test", [f"{user}@local.test"], CONTENT, port=mail.port).code == 250
        mail.wait_log(r"status=sent \(delivered to mailbox\)", count=3)
        listener.settimeout(0.3)
        with pytest.raises(TimeoutError):
            listener.recv(1000)


def test_report_quotes_4096_bytes_of_a_commands_output(make_mail, make_sink, place):
    sink = make_sink()
    loud = r"""inline:{{loud="|head -c 10000 /dev/zero | tr '\\0' Q; exit 69"}}"""
    mail = make_mail(relay=sink, settings=settings(place, alias_maps=loud))
    assert send("a@src.test", ["loud@local.test"], CONTENT, port=mail.port).code == 250
    notice = sink.wait(lambda m: m.sender == "").content
    for part in (rb"Command output:\s+(Q[\sQ]*)\r\n\r\n--", rb"Diagnostic-Code: x-unix;\s+(Q[\sQ]*)\r\n\r\n--"):
        assert re.search(part, notice)[1].count(b"Q") == 4096
    assert not mail.complaints()


def test_folded_field_that_speaks_of_delivery_is_no_loop(make_mail, place, user):
    mail = make_mail(settings=settings(place))
    content = f"Subject: what is\r\n Delivered-To: {user}@local.test\r\n\r\nhi\r\n".encode()
    assert send("a@src.test", [f"{user}@local.test"], content, port=mail.port).code == 250
    mail.wait_log(r"status=sent \(delivered to mailbox\)")


def test_old_setting_locks_by_file_alone(make_mail, place, user):
    """sun_mailtool_compatibility: a reader with fcntl() alone does not hold delivery up; one with a lock file does."""
    path = f"{place}/{user}"
    with open(path, "w") as f:
        f.write("From x@y  Thu Jan  1 00:00:00 1970\nSubject: old\n\nold\n\n")
    os.chmod(path, 0o600)
    own(path, user)
    mail = make_mail(settings=settings(place, sun_mailtool_compatibility="yes", mailbox_delivery_lock="fcntl"))
    with open(path, "r+b") as held:
        fcntl.lockf(held, fcntl.LOCK_EX)
        assert send("a@src.test", [f"{user}@local.test"], CONTENT, port=mail.port).code == 250
        mail.wait_log(r"status=sent \(delivered to mailbox\)")
        with open(f"{path}.lock", "w"):
            pass
        own(f"{path}.lock", user)
        assert send("a@src.test", [f"{user}@local.test"], CONTENT, port=mail.port).code == 250
        time.sleep(1)
        assert len(messages(path)) == 2
        os.unlink(f"{path}.lock")
        mail.wait_log(r"status=sent \(delivered to mailbox\)", count=2, seconds=60)
