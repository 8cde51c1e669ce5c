// Looks names up by getaddrinfo: lookup COUNT NAME=ADDRESS,ADDRESS... An address that is not listed, or none, is a failure;
// a NAME= without addresses must not exist. PAUSE_US in the environment waits after each lookup.
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static char seen[64][INET6_ADDRSTRLEN];
static int seen_count;

static long now_us(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1000000L + now.tv_nsec / 1000;
}

static int by_value(const void *a, const void *b) {
  long left = *(const long *)a, right = *(const long *)b;
  return left < right ? -1 : left > right;
}

static void remember(const char *address) {
  for (int i = 0; i < seen_count; i++)
    if (strcmp(seen[i], address) == 0) return;
  if (seen_count < 64) strcpy(seen[seen_count++], address);
}

static int is_listed(const char *list, const char *address) {
  size_t length = strlen(address);
  for (const char *at = list; (at = strstr(at, address)); at += length)
    if ((at == list || at[-1] == ',') && (at[length] == ',' || at[length] == 0)) return 1;
  return 0;
}

static int is_as_expected(int code, struct addrinfo *found, const char *expected) {
  if (!*expected) return code == EAI_NONAME;
  if (code || !found) return 0;
  for (; found; found = found->ai_next) {
    char address[INET6_ADDRSTRLEN];
    if (getnameinfo(found->ai_addr, found->ai_addrlen, address, sizeof address, NULL, 0, NI_NUMERICHOST)) return 0;
    if (!is_listed(expected, address)) return 0;
    remember(address);
  }
  return 1;
}

int main(int argc, char **argv) {
  int count = atoi(argv[1]), failed = 0, late = 0;
  long *took = calloc(count, sizeof *took);
  const char *pause_us = getenv("PAUSE_US");
  for (int i = 0; i < count; i++) {
    char *entry = argv[2 + i % (argc - 2)], name[256];
    char *expected = strchr(entry, '=') + 1;
    snprintf(name, sizeof name, "%.*s", (int)(expected - 1 - entry), entry);
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM}, *found = NULL;
    long began = now_us();
    int code = getaddrinfo(name, NULL, &hints, &found);
    took[i] = now_us() - began;
    late += took[i] > 100000;
    if (!is_as_expected(code, found, expected)) {
      if (failed++ < 5) fprintf(stderr, "lookup %d of %s: %s\n", i, entry, code ? gai_strerror(code) : "other addresses");
    }
    if (!code) freeaddrinfo(found);
    if (pause_us) usleep(atoi(pause_us));
  }
  qsort(took, count, sizeof *took, by_value);
  printf("{\"lookups\": %d, \"failed\": %d, \"late\": %d, \"median_us\": %ld, \"max_us\": %ld, \"seen\": [", count, failed, late,
         took[count / 2], took[count - 1]);
  for (int i = 0; i < seen_count; i++) printf("%s\"%s\"", i ? ", " : "", seen[i]);
  printf("]}\n");
  return 0;
}
