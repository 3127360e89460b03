/* Records the writes of a process to the files of one folder, and the syncs of these files.
 *
 * The process preloads it (LD_PRELOAD). RECORDER_FOLDER names the folder, RECORDER_LOG the file
 * of records. Each record has a head and data:
 *
 *   kind  1 byte   'C' file created   'O' file opened   'W' written   'T' truncated or grown
 *                  'S' synced         'U' removed       'R' renamed: data is "from\0to"
 *   file  4 bytes  number of the file, by its path; the folder is a file too
 *   at    8 bytes  offset or length
 *   size  4 bytes  bytes of data: the path for C, O and U, the bytes written for W
 *
 * A write is recorded before it is made, and a sync after it has returned. So the record never
 * shows more on the disk than there is. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FILES = 256, DESCRIPTORS = 65536 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char folder[PATH_MAX];
static int log_fd = -1;
static char *paths[FILES];
static int file_of[DESCRIPTORS]; /* 0: not watched */

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void) {
  const char *watched = getenv("RECORDER_FOLDER"), *log = getenv("RECORDER_LOG");
  if (!watched || !log || !realpath(watched, folder)) return;
  log_fd = REAL(open)(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

static void record(char kind, int file, int64_t at, const struct iovec *data, int pieces) {
  char head[17];
  uint32_t number = (uint32_t)file, size = 0;
  for (int i = 0; i < pieces; i++) size += (uint32_t)data[i].iov_len;
  head[0] = kind;
  memcpy(head + 1, &number, 4);
  memcpy(head + 5, &at, 8);
  memcpy(head + 13, &size, 4);
  struct iovec all[64] = {{head, sizeof head}};
  if (pieces > 63) abort();
  for (int i = 0; i < pieces; i++) all[i + 1] = data[i];
  /* A gap in the record would make the test meaningless. */
  if (REAL(writev)(log_fd, all, pieces + 1) != (ssize_t)(sizeof head + size)) abort();
}

static void record_text(char kind, int file, const char *text, size_t size) {
  struct iovec data = {(void *)text, size};
  record(kind, file, 0, &data, 1);
}

/* Returns the number of the file at `path`, from 1. The caller holds the lock. */
static int number(const char *path) {
  for (int i = 1; i < FILES; i++) {
    if (!paths[i]) paths[i] = strdup(path);
    if (strcmp(paths[i], path) == 0) return i;
  }
  abort();
}

/* Returns whether `path` is in the folder, and sets `full` to its absolute path. */
static int watched(int at, const char *path, char *full) {
  if (log_fd < 0 || !path) return 0;
  if (path[0] == '/' || at == AT_FDCWD) {
    char copy[PATH_MAX], parent[PATH_MAX];
    strncpy(copy, path, sizeof copy - 1);
    copy[sizeof copy - 1] = 0;
    if (realpath(copy, full)) return strncmp(full, folder, strlen(folder)) == 0;
    char *name = strrchr(copy, '/');
    if (name) *name++ = 0;
    if (!realpath(name ? copy : ".", parent)) return 0;
    if (strlen(parent) + strlen(name ? name : copy) + 2 > PATH_MAX) return 0;
    strcpy(full, parent);
    strcat(full, "/");
    strcat(full, name ? name : copy);
    return strncmp(full, folder, strlen(folder)) == 0;
  }
  return 0;
}

static int opened(int fd, int is_watched, const char *full, int existed) {
  if (fd < 0 || fd >= DESCRIPTORS || !is_watched) return fd;
  pthread_mutex_lock(&lock);
  file_of[fd] = number(full);
  record_text(existed ? 'O' : 'C', file_of[fd], full, strlen(full));
  pthread_mutex_unlock(&lock);
  return fd;
}

#define OPEN(name)                                                    \
  int name(const char *path, int flags, ...) {                        \
    va_list list;                                                     \
    va_start(list, flags);                                            \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; \
    va_end(list);                                                     \
    char full[PATH_MAX];                                              \
    int is_watched = watched(AT_FDCWD, path, full);                   \
    int existed = access(path, F_OK) == 0;                            \
    return opened(REAL(name)(path, flags, mode), is_watched, full, existed); \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                  \
  int name(int at, const char *path, int flags, ...) {                \
    va_list list;                                                     \
    va_start(list, flags);                                            \
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(list, mode_t) : 0; \
    va_end(list);                                                     \
    char full[PATH_MAX];                                              \
    int is_watched = watched(at, path, full);                         \
    int existed = faccessat(at, path, F_OK, 0) == 0;                  \
    return opened(REAL(name)(at, path, flags, mode), is_watched, full, existed); \
  }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
  if (fd >= 0 && fd < DESCRIPTORS) file_of[fd] = 0;
  return REAL(close)(fd);
}

static int file(int fd) { return fd >= 0 && fd < DESCRIPTORS ? file_of[fd] : 0; }

static void written(int fd, int64_t at, const struct iovec *data, int pieces) {
  pthread_mutex_lock(&lock);
  record('W', file(fd), at, data, pieces);
  pthread_mutex_unlock(&lock);
}

static int64_t position(int fd) {
  int flags = fcntl(fd, F_GETFL);
  struct stat status;
  if (flags >= 0 && flags & O_APPEND && fstat(fd, &status) == 0) return status.st_size;
  return lseek(fd, 0, SEEK_CUR);
}

#define PWRITE(name, offset)                                          \
  ssize_t name(int fd, const void *bytes, size_t size, offset at) {   \
    struct iovec data = {(void *)bytes, size};                        \
    if (file(fd)) written(fd, at, &data, 1);                          \
    return REAL(name)(fd, bytes, size, at);                           \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

ssize_t write(int fd, const void *bytes, size_t size) {
  struct iovec data = {(void *)bytes, size};
  if (file(fd)) written(fd, position(fd), &data, 1);
  return REAL(write)(fd, bytes, size);
}

ssize_t writev(int fd, const struct iovec *data, int pieces) {
  if (file(fd)) written(fd, position(fd), data, pieces);
  return REAL(writev)(fd, data, pieces);
}

static void resized(int fd, int64_t size) {
  pthread_mutex_lock(&lock);
  record('T', file(fd), size, NULL, 0);
  pthread_mutex_unlock(&lock);
}

int ftruncate(int fd, off_t size) {
  if (file(fd)) resized(fd, size);
  return REAL(ftruncate)(fd, size);
}

int ftruncate64(int fd, off64_t size) {
  if (file(fd)) resized(fd, size);
  return REAL(ftruncate64)(fd, size);
}

static int synced(int fd, int result) {
  if (result == 0 && file(fd)) {
    pthread_mutex_lock(&lock);
    record('S', file(fd), 0, NULL, 0);
    pthread_mutex_unlock(&lock);
  }
  return result;
}

int fsync(int fd) { return synced(fd, REAL(fsync)(fd)); }
int fdatasync(int fd) { return synced(fd, REAL(fdatasync)(fd)); }

int unlink(const char *path) {
  char full[PATH_MAX];
  if (watched(AT_FDCWD, path, full)) {
    pthread_mutex_lock(&lock);
    record_text('U', number(full), full, strlen(full));
    pthread_mutex_unlock(&lock);
  }
  return REAL(unlink)(path);
}

int rename(const char *from, const char *to) {
  char both[2 * PATH_MAX], full[PATH_MAX];
  if (watched(AT_FDCWD, from, both) && watched(AT_FDCWD, to, full)) {
    size_t size = strlen(both) + 1;
    strcpy(both + size, full);
    pthread_mutex_lock(&lock);
    record_text('R', number(both), both, size + strlen(full));
    pthread_mutex_unlock(&lock);
  }
  return REAL(rename)(from, to);
}
