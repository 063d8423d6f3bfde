# SPDX-License-Identifier: Apache-2.0
"""What another program does to a mailbox between two commands of a session."""
import glob
import os
import poplib
import re
import subprocess

import pytest

from reading import Reading


@pytest.fixture
def mail():
    with Reading(users=1) as m:
        yield m


def fill(mail, n):
    for i in range(n):
        mail.put(1, b"Subject: %d\r\n\r\ntext %d\r\n" % (i, i), name=f"{1700000000 + i}.M{i}P1.t")


def files(mail):
    return sorted(os.path.basename(f) for sub in ("cur", "new") for f in glob.glob(f"{mail.maildir(1)}/{sub}/*"))


def test_pop3_removes_nothing_after_all_was_numbered_anew(mail):
    fill(mail, 3)
    c = mail.pop3(1)
    c.dele(1)
    path = f"{mail.maildir(1)}/dovecot-uidlist"
    with open(path) as f:
        lines = f.read().splitlines()
    validity = int(re.search(r" V(\d+)", lines[0]).group(1))
    names = [line.split(":", 1)[1] for line in lines[1:]]
    with open(path + ".new", "w") as f:
        f.write(lines[0].replace(f" V{validity}", f" V{validity + 9}") + "\n")
        f.writelines(f"{i + 1} :{name}\n" for i, name in enumerate(reversed(names)))
    if not os.geteuid():
        os.chown(path + ".new", 12000, 12000)
    os.rename(path + ".new", path)
    with pytest.raises(poplib.error_proto):
        c.quit()
    assert len(files(mail)) == 3


def test_expunge_keeps_what_another_program_wants_after_all(mail):
    fill(mail, 2)
    c = mail.imap(1)
    c.select()
    c.store("1:2", "+FLAGS", r"\Deleted")
    path = f"{mail.maildir(1)}/cur"
    first = next(f for f in files(mail) if ".M0P1" in f)
    assert "T" in first
    os.rename(f"{path}/{first}", f"{path}/{first.replace('T', '')}")
    assert c.expunge()[1] == [b"2"]
    assert len(files(mail)) == 1


def test_what_another_program_did_is_told_though_a_fetch_came_upon_it(mail):
    """The fetch finds its message renamed only when it marks it as read, and so takes in what happened to others, too."""
    fill(mail, 2)
    c = mail.imap(1)
    c.select()
    item = "BODY[HEADER.FIELDS (SUBJECT)]"
    c.fetch("1:2", f"({item.replace('BODY', 'BODY.PEEK')})")
    for old, flag in zip(files(mail), "FR"):
        os.rename(f"{mail.maildir(1)}/cur/{old}", f"{mail.maildir(1)}/cur/{old.partition(':')[0]}:2,{flag}")
    told = b" ".join(x if isinstance(x, bytes) else x[0] for x in c.fetch("1", f"({item})")[1])
    c.noop()
    told += b" ".join(x for x in c.response("FETCH")[1] if x)
    assert re.search(rb"1 \(.*FLAGS \([^)]*\\Flagged", told)
    assert re.search(rb"1 \(.*FLAGS \([^)]*\\Seen", told)
    assert re.search(rb"2 \(.*FLAGS \([^)]*\\Answered", told)


def test_a_list_of_uids_that_is_no_file(mail):
    mail.put(1, b"Subject: x\r\n\r\nx\r\n", folder=".Sub")
    fifo = f"{mail.maildir(1)}/.Sub/dovecot-uidlist"
    os.mkfifo(fifo)
    if not os.geteuid():
        os.chown(fifo, 12000, 12000)
    c = mail.imap(1)
    assert c.select("Sub") == ("OK", [b"1"]) and os.path.isfile(fifo)
    assert c.select("INBOX")[0] == "OK"


def test_a_folder_that_was_copied_with_its_numbers_shows_its_own_messages(mail):
    """Both have the same list of UIDs, and so the same name in the index; what comes later has one number in both."""
    mail.put(1, b"Subject: before\r\n\r\nx\r\n", folder=".One")
    first, second = mail.imap(1), mail.imap(1)
    first.select("One")
    subprocess.run(["cp", "-a", f"{mail.maildir(1)}/.One", f"{mail.maildir(1)}/.Two"], check=True)
    mail.put(1, b"Subject: one\r\n\r\nx\r\n", folder=".One")
    mail.put(1, b"Subject: two\r\n\r\nx\r\n", folder=".Two")
    first.select("One")
    second.select("Two")
    for _ in range(2):
        for c, want in ((first, b'"one"'), (second, b'"two"')):
            told = c.uid("FETCH", "2", "(ENVELOPE)")[1][0]
            assert want in told, told
    first.logout(), second.logout()
    for name, want in (("One", b'"one"'), ("Two", b'"two"'), ("One", b'"one"')):
        c = mail.imap(1)
        c.select(name)
        assert want in c.uid("FETCH", "2", "(ENVELOPE)")[1][0]
        c.logout()
