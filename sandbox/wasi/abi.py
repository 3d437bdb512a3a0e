"""Names and numbers of WASI preview 1: errors, types, rights, and every function's signature."""

import enum

MODULE = "wasi_snapshot_preview1"
"""The only module that a program may import from."""


class Errno(enum.IntEnum):
    """The error numbers that this implementation returns."""

    SUCCESS = 0
    BADF = 8
    EXIST = 20
    FAULT = 21
    FBIG = 22
    ILSEQ = 25
    INVAL = 28
    ISDIR = 31
    MFILE = 33
    NAMETOOLONG = 37
    NOENT = 44
    NOSPC = 51
    NOSYS = 52
    NOTDIR = 54
    NOTEMPTY = 55
    PERM = 63
    SPIPE = 70
    NOTCAPABLE = 76


class FileType(enum.IntEnum):
    """What a descriptor or a directory's entry is."""

    UNKNOWN = 0
    DIRECTORY = 3
    REGULAR_FILE = 4


class Clock(enum.IntEnum):
    """The clocks of preview 1."""

    REALTIME = 0
    MONOTONIC = 1
    PROCESS_CPU = 2
    THREAD_CPU = 3


class Whence(enum.IntEnum):
    """What a seek counts from."""

    SET = 0
    CUR = 1
    END = 2


class OpenFlag(enum.IntFlag):
    """How path_open treats what it finds."""

    CREAT = 1
    DIRECTORY = 2
    EXCL = 4
    TRUNC = 8


FD_APPEND = 1
"""The one descriptor flag that means something in memory."""
FD_FLAGS = 0x1F

RIGHT_READ = 1 << 1
RIGHT_SEEK = 1 << 2
RIGHT_TELL = 1 << 5
RIGHT_WRITE = 1 << 6
RIGHTS_ALL = (1 << 30) - 1

EVENT_CLOCK = 0
EVENT_READ = 1
EVENT_WRITE = 2
CLOCK_ABSOLUTE = 1

SIGNATURES: dict[str, str] = {
    "args_get": "ii",
    "args_sizes_get": "ii",
    "environ_get": "ii",
    "environ_sizes_get": "ii",
    "clock_res_get": "ii",
    "clock_time_get": "iIi",
    "fd_advise": "iIIi",
    "fd_allocate": "iII",
    "fd_close": "i",
    "fd_datasync": "i",
    "fd_fdstat_get": "ii",
    "fd_fdstat_set_flags": "ii",
    "fd_fdstat_set_rights": "iII",
    "fd_filestat_get": "ii",
    "fd_filestat_set_size": "iI",
    "fd_filestat_set_times": "iIIi",
    "fd_pread": "iiiIi",
    "fd_prestat_get": "ii",
    "fd_prestat_dir_name": "iii",
    "fd_pwrite": "iiiIi",
    "fd_read": "iiii",
    "fd_readdir": "iiiIi",
    "fd_renumber": "ii",
    "fd_seek": "iIii",
    "fd_sync": "i",
    "fd_tell": "ii",
    "fd_write": "iiii",
    "path_create_directory": "iii",
    "path_filestat_get": "iiiii",
    "path_filestat_set_times": "iiiiIIi",
    "path_link": "iiiiiii",
    "path_open": "iiiiiIIii",
    "path_readlink": "iiiiii",
    "path_remove_directory": "iii",
    "path_rename": "iiiiii",
    "path_symlink": "iiiii",
    "path_unlink_file": "iii",
    "poll_oneoff": "iiii",
    "proc_exit": "i",
    "proc_raise": "i",
    "random_get": "ii",
    "sched_yield": "",
    "sock_accept": "iii",
    "sock_recv": "iiiiii",
    "sock_send": "iiiii",
    "sock_shutdown": "ii",
}
"""Each function's parameters: i for i32, I for i64. All return one i32, but proc_exit nothing."""
NO_RESULT = frozenset({"proc_exit"})


class GuestError(Exception):
    """A call's failure, which the guest sees as an error number."""

    def __init__(self, errno: Errno) -> None:
        super().__init__(errno.name)
        self.errno = errno
