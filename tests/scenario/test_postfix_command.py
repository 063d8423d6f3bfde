# SPDX-License-Identifier: Apache-2.0
"""The postfix command: start, stop, status, reload, check; as root and as an ordinary user; in the foreground."""
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import time

import pytest


def postfix(mail, command, check=False, **options):
    return mail.command("postfix", command, check=check, **options)


def test_status_tells_whether_it_runs(make_mail):
    mail = make_mail()
    done = postfix(mail, "status")
    assert done.returncode == 0
    assert done.stdout == f"postfix/postfix-script: the Postfix mail system is running: PID: {mail.master_pid}\n"
    mail.stop()
    done = postfix(mail, "status")
    assert done.returncode == 1
    assert done.stdout == "postfix/postfix-script: the Postfix mail system is not running\n"


def test_a_second_start_is_refused_and_disturbs_nothing(make_mail):
    mail = make_mail()
    done = postfix(mail, "start")
    assert done.returncode == 1
    assert done.stdout.endswith("postfix/postfix-script: fatal: the Postfix mail system is already running\n")
    assert mail.running()


@pytest.mark.parametrize("command", ["stop", "reload", "abort", "flush"])
def test_commands_for_what_runs_say_that_it_does_not(make_mail, command):
    mail = make_mail()
    mail.stop()
    done = postfix(mail, command)
    assert done.returncode == 1
    assert done.stdout.endswith("postfix/postfix-script: fatal: the Postfix mail system is not running\n")


def test_a_pid_file_that_was_left_over_does_no_harm(make_mail):
    mail = make_mail()
    mail.kill_all()
    assert os.path.exists(f"{mail.spool}/pid/master.pid")
    assert postfix(mail, "status").returncode == 1
    mail.start()
    assert mail.running()


def test_the_log_tells_what_was_done(make_mail):
    mail = make_mail()
    mail.reload()
    mail.wait_log(r"reload -- version")
    postfix(mail, "status")
    mail.wait_log(r"is running: PID: \d+")
    mail.stop()
    with open(mail.log_file) as f:
        text = f.read()
    for line in ("starting the Postfix mail system", "refreshing the Postfix mail system", "stopping the Postfix mail system"):
        assert re.search(rf"^\w+ +\d+ [\d:]+ \S+ postfix/postfix-script\[\d+\]: {line}$", text, re.M)


def test_a_bad_setting_is_found_at_start_and_at_reload(make_mail):
    mail = make_mail()
    mail.settings["smtpd_recipient_limit"] = "many"
    mail.write_config()
    done = postfix(mail, "reload")
    assert done.returncode == 1
    assert re.search(r"fatal: \S+/main.cf, line \d+: bad numerical configuration: smtpd_recipient_limit = many\n", done.stdout)
    assert mail.running()
    mail.stop()
    done = postfix(mail, "start")
    assert done.returncode == 1 and "Postfix integrity check failed!" in done.stdout
    assert not mail.processes()


def test_check_names_settings_without_effect_and_typing_mistakes(make_mail):
    mail = make_mail()
    mail.settings.update({"smtpd_milters": "inet:127.0.0.1:1", "tls_random_source": "dev:/dev/zero", "smptd_banner": "x"})
    mail.write_config()
    done = postfix(mail, "check")
    assert "parameter tls_random_source has no effect: OpenSSL gets random numbers from the system\n" in done.stdout
    assert f"warning: {mail.etc}/main.cf: unused parameter: smptd_banner=x\n" in done.stdout


def test_check_makes_directories_and_warns_of_others_owners(make_mail):
    mail = make_mail()
    mail.stop()
    shutil.rmtree(f"{mail.spool}/corrupt")
    os.chmod(f"{mail.spool}/hold", 0o777)
    done = postfix(mail, "check")
    st = os.stat(f"{mail.spool}/corrupt")
    assert stat.S_IMODE(st.st_mode) == 0o700 and st.st_uid == mail.uid
    assert f"warning: group or other writable: {mail.spool}/hold\n" in done.stdout
    assert postfix(mail, "set-permissions").returncode == 0
    assert stat.S_IMODE(os.stat(f"{mail.spool}/hold").st_mode) == 0o700
    assert "writable" not in postfix(mail, "check").stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="needs files of two users")
