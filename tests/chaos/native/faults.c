/*
 * Stands between a program and the system, and lets the system fail the files of one store.
 *
 * Preloaded into a process it counts what is done to files whose path begins with a prefix, and
 * at one of these calls kills the process, cuts the call in the middle or lets it fail. It can
 * keep a trace of all that reached the files, from which a power cut is made, and play a full
 * disk for as long as a control file exists. A file is known by the path of its descriptor, so
 * that it does not matter who opened it, or how.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Kinds of calls; a plan names those that it counts. */
enum { WRITE = 1, SYNC = 2, SIZE = 4, NAME = 8, LOCK = 16, READ = 32 };
/* What happens to the call of the number that a plan names. */
enum { NOTHING, KILL, KILL_MIDWAY, FAIL, SHORTEN };
/* What a single call has to do; anything above is the error that it gives. */
enum { PASS = 0, HALF = -1, HALF_THEN_DIE = -2 };

static char prefix[PATH_MAX], folder[PATH_MAX], full[PATH_MAX];
static int counted = WRITE | SYNC | SIZE | NAME;
static int action = NOTHING, error = EIO, lasts = 0;
static long number = 0;
static atomic_long calls = 0, hits = 0;
static int trace = -1;
/* Held over a call and its record, so that the trace is in the order in which things happened. */
static pthread_mutex_t recording = PTHREAD_MUTEX_INITIALIZER;

#define REAL(name) \
    static __typeof__(name) *real = NULL; \
    if (real == NULL) real = (__typeof__(name) *)dlsym(RTLD_NEXT, #name)

/* --- what a test asks for ------------------------------------------------------------------ */

void faults_watch(const char *path)
{
    snprintf(prefix, sizeof prefix, "%s", path);
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash != NULL) *slash = 0;
}

void faults_plan(int kinds, int what, long at, int code, int is_sticky)
{
    counted = kinds, action = what, number = at, error = code, lasts = is_sticky;
    atomic_store(&calls, 0);
    atomic_store(&hits, 0);
}

long faults_calls(void) { return atomic_load(&calls); }

long faults_hits(void) { return atomic_load(&hits); }

static int raw_write(int fd, const void *data, size_t size)
{
    REAL(write);
    while (size > 0) {
        ssize_t done = real(fd, data, size);
        if (done < 0) return -1;
        data = (const char *)data + done, size -= (size_t)done;
    }
    return 0;
}

static void record(const char *what, const char *path, off_t offset, const void *data, size_t size)
{
    char line[PATH_MAX + 64];
    if (trace < 0) return;
    const char *name = strrchr(path, '/');
    int length = snprintf(line, sizeof line, "%s %lld %zu %s\n", what, (long long)offset,
                          size, name ? name + 1 : path);
    /* A trace with a hole in it would prove nothing. */
    if (raw_write(trace, line, (size_t)length) || raw_write(trace, data, size)) abort();
}

void faults_trace(const char *path)
{
    REAL(open64);
    trace = real(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

/* What the program has promised by now, among what it has done. */
void faults_mark(const char *text)
{
    pthread_mutex_lock(&recording);
    record("mark", "", 0, text, strlen(text));
    pthread_mutex_unlock(&recording);
}

__attribute__((constructor)) static void begin(void)
{
    if (getenv("FAULTS_WATCH")) faults_watch(getenv("FAULTS_WATCH"));
    if (getenv("FAULTS_FULL")) snprintf(full, sizeof full, "%s", getenv("FAULTS_FULL"));
}

/* --- which calls are meant, and what becomes of them --------------------------------------- */

static int is_watched(const char *path)
{
    if (!*prefix || path == NULL) return 0;
    return strncmp(path, prefix, strlen(prefix)) == 0 || strcmp(path, folder) == 0;
}

static int is_watched_file(int fd, char *path)
{
    char link[64];
    if (!*prefix) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    int kept = errno;
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    errno = kept;
    if (length < 0) return 0;
    path[length] = 0;
    return is_watched(path);
}

static void die(void)
{
    pthread_mutex_lock(&recording); /* what another thread does now is in the trace as well */
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int fate(int kind)
{
    if (!(kind & counted)) return PASS;
    long mine = atomic_fetch_add(&calls, 1) + 1;
    int is_it = mine == number, is_later = mine > number && lasts;
    if (action == NOTHING || !(is_it || is_later || (action == SHORTEN && mine == number + 1)))
        return PASS;
    atomic_fetch_add(&hits, 1);
    switch (action) {
    case KILL:
        die();
        return PASS;
    case KILL_MIDWAY:
        return HALF_THEN_DIE;
    case SHORTEN:
        return is_it ? HALF : error;
    default:
        return error;
    }
}

static int is_no_room(int fd, off_t end)
{
    struct stat now;
    int kept = errno;
    int is_full = *full && access(full, F_OK) == 0 && fstat(fd, &now) == 0 && end > now.st_size;
    errno = kept;
    return is_full;
}

/* --- the calls ----------------------------------------------------------------------------- */

/* Bytes of a file, at an offset. */
static ssize_t put(int fd, const char *path, const void *data, size_t size, off_t offset)
{
    REAL(pwrite64);
    int verdict = fate(WRITE);
    if (verdict > 0 || is_no_room(fd, offset + (off_t)size)) {
        errno = verdict > 0 ? verdict : ENOSPC;
        return -1;
    }
    if (verdict < 0) size = (size + 1) / 2;
    pthread_mutex_lock(&recording);
    ssize_t done = real(fd, data, size, offset);
    if (done > 0) record("write", path, offset, data, (size_t)done);
    pthread_mutex_unlock(&recording);
    if (verdict == HALF_THEN_DIE) die();
    return done;
}

ssize_t pwrite64(int fd, const void *data, size_t size, off_t offset)
{
    REAL(pwrite64);
    char path[PATH_MAX];
    return is_watched_file(fd, path) ? put(fd, path, data, size, offset)
                                     : real(fd, data, size, offset);
}

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    return pwrite64(fd, data, size, offset);
}

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write);
    char path[PATH_MAX];
    if (!is_watched_file(fd, path)) return real(fd, data, size);
    off_t offset = lseek(fd, 0, SEEK_CUR);
    ssize_t done = put(fd, path, data, size, offset);
    if (done > 0) lseek(fd, offset + done, SEEK_SET);
    return done;
}

