#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What ./try does once Postern is built: try.py start | stop, and (used by itself) sink HOST PORT NAME.

Everything is below ./try.d: the instance's configuration, queue, log and mailboxes, a name server's, and what two receiving
servers took. The steps are in trial/."""
import os
import shutil
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from harness.instance import Failed, Instance  # noqa: E402
from trial import local, reading, relay  # noqa: E402
from trial.screen import HOME, TOP, end, fail, remember, say, title  # noqa: E402


def start():
    stop(quiet=True)
    shutil.rmtree(HOME, ignore_errors=True)
    if os.path.exists(f"{HOME}/etc"):
        sys.exit(f"{HOME} can't be removed: it belongs to another user, who has to run: ./try stop; rm -r {HOME}")
    for folder in ("run", "log"):
        os.makedirs(f"{HOME}/{folder}", exist_ok=True)
    os.chmod(HOME, 0o755)
    if HOME == "/var/tmp/postern-try":
        say(f"{TOP} can't be entered by the users that the daemons run as; so it all goes to {HOME}.")
    if os.geteuid():
        say("Started by an ordinary user: all processes run as that user, none is confined by chroot or by a uid of its own,\n"
            "and all mailboxes are that user's. Everything else is as root would see it.")
    settings = {"myhostname": "mail.here.test", "mydestination": "", **relay.prepare(), **local.settings(), **reading.settings()}
    mail = Instance(name="try", start=False, home=HOME, settings=settings, services=reading.services())
    mail.start()
    remember("master", mail.master_pid)
    for step in (relay, local, reading):
        step.run(mail)
    reading.print_settings()
    title("It is running")
    say(f"    Send to it:      swaks --server 127.0.0.1:{mail.port} --from you@here.test --to friend@far.test   (or bob@here.test)")
    say(f"    What arrives:    {HOME}/mx1/*.eml, {HOME}/mx2/*.eml, {local.STORE}/")
    say(f"    Its log:         {mail.log_file}")
    say(f"    Its commands:    {mail.commands}/postqueue -c {mail.etc} -p    (and postconf, postfix, postsuper, sendmail...)")
    say("    End it:          ./try stop")


def stop(quiet=False):
    found = os.path.exists(f"{HOME}/run")
    for name in ("master", "mx1", "mx2", "nsd"):
        end(name)
    if not quiet:
        say("stopped" if found else "nothing is running")


def main(argv):
    if argv[:1] == ["sink"] and len(argv) == 4:
        relay.sink(*argv[1:])
    elif argv == ["start"]:
        try:
            start()
        except (OSError, Failed) as e:
            fail(e)
    elif argv == ["stop"]:
        stop()
    else:
        sys.exit(__doc__)


main(sys.argv[1:])
