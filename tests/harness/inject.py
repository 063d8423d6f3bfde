# SPDX-License-Identifier: Apache-2.0
"""Faults at a daemon's system calls. The instance must have been made with wrap=[daemon].

    arm(mail, "cleanup", kill_at(17))                      # SIGKILL at the 17th of CHANGING (counted in each thread)
    arm(mail, "cleanup", fail("fdatasync", "EIO", "3+7"))  # the 3rd, 10th, 17th... fail
    arm(mail, "cleanup", lie("fsync,fdatasync,sync_file_range,msync"))   # they succeed and do nothing
    arm(mail, "cleanup", short_writes(mail, 0.3))          # a preloaded library: real, shorter writes
    arm(mail, "cleanup", fail_write(mail, "pwritev", "ENOSPC", 3))       # the same: writes to files fail, never those to an eventfd
    arm(mail, "smtpd", limits(descriptors=20))             # RLIMIT_NOFILE, which it can't raise; memory in KiB: RLIMIT_AS
    arm(mail, "qmgr", clock(-86400))                       # its wall clock is so many seconds off (Postern only)
    disarm(mail)
A fault takes effect when the daemon starts the next time. kills(mail, daemon) counts the processes that died so.
The call is replaced by getpid, which every seccomp filter of ours allows (strace's default, call number -1, would end the daemon).
strace's rules: `when` is N, N+ (from there on all) or N+M (each M-th after); a call must be in the trace set to be injected.
"""
import errno
import glob
import os
import re
import shutil
import subprocess

CHANGING = ("fsync,fdatasync,write,pwrite64,writev,pwritev,pwritev2,rename,renameat,renameat2,unlink,unlinkat,link,linkat,openat,"
            "ftruncate,fchmod,fallocate,sendmsg,sendto,mkdir,utimensat,copy_file_range,msync")
SYNCS = "fsync,fdatasync,sync_file_range,msync,syncfs"


def unavailable():
    """Why no system call can be injected; "" if it can."""
    if not shutil.which("strace"):
        return "no strace"
    done = subprocess.run(["strace", "-f", "-o", "/dev/null", "-e", "trace=fsync", "-e", "inject=fsync:retval=0", "true"],
                          stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return "strace may not trace here" if done.returncode else ""


def kill_at(when, calls=CHANGING):
    return f"-e trace={calls} -e inject={calls}:signal=KILL:when={when}"


def fail(calls, error, when="1+"):
    return f"-e trace={calls} -e inject={calls}:error={error}:syscall=getpid:when={when}"


def lie(calls=SYNCS):
    return f"-e trace={calls} -e inject={calls}:retval=0:syscall=getpid"


def _preload(instance):
    library = f"{instance.control}/short_write.so"
    if not os.path.exists(library):
        source = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "crash", "short_write.c")
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return f"LD_PRELOAD={instance.inside(library)}"


def short_writes(instance, chance, seed=1):
    """The daemon's writes to files are cut short with that probability."""
    return f"export SHORT_WRITE={int(chance * 1000)}:{seed} {_preload(instance)}\n"


def fail_write(instance, call, error, first, step=0):
    """The daemon's writes to files fail: the first-th of that call ("write", "pwrite", "writev", "pwritev", "*": any), and then each step-th
    (0: no other). strace can't tell a file from an eventfd, to which a write can't fail."""
    return f"export FAIL_WRITE='{call}:{getattr(errno, error)}:{first}:{step}' {_preload(instance)}\n"


def limits(descriptors=None, memory=None):
    return "".join([f"ulimit -n {descriptors}\n" if descriptors else "", f"ulimit -v {memory}\n" if memory else ""])


def clock(seconds):
    return f"export POSTERN_CLOCK_OFFSET={int(seconds)}\n"


def _strace(instance):
    """The command that runs strace as the mail system sees it; in a tree it brings its libraries along."""
    real = shutil.which("strace")
    if not instance.root:
        return real
    place = f"{instance.root}/srv/strace"
    if not os.path.exists(f"{place}/strace"):
        os.makedirs(place, exist_ok=True)
        listing = subprocess.run(["ldd", real], check=True, stdout=subprocess.PIPE, text=True).stdout
        libraries = re.findall(r"(/\S+\.so\S*)", listing)
        for path in libraries:
            shutil.copy(path, place)
        shutil.copy(real, place)
    loader = next(name for name in os.listdir(place) if name.startswith("ld-"))
    inside = instance.inside(place)
    return f"{inside}/{loader} --library-path {inside} {inside}/strace"


def arm(instance, daemon, fault):
    """Takes effect the next time that the daemon starts."""
    if daemon not in instance.wrap:
        raise ValueError(f"{daemon} is not wrapped")
    control = instance.inside(instance.control)
    if fault.startswith(("ulimit", "export")):
        text = fault
    else:
        # A call that strace replaces has number -1, which a filter answers with death.
        text = f'export POSTERN_NO_SECCOMP=1\nexec {_strace(instance)} -D -f -qq -o {control}/{daemon}.$$.strace {fault} $R "$@"\n'
    temporary = f"{instance.control}/.{daemon}.new"
    with open(temporary, "w") as f:
        f.write(text)
    os.chmod(temporary, 0o644)
    os.rename(temporary, f"{instance.control}/{daemon}.run")


def disarm(instance, daemon=None):
    for name in [daemon] if daemon else instance.wrap:
        try:
            os.unlink(f"{instance.control}/{name}.run")
        except FileNotFoundError:
            pass


def logs(instance, daemon="*"):
    return glob.glob(f"{instance.control}/{daemon}.*.strace")


def count(instance, pattern, daemon="*"):
    """Lines in the traces that match."""
    n = 0
    for path in logs(instance, daemon):
        with open(path, errors="replace") as f:
            n += sum(1 for line in f if re.search(pattern, line))
    return n


def kills(instance, daemon="*"):
    """How many processes died by an injected SIGKILL (one for each process, not for each thread)."""
    n = 0
    for path in logs(instance, daemon):
        with open(path, errors="replace") as f:
            n += "killed by SIGKILL" in f.read()
    return n


def forget(instance):
    for path in logs(instance):
        os.unlink(path)


__all__ = ["CHANGING", "SYNCS", "arm", "count", "disarm", "clock", "fail", "fail_write", "forget", "kill_at", "kills", "lie", "limits", "short_writes", "unavailable"]