ssize_t pread64(int fd, void *data, size_t size, off_t offset)
{
    REAL(pread64);
    char path[PATH_MAX];
    int verdict = counted & READ && is_watched_file(fd, path) ? fate(READ) : PASS;
    if (verdict > 0) errno = verdict;
    return verdict > 0 ? -1 : real(fd, data, size, offset);
}

/* Whatever is one step for the system: it happens and is recorded, or it fails. */
#define STEP(kind, what, path, offset, detail, call) \
    int verdict = fate(kind); \
    if (verdict > 0) { \
        errno = verdict; \
        return -1; \
    } \
    if (verdict == HALF_THEN_DIE) die(); \
    pthread_mutex_lock(&recording); \
    int done = call; \
    if (done >= 0) record(what, path, offset, detail, strlen(detail)); \
    pthread_mutex_unlock(&recording); \
    return done

int ftruncate64(int fd, off_t size)
{
    REAL(ftruncate64);
    char path[PATH_MAX];
    if (!is_watched_file(fd, path)) return real(fd, size);
    STEP(SIZE, "truncate", path, size, "", real(fd, size));
}

int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }

/* Only a power cut would tell whether this reaches the disk, and none is made: it does not. */
static int pushed(const char *path)
{
    int is_folder = strcmp(path, folder) == 0;
    STEP(SYNC, is_folder ? "folder" : "sync", path, 0, "", 0);
}

int fsync(int fd)
{
    REAL(fsync);
    char path[PATH_MAX];
    return is_watched_file(fd, path) ? pushed(path) : real(fd);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    char path[PATH_MAX];
    return is_watched_file(fd, path) ? pushed(path) : real(fd);
}

int flock(int fd, int operation)
{
    REAL(flock);
    char path[PATH_MAX];
    if (!(operation & LOCK_EX) || !is_watched_file(fd, path)) return real(fd, operation);
    int verdict = fate(LOCK);
    if (verdict > 0) errno = verdict;
    return verdict > 0 ? -1 : real(fd, operation);
}

int unlink(const char *path)
{
    REAL(unlink);
    if (!is_watched(path)) return real(path);
    STEP(NAME, "unlink", path, 0, "", real(path));
}

int rename(const char *path, const char *other)
{
    REAL(rename);
    if (!is_watched(path) && !is_watched(other)) return real(path, other);
    STEP(NAME, "rename", path, 0, other, real(path, other));
}

static int opened(const char *path, int flags, mode_t mode)
{
    REAL(open64);
    int kept = errno;
    int is_new = flags & O_CREAT && is_watched(path) && access(path, F_OK) != 0;
    errno = kept;
    if (!is_new) return real(path, flags, mode);
    STEP(NAME, "create", path, 0, "", real(path, flags, mode));
}

#define MODE_OF(flags, mode) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | O_TMPFILE)) { \
        va_list more; \
        va_start(more, flags); \
        mode = va_arg(more, mode_t); \
        va_end(more); \
    }

int open64(const char *path, int flags, ...)
{
    MODE_OF(flags, mode);
    return opened(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    MODE_OF(flags, mode);
    return opened(path, flags, mode);
}

int openat64(int at, const char *path, int flags, ...)
{
    REAL(openat64);
    MODE_OF(flags, mode);
    if (path[0] == '/') return opened(path, flags, mode);
    return real(at, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
    REAL(openat);
    MODE_OF(flags, mode);
    if (path[0] == '/') return opened(path, flags, mode);
    return real(at, path, flags, mode);
}
