#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""What local(8) does in a few hundred cases, so that it can be compared with Debian's Postfix.

usage: local_cases.py observe TARGET [FILE]     run all cases on "postern" or "postfix", write what happened (JSON)
       local_cases.py compare FILE FILE         show where two such files differ

A case has a user of its own ({u}, home {h}), files, aliases, a recipient, and belongs to a group of settings; all cases of a group run in
one instance at once. What is observed: a line for each delivery (address, status code, result and text), warnings that name the
user, and every file below the case's directories with owner, mode and content. Times, queue ids and process ids are taken out.

Users exist only in here: the run has a mount namespace of its own, in which /etc/passwd is another and /srv is empty. Root only.
local_cases.json holds what Debian's Postfix 3.7 does; test_local_cases.py compares Postern with it. DIFFERENCES says where and why
Postern does otherwise.
"""
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import time

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from harness import Client, Instance  # noqa: E402
from harness.instance import PEERS  # noqa: E402

TOP = "/srv/lc"
UID = 7000
DOMAIN = "local.test"

GROUPS = {
    "plain": {},
    "home": {"home_mailbox": "Mailbox"},
    "maildir": {"home_mailbox": "Maildir/"},
    "spooldir": {"mail_spool_directory": f"{TOP}/spool/"},
    "small": {"mailbox_size_limit": "3000", "message_size_limit": "3000"},
    "command": {"mailbox_command": "/bin/cat >$HOME/by-command; env | sort >$HOME/environment",
                "mailbox_command_maps": "inline:{ mapped=/usr/bin/tee, other=/bin/false }"},
    "loose": {"allow_mail_to_commands": "alias, forward, include", "allow_mail_to_files": "alias, forward, include",
              "propagate_unmatched_extensions": "canonical, virtual, alias, forward, include"},
    "strict": {"allow_mail_to_commands": "", "allow_mail_to_files": "", "require_home_directory": "yes"},
    "owners": {"expand_owner_alias": "yes", "reset_owner_alias": "yes", "frozen_delivered_to": "no", "prepend_delivered_header": ""},
    "luser": {"luser_relay": "catcher+$local"},
    "paths": {"forward_path": f"{TOP}/fw/$user${{extension?+$extension}}, $home/.fw-$extension, $home/.forward",
              "command_execution_directory": "$home", "local_command_shell": "/bin/sh -c"},
    "slow": {"command_time_limit": "2s", "deliver_lock_attempts": "2", "stale_lock_time": "100s"},
    "nodelimiter": {"recipient_delimiter": ""},
    "dash": {"recipient_delimiter": "-"},
}
BODY = "Subject: case\n\nhello\nFrom here\n.\n.dot\n"

CASES = []


def case(group, name, *, to="{u}", aliases="", files=(), sender="sender@src.test", body=BODY, again=False, setup=None, user=True, more_user=None):
    """files: (path, content or None for a directory or "-> target", mode, owner ("{u}", "root", uid)). more_user: a name of a further user."""
    CASES.append(dict(group=group, name=name, to=to, aliases=aliases, files=files, sender=sender, body=body, again=again, setup=setup, user=user, more_user=more_user))


def forward(text, mode=0o644, owner="{u}", name=".forward"):
    return ("{h}/" + name, text, mode, owner)


def define():
    # Mailboxes
    for group in ("plain", "home", "maildir", "spooldir", "nodelimiter", "dash"):
        case(group, "mailbox")
        case(group, "mailbox, upper case", to="{U}")
        case(group, "mailbox with extension", to="{u}+ext")
        case(group, "mailbox with dash", to="{u}-ext")
        case(group, "null sender", sender="")
        case(group, "unknown user", to="no{u}x", user=False)
    case("plain", "two messages", again=True)
    case("plain", "sender that needs quotes", sender='"a b"@src.test')
    case("plain", "empty body", body="Subject: x\n\n")
    case("plain", "no header", body="\nbody alone\n")
    case("plain", "From_ lines", body="Subject: x\n\nFrom a\nfrom a\n>From a\n From a\nFrom\nFromage\n\nFrom \n")
    case("plain", "8-bit", body="Subject: x\n\n\xe4\xf6\xfc\n")
    case("plain", "long line", body="Subject: x\n\n" + "x" * 3000 + "\n")
    case("plain", "double extension", to="{u}+a+b")
    case("plain", "empty extension", to="{u}+")
    case("plain", "extension with a slash", to="{u}+a/b")
    case("plain", "address with percent", to="{u}%local.test")
    spool = TOP + "/spool/{u}"
    case("plain", "mailbox exists", files=[(spool, "From x\n\nold\n\n", 0o600, "{u}")])
    case("plain", "mailbox of another", files=[(spool, "", 0o666, "root")])
    case("plain", "mailbox not writable by its owner", files=[(spool, "", 0o400, "{u}")])
    case("plain", "mailbox is a directory", files=[(spool, None, 0o755, "{u}")])
    case("plain", "mailbox is a symbolic link", files=[(spool, "-> {h}/target", 0, "{u}"), ("{h}/target", "", 0o600, "{u}")])
    case("plain", "mailbox is root's symbolic link in the sticky spool", files=[(spool, "-> {h}/target", 0, "root"), ("{h}/target", "", 0o600, "{u}")])
    case("plain", "mailbox has two links", files=[(spool, "", 0o600, "{u}"), ("{h}/second", "=> " + spool, 0, "{u}")])
    case("plain", "mailbox is a FIFO", files=[(spool, "fifo", 0o600, "{u}")])
    case("plain", "mailbox without a last newline", files=[(spool, "From x\n\nold", 0o600, "{u}")])
    case("home", "home missing", setup="rm -rf {h}")
    case("home", "home not writable", setup="chown root {h}; chmod 755 {h}")
    case("maildir", "home missing", setup="rm -rf {h}")
    case("maildir", "home not writable", setup="chown root {h}; chmod 755 {h}")
    case("maildir", "Maildir is a file", files=[("{h}/Maildir", "x", 0o600, "{u}")])
    case("maildir", "Maildir there", files=[("{h}/Maildir", None, 0o700, "{u}")])
    case("maildir", "From_ lines", body="Subject: x\n\nFrom a\n")
    case("small", "fits")
    case("small", "too large for the limit", files=[(spool, "From x\n\n" + "x" * 2800 + "\n\n", 0o600, "{u}")])
    case("small", "command writes a large file", aliases="{u}c: \"|head -c 5000 /dev/zero >{d}/out\"", to="{u}c")
    case("slow", "locked by a dotlock", files=[(spool + ".lock", "0", 0o444, "{u}")])
    case("slow", "stale dotlock", files=[(spool + ".lock", "0", 0o444, "{u}")], setup="touch -d '1 hour ago' " + spool + ".lock")

    # Aliases
    case("plain", "alias", aliases="{u}a: {u}", to="{u}a")
    case("plain", "alias, upper case", aliases="{u}a: {u}", to="{U}A")
    case("plain", "alias with extension", aliases="{u}a: {u}", to="{u}a+ext")
    case("plain", "alias of an extended name", aliases="{u}a+ext: {u}, {u}+b", to="{u}a+ext")
    case("plain", "alias to two, one unknown", aliases="{u}a: {u}, no{u}", to="{u}a")
    case("plain", "alias twice the same", aliases="{u}a: {u}, {u}, {u}@local.test", to="{u}a")
    case("plain", "alias chain", aliases="{u}a: {u}b\n{u}b: {u}c\n{u}c: {u}", to="{u}a")
    case("plain", "alias of a user to himself", aliases="{u}: {u}")
    case("plain", "alias of a user to himself and another", aliases="{u}: {u}, other@far.test")
    case("plain", "alias with backslash", aliases="{u}: \\{u}")
    case("plain", "alias loop", aliases="{u}a: {u}b\n{u}b: {u}a", to="{u}a")
    case("plain", "alias to far away", aliases="{u}a: x@far.test", to="{u}a")
    case("plain", "alias to far and here", aliases="{u}a: x@far.test, {u}", to="{u}a")
    case("plain", "alias to a virtual name", aliases="{u}a: {u}@other.test", to="{u}a")
    case("plain", "alias empty", aliases="{u}a:", to="{u}a")
    case("plain", "alias with comment and names", aliases="{u}a: (comment) Some One <{u}@local.test>", to="{u}a")
    case("plain", "alias quoted", aliases='{u}a: "{u}"', to="{u}a")
    case("plain", "alias of a quoted name", aliases='"{u} a": {u}', to='"{u} a"')
    case("plain", "alias continues", aliases="{u}a: {u},\n  no{u}", to="{u}a")
    case("plain", "alias that errors", aliases="{u}a: error@far.test", to="{u}a")
    case("plain", "nested with duplicates", aliases="{u}a: {u}b, {u}c\n{u}b: {u}\n{u}c: {u}", to="{u}a")
    for group in ("plain", "owners"):
        case(group, "owner", aliases="{u}a: {u}, x@far.test\nowner-{u}a: {u}o\n{u}o: other", to="{u}a")
        case(group, "owner, command", aliases='{u}a: "|/usr/bin/env >{d}/out"\nowner-{u}a: {u}', to="{u}a")
        case(group, "owner, nested without its own", aliases="{u}a: {u}b\nowner-{u}a: other\n{u}b: {u}", to="{u}a")
        case(group, "owner, nested with its own", aliases="{u}a: {u}b\nowner-{u}a: other\n{u}b: {u}\nowner-{u}b: mapped", to="{u}a")
        case(group, "owner, failing command", aliases='{u}a: "|exit 1"\nowner-{u}a: {u}', to="{u}a")
        case(group, "owner is a list", aliases="{u}a: {u}\nowner-{u}a: other, mapped", to="{u}a")
        case(group, "owner of a file", aliases="{u}a: {d}/out\nowner-{u}a: {u}", to="{u}a")
        case(group, "owner of one's own name", aliases="{u}: {u}\nowner-{u}: other")
        case(group, "chain delivers", aliases="{u}a: {u}b\n{u}b: {u}", to="{u}a")
        case(group, "forward delivers", files=[forward("x@far.test\n")])
    case("dash", "owner- is not split", aliases="owner-{u}a: {u}", to="owner-{u}a")
    case("dash", "-request is not split", aliases="{u}a-request: {u}", to="{u}a-request")
    case("dash", "alias with extension", aliases="{u}a: {u}", to="{u}a-ext")

    # Files
    for group in ("plain", "maildir"):
        case(group, "alias to a file", aliases="{u}a: {d}/out", to="{u}a")
    case("plain", "alias to a Maildir", aliases="{u}a: {d}/dir/", to="{u}a")
    case("plain", "alias to /dev/null", aliases="{u}a: /dev/null", to="{u}a")
    case("plain", "alias to a file in root's directory", aliases="{u}a: {d}/sub/out", files=[("{d}/sub", None, 0o755, "root")], to="{u}a")
    case("plain", "alias to root's file", aliases="{u}a: {d}/out", files=[("{d}/out", "", 0o600, "root")], to="{u}a")
    case("plain", "alias to a file in no directory", aliases="{u}a: {d}/none/out", to="{u}a")
    case("plain", "alias to a directory", aliases="{u}a: {d}/sub", files=[("{d}/sub", None, 0o777, "root")], to="{u}a")
    case("plain", "alias to a symbolic link", aliases="{u}a: {d}/link", files=[("{d}/link", "-> {d}/target", 0, "nobody"), ("{d}/target", "", 0o600, "nobody")], to="{u}a")
    case("plain", "alias to a file with two links", aliases="{u}a: {d}/one", files=[("{d}/one", "", 0o600, "nobody"), ("{d}/two", "=> {d}/one", 0, "nobody")], to="{u}a")
    case("plain", "forward to a file", files=[forward("{h}/box\n")])
    case("plain", "forward to a file of another", files=[forward("{d}/out\n"), ("{d}/out", "", 0o600, "root")])
    case("plain", "forward to a Maildir", files=[forward("{h}/dir/\n")])
    case("plain", "forward to /dev/null", files=[forward("/dev/null\n")])
    case("plain", "forward to a relative file", files=[forward("./box\n")])

    # Commands
    exits = (0, 1, 2, 3, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 99, 100, 111, 126, 127, 255)
    for status in exits:
        case("plain", f"command exits {status}", aliases='{u}a: "|cat >/dev/null; exit %d"' % status, to="{u}a")
    case("plain", "command exits 75 with output", aliases='{u}a: "|echo come back; exit 75"', to="{u}a")
    case("plain", "command exits 67 with output", aliases='{u}a: "|echo who; echo is that; exit 67"', to="{u}a")
    case("plain", "command says 4.x.x", aliases='{u}a: "|echo 4.2.1 try later; exit 1"', to="{u}a")
    case("plain", "command says 5.x.x", aliases='{u}a: "|echo 5.7.9 not you; exit 75"', to="{u}a")
    case("plain", "command says 2.x.x", aliases='{u}a: "|echo 2.0.0 fine; exit 1"', to="{u}a")
    case("plain", "command says a code alone", aliases='{u}a: "|echo 5.1.6; exit 1"', to="{u}a")
    case("plain", "command says a broken code", aliases='{u}a: "|echo 5.1 x; exit 1"', to="{u}a")
    case("plain", "command says a code and succeeds", aliases='{u}a: "|echo 5.1.1 x; exit 0"', to="{u}a")
    for sig in ("TERM", "KILL", "SEGV", "PIPE"):
        case("plain", f"command dies of {sig}", aliases='{u}a: "|kill -%s $$"' % sig, to="{u}a")
    case("plain", "command does not read", aliases="{u}a: |/bin/true", to="{u}a", body="Subject: x\n\n" + "0123456789\n" * 20000)
    case("plain", "command is missing", aliases="{u}a: |/no/such/program", to="{u}a")
    case("plain", "command of the shell is missing", aliases='{u}a: "|nosuchprogram; exit"', to="{u}a")
    case("plain", "command without path is missing", aliases="{u}a: |nosuchprogram", to="{u}a")
    case("plain", "command can't be executed", aliases="{u}a: |/etc/passwd", to="{u}a")
    case("plain", "command in the path", aliases="{u}a: |true", to="{u}a")
    case("plain", "command with arguments", aliases='{u}a: "|/usr/bin/tee {d}/out"', files=[("{d}/out", "", 0o666, "root")], to="{u}a")
    case("plain", "command of the shell's own", aliases='{u}a: "|exit 75"', to="{u}a")
    case("plain", "command's environment", aliases='{u}a: "|env | sort >{d}/out"', to="{u}a+exten")
    case("plain", "command's message", aliases='{u}a: "|cat >{d}/out"', to="{u}a")
    case("plain", "command as whom", aliases='{u}a: "|id >{d}/out; pwd >>{d}/out; umask >>{d}/out; ls -l /proc/self/fd | wc -l >>{d}/out"', to="{u}a")
    case("plain", "hostile sender in the environment", aliases='{u}a: "|env | sort >{d}/out"', to="{u}a", sender="`x;y$z`@src.test")
    case("plain", "null sender in the environment", aliases='{u}a: "|env | sort >{d}/out"', to="{u}a", sender="")
    case("plain", "hostile extension in the environment", aliases='{u}a: "|env | sort >{d}/out"', to='"{u}a+`x`$y;z"')
    case("plain", "the same command twice", aliases='{u}a: "|cat >>{d}/out", "|cat >>{d}/out"', to="{u}a")
    case("plain", "two commands, one fails", aliases='{u}a: "|cat >>{d}/out", "|exit 1"', to="{u}a")
    case("plain", "two commands, one defers", aliases='{u}a: "|cat >>{d}/out", "|exit 75"', to="{u}a")
    case("plain", "much output", aliases='{u}a: "|seq 1 3000; exit 1"', to="{u}a")
    case("plain", "binary output", aliases='{u}a: "|printf \'a\\\\001b\\\\nc\'; exit 1"', to="{u}a")
    case("plain", "command with blanks before", aliases='{u}a: "|  /bin/true"', to="{u}a")
    case("plain", "command empty", aliases='{u}a: "|"', to="{u}a")
    case("slow", "command takes too long", aliases='{u}a: "|sleep 30"', to="{u}a")
    case("slow", "command takes too long and says something", aliases='{u}a: "|echo wait; exec sleep 30"', to="{u}a")
    case("command", "mailbox command")
    case("command", "mailbox command with extension", to="{u}+ext")
    case("command", "mailbox command, forward first", files=[forward("x@far.test\n")])
    case("paths", "command in its directory", files=[forward('"|pwd >where; echo $0 >>where"\n')])
    case("paths", "command directory missing", aliases='{u}a: "|pwd >{d}/out"', to="{u}a")
    case("plain", "forward to a command", files=[forward('"|cat >{h}/got; env | sort >{h}/environment"\n')])
    case("plain", "forward to a command without quotes", files=[forward("|/usr/bin/tee {h}/got\n")])
    case("plain", "forward to a command as whom", files=[forward('"|id >{h}/got"\n')])
    case("plain", "forward to a failing command", files=[forward('"|exit 67"\n')])
    case("plain", "procmail's old line", files=[forward('"|IFS=\' \' && p=/bin/cat && test -f $p && exec $p -f- >{h}/got || exit 75 #{u}"\n')])

    # .forward
    case("plain", "forward to another", files=[forward("x@far.test\n")])
    case("plain", "forward to oneself and another", files=[forward("{u}, x@far.test\n")])
    case("plain", "forward to oneself with backslash", files=[forward("\\{u}, x@far.test\n")])
    case("plain", "forward to oneself by address", files=[forward("{u}@local.test\n")])
    case("plain", "forward to a local user", files=[forward("other\n")])
    case("plain", "forward over several lines", files=[forward("x@far.test\ny@far.test, z@far.test\n\n# w@far.test\n")])
    case("plain", "forward empty", files=[forward("")])
    case("plain", "forward of comments alone", files=[forward("# nothing\n\n")])
    case("plain", "forward without a last newline", files=[forward("x@far.test")])
    case("plain", "forward with an extension's own file", to="{u}+lists", files=[forward("x@far.test\n"), forward("y@far.test\n", name=".forward+lists")])
    case("plain", "forward with another extension", to="{u}+other", files=[forward("x@far.test\n"), forward("y@far.test\n", name=".forward+lists")])
    case("plain", "forward for an extension alone", to="{u}", files=[forward("y@far.test\n", name=".forward+lists")])
    case("plain", "forward, group writable", files=[forward("x@far.test\n", 0o664)])
    case("plain", "forward, world writable", files=[forward("x@far.test\n", 0o666)])
    case("plain", "forward of another", files=[forward("x@far.test\n", 0o644, "other")])
    case("plain", "forward of root", files=[forward("x@far.test\n", 0o644, "root")])
    case("plain", "forward not readable", files=[forward("x@far.test\n", 0o000)])
    case("plain", "forward of root, not readable", files=[forward("x@far.test\n", 0o600, "root")])
    case("plain", "forward is a symbolic link", files=[("{h}/.forward", "-> {h}/f", 0, "{u}"), ("{h}/f", "x@far.test\n", 0o644, "{u}")])
    case("plain", "forward is a directory", files=[("{h}/.forward", None, 0o755, "{u}")])
    case("plain", "forward is a FIFO", files=[("{h}/.forward", "fifo", 0o644, "{u}")])
    case("plain", "forward is a link to /dev/zero", files=[("{h}/.forward", "-> /dev/zero", 0, "{u}")])
    case("plain", "home is closed", files=[forward("x@far.test\n")], setup="chown root {h}; chmod 700 {h}")
    case("plain", "home missing", setup="rm -rf {h}")
    case("strict", "home missing", setup="rm -rf {h}")
    case("strict", "home there")
    case("strict", "alias to a command", aliases="{u}a: |/bin/true", to="{u}a")
    case("strict", "alias to a file", aliases="{u}a: {d}/out", to="{u}a")
    case("strict", "forward to a command", files=[forward("|/bin/true\n")])
    case("strict", "forward to a file", files=[forward("{h}/box\n")])
    case("plain", "forward in a circle", files=[forward("{u}a\n")], aliases="{u}a: {u}")
    case("plain", "forward to an unknown user", files=[forward("no{u}\n")])
    case("plain", "forward to one here and a file", files=[forward("{u}\n{h}/copy\n")])
    case("plain", "forward with an extension passed on", to="{u}+ext", files=[forward("x@far.test\n")])
    case("loose", "forward with an extension passed on", to="{u}+ext", files=[forward("x@far.test\n")])
    case("loose", "alias with an extension passed on", aliases="{u}a: {u}, x@far.test", to="{u}a+ext")
    case("loose", "include with an extension passed on", aliases="{u}a: :include:{d}/list", to="{u}a+ext", files=[("{d}/list", "x@far.test\n", 0o644, "root")])
    case("paths", "forward elsewhere", files=[(TOP + "/fw/{u}", "x@far.test\n", 0o644, "{u}")])
    case("paths", "forward elsewhere with extension", to="{u}+e", files=[(TOP + "/fw/{u}", "x@far.test\n", 0o644, "{u}"), (TOP + "/fw/{u}+e", "y@far.test\n", 0o644, "{u}")])
    case("paths", "forward by its second name", to="{u}+e", files=[("{h}/.fw-e", "y@far.test\n", 0o644, "{u}"), forward("x@far.test\n")])
    case("paths", "forward by its last name", to="{u}+f", files=[("{h}/.fw-e", "y@far.test\n", 0o644, "{u}"), forward("x@far.test\n")])
    case("paths", "hostile extension in a path", to='"{u}+../../x"', files=[forward("x@far.test\n")])
    case("paths", "extension of shell characters", to='"{u}+a;b"', files=[("{h}/.fw-a_b", "y@far.test\n", 0o644, "{u}")])
    case("paths", "no extension", files=[("{h}/.fw-", "y@far.test\n", 0o644, "{u}")])

    # :include:
    for group in ("plain", "loose"):
        case(group, "include", aliases="{u}a: :include:{d}/list", to="{u}a", files=[("{d}/list", "{u}, x@far.test\n", 0o644, "root")])
        case(group, "include of a user's list", aliases="{u}a: :include:{d}/list", to="{u}a", files=[("{d}/list", "{u}\n", 0o644, "{u}")])
        case(group, "include with a command", aliases="{u}a: :include:{d}/list", to="{u}a", files=[("{d}/list", '"|id >{d}/out"\n', 0o644, "{u}")])
        case(group, "include with a file", aliases="{u}a: :include:{d}/list", to="{u}a", files=[("{d}/list", "{d}/out\n", 0o644, "{u}")])
        case(group, "root's include with a command", aliases="{u}a: :include:{d}/list", to="{u}a", files=[("{d}/list", '"|id >{d}/out"\n', 0o644, "root")])
    case("plain", "include missing", aliases="{u}a: :include:{d}/list", to="{u}a")
    case("plain", "include in itself", aliases="{u}a: :include:{d}/list", to="{u}a", files=[("{d}/list", ":include:{d}/list\n{u}\n", 0o644, "root")])
    case("plain", "include of an include", aliases="{u}a: :include:{d}/list", to="{u}a", files=[("{d}/list", ":include:{d}/list2\n", 0o644, "root"), ("{d}/list2", "{u}\n", 0o644, "root")])
    case("plain", "include empty", aliases="{u}a: :include:{d}/list", to="{u}a", files=[("{d}/list", "# none\n", 0o644, "root")])
    case("plain", "include is a directory", aliases="{u}a: :include:{d}/list", to="{u}a", files=[("{d}/list", None, 0o755, "root")])
    case("plain", "include is a FIFO", aliases="{u}a: :include:{d}/list", to="{u}a", files=[("{d}/list", "fifo", 0o644, "root")])
    case("plain", "include with a relative path", aliases="{u}a: :include:list", to="{u}a")
    case("plain", "include not readable", aliases="{u}a: :include:{d}/list", to="{u}a", files=[("{d}/list", "{u}\n", 0o000, "{u}")])
    case("plain", "root's include not readable by others", aliases="{u}a: :include:{d}/list", to="{u}a", files=[("{d}/list", "{u}\n", 0o600, "root")])
    case("plain", "include of nobody's", aliases="{u}a: :include:{d}/list", to="{u}a", files=[("{d}/list", "{u}\n", 0o644, 54321)])
    case("plain", "include with owner", aliases="{u}a: :include:{d}/list\nowner-{u}a: other", to="{u}a", files=[("{d}/list", "{u}, x@far.test\n", 0o644, "root")])
    case("plain", "include through a symbolic link", aliases="{u}a: :include:{d}/link", to="{u}a", files=[("{d}/link", "-> {d}/list", 0, "root"), ("{d}/list", "{u}\n", 0o644, "root")])
    case("plain", "include from a forward", files=[forward(":include:{h}/list\n"), ("{h}/list", "x@far.test\n", 0o644, "{u}")])
    case("plain", "include of another's from a forward", files=[forward(":include:{d}/list\n"), ("{d}/list", "x@far.test\n", 0o600, "root")])
    case("plain", "include of duplicates", aliases="{u}a: :include:{d}/list, {u}", to="{u}a", files=[("{d}/list", "{u}\n{u}\n", 0o644, "root")])
    case("plain", "include with an upper case word", aliases="{u}a: :Include:{d}/list", to="{u}a", files=[("{d}/list", "{u}\n", 0o644, "root")])

    # Loops, unknown, luser
    case("plain", "Delivered-To of the same", body="Delivered-To: {u}@local.test\nSubject: x\n\nx\n")
    case("plain", "Delivered-To of the same, upper case", body="delivered-to: {U}@LOCAL.test\nSubject: x\n\nx\n")
    case("plain", "Delivered-To of another", body="Delivered-To: other@local.test\nSubject: x\n\nx\n")
    case("plain", "Delivered-To of an alias", aliases="{u}a: {u}", to="{u}a", body="Delivered-To: {u}a@local.test\nSubject: x\n\nx\n")
    case("plain", "Delivered-To of an alias's user", aliases="{u}a: {u}", to="{u}a", body="Delivered-To: {u}@local.test\nSubject: x\n\nx\n")
    case("plain", "Delivered-To with an extension", to="{u}+x", body="Delivered-To: {u}@local.test\nSubject: x\n\nx\n")
    case("plain", "Delivered-To in the body", body="Subject: x\n\nDelivered-To: {u}@local.test\n")
    case("plain", "unknown with the null sender", to="no{u}x", sender="", user=False)
    case("luser", "unknown user", to="no{u}x", user=False)
    case("luser", "unknown user with extension", to="no{u}x+ext", user=False)
    case("luser", "known user")
    case("luser", "alias to an unknown user", aliases="{u}a: no{u}", to="{u}a")

    for mode in ("755", "700"):
        case("plain", f"root's include not readable by others, directory {mode}", aliases="{u}a: :include:{d}/list", to="{u}a",
             files=[("{d}/list", "{u}\n", 0o600, "root")], setup="chmod " + mode + " {d}")

    # What was added later: users' numbers go by the order of the cases.
    case("plain", "files that differ by case", aliases="{u}a: {d}/Out, {d}/out, {d}/out", to="{u}a")
    case("plain", "commands that differ by case", aliases='{u}a: "|cat >>{d}/Out", "|cat >>{d}/out"', to="{u}a")
    case("plain", "lists that share members", aliases="{u}a: {u}b, {u}c\n{u}b: {u}d, x@far.test\n{u}c: {u}d, X@far.test\n{u}d: {u}, y@far.test", to="{u}a")
    case("plain", "a list in itself further down", aliases="{u}a: {u}b, {u}c\n{u}b: {u}a, x@far.test\n{u}c: {u}", to="{u}a")
    case("loose", "one list with two extensions", aliases="{u}a: {u}b+x, {u}b+y\n{u}b: z@far.test, {u}", to="{u}a")
    case("loose", "one list with two extensions and owners", aliases="{u}a: {u}b+x\nowner-{u}a: other\n{u}c: {u}b+x, {u}a\n{u}b: z@far.test", to="{u}c")
    case("plain", "user with a slash", to="{u}/x", more_user="{u}/x", files=[(spool, None, 0o777, "{u}")])
    case("plain", "user that is a path", to='"../home/{u}/x"', more_user="../home/{u}/x")
    case("plain", "mailbox is a device", setup="mknod -m 666 " + spool + " c 1 3")
    case("plain", "mailbox is a second link to root's file", files=[("{d}/roots", "", 0o666, "root"), (spool, "=> {d}/roots", 0, "root")])
    case("plain", "mailbox is a link to a symbolic link", files=[("{h}/target", "", 0o600, "{u}"), ("{h}/link", "-> {h}/target", 0, "{u}")], setup="ln -P {h}/link " + spool)
    case("plain", "mailbox is a link to nowhere", files=[(spool, "-> {h}/none", 0, "{u}")])
    case("plain", "alias to a device", aliases="{u}a: {d}/device", to="{u}a", setup="mknod -m 666 {d}/device c 1 3")
    case("plain", "forward is a second link to root's file", files=[("{d}/roots", "x@far.test\n", 0o644, "root"), ("{h}/.forward", "=> {d}/roots", 0, "root")])
    case("plain", "forward to a list of another's by a link", files=[forward(":include:{h}/link\n"), ("{h}/link", "-> {d}/list", 0, "{u}"), ("{d}/list", "x@far.test\n", 0o600, "other")])
    case("plain", "options as a sender", aliases='{u}a: "|env | sort >{d}/out"', to="{u}a", sender='"-oQ/tmp -X/x"@src.test')
    case("plain", "a shell's function as a sender", aliases='{u}a: "|env | sort >{d}/out"', to="{u}a", sender='"() { :;}; id"@src.test')
    case("plain", "a shell's function as an extension", aliases='{u}a: "|env | sort >{d}/out"', to='"{u}a+() { :;}; id"')
    case("plain", "a macro as an extension", aliases='{u}a: "|env | sort >{d}/out"', to='"{u}a+${run{id}}$user"')
    case("luser", "a macro as an unknown user", to='"no{u}$user${home}"', user=False)
    case("plain", "descriptors of a command", aliases='{u}a: "|ls /proc/self/fd >{d}/out"', to="{u}a")
    case("plain", "descriptors of a user's command", files=[forward('"|ls /proc/self/fd >{h}/got"\n')])


define()
for number, row in enumerate(CASES):
    row["user_name"] = f"u{number:03d}"

# Where Postern does otherwise, and why: {"group/name": reason}.
DIFFERENCES = {
    "home/home missing": "a home that is not mounted is no reason to return mail",
    "home/home not writable": "the same status: the mailbox is opened before its lock file is made",
    "luser/a macro as an unknown user": "what a stranger wrote passes forward_expansion_filter before it becomes a part of an address",
    "maildir/Maildir is a file": "the same status, in other words",
    "maildir/home missing": "a home that is not mounted is no reason to return mail",
    "maildir/home not writable": "a directory that may be repaired: tried again",
    "owners/owner of one's own name": "Postfix's mail goes in a circle until it has too many hops; ours is delivered",
    "owners/owner, failing command": "the report's words",
    "plain/owner, failing command": "the report's words",
    "plain/alias to a file in no directory": "a file system that is not mounted is no reason to return mail",
    "plain/alias to a file in root's directory": "no warning where no lock file can be made",
    "plain/commands that differ by case": "two commands; Postfix leaves out the second",
    "plain/files that differ by case": "two files; Postfix leaves out the second",
    "plain/forward to a list of another's by a link": "a list that can't be read now is tried again, not returned",
    "plain/mailbox is a link to nowhere": "the same status, in other words",
    "plain/user that is a path": "no user has such a name, whatever a source of users says",
    "plain/user with a slash": "no user has such a name, whatever a source of users says",
    "plain/command can't be executed": "the same status, in other words",
    "plain/command is missing": "the same status, in other words",
    "plain/command dies of PIPE": "commands begin with all signals as they are by default",
    "plain/home is closed": "a .forward file that can't be looked for is not taken for none",
    "plain/hostile sender in the environment": "smtpd's grammar of addresses",
    "plain/include is a FIFO": "a list that can't be read now is tried again, not returned",
    "plain/include is a directory": "a list that can't be read now is tried again, not returned",
    "plain/include missing": "a list that can't be read now is tried again, not returned",
    "plain/include not readable": "a list that can't be read now is tried again, not returned",
    "plain/include of another's from a forward": "a list that can't be read now is tried again, not returned",
    "plain/mailbox is a FIFO": "the same status, in other words",
    "plain/mailbox without a last newline": "the last message is not run into ours",
    "plain/much output": "less of a command's output goes into the report",
    "plain/root's include not readable by others": "anybody may put files there: only a list that is surely root's is read as root",
    "slow/locked by a dotlock": "the mailbox is opened, and made, before it is locked",
    "slow/stale dotlock": "the mailbox is opened, and made, before it is locked",
    "strict/home missing": "the same status, in other words",
}


# ---- making the world ----

def fill(text, name):
    values = {"u": name, "U": name.upper(), "h": f"{TOP}/home/{name}", "d": f"{TOP}/case/{name}"}
    return re.sub(r"\{([uUhd])\}", lambda m: values[m.group(1)], text)


OTHERS = ("other", "mapped", "catcher")


def users():
    """{name: uid} of those who exist in this world."""
    names = list(OTHERS) + [c["user_name"] for c in CASES if c["user"]]
    further = [fill(c["more_user"], c["user_name"]) for c in CASES if c["more_user"]]
    return {name: UID + i for i, name in enumerate(names)} | {name: UID + 2000 + i for i, name in enumerate(further)}


def passwd_text(old):
    mine = users()
    kept = [line for line in old.splitlines() if line.split(":")[0] not in mine]
    return "\n".join(kept + [f"{n}:x:{i}:{i}::{TOP}/home/{n}:/bin/sh" for n, i in mine.items()]) + "\n"


def enter():
    """Runs this program again in a mount namespace of its own."""
    if os.environ.get("LOCAL_CASES_INSIDE"):
        return
    os.environ["LOCAL_CASES_INSIDE"] = "1"
    os.execvp("unshare", ["unshare", "--mount", "--propagation", "private", sys.executable, os.path.abspath(__file__), *sys.argv[1:]])


def mount_over(root):
    """Another passwd file and an empty place at TOP, in a tree."""
    scratch = f"/tmp/local-cases-{os.getpid()}"
    os.makedirs(scratch, exist_ok=True)
    with open(f"{root}/etc/passwd") as f, open(f"{scratch}/passwd", "w") as out:
        out.write(passwd_text(f.read()))
    os.chmod(f"{scratch}/passwd", 0o644)
    subprocess.run(["mount", "--bind", f"{scratch}/passwd", f"{root}/etc/passwd"], check=True)
    if not root:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/srv"], check=True)
    os.makedirs(root + TOP, exist_ok=True)
    if root:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", root + TOP], check=True)
    return scratch


def make_file(root, path, content, mode, owner, uids):
    place = root + path
    os.makedirs(os.path.dirname(place), exist_ok=True)
    if content is None:
        os.mkdir(place)
    elif content == "fifo":
        os.mkfifo(place)
    elif content.startswith("-> "):
        os.symlink(content[3:], place)
    elif content.startswith("=> "):
        os.link(root + content[3:], place)
        return
    else:
        with open(place, "w") as f:
            f.write(content)
    uid = owner if isinstance(owner, int) else uids.get(owner, 65534 if owner == "nobody" else 0)
    os.chown(place, uid, uid if uid != 65534 else 65534, follow_symlinks=False)
    if not os.path.islink(place):
        os.chmod(place, mode)


def make_world(root, group):
    for name in ("spool", "home", "case", "fw"):
        shutil.rmtree(root + f"{TOP}/{name}", ignore_errors=True)
        os.makedirs(root + f"{TOP}/{name}")
    os.chmod(root + f"{TOP}/spool", 0o1777)
    uids, aliases = users(), []
    for name in OTHERS:
        make_file(root, f"{TOP}/home/{name}", None, 0o755, name, uids)
    for c in members(group):
        name = c["user_name"]
        make_file(root, f"{TOP}/case/{name}", None, 0o777, "root", uids)
        if c["user"]:
            make_file(root, f"{TOP}/home/{name}", None, 0o755, name, uids)
        for path, content, mode, owner in c["files"]:
            owner = fill(owner, name) if isinstance(owner, str) else owner
            make_file(root, fill(path, name), fill(content, name) if content else content, mode, owner, uids)
        if c["setup"]:
            script = fill(c["setup"], name)
            subprocess.run((["chroot", root] if root else []) + ["sh", "-c", script], check=True)
        if c["aliases"]:
            aliases.append(fill(c["aliases"], name))
    with open(root + f"{TOP}/aliases", "w") as f:
        f.write("\n".join(aliases) + "\npostmaster: /dev/null\n")


def members(group):
    return [c for c in CASES if c["group"] == group]


# ---- what happens ----

NOISE = [
    (r"\b[0-9A-F]{9,14}\b", "QUEUEID"),
    (r"[A-Z][a-z][a-z], +\d+ [A-Z][a-z][a-z] \d{4} [\d:]+ [+-]\d{4} \([A-Z]+\)", "DATE"),
    (r"(?m)^(From \S.*?)  [A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d [\d:]{8} \d{4}$", r"\1  DATE"),
    (r"mail-[a-z0-9_]{8}", "INSTANCE"),
    (r"\b\d{10}\.[A-Za-z0-9_.-]+", "MAILDIRNAME"),
    (r"(?m)^MAIL_CONFIG=.*\n|^_=.*\n|^PWD=.*\n|^OLDPWD=.*\n|^SHLVL=.*\n|^LANG=.*\n|^TZ=.*\n", ""),
    (r"/tmp/INSTANCE", "/srv/INSTANCE"),
    (r"\(Postfix[^)]*\)", "(Postfix)"),
]


def clean(text):
    for pattern, replacement in NOISE:
        text = re.sub(pattern, replacement, text)
    return text


def look_at(root, top, found):
    for directory, directories, files in os.walk(root + top):
        for name in sorted(directories + files):
            path = os.path.join(directory, name)
            try:
                st = os.lstat(path)
            except FileNotFoundError:
                continue
            shown = clean(path.removeprefix(root))
            kind = stat.filemode(st.st_mode)[0]
            text = ""
            if stat.S_ISREG(st.st_mode):
                with open(path, encoding="latin-1") as f:
                    text = clean(f.read(20000))
            found.append([shown, kind, oct(st.st_mode & 0o7777), st.st_uid, st.st_gid, text])


def observe_case(root, c, lines):
    name = c["user_name"]
    seen = {"deliveries": set(), "warnings": set(), "files": []}
    mark = re.compile(rf"{name}(?!\d)", re.I)
    for line in lines:
        if not mark.search(line):
            continue
        m = re.search(r"(?:^|\s)[0-9A-Za-z]+: to=<([^>]*)>,(?: orig_to=<([^>]*)>,)? relay=([^,]*), .*dsn=([0-9.]+), status=(.*)$", line)
        if m and m.group(3) in ("local", "none"):
            seen["deliveries"].add(" ".join([m.group(1), m.group(2) or "-", m.group(4), clean(m.group(5))]))
        elif "/local[" in line and ("warning:" in line or "error:" in line or "fatal:" in line):
            seen["warnings"].add(clean(re.sub(r"^.*?\]: ", "", line)))
    for top in (f"{TOP}/home/{name}", f"{TOP}/case/{name}"):
        look_at(root, top, seen["files"])
    for entry in sorted(os.listdir(f"{root}{TOP}/spool")):
        if mark.search(entry):
            path = f"{TOP}/spool/{entry}"
            st = os.lstat(root + path)
            if stat.S_ISDIR(st.st_mode):
                look_at(root, path, seen["files"])
            text = ""
            if stat.S_ISREG(st.st_mode):
                with open(root + path, encoding="latin-1") as f:
                    text = clean(f.read(20000))
            seen["files"].append([path, stat.filemode(st.st_mode)[0], oct(st.st_mode & 0o7777), st.st_uid, st.st_gid, text])
    return {"deliveries": sorted(seen["deliveries"]), "warnings": sorted(seen["warnings"]), "files": sorted(seen["files"])}


def settle(mail, count):
    """Until every message has a status, and nothing new came for a while."""
    end, quiet, before = time.monotonic() + 60, 0, -1
    while time.monotonic() < end and quiet < 8:
        time.sleep(0.25)
        now = len(mail.log(r"status=|notification"))
        quiet = quiet + 1 if now == before and now >= count and not active(mail) else 0
        before = now


def active(mail):
    total = 0
    for name in ("incoming", "active", "maildrop"):
        for _, _, files in os.walk(f"{mail.spool}/{name}"):
            total += len(files)
    return total


def run_group(group, target, root):
    make_world(root, group)
    settings = {
        "mydestination": DOMAIN, "myorigin": DOMAIN, "alias_maps": f"hash:{TOP}/aliases", "mail_spool_directory": f"{TOP}/spool",
        "recipient_delimiter": "+", "local_recipient_maps": "", "biff": "no", "relayhost": "", "default_transport": "discard:far",
        "relay_transport": "discard:far", "maximal_queue_lifetime": "1h", "minimal_backoff_time": "1000s", "maximal_backoff_time": "1000s",
        "queue_run_delay": "1000s", "default_privs": "nobody", "smtputf8_enable": "no", "message_size_limit": "10240000",
        "append_dot_mydomain": "no", "soft_bounce": "no", "local_destination_concurrency_limit": "2", "mailbox_delivery_lock": "fcntl, dotlock",
        "export_environment": "TZ MAIL_CONFIG LANG", "resolve_dequoted_address": "yes", "virtual_alias_maps": "",
    }
    settings.update(GROUPS[group])
    mail = Instance(target=target, settings=settings, start=False, name="mail")
    try:
        mail.command("postalias", f"hash:{TOP}/aliases")
        os.chown(root + f"{TOP}/aliases", 0, 0)
        mail.start()
        count = 0
        for c in members(group):
            for _ in range(2 if c["again"] else 1):
                submit(mail, c)
                count += 1
        settle(mail, count)
        with open(mail.log_file, encoding="utf-8", errors="replace") as f:
            lines = f.read().splitlines()
        return {f"{group}/{c['name']}": observe_case(root, c, lines) for c in members(group)}
    finally:
        mail.kill_all()
        mail.close()


def submit(mail, c):
    name = c["user_name"]
    body = fill(c["body"], name).encode("latin-1").replace(b"\n", b"\r\n")
    to = fill(c["to"], name)
    with Client(mail.port) as client:
        client.ehlo()
        client.send(c["sender"], [f"{to}@{DOMAIN}"], body)


def observe(target):
    root = "" if target == "postern" else f"{PEERS}/{target}"
    scratch = mount_over(root)
    result = {}
    try:
        for group in GROUPS:
            result.update(run_group(group, target, root))
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return result


# ---- comparing ----

def level(entry):
    """Without what is not local's: headers that cleanup adds for local clients, names of files in Maildirs."""
    text = entry[-1] if isinstance(entry, list) else entry
    text = re.sub(r" \)$", ")", text)  # Postfix keeps the blank that a command's last newline became
    text = re.sub(r"(?m)^(Message-Id: <QUEUEID.*>|Date: DATE|From: .*)\n", "", text)
    if not isinstance(entry, list):
        return re.sub(r"(QUEUEID|[0-9]{10})\.[A-Z][0-9A-Za-z_.-]+", "MAILDIRNAME", text)
    return [re.sub(r"(QUEUEID|[0-9]{10})\.[A-Z][0-9A-Za-z_.-]+", "MAILDIRNAME", entry[0]), *entry[1:-1], text]


