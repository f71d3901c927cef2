/* The first process of a machine that does not do what it should: WHAT says what. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PANIC, OFF, SILENT, ONCE, GARBAGE, OVER, FLOOD };

static int port(void) {
  struct dirent **names;
  char path[512];
  mount("dev", "/dev", "devtmpfs", 0, 0);
  for (int i = 0, n = scandir("/modules", &names, 0, alphasort); i < n; i++) {
    snprintf(path, sizeof path, "/modules/%s", names[i]->d_name);
    int file = open(path, O_RDONLY);
    syscall(SYS_finit_module, file, "", 0);
    close(file);
  }
  for (int i = 0, n = scandir("/dev", &names, 0, alphasort); i < n; i++)
    if (!strncmp(names[i]->d_name, "vport", 5)) {
      snprintf(path, sizeof path, "/dev/%s", names[i]->d_name);
      return open(path, O_RDWR);
    }
  return -1;
}

static size_t frame(char *to, const char *json) {
  unsigned length = strlen(json) + 1;
  memcpy(to, &length, 4);
  to[4] = 'J';
  memcpy(to + 5, json, length - 1);
  return length + 4;
}

static void say(int port, const char *json) {
  char one[1000];
  write(port, one, frame(one, json));
}

static void up(int port) {
  say(port, "{\"pass\":{\"message\":\"{\\\"say\\\":\\\"ready\\\"}\",\"channels\":[]}}");
}

int main(void) {
  static char flood[32 << 10];
  size_t length;
  int p;
  switch (WHAT) {
  case PANIC:
    printf("\033]0;title\007obey\n");
    fflush(stdout);
    return 3;
  case OFF:
    printf("\033[31mgood \033[0mbye\n");
    fflush(stdout);
    reboot(RB_POWER_OFF);
    break;
  case ONCE:
    /* A byte of the clock's memory stays when a machine begins anew. */
    ioperm(0x70, 2, 1);
    outb(0x40, 0x70);
    if (inb(0x71) != 0x5a) {
      outb(0x40, 0x70);
      outb(0x5a, 0x71);
      break;
    }
    printf("at last\n");
    fflush(stdout);
    reboot(RB_POWER_OFF);
    break;
  case GARBAGE:
    p = port();
    for (int i = 0; i < 10000; i++)
      write(p, "\377\377\377\377garbage", 11);
    break;
  case OVER:
    p = port();
    up(p);
    say(p, "\"over\"");
    break;
  case FLOOD:
    /* What is right each time, without an end, and without a look at what comes. */
    p = port();
    up(p);
    for (length = 0; length + 200 < sizeof flood;)
      length += frame(flood + length, "{\"pass\":{\"message\":\"{\\\"say\\\":\\\"event\\\",\\\"event\\\":\\\"joined\\\",\\\"id\\\":1}\",\"channels\":[]}}");
    for (;;)
      write(p, flood, length);
  }
  for (;;)
    pause();
}
