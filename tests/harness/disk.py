# SPDX-License-Identifier: Apache-2.0
"""A file system on a loop device whose power can be cut, which can be filled, and which forgets what was not synced. Needs root.

    disk = Disk("/tmp/x.img", size_mib=256, kind="ext4", options="data=writeback,nobarrier")
    disk.mount("/tmp/x"); ... disk.cut(); (end all users) disk.mount_again(); ... disk.remove()
The cut is the file system's shutdown ioctl without a flush of its log: nothing more reaches the device. After umount and
mount, files that were not synced come back short or empty, and a rename that was not synced is undone.
"""
import ctypes
import errno
import fcntl
import os
import struct
import subprocess
import time

SHUTDOWN = 0x8004587D   # _IOR('X', 125, uint32_t), the same for ext4 and xfs
NO_LOG_FLUSH = 2


def unavailable():
    """Why there can be no such disk here; "" if there can."""
    if os.geteuid():
        return "a loop device needs root"
    if not os.path.exists("/dev/loop-control"):
        return "no loop devices here"
    for tool in ("losetup", "mkfs.ext4", "mount"):
        if not any(os.access(f"{d}/{tool}", os.X_OK) for d in ("/usr/sbin", "/sbin", "/usr/bin", "/bin")):
            return f"no {tool}"
    done = subprocess.run(["losetup", "-f"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return "losetup -f finds no free loop device" if done.returncode else ""


def run(*argv, check=True):
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    if check and done.returncode:
        raise OSError(f"{' '.join(argv)}: {done.stdout.strip()}")
    return done


class Disk:
    def __init__(self, image, *, size_mib=256, kind="ext4", options=""):
        self.image, self.kind, self.options, self.where = image, kind, options, None
        with open(image, "wb") as f:
            f.truncate(max(size_mib, 320 if kind == "xfs" else 4) << 20)
        if kind == "xfs":
            run("mkfs.xfs", "-q", "-f", image)
        else:
            run("mkfs.ext4", "-q", "-F", "-m", "0", "-E", "lazy_itable_init=0,lazy_journal_init=0", image)
        self.device = run("losetup", "-f", "--show", image).stdout.strip()
        self.filler = None
        self.checks = 0      # how often fsck had to look

    def mount(self, where):
        os.makedirs(where, exist_ok=True)
        self.where = where
        run("mount", "-t", self.kind, *(["-o", self.options] if self.options else []), self.device, where)
        os.chmod(where, 0o755)

    def sync(self):
        fd = os.open(self.where, os.O_RDONLY)
        try:
            if ctypes.CDLL(None, use_errno=True).syncfs(fd):
                raise OSError(ctypes.get_errno(), "syncfs")
        finally:
            os.close(fd)

    def cut(self):
        """From now on nothing reaches the device. Users of the file system get EIO."""
        fd = os.open(self.where, os.O_RDONLY)
        try:
            fcntl.ioctl(fd, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(fd)
        self.filler = None

    def unmount(self, seconds=10):
        end = time.monotonic() + seconds
        while True:
            done = run("umount", self.where, check=False)
            if not done.returncode:
                return
            if time.monotonic() > end:
                raise OSError(f"umount {self.where}: {done.stdout.strip()}")
            time.sleep(.01)

    def is_damaged(self):
        """Has the kernel found the file system itself inconsistent? That is none of a mail system's doing (seen with nobarrier)."""
        for path, _, names in os.walk(self.where):
            for name in names:
                try:
                    os.lstat(os.path.join(path, name))
                except OSError as e:
                    if e.errno == errno.EUCLEAN:
                        return True
        return False

    def mount_again(self):
        """umount, mount; with a file system check between them if it does not mount, or is damaged."""
        self.unmount()
        self._mount_somehow()
        if self.is_damaged():
            self.unmount()
            self._repair(1)
            self._mount_somehow()

    def _mount_somehow(self):
        for attempt in range(3):
            try:
                self.mount(self.where)
                return
            except OSError:
                run("umount", self.where, check=False)  # of one that was shut down, ismount() knows nothing
                self._repair(attempt)
        self.mount(self.where)

    def _repair(self, attempt):
        if attempt == 0:
            # Another mount name space (somebody's unshare) still holds the file system that was shut down: mount gave us that one.
            # The bytes are in the image; a new device makes a new file system of them.
            run("losetup", "-d", self.device, check=False)
            self.device = run("losetup", "-f", "--show", self.image).stdout.strip()
            return
        self.checks += 1
        run("xfs_repair" if self.kind == "xfs" else "e2fsck", *(["-L"] if self.kind == "xfs" else ["-fy"]), self.device, check=False)

    def free(self):
        s = os.statvfs(self.where)
        return s.f_bavail * s.f_frsize

    def fill(self, leave=0):
        """Takes all space but `leave` bytes."""
        self.filler = f"{self.where}/filler"
        with open(self.filler, "ab", buffering=0) as f:
            while (room := self.free() - leave) > 0:
                try:
                    if not f.write(bytes(min(room, 1 << 20))):
                        break
                    if self.free() > leave + room:
                        break
                except OSError:
                    break

    def relieve(self):
        if self.filler and os.path.exists(self.filler):
            os.unlink(self.filler)
        self.filler = None

    def remove(self, keep_image=False):
        """Unmounts and gives the loop device back. With keep_image, `mount -o loop` shows later what was on it."""
        if self.where and os.path.ismount(self.where):
            self.unmount()
        run("losetup", "-d", self.device, check=False)
        if os.path.exists(self.image) and not keep_image:
            os.unlink(self.image)
