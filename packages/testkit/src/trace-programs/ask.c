/*
 * Makes one system call, named by its first argument, with the paths that follow. Prints what it read, if anything.
 * Exit code 1: the call failed. Built static: nothing is asked besides.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/xattr.h>
#include <unistd.h>

static const char *path, *other;
static char buffer[65536];

static int is_done(int result) { return result < 0 ? 1 : 0; }

static int show(int fd) {
    ssize_t length = fd < 0 ? -1 : read(fd, buffer, sizeof buffer);
    if (length > 0) fwrite(buffer, 1, length, stdout);
    return is_done(length);
}

static int write_to(int flags) {
    int fd = open(path, flags, 0644);
    return fd < 0 || write(fd, "new\n", 4) != 4 ? 1 : 0;
}

static int list(void) {
    DIR *dir = opendir(path);
    if (dir == NULL) return 1;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) printf("%s\n", entry->d_name);
    return 0;
}

static int bind_to(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, path, sizeof address.sun_path - 1);
    return is_done(bind(socket(AF_UNIX, SOCK_STREAM, 0), (struct sockaddr *)&address, sizeof address));
}

static int handle(void) {
    struct file_handle *wanted = (struct file_handle *)buffer;
    int mount;
    wanted->handle_bytes = MAX_HANDLE_SZ;
    return is_done(name_to_handle_at(AT_FDCWD, path, wanted, &mount, 0));
}

static int splice_out(void) {
    int ends[2], fd = open(path, O_RDONLY);
    if (fd < 0 || pipe(ends) != 0 || splice(fd, NULL, ends[1], NULL, 4096, 0) < 0) return 1;
    return show(ends[0]);
}

static int copy_range(void) {
    int from = open(path, O_RDONLY), to = open(other, O_WRONLY | O_CREAT, 0644);
    return from < 0 || to < 0 ? 1 : is_done(copy_file_range(from, NULL, to, NULL, 4096, 0));
}

static int map_shared(void) {
    int fd = open(path, O_RDONLY);
    char *bytes = fd < 0 ? MAP_FAILED : mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 0);
    if (bytes == MAP_FAILED) return 1;
    putchar(bytes[0]);
    return 0;
}

static int beneath(void) {
    struct open_how how = {.flags = O_RDONLY, .resolve = RESOLVE_IN_ROOT};
    int fd;
    do { /* refused while anything is being mounted or renamed anywhere */
        fd = syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
    } while (fd < 0 && errno == EAGAIN);
    return show(fd);
}

int main(int argc, char **argv) {
    const char *call = argc > 1 ? argv[1] : "";
    struct stat stats;
    struct statx extended;
    struct statfs space;
    path = argc > 2 ? argv[2] : "";
    other = argc > 3 ? argv[3] : "";
    if (!strcmp(call, "access")) return is_done(access(path, R_OK));
    if (!strcmp(call, "stat")) return is_done(stat(path, &stats));
    if (!strcmp(call, "statx")) return is_done(statx(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, STATX_ALL, &extended));
    if (!strcmp(call, "statfs")) return is_done(statfs(path, &space));
    if (!strcmp(call, "open")) return is_done(open(path, O_RDONLY));
    if (!strcmp(call, "open-path")) return is_done(fstat(open(path, O_PATH | O_NOFOLLOW), &stats));
    if (!strcmp(call, "open-excl")) return is_done(open(path, O_WRONLY | O_CREAT | O_EXCL, 0644));
    if (!strcmp(call, "openat2")) return beneath();
    if (!strcmp(call, "read")) return show(open(path, O_RDONLY));
    if (!strcmp(call, "splice")) return splice_out();
    if (!strcmp(call, "sendfile")) return is_done(sendfile(STDOUT_FILENO, open(path, O_RDONLY), NULL, 4096));
    if (!strcmp(call, "copy-range")) return copy_range();
    if (!strcmp(call, "map-shared")) return map_shared();
    if (!strcmp(call, "overwrite")) return write_to(O_WRONLY | O_TRUNC);
    if (!strcmp(call, "append")) return write_to(O_WRONLY | O_APPEND);
    if (!strcmp(call, "write-inside")) return write_to(O_RDWR);
    if (!strcmp(call, "truncate")) return is_done(truncate(path, 1));
    if (!strcmp(call, "link")) return is_done(link(path, other));
    if (!strcmp(call, "rename")) return is_done(rename(path, other));
    if (!strcmp(call, "exchange")) return is_done(renameat2(AT_FDCWD, path, AT_FDCWD, other, RENAME_EXCHANGE));
    if (!strcmp(call, "unlink")) return is_done(unlink(path));
    if (!strcmp(call, "rmdir")) return is_done(rmdir(path));
    if (!strcmp(call, "mkdir")) return is_done(mkdir(path, 0755));
    if (!strcmp(call, "symlink")) return is_done(symlink(other, path));
    if (!strcmp(call, "chmod")) return is_done(chmod(path, 0600));
    if (!strcmp(call, "chown")) return is_done(lchown(path, 1, 1));
    if (!strcmp(call, "utimes")) return is_done(utimensat(AT_FDCWD, path, NULL, 0));
    if (!strcmp(call, "list")) return list();
    if (!strcmp(call, "readlink")) return is_done(readlink(path, buffer, sizeof buffer));
    if (!strcmp(call, "getxattr")) return is_done(getxattr(path, "user.mark", buffer, sizeof buffer));
    if (!strcmp(call, "listxattr")) return is_done(listxattr(path, buffer, sizeof buffer));
    if (!strcmp(call, "setxattr")) return is_done(setxattr(path, "user.mark", "x", 1, 0));
    if (!strcmp(call, "inotify")) return is_done(inotify_add_watch(inotify_init(), path, IN_ALL_EVENTS));
    if (!strcmp(call, "handle")) return handle();
    if (!strcmp(call, "bind")) return bind_to();
    if (!strcmp(call, "chdir")) return is_done(chdir(path));
    if (!strcmp(call, "exec")) return execv(path, argv + 2), 1;
    return 2;
}
