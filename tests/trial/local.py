# SPDX-License-Identifier: Apache-2.0
"""Mail of this host: sendmail in, Maildir out; a bounce; what stays in the queue."""
import glob
import os
import re
import subprocess

from .screen import HOME, fail, say, show, title

USERS = ("ann", "bob")
STORE = f"{HOME}/store"
UID = 52525  # the owner of all mailboxes where root runs ./try: a number that no account has


def settings():
    """Users without accounts, as one would describe those of a domain: a Maildir each, all of one owner."""
    uid, gid = (os.geteuid(), os.getegid()) if os.geteuid() else (UID, UID)
    os.makedirs(STORE, mode=0o755)
    if not os.geteuid():
        os.chown(STORE, uid, gid)
    boxes = " ".join(f"{{{user}@here.test = {user}/}}" for user in USERS)
    return {"virtual_mailbox_domains": "here.test", "virtual_mailbox_maps": f"inline:{{{boxes}}}", "virtual_mailbox_base": STORE,
            "virtual_uid_maps": f"static:{uid}", "virtual_gid_maps": f"static:{gid}", "virtual_minimum_uid": "1"}


def sendmail(mail, sender, recipient, subject, body):
    """What a script does; returns what it would have typed."""
    text = f"From: {sender}\nTo: {recipient}\nSubject: {subject}\n\n{body}\n"
    done = subprocess.run([f"{mail.commands}/sendmail", "-C", mail.etc, "-f", sender, "-t"], input=text, capture_output=True, text=True,
                          timeout=60, env=dict(os.environ, MAIL_CONFIG=mail.etc))
    if done.returncode:
        fail(f"sendmail: {done.stdout}{done.stderr}")
    return f"sendmail -f {sender} -t <<.\n{text}."


def mailq(mail):
    """It is sendmail by another name."""
    if not os.path.exists(f"{mail.commands}/mailq"):
        os.symlink(mail.programs["sendmail"], f"{mail.commands}/mailq")
    return subprocess.run([f"{mail.commands}/mailq"], capture_output=True, text=True, timeout=60, env=dict(os.environ, MAIL_CONFIG=mail.etc)).stdout


def inbox(mail, user, subject):
    """The file with that subject, once it is in the user's mailbox."""
    def found():
        for path in glob.glob(f"{STORE}/{user}/new/*"):
            with open(path, errors="replace") as f:
                if f"\nSubject: {subject}\n" in f.read():
                    return path
        return None
    return mail.wait(found, 60, f"{user} has the message \"{subject}\"")


def run(mail):
    title("sendmail in, Maildir out")
    show(sendmail(mail, "ann@here.test", "bob@here.test", "lunch", "At noon?"))
    path = inbox(mail, "bob", "lunch")
    say(f"became {path}:")
    with open(path) as f:
        show(f.read())

    title("A message to nobody comes back")
    show(sendmail(mail, "ann@here.test", "nobody@here.test", "hello", "Is there anybody?"))
    with open(inbox(mail, "ann", "Undelivered Mail Returned to Sender")) as f:
        notice = f.read()
    say("Ann's mailbox now has this notice (its first part):")
    show("\n".join(re.findall(r"(?m)^(?:From|Subject|To): .*", notice.split("\n\n")[0])))
    show("")
    show(re.split(r"(?m)^--", notice)[1].split("\n\n", 1)[1])

    title("A message that can't be delivered now stays in the queue: mailq")
    sendmail(mail, "ann@here.test", "friend@dead.far.test", "later", "When you are back.")
    mail.wait_log(r"to=<friend@dead\.far\.test>.*status=deferred", seconds=60)
    mail.wait(lambda: "dead.far.test" in mailq(mail), 60, what="mailq shows the message")
    show(mailq(mail))
