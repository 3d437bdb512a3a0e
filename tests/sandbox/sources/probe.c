/* Does what command-line programs do, and says how each thing went. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void files(void) {
    char line[64];
    FILE *file = fopen("data/in.txt", "r");
    if (!file) { printf("no input: %s\n", strerror(errno)); return; }
    while (fgets(line, sizeof line, file)) printf("read %s", line);
    fclose(file);
    file = fopen("/out.txt", "w+");
    fprintf(file, "%d %.3f", 42, 2.5);
    rewind(file);
    printf("wrote %s\n", fgets(line, sizeof line, file));
    fclose(file);
    struct stat seen;
    printf("stat %d %d\n", stat("out.txt", &seen), (int)seen.st_size);
    printf("rename %d, unlink %d, mkdir %d\n", rename("out.txt", "data/moved"),
           unlink("data/in.txt"), mkdir("data/sub", 0777));
    DIR *folder = opendir("data");
    for (struct dirent *entry; (entry = readdir(folder));) printf("entry %s\n", entry->d_name);
    closedir(folder);
    printf("outside %d %d\n", open("../etc/passwd", 0) < 0, fopen("/etc/passwd", "r") == 0);
}

int main(int argc, char **argv) {
    char line[64];
    for (int i = 0; i < argc; i++) printf("argument %s\n", argv[i]);
    printf("environment %s\n", getenv("COLOUR"));
    while (fgets(line, sizeof line, stdin)) printf("input %s", line);
    files();
    time_t now = time(0);
    printf("year %d\n", gmtime(&now)->tm_year + 1900);
    struct timespec nap = {5, 0};
    nanosleep(&nap, 0);
    printf("slept %d\n", (int)(time(0) - now));
    char *room = malloc(1 << 20);
    memset(room, 1, 1 << 20);
    char *volatile too_much = malloc(1 << 30);
    printf("too much %d\n", too_much == 0);
    fprintf(stderr, "done\n");
    return 7;
}
