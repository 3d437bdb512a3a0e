// Links, times, listings and descriptors, as a C program sees them (spec/07 §7).
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <wasi/libc.h>

static const char *why(int result) { return result == 0 ? "ok" : strerror(errno); }

static void put(const char *path, const char *text) {
  FILE *file = fopen(path, "w");
  fputs(text, file);
  fclose(file);
}

static void show(const char *path) {
  char line[100] = "";
  FILE *file = fopen(path, "r");
  if (file == NULL) {
    printf("%s: %s\n", path, strerror(errno));
    return;
  }
  fgets(line, sizeof line, file);
  fclose(file);
  printf("%s: %s\n", path, line);
}

static void symbolic(void) {
  char target[100];
  struct stat known;
  printf("symlink %s\n", why(symlink("../data/in.txt", "/tmp/soft")));
  printf("readlink %zd\n", readlink("/tmp/soft", target, sizeof target));
  show("/tmp/soft");
  lstat("/tmp/soft", &known);
  printf("link %d of %d bytes\n", S_ISLNK(known.st_mode), (int)known.st_size);
  stat("/tmp/soft", &known);
  printf("file %d of %d bytes\n", S_ISREG(known.st_mode), (int)known.st_size);
  symlink("loop", "/tmp/loop");
  show("/tmp/loop");
  symlink("../../secret", "/tmp/out");
  show("/tmp/out");
  printf("absolute %s\n", why(symlink("/data", "/tmp/absolute")));
  put("/tmp/soft", "through the link");
  show("/data/in.txt");
}

static void hard(void) {
  struct stat known;
  put("/tmp/one", "shared");
  printf("hard link %s\n", why(link("/tmp/one", "/tmp/two")));
  stat("/tmp/two", &known);
  printf("names %d\n", (int)known.st_nlink);
  int open_file = open("/tmp/one", O_RDONLY);
  unlink("/tmp/one");
  show("/tmp/two");
  unlink("/tmp/two");
  fstat(open_file, &known);
  printf("names %d, bytes %d\n", (int)known.st_nlink, (int)known.st_size);
  close(open_file);
  printf("directory %s\n", why(link("/data", "/tmp/data")));
}

static void times(void) {
  struct stat before, after;
  struct timespec past[2] = {{1000, 5}, {2000, 7}};
  put("/tmp/timed", "x");
  stat("/tmp/timed", &before);
  int open_file = open("/tmp/timed", O_WRONLY);
  write(open_file, "y", 1);
  close(open_file);
  stat("/tmp/timed", &after);
  printf("later %d\n", after.st_mtim.tv_nsec > before.st_mtim.tv_nsec);
  printf("utimensat %s\n", why(utimensat(AT_FDCWD, "/tmp/timed", past, 0)));
  stat("/tmp/timed", &after);
  printf("times %d.%d %d.%d\n", (int)after.st_atim.tv_sec, (int)after.st_atim.tv_nsec,
         (int)after.st_mtim.tv_sec, (int)after.st_mtim.tv_nsec);
}

// Removes every file while it reads the directory: none may be passed over.
static void listing(void) {
  char path[100];
  int removed = 0;
  mkdir("/tmp/many", 0700);
  for (int number = 0; number < 300; number++) {
    snprintf(path, sizeof path, "/tmp/many/a file with a long name %d", number);
    put(path, "");
  }
  DIR *directory = opendir("/tmp/many");
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (entry->d_name[0] == '.') continue;
    snprintf(path, sizeof path, "/tmp/many/%s", entry->d_name);
    removed += unlink(path) == 0;
  }
  closedir(directory);
  printf("removed %d, rmdir %s\n", removed, why(rmdir("/tmp/many")));
}

static void descriptors(void) {
  int one = open("/tmp/timed", O_RDONLY), two = open("/data/in.txt", O_RDONLY);
  char text[8] = "";
  printf("renumber %s\n", why(__wasilibc_fd_renumber(one, two)));
  printf("old %s\n", why(close(one)));
  read(two, text, 7);
  printf("new %s\n", text);
  printf("shutdown %s\n", why(shutdown(1, SHUT_RD)));
  int file = open("/tmp/grown", O_CREAT | O_RDWR, 0600);
  struct stat known;
  errno = posix_fallocate(file, 10, 20);
  fstat(file, &known);
  printf("allocated %d\n", (int)known.st_size);
}

int main(void) {
  symbolic();
  hard();
  times();
  listing();
  descriptors();
}
