/* Makes faults of the disk and of the clock for one process, which preloads it (LD_PRELOAD).
 *
 * FAULTS_FOLDER names the folder of the disk that fails. FAULTS_CONTROL names a file of four
 * 64-bit numbers that may change at any time:
 *
 *   0  the errno of every write to the folder; 0 for success
 *   1  the delay of every sync of the folder, in milliseconds
 *   2  the error of CLOCK_REALTIME, in milliseconds
 *   3  not used
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static char folder[4096];
static volatile int64_t *control;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

__attribute__((constructor)) static void start(void) {
  const char *watched = getenv("FAULTS_FOLDER"), *path = getenv("FAULTS_CONTROL");
  if (!watched || !path || !realpath(watched, folder)) return;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  void *map = mmap(NULL, 32, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  if (map != MAP_FAILED) control = map;
}

static int is_in_folder(int fd) {
  char link[64], path[4096];
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t size = readlink(link, path, sizeof path - 1);
  if (size <= 0) return 0;
  path[size] = 0;
  return strncmp(path, folder, strlen(folder)) == 0;
}

/* Returns whether a write to the file has to fail, and sets errno. */
static int fails(int fd) {
  if (!control || control[0] == 0 || !is_in_folder(fd)) return 0;
  errno = (int)control[0];
  return 1;
}

ssize_t pwrite(int fd, const void *bytes, size_t size, off_t at) {
  return fails(fd) ? -1 : REAL(pwrite)(fd, bytes, size, at);
}
ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t at) {
  return fails(fd) ? -1 : REAL(pwrite64)(fd, bytes, size, at);
}
ssize_t write(int fd, const void *bytes, size_t size) {
  return fails(fd) ? -1 : REAL(write)(fd, bytes, size);
}
int ftruncate(int fd, off_t size) { return fails(fd) ? -1 : REAL(ftruncate)(fd, size); }
int ftruncate64(int fd, off64_t size) { return fails(fd) ? -1 : REAL(ftruncate64)(fd, size); }

static void wait_for_disk(int fd) {
  if (!control || control[1] <= 0 || !is_in_folder(fd)) return;
  struct timespec time = {control[1] / 1000, control[1] % 1000 * 1000000};
  nanosleep(&time, NULL);
}

int fsync(int fd) {
  wait_for_disk(fd);
  return REAL(fsync)(fd);
}
int fdatasync(int fd) {
  wait_for_disk(fd);
  return REAL(fdatasync)(fd);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int result = REAL(clock_gettime)(clock, now);
  if (result == 0 && control && clock == CLOCK_REALTIME) {
    int64_t nanoseconds = now->tv_nsec + control[2] % 1000 * 1000000;
    now->tv_sec += control[2] / 1000 + (nanoseconds >= 1000000000) - (nanoseconds < 0);
    now->tv_nsec = (nanoseconds + 1000000000) % 1000000000;
  }
  return result;
}
