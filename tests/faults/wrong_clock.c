/* Sets the wall clock of a process wrong, by the seconds that the file WRONG_CLOCK holds; its other clocks stay right. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000LL

static const char *path;

__attribute__((constructor)) static void remember(void) {
  const char *named = getenv("WRONG_CLOCK");
  path = named ? strdup(named) : NULL; /* Postgres writes over its environment */
}

static long long ahead(void) {
  char text[32] = "";
  int before = errno, file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file >= 0) {
    if (read(file, text, sizeof text - 1) < 0) text[0] = 0;
    close(file);
  }
  errno = before;
  return (long long)(strtod(text, NULL) * SECOND);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  int failed = syscall(SYS_clock_gettime, clock, now);
  if (!failed && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
    long long wrong = now->tv_sec * SECOND + now->tv_nsec + ahead();
    now->tv_sec = wrong / SECOND;
    now->tv_nsec = wrong % SECOND;
  }
  return failed;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  struct timespec wrong;
  int failed = clock_gettime(CLOCK_REALTIME, &wrong);
  (void)zone;
  if (!failed) {
    now->tv_sec = wrong.tv_sec;
    now->tv_usec = wrong.tv_nsec / 1000;
  }
  return failed;
}

time_t time(time_t *at) {
  struct timespec wrong;
  time_t now = clock_gettime(CLOCK_REALTIME, &wrong) ? (time_t)-1 : wrong.tv_sec;
  if (at) *at = now;
  return now;
}
