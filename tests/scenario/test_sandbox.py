# SPDX-License-Identifier: Apache-2.0
"""The filters of system calls: what each process's groups forbid kills it, and what its groups allow does not (lib/run/sandbox_seccomp.c)."""
import importlib.machinery
import importlib.util
import os
import re
import subprocess

import pytest

from harness.instance import TOP, build_dir

SIGSYS, SIGABRT = -31, -6
# Calls that no process behind a filter may make, whatever its groups.
NEVER = """execve execveat fork vfork ptrace process_vm_writev mount umount2 chroot setns unshare bpf io_uring_setup io_uring_enter
    io_uring_register userfaultfd perf_event_open finit_module reboot mknodat setuid setgid setfsuid capset listen
    personality pidfd_getfd open_by_handle_at fanotify_init iopl clock_settime shmget mq_open tkill rt_sigqueueinfo
    landlock_create_ruleset memfd_secret setsid sched_setscheduler modify_ldt chown fchownat symlinkat signalfd4 splice remap_file_pages""".split()
# Nor may those that read bytes of strangers make these, beside what is refused to them.
NEVER_PARSING = "clone memfd_create unlink unlinkat rename renameat mkdir mkdirat link linkat chmod fchmod fchown ftruncate truncate bind pipe pipe2 dup kill".split()


def load_measure():
    loader = importlib.machinery.SourceFileLoader("measure_calls", f"{TOP}/tests/measure_calls")
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("measure_calls", loader))
    loader.exec_module(module)
    return module


measure = load_measure()
TABLE, LETTERS, REFUSED = measure.read_table()
BITS = {}
with open(f"{TOP}/lib/run/sandbox.h", encoding="utf-8") as header:
    BITS = {name: 1 << int(bit) for name, bit in re.findall(r"SANDBOX_(\w+) = 1 << (\d+)", header.read())}


def probe(*arguments):
    path = f"{build_dir()}/tests/scenario/filter_probe"
    if not os.path.exists(path):
        (pytest.fail if os.environ.get("POSTERN_BUILD") else pytest.skip)(f"no tests/scenario/filter_probe in {build_dir()}")
    with open(f"{build_dir()}/config.h", encoding="utf-8") as f:
        if re.search(r"^#define POSTERN_SANITIZERS 1", f.read(), re.M):
            pytest.skip("a build with sanitizers has no filter")
    environment = {k: v for k, v in os.environ.items() if k != "POSTERN_NO_SECCOMP"}
    return subprocess.run([path, *arguments], check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout


def fates(groups, calls):
    """{call: -signal, errno or 0}, of those that this machine has."""
    mask = sum(BITS[group] for group in groups)
    return {name: int(result) for name, result in (line.split() for line in probe(str(mask), *calls).splitlines())}


def groups_of(role):
    return measure.named_groups(measure.SOURCES[role]) & set(BITS)


# One of those that have the same groups stands for all.
ROLES = sorted({frozenset(groups_of(role)): role for role in measure.SOURCES}.values())
ONE_PARSER = sorted({frozenset(groups_of(role)): role for role in measure.PARSERS}.values())


@pytest.mark.parametrize("role", ROLES)
def test_forbidden_calls_kill(role):
    allowed = measure.allowed_calls(role, TABLE, LETTERS)
    calls = [call for call in NEVER + (NEVER_PARSING if role in measure.PARSERS else []) if call not in allowed or call in measure.FORBIDDEN]
    assert {call: fate for call, fate in fates(groups_of(role), calls).items() if fate != SIGSYS} == {}
    assert not set(NEVER) & set(allowed)


@pytest.mark.parametrize("role", ONE_PARSER)
def test_whatever_a_parser_does_not_name_kills_or_is_refused(role):
    allowed = measure.allowed_calls(role, TABLE, LETTERS)
    calls = [call for call in probe().split() if call not in allowed]
    fate = fates(groups_of(role), calls)
    assert {call: fate[call] for call in fate if fate[call] != SIGSYS and call not in REFUSED} == {}
    assert {call for call in REFUSED & set(fate) if fate[call] in (0, SIGSYS)} == set()
    assert not {"openat", "open", "openat2", "clone", "clone3"} & set(allowed)


@pytest.mark.parametrize("role", ROLES)
def test_allowed_calls_do_not_kill(role):
    """All but those that depend on their arguments, or that have no arguments to be wrong."""
    some = {"mmap", "mprotect", "socket", "socketpair", "clone", "kill", "prlimit64", "exit", "exit_group", "rt_sigreturn", "restart_syscall", "poll", "ppoll",
            "epoll_wait", "futex", "tgkill", "close", "read", "setresuid", "setresgid"}
    calls = sorted(set(measure.allowed_calls(role, TABLE, LETTERS)) - some)
    assert {call: fate for call, fate in fates(groups_of(role), calls).items() if fate == SIGSYS} == {}


@pytest.mark.parametrize("role", ROLES)
def test_bad_times_end_in_a_panic_not_in_the_filter(role):
    assert fates(groups_of(role), ["panic"]) == {"panic": SIGABRT}


def test_parsers_have_few_calls():
    """Whoever adds one finds out. Of these a normal run shows 26 at most; the rest is for other kernels and bad times (SELDOM)."""
    for role in measure.PARSERS:
        allowed = measure.allowed_calls(role, TABLE, LETTERS)
        assert len(allowed) <= 46, role
        assert sum(not seldom for seldom in allowed.values()) <= 26, role
