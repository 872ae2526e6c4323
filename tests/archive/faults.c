/* Makes the n-th call that changes a file below one folder fail, or end the process.
 *
 * Preloaded into a test process. It counts from faults_arm() on; faults_calls() tells the count.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FAIL = 0, DIE = 1, TEAR = 2 };

static char folder[PATH_MAX];
static size_t folder_length;
static long long target;
static int mode, number, again;
static long long calls;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void faults_arm(const char *below, long long n, int how, int error, int keep_failing) {
    pthread_mutex_lock(&lock);
    snprintf(folder, sizeof folder, "%s", below);
    folder_length = strlen(folder);
    target = n, mode = how, number = error, again = keep_failing, calls = 0;
    pthread_mutex_unlock(&lock);
}

long long faults_calls(void) { return calls; }

static void die(void) { kill(getpid(), SIGKILL); for (;;) pause(); }

static int below(const char *path) {
    return folder_length && strncmp(path, folder, folder_length) == 0;
}

static int fd_below(int fd) {
    char link[64], path[PATH_MAX];
    if (!folder_length) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return below(path);
}

static int at_below(int fd, const char *path) {
    if (path && path[0] == '/') return below(path);
    return fd != AT_FDCWD && fd_below(fd);
}

/* 0: go on; 1: fail; 2: do half, then die. */
static int due(int concerned) {
    int found = 0;
    if (!concerned) return 0;
    pthread_mutex_lock(&lock);
    calls++;
    if (target && (calls == target || (again && calls > target))) {
        if (mode == DIE) die();
        found = mode == TEAR ? 2 : 1;
    }
    pthread_mutex_unlock(&lock);
    if (found == 1) errno = number;
    return found;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define GATE(concerned) \
    switch (due(concerned)) { case 1: return -1; case 2: die(); }

ssize_t write(int fd, const void *data, size_t n) {
    REAL(write);
    int what = due(fd_below(fd));
    if (what == 1) return -1;
    if (what == 2) { real(fd, data, n / 2); die(); }
    return real(fd, data, n);
}

ssize_t pwrite64(int fd, const void *data, size_t n, off64_t at) {
    REAL(pwrite64);
    int what = due(fd_below(fd));
    if (what == 1) return -1;
    if (what == 2) { real(fd, data, n / 2, at); die(); }
    return real(fd, data, n, at);
}

ssize_t writev(int fd, const struct iovec *parts, int n) {
    REAL(writev); GATE(fd_below(fd)); return real(fd, parts, n);
}

ssize_t copy_file_range(int in, off64_t *a, int out, off64_t *b, size_t n, unsigned flags) {
    REAL(copy_file_range); GATE(fd_below(out)); return real(in, a, out, b, n, flags);
}

ssize_t sendfile64(int out, int in, off64_t *at, size_t n);
ssize_t sendfile64(int out, int in, off64_t *at, size_t n) {
    REAL(sendfile64); GATE(fd_below(out)); return real(out, in, at, n);
}

int fsync(int fd) { REAL(fsync); GATE(fd_below(fd)); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); GATE(fd_below(fd)); return real(fd); }

int rename(const char *a, const char *b) { REAL(rename); GATE(below(b)); return real(a, b); }
int renameat(int x, const char *a, int y, const char *b) {
    REAL(renameat); GATE(at_below(y, b)); return real(x, a, y, b);
}
int link(const char *a, const char *b) { REAL(link); GATE(below(b)); return real(a, b); }
int linkat(int x, const char *a, int y, const char *b, int flags) {
    REAL(linkat); GATE(at_below(y, b)); return real(x, a, y, b, flags);
}
int unlink(const char *a) { REAL(unlink); GATE(below(a)); return real(a); }
int unlinkat(int x, const char *a, int flags) {
    REAL(unlinkat); GATE(at_below(x, a)); return real(x, a, flags);
}
int mkdir(const char *a, mode_t m) { REAL(mkdir); GATE(below(a)); return real(a, m); }

#define WITH_MODE(flags) \
    mode_t m = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list list; va_start(list, flags); m = va_arg(list, mode_t); va_end(list); \
    }

int open64(const char *a, int flags, ...) {
    REAL(open64); WITH_MODE(flags);
    GATE((flags & O_CREAT) && below(a));
    return real(a, flags, m);
}
int open(const char *a, int flags, ...) {
    REAL(open); WITH_MODE(flags);
    GATE((flags & O_CREAT) && below(a));
    return real(a, flags, m);
}
int openat64(int x, const char *a, int flags, ...) {
    REAL(openat64); WITH_MODE(flags);
    GATE((flags & O_CREAT) && at_below(x, a));
    return real(x, a, flags, m);
}
