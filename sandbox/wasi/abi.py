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
    LOOP = 32
    MFILE = 33
    NAMETOOLONG = 37
    NOENT = 44
    NOSPC = 51
    NOSYS = 52
    NOTDIR = 54
    NOTEMPTY = 55
    NOTSOCK = 57
    NOTSUP = 58
    PERM = 63
    SPIPE = 70
    NOTCAPABLE = 76


class FileType(enum.IntEnum):
    """What a descriptor or a directory's entry is."""

    UNKNOWN = 0
    DIRECTORY = 3
    REGULAR_FILE = 4
    SYMBOLIC_LINK = 7


class Clock(enum.IntEnum):
    """The clocks of preview 1."""

    REALTIME = 0
    MONOTONIC = 1
    PROCESS_CPU = 2
    THREAD_CPU = 3


# What follows are plain numbers: calls combine them by the thousand, which enums make slow.

WHENCE_SET, WHENCE_CUR, WHENCE_END = range(3)
"""What a seek counts from."""

OPEN_CREAT, OPEN_DIRECTORY, OPEN_EXCL, OPEN_TRUNC = 1, 2, 4, 8
"""How path_open treats what it finds."""
OPEN_FLAGS = 0xF

LOOKUP_FOLLOW = 1
"""A path's last part is followed if it is a symbolic link."""

FD_APPEND = 1
"""The one descriptor flag that means something in memory."""
FD_FLAGS = 0x1F

SET_ATIM, SET_ATIM_NOW, SET_MTIM, SET_MTIM_NOW = 1, 2, 4, 8
"""Which times are set, and to what."""

RIGHT_DATASYNC = 1 << 0
RIGHT_READ = 1 << 1
RIGHT_SEEK = 1 << 2
RIGHT_SET_FLAGS = 1 << 3
RIGHT_SYNC = 1 << 4
RIGHT_TELL = 1 << 5
RIGHT_WRITE = 1 << 6
RIGHT_ADVISE = 1 << 7
RIGHT_ALLOCATE = 1 << 8
RIGHT_CREATE_DIRECTORY = 1 << 9
RIGHT_CREATE_FILE = 1 << 10
RIGHT_LINK_SOURCE = 1 << 11
RIGHT_LINK_TARGET = 1 << 12
RIGHT_OPEN = 1 << 13
RIGHT_READDIR = 1 << 14
RIGHT_READLINK = 1 << 15
RIGHT_RENAME_SOURCE = 1 << 16
RIGHT_RENAME_TARGET = 1 << 17
RIGHT_PATH_STAT = 1 << 18
RIGHT_PATH_SET_SIZE = 1 << 19
RIGHT_PATH_SET_TIMES = 1 << 20
RIGHT_STAT = 1 << 21
RIGHT_SET_SIZE = 1 << 22
RIGHT_SET_TIMES = 1 << 23
RIGHT_SYMLINK = 1 << 24
RIGHT_REMOVE_DIRECTORY = 1 << 25
RIGHT_UNLINK = 1 << 26
RIGHT_POLL = 1 << 27
RIGHTS_ALL = (1 << 30) - 1

RIGHTS_ANY = RIGHT_DATASYNC | RIGHT_SYNC | RIGHT_SET_FLAGS | RIGHT_STAT | RIGHT_POLL
"""What can be done with a descriptor of any kind."""
RIGHTS_FILE = (
    RIGHTS_ANY | RIGHT_READ | RIGHT_SEEK | RIGHT_TELL | RIGHT_WRITE | RIGHT_ADVISE
    | RIGHT_ALLOCATE | RIGHT_SET_SIZE | RIGHT_SET_TIMES
)  # fmt: skip
RIGHTS_DIRECTORY = (
    RIGHTS_ANY | RIGHT_CREATE_DIRECTORY | RIGHT_CREATE_FILE | RIGHT_LINK_SOURCE
    | RIGHT_LINK_TARGET | RIGHT_OPEN | RIGHT_READDIR | RIGHT_READLINK | RIGHT_RENAME_SOURCE
    | RIGHT_RENAME_TARGET | RIGHT_PATH_STAT | RIGHT_PATH_SET_SIZE | RIGHT_PATH_SET_TIMES
    | RIGHT_SET_TIMES | RIGHT_SYMLINK | RIGHT_REMOVE_DIRECTORY | RIGHT_UNLINK
)  # fmt: skip

EVENT_CLOCK = 0
EVENT_READ = 1
EVENT_WRITE = 2
EVENT_HANGUP = 1
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
        super().__init__(errno)
        self.errno = errno