def test_check_names_queue_files_of_others_at_any_depth(make_mail):
    mail = make_mail()
    mail.stop()
    os.makedirs(f"{mail.spool}/deferred/A/B")
    for name, uid in (("A", mail.uid), ("A/B", mail.uid), ("A/B/AB1", 0), ("A/A2", mail.uid)):
        if not os.path.isdir(f"{mail.spool}/deferred/{name}"):
            open(f"{mail.spool}/deferred/{name}", "w", encoding="ascii").close()
        os.chown(f"{mail.spool}/deferred/{name}", uid, -1)
    said = postfix(mail, "check").stdout
    assert re.findall(r"not owned by \S+: (\S+)", said) == [f"{mail.spool}/deferred/A/B/AB1"]


def test_a_link_in_the_place_of_a_queue_directory_is_refused(make_mail, tmp_path):
    mail = make_mail()
    mail.stop()
    victim = tmp_path / "victim"
    victim.mkdir(mode=0o755)
    shutil.rmtree(f"{mail.spool}/corrupt")
    os.symlink(victim, f"{mail.spool}/corrupt")
    assert postfix(mail, "set-permissions").returncode == 1
    assert stat.S_IMODE(victim.stat().st_mode) == 0o755


def test_abort_ends_all_at_once(make_mail):
    mail = make_mail()
    assert postfix(mail, "abort").returncode == 0
    mail.wait(lambda: not mail.processes(), 10, "all processes end")


def test_unknown_commands_are_refused(make_mail):
    done = postfix(make_mail(), "bogus")
    assert done.returncode == 1 and "fatal: unknown command: 'bogus'" in done.stdout


def foreground(mail, *before):
    """start-fg, as the last argument of a command line."""
    return subprocess.Popen([*before, f"{mail.commands}/postfix", "-c", mail.etc, "start-fg"], stdin=subprocess.DEVNULL,
                            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def test_start_fg_stays_and_ends_at_a_signal(make_mail):
    mail = make_mail()
    mail.stop()
    child = foreground(mail)
    try:
        mail.wait_port(mail.port, 20)
        assert child.poll() is None and postfix(mail, "status").returncode == 0
        child.send_signal(signal.SIGTERM)
        assert child.wait(30) == 0
    finally:
        child.kill()
        child.wait()
    assert postfix(mail, "status").returncode == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="a container needs root")
def test_as_process_1_of_a_container(make_mail):
    mail = make_mail()
    mail.stop()
    child = foreground(mail, "unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
    try:
        mail.wait_port(mail.port, 20)
        with open(f"{mail.spool}/pid/master.pid") as f:
            assert f.read() == "%10d\n" % 1
        inside = subprocess.run(["pgrep", "-P", str(child.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(inside[0]), signal.SIGTERM)
        child.wait(30)
    finally:
        child.kill()
        child.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="root takes another user's place here; others run all tests so anyhow")
def test_an_ordinary_user_runs_a_system_of_their_own(make_mail):
    mail = make_mail(start=False)
    user = pwd.getpwnam("nobody")
    for directory, _, names in os.walk(mail.base):
        for path in [directory] + [os.path.join(directory, n) for n in names]:
            os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)

    def run(command):
        return subprocess.run([f"{mail.commands}/postfix", "-c", mail.etc, command], user=user.pw_uid, group=user.pw_gid,
                              extra_groups=[], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, timeout=60)
    done = run("start")
    try:
        assert done.returncode == 0, done.stderr
        mail.wait_port(mail.port, 20)
        for name in ("incoming", "active", "deferred", "journal", "private", "public", "pid"):
            assert os.stat(f"{mail.spool}/{name}").st_uid == user.pw_uid
        assert run("status").returncode == 0
    finally:
        stopped = run("stop")
        time.sleep(0.1)
    assert stopped.returncode == 0 and run("status").returncode == 1


def test_stop_right_after_a_reload_is_in_the_log(make_mail):
    """The log's writer is replaced at a reload; what is said meanwhile must not stay in its socket."""
    mail = make_mail()
    for times in range(1, 6):
        mail.reload()
        mail.stop()
        assert len(mail.log(r"^terminating on signal 15")) == times
        mail.start()
