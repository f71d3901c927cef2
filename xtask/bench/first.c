/* The first program of a guest: says so, and stays. */
#include <unistd.h>

int main(void) {
    static const char line[] = "first line of user space\n";
    write(1, line, sizeof line - 1);
    for (;;)
        pause();
}