def differences(ours, theirs):
    """[(case, text)] of what is not the same."""
    found = []
    for key in theirs:
        if key not in ours:
            found.append((key, "missing"))
            continue
        for part in ("deliveries", "warnings", "files"):
            a, b = [json.dumps(level(x)) for x in ours[key][part]], [json.dumps(level(x)) for x in theirs[key][part]]
            only_a, only_b = [x for x in a if x not in b], [x for x in b if x not in a]
            if only_a or only_b:
                found.append((key, f"{part}:\n" + "".join(f"    ours   {x}\n" for x in only_a) + "".join(f"    theirs {x}\n" for x in only_b)))
    return found


def main():
    if len(sys.argv) >= 3 and sys.argv[1] == "observe":
        enter()
        result = observe(sys.argv[2])
        text = json.dumps(result, indent=0, sort_keys=True)
        if len(sys.argv) > 3:
            with open(sys.argv[3], "w") as f:
                f.write(text + "\n")
        else:
            print(text)
        return 0
    if len(sys.argv) == 4 and sys.argv[1] == "compare":
        with open(sys.argv[2]) as a, open(sys.argv[3]) as b:
            found = differences(json.load(a), json.load(b))
        for key, text in found:
            print(f"{key}{'  (' + DIFFERENCES[key] + ')' if key in DIFFERENCES else ''}\n  {text}")
        print(f"{len(CASES)} cases, {len({k for k, _ in found})} differ, {len({k for k, _ in found if k not in DIFFERENCES})} of them unexplained")
        return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
