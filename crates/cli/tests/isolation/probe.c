/* What runs inside the sandboxes of the tests: `probe COMMAND [ARG]...`.
 * Static, so that an image needs no other file. A command that tries
 * something prints "done" or the name of the error that stopped it. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <ifaddrs.h>
#include <linux/capability.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static int told(long result) {
  puts(result < 0 ? strerrorname_np(errno) : "done");
  return result < 0;
}

/* Makes sure that a wish comes true at the last moment: sleeps for ever. */
static void stay(void) {
  fflush(stdout);
  for (;;) pause();
}

static int cat(const char *path) {
  char buffer[4096];
  int fd = open(path, O_RDONLY);
  if (fd < 0) return told(-1);
  for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) != 0;) {
    if (n < 0) return told(-1);
    fwrite(buffer, 1, n, stdout);
  }
  return 0;
}

static int ls(const char *path) {
  DIR *dir = opendir(path);
  if (!dir) return told(-1);
  for (struct dirent *e; (e = readdir(dir));)
    if (strcmp(e->d_name, ".") && strcmp(e->d_name, "..")) puts(e->d_name);
  return 0;
}

static int write_to(const char *path, const char *text, int flags) {
  int fd = open(path, O_WRONLY | flags, 0644);
  return told(fd < 0 ? -1 : write(fd, text, strlen(text)));
}

/* Opens a program file while it runs and, read-only first, again for writing. */
static int overwrite(const char *path) {
  char again[64];
  int direct = open(path, O_WRONLY);
  if (direct >= 0) return told(write(direct, "#!/pwned", 8));
  int first = errno;
  int fd = open(path, O_RDONLY);
  if (fd < 0) return told(-1);
  snprintf(again, sizeof again, "/proc/self/fd/%d", fd);
  direct = open(again, O_WRONLY | O_TRUNC);
  if (direct >= 0) return told(write(direct, "#!/pwned", 8));
  printf("%s then ", strerrorname_np(first));
  return told(-1);
}

/* Lets this program's host run as a process of ours, to write to its file meanwhile. */
static int hijack(const char *program) {
  char exe[64];
  int status;
  pid_t pid = fork();
  if (pid == 0) {
    ptrace(PTRACE_TRACEME, 0, NULL, NULL);
    execl(program, "hyperion-rank", NULL);
    _exit(told(-1));
  }
  /* Traced, it stops when it has become the other program. */
  if (waitpid(pid, &status, 0) < 0 || !WIFSTOPPED(status)) return 1;
  printf("runs: ");
  snprintf(exe, sizeof exe, "/proc/%d/exe", pid);
  int result = overwrite(exe);
  kill(pid, SIGKILL);
  return result;
}

static int ids(void) {
  gid_t groups[64];
  int n = getgroups(64, groups);
  printf("uid=%d euid=%d gid=%d egid=%d groups=", getuid(), geteuid(), getgid(), getegid());
  for (int i = 0; i < n; i++) printf("%s%d", i ? "," : "", groups[i]);
  putchar('\n');
  return 0;
}

static int descriptors(void) {
  for (int fd = 0; fd < 1024; fd++)
    if (fcntl(fd, F_GETFD) >= 0) printf("%d ", fd);
  putchar('\n');
  return 0;
}

static int node(const char *path, const char *kind, unsigned major, unsigned minor) {
  mode_t mode = (*kind == 'b' ? S_IFBLK : S_IFCHR) | 0666;
  if (mknod(path, mode, makedev(major, minor))) return told(-1);
  printf("made, open: ");
  return told(open(path, O_RDONLY));
}

/* A process that leaves its parent, its session and its terminal behind. */
static int daemon_of(const char *file) {
  if (fork() == 0) {
    setsid();
    if (fork() == 0) {
      signal(SIGTERM, SIG_IGN);
      signal(SIGHUP, SIG_IGN);
      char text[32];
      int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0666);
      snprintf(text, sizeof text, "%d", getpid());
      if (fd < 0 || write(fd, text, strlen(text)) < 0) _exit(1);
      close(fd), close(0), close(1), close(2);
      for (;;) pause();
    }
    _exit(0);
  }
  wait(NULL);
  struct stat st;
  while (stat(file, &st) || st.st_size == 0) sched_yield();
  return 0;
}

static int eat(long mebibytes) {
  for (long i = 0; i < mebibytes; i++) {
    char *p = malloc(1 << 20);
    if (!p) return told(-1);
    memset(p, 1 + i % 7, 1 << 20);
  }
  return told(0);
}

static int forks(int wanted) {
  int made = 0;
  while (made < wanted) {
    pid_t pid = fork();
    if (pid < 0) break;
    if (pid == 0) stay();
    made++;
  }
  printf("%d\n", made);
  fflush(stdout);
  return 0;
}

static int cpus(void) {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set)) return told(-1);
  for (int i = 0; i < CPU_SETSIZE; i++)
    if (CPU_ISSET(i, &set)) printf("%d ", i);
  putchar('\n');
  return 0;
}

static int files_limit(void) {
  struct rlimit r;
  if (getrlimit(RLIMIT_NOFILE, &r)) return told(-1);
  printf("%ld %ld\n", (long)r.rlim_cur, (long)r.rlim_max);
  return 0;
}

static int room(const char *path) {
  struct statvfs s;
  if (statvfs(path, &s)) return told(-1);
  printf("%lu\n", s.f_blocks * s.f_frsize);
  return 0;
}

static int interfaces(void) {
  struct ifaddrs *list;
  if (getifaddrs(&list)) return told(-1);
  struct if_nameindex *names = if_nameindex();
  for (struct if_nameindex *n = names; n && n->if_index; n++) {
    struct ifreq r = {0};
    strncpy(r.ifr_name, n->if_name, IFNAMSIZ - 1);
    ioctl(socket(AF_INET, SOCK_DGRAM, 0), SIOCGIFFLAGS, &r);
    printf("%s %s\n", n->if_name, r.ifr_flags & IFF_UP ? "up" : "down");
  }
  return 0;
}

static int connect_to(int port) {
  struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(port)};
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return told(connect(socket(AF_INET, SOCK_STREAM, 0), (void *)&a, sizeof a));
}

/* What a debugger does first; leaves the process as it was. */
static int trace(pid_t pid) {
  if (ptrace(PTRACE_SEIZE, pid, 0, 0) || ptrace(PTRACE_INTERRUPT, pid, 0, 0)) return told(-1);
  if (waitpid(pid, NULL, 0) != pid) return told(-1);
  return told(ptrace(PTRACE_DETACH, pid, 0, 0));
}

/* Runs commands of this program one after the other, each named by a `--` before
 * it; what one wrote ends with `\036`. So a machine boots once for all of them. */
static int each(char **argv) {
  while (*argv) {
    char **command = argv++;
    while (*argv && strcmp(*argv, "--")) argv++;
    char *next = *argv;
    *argv = NULL;
    *command = "probe";
    if (fork() == 0) execv("/proc/self/exe", command), _exit(told(-1));
    wait(NULL);
    putchar('\036');
    fflush(stdout);
    *argv = next;
  }
  return 0;
}

/* Tries a system call that a container must not have. */
static int attempt(const char *what) {
  struct timespec time = {0, 0};
  char args[128] = {0};
  if (!strcmp(what, "mount")) return told(mount("none", "/tmp", "tmpfs", 0, NULL));
  if (!strcmp(what, "remount")) return told(mount(NULL, "/proc/sys", NULL, MS_REMOUNT | MS_BIND, NULL));
  if (!strcmp(what, "umount")) return told(umount2("/proc/sys", MNT_DETACH));
  if (!strcmp(what, "fsopen")) return told(syscall(SYS_fsopen, "tmpfs", 0));
  if (!strcmp(what, "open_tree")) return told(syscall(SYS_open_tree, AT_FDCWD, "/", 1));
  if (!strcmp(what, "pivot_root")) return told(syscall(SYS_pivot_root, "/", "/tmp"));
  if (!strcmp(what, "unshare")) return told(unshare(CLONE_NEWNS));
  if (!strcmp(what, "unshare-user")) return told(unshare(CLONE_NEWUSER));
  if (!strcmp(what, "setns")) return told(setns(open("/proc/self/ns/mnt", O_RDONLY), 0));
  if (!strcmp(what, "clone-user")) {
    long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) _exit(0);
    return told(pid);
  }
  if (!strcmp(what, "clone3")) return told(syscall(SYS_clone3, args, 64));
  if (!strcmp(what, "ptrace-init")) return told(ptrace(PTRACE_ATTACH, 1, 0, 0));
  if (!strcmp(what, "init_module")) return told(syscall(SYS_init_module, args, sizeof args, ""));
  if (!strcmp(what, "delete_module")) return told(syscall(SYS_delete_module, "none", 0));
  if (!strcmp(what, "kexec_load")) return told(syscall(SYS_kexec_load, 0, 0, 0, 0));
  if (!strcmp(what, "clock_settime")) return told(clock_settime(CLOCK_REALTIME, &time));
  if (!strcmp(what, "reboot")) return told(syscall(SYS_reboot, 0, 0, 0, 0));
  if (!strcmp(what, "swapon")) return told(syscall(SYS_swapon, "/none", 0));
  if (!strcmp(what, "acct")) return told(syscall(SYS_acct, "/none"));
  if (!strcmp(what, "sethostname")) return told(sethostname("x", 1));
  if (!strcmp(what, "keyctl")) return told(syscall(SYS_keyctl, 0, -3, 0));
  if (!strcmp(what, "add_key")) return told(syscall(SYS_add_key, "user", "x", "y", 1, -3));
  if (!strcmp(what, "bpf")) return told(syscall(SYS_bpf, 0, args, sizeof args));
  if (!strcmp(what, "userfaultfd")) return told(syscall(SYS_userfaultfd, 0));
  if (!strcmp(what, "perf_event_open")) return told(syscall(SYS_perf_event_open, args, 0, -1, -1, 0));
  if (!strcmp(what, "open_by_handle_at")) return told(syscall(SYS_open_by_handle_at, AT_FDCWD, args, 0));
  if (!strcmp(what, "io_uring_setup")) return told(syscall(SYS_io_uring_setup, 4, args));
  if (!strcmp(what, "syslog")) return told(syscall(SYS_syslog, 10, 0, 0));
  if (!strcmp(what, "iopl")) return told(syscall(SYS_iopl, 3));
  if (!strcmp(what, "vsock")) return told(socket(AF_VSOCK, SOCK_STREAM, 0));
  if (!strcmp(what, "setuid-root")) return told(setresuid(0, 0, 0));
  if (!strcmp(what, "tiocsti")) {
    for (int fd = 0; fd < 3; fd++)
      if (ioctl(fd, TIOCSTI, "x") == 0) return told(0);
    int tty = open("/dev/tty", O_RDWR);
    return told(tty < 0 ? -1 : ioctl(tty, TIOCSTI, "x"));
  }
  fprintf(stderr, "what is %s?\n", what);
  return 99;
}

int main(int argc, char **argv) {
  const char *cmd = argc > 1 ? argv[1] : "", *a = argc > 2 ? argv[2] : "", *b = argc > 3 ? argv[3] : "";
  if (!strcmp(cmd, "exit")) return atoi(a);
  if (!strcmp(cmd, "raise")) return raise(atoi(a));
  if (!strcmp(cmd, "say")) return printf("%s\n", a), fprintf(stderr, "%s\n", b), 0;
  if (!strcmp(cmd, "env")) { for (char **e = environ; *e; e++) puts(*e); return 0; }
  if (!strcmp(cmd, "cwd")) return puts(getcwd(NULL, 0)), 0;
  if (!strcmp(cmd, "ids")) return ids();
  if (!strcmp(cmd, "cat")) return cat(a);
  if (!strcmp(cmd, "ls")) return ls(a);
  if (!strcmp(cmd, "write")) return write_to(a, b, O_CREAT | O_TRUNC);
  if (!strcmp(cmd, "write-existing")) return write_to(a, b, 0);
  if (!strcmp(cmd, "overwrite")) return overwrite(a);
  if (!strcmp(cmd, "hijack")) return hijack(a);
  if (!strcmp(cmd, "open")) return told(open(a, O_RDONLY));
  if (!strcmp(cmd, "write-each")) {
    for (int i = 2; i < argc; i++) printf("%s: ", argv[i]), fflush(stdout), write_to(argv[i], "1", 0);
    return 0;
  }
  if (!strcmp(cmd, "each")) return each(argv + 2);
  if (!strcmp(cmd, "fds")) return descriptors();
  if (!strcmp(cmd, "mknod")) return node(a, b, atoi(argv[4]), atoi(argv[5]));
  if (!strcmp(cmd, "daemon")) return daemon_of(a);
  if (!strcmp(cmd, "daemon-and-stay")) { daemon_of(a); puts("ready"); stay(); }
  if (!strcmp(cmd, "stubborn")) { signal(SIGTERM, SIG_IGN); puts("ready"); stay(); }
  if (!strcmp(cmd, "stay")) { puts("ready"); stay(); }
  if (!strcmp(cmd, "eat")) return eat(atol(a));
  if (!strcmp(cmd, "forks")) return forks(atoi(a));
  if (!strcmp(cmd, "cpus")) return cpus();
  if (!strcmp(cmd, "files-limit")) return files_limit();
  if (!strcmp(cmd, "room")) return room(a);
  if (!strcmp(cmd, "hostname")) { char n[256]; gethostname(n, 256); return puts(n), 0; }
  if (!strcmp(cmd, "interfaces")) return interfaces();
  if (!strcmp(cmd, "connect")) return connect_to(atoi(a));
  if (!strcmp(cmd, "trace")) return trace(atoi(a));
  if (!strcmp(cmd, "kill")) return told(kill(atoi(a), SIGKILL));
  if (!strcmp(cmd, "session")) return printf("%d\n", getsid(0) == getpid()), 0;
  if (!strcmp(cmd, "suid")) return chown(a, 0, 0), told(chmod(a, 04755));
  if (!strcmp(cmd, "exec")) return execv(a, argv + 2), told(-1);
  if (!strcmp(cmd, "attempt")) {
    for (int i = 2; i < argc; i++) printf("%s: ", argv[i]), fflush(stdout), attempt(argv[i]);
    return 0;
  }
  fprintf(stderr, "what is %s?\n", cmd);
  return 99;
}
